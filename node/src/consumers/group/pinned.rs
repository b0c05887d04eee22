//! Which connected consumer gets the messages of a lane: each consumer has a share of 1024 buckets,
//! and keeps its buckets as long as no other needs one (contract/services 3.6, "Pinned").

use std::collections::{BTreeMap, BTreeSet};

use super::connected::ConsumerId;
use super::rank::Rank;

/// Number of buckets, as in the original.
pub(super) const BUCKETS: usize = 1_024;

/// The buckets, and the ready messages of each consumer.
pub(super) struct Pinned {
    /// The consumer of each bucket; nobody only while no consumer is connected.
    owners: Vec<Option<ConsumerId>>,
    /// The ready messages of each connected consumer.
    ready: BTreeMap<ConsumerId, BTreeSet<Rank>>,
}

impl Default for Pinned {
    fn default() -> Self {
        Self { owners: vec![None; BUCKETS], ready: BTreeMap::new() }
    }
}

impl Pinned {
    /// The first ready message of a consumer.
    pub(super) fn first(&self, consumer: ConsumerId) -> Option<Rank> {
        self.ready.get(&consumer)?.first().copied()
    }

    /// A message is ready.
    pub(super) fn add(&mut self, rank: Rank, lane: u64) {
        if let Some(ready) = self.ready_of(lane) {
            ready.insert(rank);
        }
    }

    /// A message is no longer ready.
    pub(super) fn remove(&mut self, rank: Rank, lane: u64) {
        if let Some(ready) = self.ready_of(lane) {
            ready.remove(&rank);
        }
    }

    /// A consumer connects. It takes buckets from those that have the most, until all have equally
    /// many.
    pub(super) fn join(&mut self, consumer: ConsumerId, ready: &BTreeMap<Rank, u64>) {
        self.ready.insert(consumer, BTreeSet::new());
        let share = BUCKETS / self.ready.len();
        let mut owned = self.owned();
        let mut free: Vec<usize> = (0..BUCKETS).filter(|bucket| self.owners[*bucket].is_none()).collect();
        for _ in 0..share {
            let largest = owned.values_mut().max_by_key(|buckets| buckets.len());
            let Some(bucket) = free.pop().or_else(|| largest?.pop()) else { break };
            self.owners[bucket] = Some(consumer);
        }
        self.distribute(ready);
    }

    /// A consumer leaves. Its buckets go to those that have the fewest.
    pub(super) fn leave(&mut self, consumer: ConsumerId, ready: &BTreeMap<Rank, u64>) {
        self.ready.remove(&consumer);
        let mut counts = self.owned();
        let released = counts.remove(&consumer).unwrap_or_default();
        for bucket in released {
            let smallest = counts.iter_mut().min_by_key(|(_, buckets)| buckets.len());
            self.owners[bucket] = smallest.map(|(heir, buckets)| {
                buckets.push(bucket);
                *heir
            });
        }
        self.distribute(ready);
    }

    /// The buckets of each consumer that is connected, or has any.
    fn owned(&self) -> BTreeMap<ConsumerId, Vec<usize>> {
        let mut owned: BTreeMap<_, _> = self.ready.keys().map(|consumer| (*consumer, Vec::new())).collect();
        for (bucket, owner) in self.owners.iter().enumerate() {
            if let Some(owner) = owner {
                owned.entry(*owner).or_default().push(bucket);
            }
        }
        owned
    }

    /// Sorts all ready messages anew, because buckets have moved.
    fn distribute(&mut self, ready: &BTreeMap<Rank, u64>) {
        self.ready.values_mut().for_each(BTreeSet::clear);
        for (rank, lane) in ready {
            self.add(*rank, *lane);
        }
    }

    /// The consumer of a lane.
    pub(super) fn owner(&self, lane: u64) -> Option<ConsumerId> {
        self.owners[(lane % BUCKETS as u64) as usize]
    }

    fn ready_of(&mut self, lane: u64) -> Option<&mut BTreeSet<Rank>> {
        let owner = self.owner(lane)?;
        self.ready.get_mut(&owner)
    }
}
