//! The messages that are out, by their ids and by the time at which they were handed out.

use std::collections::BTreeSet;
use std::time::Instant;

use uuid::Uuid;

use super::progress::Key;

/// Messages by their ids. Several can have one id, and each stands for itself (contract/services
/// 3.6, "The same id twice in a stream").
#[derive(Default)]
pub(super) struct ById(BTreeSet<(Uuid, Key)>);

impl ById {
    pub(super) fn add(&mut self, id: Uuid, key: Key) {
        self.0.insert((id, key));
    }

    /// False if it is not there.
    pub(super) fn remove(&mut self, id: Uuid, key: Key) -> bool {
        self.0.remove(&(id, key))
    }

    /// The first message of this id.
    pub(super) fn first_of(&self, id: Uuid) -> Option<Key> {
        let all = (id, Key::Parked(0))..=(id, Key::Source(u64::MAX));
        self.0.range(all).next().map(|(_, key)| *key)
    }

    /// All of them.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.0.iter().map(|(_, key)| *key)
    }
}

/// All messages that some consumer has.
#[derive(Default)]
pub(super) struct Out {
    by_id: ById,
    by_time: BTreeSet<(Instant, Key)>,
}

impl Out {
    pub(super) fn add(&mut self, id: Uuid, key: Key, since: Instant) {
        self.by_id.add(id, key);
        self.by_time.insert((since, key));
    }

    pub(super) fn remove(&mut self, id: Uuid, key: Key, since: Instant) {
        self.by_id.remove(id, key);
        self.by_time.remove(&(since, key));
    }

    /// The first message of this id that is out.
    pub(super) fn first_of(&self, id: Uuid) -> Option<Key> {
        self.by_id.first_of(id)
    }

    /// The message that has been out for the longest time, and since when.
    pub(super) fn oldest(&self) -> Option<(Instant, Key)> {
        self.by_time.first().copied()
    }

    /// All of them.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        assert_eq!(self.by_id.keys().count(), self.by_time.len());
        self.by_id.keys()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }
}
