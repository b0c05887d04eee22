//! The connected consumers of a group, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::super::settings::Strategy;
use super::progress::Key;

/// A connected consumer. Ids ascend in the order of arrival, and none comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConsumerId(u64);

/// Figures of a connected consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerFigures {
    /// Which one.
    pub(crate) id: ConsumerId,
    /// Messages that it got.
    pub(crate) handed: u64,
    /// Messages that it has.
    pub(crate) in_flight: usize,
    /// Messages that it may get before it settles one.
    pub(crate) free: usize,
}

/// All connected consumers.
pub(super) struct Connected {
    consumers: BTreeMap<ConsumerId, Consumer>,
    /// Those that may get a message.
    with_room: BTreeSet<ConsumerId>,
    /// The id of the next one.
    next: u64,
    /// The one that got a message last.
    last: ConsumerId,
    /// One gets messages as long as it has room; else all in turn.
    is_single: bool,
}

struct Consumer {
    /// Messages that it may have at a time.
    window: usize,
    /// Messages that it has.
    has: BTreeSet<Key>,
    /// Messages that it got.
    handed: u64,
}

impl Connected {
    pub(super) fn new(strategy: Strategy) -> Self {
        Self {
            consumers: BTreeMap::new(),
            with_room: BTreeSet::new(),
            next: 1,
            last: ConsumerId(0),
            is_single: strategy == Strategy::DispatchToSingle,
        }
    }

    /// Adds a consumer with room for so many messages, at least one.
    pub(super) fn add(&mut self, window: usize) -> ConsumerId {
        let id = ConsumerId(self.next);
        self.next += 1;
        self.consumers.insert(id, Consumer { window: window.max(1), has: BTreeSet::new(), handed: 0 });
        self.with_room.insert(id);
        id
    }

    /// Removes a consumer, and says what it had.
    pub(super) fn remove(&mut self, id: ConsumerId) -> BTreeSet<Key> {
        self.with_room.remove(&id);
        self.consumers.remove(&id).map(|consumer| consumer.has).unwrap_or_default()
    }

    /// Those with room, in the order in which they get messages: behind the one that got the last.
    pub(super) fn turns(&self) -> VecDeque<ConsumerId> {
        if self.is_single {
            return self.with_room.iter().copied().collect();
        }
        let behind = self.with_room.range((Bound::Excluded(self.last), Bound::Unbounded));
        behind.chain(self.with_room.range(..=self.last)).copied().collect()
    }

    /// Puts one that has got a message into its place for the next, if it has room.
    pub(super) fn queue(&self, turns: &mut VecDeque<ConsumerId>, id: ConsumerId) {
        if !self.with_room.contains(&id) {
            return;
        }
        if self.is_single {
            turns.push_front(id);
        } else {
            turns.push_back(id);
        }
    }

    /// It gets a message.
    pub(super) fn gets(&mut self, id: ConsumerId, key: Key) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        self.last = id;
        consumer.handed += 1;
        consumer.has.insert(key);
        if consumer.has.len() >= consumer.window {
            self.with_room.remove(&id);
        }
    }

    /// It no longer has a message.
    pub(super) fn loses(&mut self, id: ConsumerId, key: Key) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.has.remove(&key);
        if consumer.has.len() < consumer.window {
            self.with_room.insert(id);
        }
    }

    /// What is told of each.
    pub(super) fn figures(&self) -> Vec<ConsumerFigures> {
        let of = |(id, consumer): (&ConsumerId, &Consumer)| ConsumerFigures {
            id: *id,
            handed: consumer.handed,
            in_flight: consumer.has.len(),
            free: consumer.window.saturating_sub(consumer.has.len()),
        };
        self.consumers.iter().map(of).collect()
    }
}
