//! Messages go out, to connected consumers and to those that ask.

use std::collections::BTreeMap;
use std::time::Instant;

use uuid::Uuid;

use super::rank::Rank;
use super::{ConsumerId, Group, Key, Place};

/// A message that is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handed {
    /// Which one.
    pub(crate) key: Key,
    /// What it is acknowledged by.
    pub(crate) id: Uuid,
    /// How often it was handed out before.
    pub(crate) retries: u32,
    /// Bytes of what the consumer gets.
    pub(crate) bytes: u64,
}

/// What is left of the bytes of one answer. The first message always fits.
struct Allowance {
    left: u64,
    is_used: bool,
}

impl Allowance {
    fn new(max_bytes: u64) -> Self {
        Self { left: max_bytes, is_used: false }
    }

    fn takes(&mut self, bytes: u64) -> bool {
        if self.is_used && bytes > self.left {
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        self.is_used = true;
        true
    }
}

impl Group {
    /// Hands out messages to a consumer that asks, whatever the strategy: at most `count`, and not
    /// more than `max_bytes` together, but at least one if any may be handed out. Those that failed
    /// and replayed ones come first, then new ones. With `OrderedByStream`, only one of a lane.
    pub(crate) fn take(&mut self, now: Instant, count: usize, max_bytes: u64) -> Vec<Handed> {
        let mut allowance = Allowance::new(max_bytes);
        let mut all = Vec::new();
        while all.len() < count {
            let Some(rank) = self.waiting.first() else { break };
            let Some(handed) = self.hand_out(now, rank, None, &mut allowance) else { break };
            all.push(handed);
        }
        all
    }

    /// Connects a consumer that may have so many messages at a time, at least one.
    pub(crate) fn attach(&mut self, window: usize) -> ConsumerId {
        let consumer = self.connected.add(window);
        self.waiting.join(consumer);
        consumer
    }

    /// Disconnects a consumer. What it has waits to be handed out again with a count one higher, or
    /// has to be parked (contract/services 3.6, "A consumer disconnects").
    pub(crate) fn detach(&mut self, consumer: ConsumerId) {
        let had = self.connected.remove(consumer);
        self.waiting.leave(consumer);
        for key in had {
            self.fail(key);
        }
    }

    /// Hands out messages to connected consumers that have room, by the strategy, and not more than
    /// `max_bytes` for all. Ask again until it gives nothing.
    pub(crate) fn dispatch(&mut self, now: Instant, max_bytes: u64) -> Vec<(ConsumerId, Vec<Handed>)> {
        let mut all: BTreeMap<ConsumerId, Vec<Handed>> = BTreeMap::new();
        if self.waiting.first().is_none() {
            return Vec::new();
        }
        let mut allowance = Allowance::new(max_bytes);
        let mut turns = self.connected.turns();
        while let Some(consumer) = turns.pop_front() {
            // One without pinned messages has its turn again at the next dispatch.
            let Some(rank) = self.waiting.first_for(consumer) else { continue };
            let Some(handed) = self.hand_out(now, rank, Some(consumer), &mut allowance) else { break };
            all.entry(consumer).or_default().push(handed);
            self.connected.queue(&mut turns, consumer);
        }
        all.into_iter().collect()
    }

    /// Takes back messages that were handed out but not sent. They wait to be handed out again,
    /// with the same count. Messages that are not out are ignored.
    pub(crate) fn give_back(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if self.take_back(key) {
                self.wait_or_park(key);
            }
        }
    }

    /// Hands out a message that is ready. `None` if it does not fit, or is none.
    fn hand_out(
        &mut self,
        now: Instant,
        rank: Rank,
        consumer: Option<ConsumerId>,
        allowance: &mut Allowance,
    ) -> Option<Handed> {
        let key = rank.key;
        let entry = self.entries.get_mut(&key)?;
        if !allowance.takes(entry.bytes) {
            return None;
        }
        entry.place = Place::Out { since: now, consumer };
        let handed = Handed { key, id: entry.id, retries: entry.retries, bytes: entry.bytes };
        self.waiting.take(rank);
        self.handed_before.remove(handed.id, key);
        self.out.add(handed.id, key, now);
        if let Some(consumer) = consumer {
            self.connected.gets(consumer, key);
        }
        if let Some(reading) = self.reading_mut(key.which()) {
            reading.handed_out(key.number());
        }
        self.handed += 1;
        Some(handed)
    }
}
