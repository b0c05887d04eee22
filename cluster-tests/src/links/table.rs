//! What the connections of all links share: the rules in force, and what they have done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::rule::{self, Link, Rule, Rules};

/// What a link has done, counted since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Connections that the sender has opened.
    pub connections: u64,
    /// Bytes that have arrived.
    pub bytes: u64,
    /// Pieces of some kilobytes that had to wait because the link was cut.
    pub held: u64,
    /// Pieces that came later because of delay or bandwidth.
    pub delayed: u64,
    /// Connections that were reset by order, or because they were opened while the link was cut.
    pub resets: u64,
    /// Bytes that half-open connections have taken.
    pub swallowed_bytes: u64,
    /// Bytes that were sent once more.
    pub replayed_bytes: u64,
    /// Packets that were dropped because the link was cut.
    pub dropped_packets: u64,
    /// Packets that were lost at random.
    pub lost_packets: u64,
    /// Packets that were dropped because there were too many.
    pub excess_packets: u64,
}

/// Rules and counts.
#[derive(Debug)]
pub(super) struct Table {
    seed: u64,
    rules: watch::Sender<Rules>,
    seen: Mutex<BTreeMap<Link, Seen>>,
    /// The beginning of the last connection that has ended, per link.
    beginnings: Mutex<BTreeMap<Link, Bytes>>,
    connections: AtomicU64,
}

impl Table {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            rules: watch::Sender::default(),
            seen: Mutex::default(),
            beginnings: Mutex::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// Seeds for the two directions of the next connection.
    pub(super) fn next_seeds(&self) -> [u64; 2] {
        let ordinal = self.connections.fetch_add(1, Ordering::Relaxed);
        [2 * ordinal, 2 * ordinal + 1].map(|number| self.seed ^ number)
    }

    pub(super) fn change(&self, link: Link, change: impl FnOnce(&mut Rule)) {
        self.rules.send_modify(|rules| change(rules.entry(link).or_default()));
    }

    pub(super) fn heal(&self) {
        self.rules.send_modify(|rules| rules.values_mut().for_each(Rule::heal));
    }

    pub(super) fn reset(&self, link: Link) {
        self.change(link, |rule| rule.resets += 1);
    }

    /// The rule in force.
    pub(super) fn rule(&self, link: Link) -> Rule {
        rule::of(&self.rules.borrow(), link)
    }

    /// Waits until the rules are as `wanted`.
    pub(super) async fn wait_for(&self, mut wanted: impl FnMut(&Rules) -> bool) {
        // The sender lives as long as this value.
        let _ = self.rules.subscribe().wait_for(|rules| wanted(rules)).await;
    }

    pub(super) fn count(&self, link: Link, count: impl FnOnce(&mut Seen)) {
        count(self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(link).or_default());
    }

    pub(super) fn seen(&self, link: Link) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&link).copied().unwrap_or_default()
    }

    pub(super) fn keep_beginning(&self, link: Link, bytes: Bytes) {
        self.beginnings.lock().unwrap_or_else(PoisonError::into_inner).insert(link, bytes);
    }

    pub(super) fn beginning_of_last(&self, link: Link) -> Option<Bytes> {
        self.beginnings.lock().unwrap_or_else(PoisonError::into_inner).get(&link).cloned()
    }
}
