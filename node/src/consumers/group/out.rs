//! The messages that are out, by their ids and by the time at which they were handed out.

use std::collections::BTreeSet;
use std::time::Instant;

use uuid::Uuid;

use super::progress::Key;

/// All messages that some consumer has.
#[derive(Default)]
pub(super) struct Out {
    /// Several messages can have one id, and each is out for itself (contract/services 3.6, "The
    /// same id twice in a stream").
    by_id: BTreeSet<(Uuid, Key)>,
    by_time: BTreeSet<(Instant, Key)>,
}

impl Out {
    pub(super) fn add(&mut self, id: Uuid, key: Key, since: Instant) {
        self.by_id.insert((id, key));
        self.by_time.insert((since, key));
    }

    pub(super) fn remove(&mut self, id: Uuid, key: Key, since: Instant) {
        self.by_id.remove(&(id, key));
        self.by_time.remove(&(since, key));
    }

    /// The first message of this id that is out.
    pub(super) fn first_of(&self, id: Uuid) -> Option<Key> {
        let all = (id, Key::Parked(0))..=(id, Key::Source(u64::MAX));
        self.by_id.range(all).next().map(|(_, key)| *key)
    }

    /// The message that has been out for the longest time, and since when.
    pub(super) fn oldest(&self) -> Option<(Instant, Key)> {
        self.by_time.first().copied()
    }

    /// All of them.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        assert_eq!(self.by_id.len(), self.by_time.len());
        self.by_id.iter().map(|(_, key)| *key)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }
}
