//! Messages that wait to be handed out, in their order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::settings::Strategy;
use super::connected::ConsumerId;
use super::pinned::Pinned;
#[cfg(test)]
use super::progress::Key;
use super::rank::Rank;

/// All messages that wait. Every operation takes a time that grows with the logarithm of their
/// number, but for those on consumers that come and go.
pub(super) struct Waiting {
    /// Those that may be handed out now, with their lanes.
    ready: BTreeMap<Rank, u64>,
    /// Every lane that has messages, if only one of a lane may be out.
    lanes: Option<HashMap<u64, Lane>>,
    /// The consumer of each ready message, if the strategy pins them.
    pinned: Option<Pinned>,
}

/// The messages of one source stream.
#[derive(Default)]
struct Lane {
    /// Those that wait. The first one is ready, unless one is out.
    waiting: BTreeSet<Rank>,
    is_out: bool,
}

impl Waiting {
    pub(super) fn new(strategy: Strategy) -> Self {
        let (is_ordered, is_pinned) = match strategy {
            Strategy::RoundRobin | Strategy::DispatchToSingle => (false, false),
            Strategy::Pinned | Strategy::PinnedByCorrelation => (false, true),
            Strategy::OrderedByStream => (true, true),
        };
        Self { ready: BTreeMap::new(), lanes: is_ordered.then(HashMap::new), pinned: is_pinned.then(Pinned::default) }
    }

    /// The first message that may be handed out.
    pub(super) fn first(&self) -> Option<Rank> {
        self.ready.first_key_value().map(|(rank, _)| *rank)
    }

    /// The first message that may be handed out to this connected consumer.
    pub(super) fn first_for(&self, consumer: ConsumerId) -> Option<Rank> {
        match &self.pinned {
            Some(pinned) => pinned.first(consumer),
            None => self.first(),
        }
    }

    /// A message waits.
    pub(super) fn add(&mut self, rank: Rank, lane: u64) {
        if let Some(lanes) = &mut self.lanes {
            let in_lane = lanes.entry(lane).or_default();
            let head = in_lane.waiting.first().copied();
            in_lane.waiting.insert(rank);
            if in_lane.is_out || head.is_some_and(|head| head < rank) {
                return;
            }
            if let Some(head) = head {
                self.withdraw(head);
            }
        }
        self.make_ready(rank, lane);
    }

    /// A ready message is handed out.
    pub(super) fn take(&mut self, rank: Rank) {
        let lane = self.withdraw(rank);
        let in_lane = self.lanes.as_mut().zip(lane).and_then(|(lanes, lane)| lanes.get_mut(&lane));
        if let Some(in_lane) = in_lane {
            in_lane.waiting.remove(&rank);
            in_lane.is_out = true;
        }
    }

    /// A message does not wait any more, and is not handed out either.
    pub(super) fn remove(&mut self, rank: Rank, lane: u64) {
        self.withdraw(rank);
        let in_lane = self.lanes.as_mut().and_then(|lanes| lanes.get_mut(&lane));
        let Some(in_lane) = in_lane else { return };
        in_lane.waiting.remove(&rank);
        if !in_lane.is_out {
            self.go_on(lane);
        }
    }

    /// The message of a lane that was out is no longer.
    pub(super) fn release(&mut self, lane: u64) {
        let in_lane = self.lanes.as_mut().and_then(|lanes| lanes.get_mut(&lane));
        let Some(in_lane) = in_lane else { return };
        in_lane.is_out = false;
        self.go_on(lane);
    }

    /// The first message of a lane that has none out is ready.
    fn go_on(&mut self, lane: u64) {
        let Some(lanes) = &mut self.lanes else { return };
        let Some(in_lane) = lanes.get(&lane) else { return };
        match in_lane.waiting.first().copied() {
            Some(head) => self.make_ready(head, lane),
            None => {
                lanes.remove(&lane);
            }
        }
    }

    /// A consumer connects, and gets its share of the pinned messages.
    pub(super) fn join(&mut self, consumer: ConsumerId) {
        if let Some(pinned) = &mut self.pinned {
            pinned.join(consumer, &self.ready);
        }
    }

    /// A consumer leaves. What was pinned to it goes to the others.
    pub(super) fn leave(&mut self, consumer: ConsumerId) {
        if let Some(pinned) = &mut self.pinned {
            pinned.leave(consumer, &self.ready);
        }
    }

    /// All messages that wait, ready or not.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        let in_lanes = self.lanes.iter().flat_map(HashMap::values).flat_map(|lane| &lane.waiting);
        in_lanes.chain(self.ready.keys()).map(|rank| rank.key)
    }

    /// The consumer that a lane is pinned to.
    #[cfg(test)]
    pub(super) fn owner(&self, lane: u64) -> Option<ConsumerId> {
        self.pinned.as_ref()?.owner(lane)
    }

    fn make_ready(&mut self, rank: Rank, lane: u64) {
        self.ready.insert(rank, lane);
        if let Some(pinned) = &mut self.pinned {
            pinned.add(rank, lane);
        }
    }

    fn withdraw(&mut self, rank: Rank) -> Option<u64> {
        let lane = self.ready.remove(&rank)?;
        if let Some(pinned) = &mut self.pinned {
            pinned.remove(rank, lane);
        }
        Some(lane)
    }
}
