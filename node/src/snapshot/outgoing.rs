//! Snapshots being sent to other nodes, and the log that their receivers need afterwards.
//!
//! A receiver continues with the log after its snapshot. If that log were purged meanwhile, because
//! newer snapshots were taken, the receiver would need another whole snapshot, and under steady
//! writes it would never finish. So the log is kept until the receiver no longer needs it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::transport::NodeId;

/// How long the log is kept for a node that has installed its snapshot and is catching up. It reads
/// the log faster than clients can write it; a node that takes longer may be gone.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(600);

/// How far every peer's log agrees with the leader's: the index of the last matching entry.
pub(crate) type Replication = BTreeMap<NodeId, Option<u64>>;

/// The snapshots that this node sends. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing(Arc<Mutex<Transfers>>);

#[derive(Debug, Default)]
struct Transfers {
    list: Vec<Transfer>,
    /// Number of the next transfer.
    next: u64,
}

#[derive(Debug)]
struct Transfer {
    number: u64,
    target: NodeId,
    /// Index of the last entry in the snapshot.
    index: u64,
    /// When the receiver reported that it has installed the snapshot.
    installed_at: Option<Instant>,
}

/// A receiver, and the index of the last entry that it no longer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The receiver.
    pub(crate) target: NodeId,
    /// The log after this entry has to stay.
    pub(crate) after: u64,
}

impl Outgoing {
    /// Registers a transfer of a snapshot that ends with entry `index`. It is over when the
    /// returned value is dropped, unless it was [`Sending::installed`].
    pub(crate) fn begin(&self, target: NodeId, index: u64) -> Sending {
        let mut transfers = self.0.lock();
        // An earlier transfer to the same node has failed: consensus sends one at a time.
        transfers.list.retain(|transfer| transfer.target != target);
        let number = transfers.next;
        transfers.next += 1;
        transfers.list.push(Transfer { number, target, index, installed_at: None });
        Sending { outgoing: self.clone(), number }
    }

    /// The log that receivers still need, if everything up to and including `purge_to` were purged.
    /// A receiver that needs none of it is forgotten.
    pub(crate) fn needs(&self, replication: Option<&Replication>, purge_to: u64, now: Instant) -> Vec<Needs> {
        let mut needs = Vec::new();
        self.0.lock().list.retain(|transfer| {
            let Transfer { target, index, .. } = *transfer;
            let Some(installed_at) = transfer.installed_at else {
                needs.push(Needs { target, after: index });
                return true;
            };
            // Only a leader replicates, and only to members.
            let Some(matched) = replication.and_then(|replication| replication.get(&target)) else { return false };
            let after = matched.map_or(index, |matched| matched.max(index));
            let is_behind = after < purge_to && now.saturating_duration_since(installed_at) < CATCH_UP_DEADLINE;
            if is_behind {
                needs.push(Needs { target, after });
            }
            is_behind
        });
        needs
    }

    /// Stops keeping log for `target`, until the next snapshot is sent to it.
    pub(crate) fn give_up(&self, target: NodeId) {
        self.0.lock().list.retain(|transfer| transfer.target != target);
    }
}

/// A transfer under way.
#[derive(Debug)]
pub(crate) struct Sending {
    outgoing: Outgoing,
    number: u64,
}

impl Sending {
    /// Records that the receiver has installed the snapshot and continues with the log.
    pub(crate) fn installed(self) {
        let mut transfers = self.outgoing.0.lock();
        if let Some(transfer) = transfers.list.iter_mut().find(|transfer| transfer.number == self.number) {
            transfer.installed_at = Some(Instant::now());
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let under_way = |transfer: &Transfer| transfer.number == self.number && transfer.installed_at.is_none();
        self.outgoing.0.lock().list.retain(|transfer| !under_way(transfer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURGE_TO: u64 = 100;

    fn matched(target: NodeId, index: u64) -> Replication {
        Replication::from([(target, Some(index))])
    }

    fn needed(outgoing: &Outgoing, replication: Option<&Replication>) -> Vec<u64> {
        outgoing.needs(replication, PURGE_TO, Instant::now()).iter().map(|needs| needs.after).collect()
    }

    #[test]
    fn the_log_after_a_snapshot_is_needed_until_its_receiver_has_caught_up() {
        let (outgoing, target) = (Outgoing::default(), NodeId(7));
        let sending = outgoing.begin(target, 10);
        assert_eq!(needed(&outgoing, None), [10]);
        sending.installed();
        assert_eq!(needed(&outgoing, Some(&matched(target, 10))), [10]);
        assert_eq!(needed(&outgoing, Some(&matched(target, 60))), [60], "what it has is not needed");
        assert!(needed(&outgoing, Some(&matched(target, PURGE_TO))).is_empty());
        assert!(needed(&outgoing, Some(&matched(target, 10))).is_empty(), "forgotten");
    }

    #[test]
    fn a_transfer_that_failed_or_was_given_up_needs_nothing() {
        let outgoing = Outgoing::default();
        drop(outgoing.begin(NodeId(7), 10));
        assert!(needed(&outgoing, None).is_empty());
        let sending = outgoing.begin(NodeId(7), 10);
        outgoing.give_up(NodeId(7));
        sending.installed();
        assert!(needed(&outgoing, Some(&matched(NodeId(7), 10))).is_empty());
        // A transfer that begins before the last was dropped replaces it.
        let last = outgoing.begin(NodeId(7), 10);
        let _sending = outgoing.begin(NodeId(7), 20);
        drop(last);
        assert_eq!(needed(&outgoing, None), [20]);
    }

    #[test]
    fn a_peer_with_its_snapshot_is_not_waited_for_when_it_leaves_or_stays_away() {
        let (outgoing, target) = (Outgoing::default(), NodeId(7));
        outgoing.begin(target, 10).installed();
        let late = Instant::now() + CATCH_UP_DEADLINE;
        assert_eq!(outgoing.needs(Some(&matched(target, 10)), PURGE_TO, late - Duration::from_secs(1)).len(), 1);
        assert!(outgoing.needs(Some(&matched(target, 10)), PURGE_TO, late + Duration::from_secs(1)).is_empty());
        outgoing.begin(target, 10).installed();
        assert!(needed(&outgoing, Some(&Replication::new())).is_empty(), "no member any more");
    }
}
