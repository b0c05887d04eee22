//! Recovery: when a restarted node has caught up with what it knew before.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::lifecycle::Lifecycle;
use crate::raft::Consensus;

/// Lets reads be served once this node has recovered.
pub(super) struct Recovery {
    consensus: Consensus,
    lifecycle: Arc<Lifecycle>,
    target: RecoveryTarget,
}

impl Recovery {
    /// For a node whose log held this many entries when it was started.
    pub(super) fn new(consensus: Consensus, lifecycle: Arc<Lifecycle>, log_entries_at_start: u64) -> Self {
        Self { consensus, lifecycle, target: RecoveryTarget::new(log_entries_at_start) }
    }

    /// Works until the node has recovered, until `stop`, or until consensus ends.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut progress = self.consensus.progress();
        loop {
            let seen = self.consensus.seen();
            let committed = seen.committed_entries.unwrap_or(0);
            if self.target.is_reached(committed, seen.log_entries, seen.applied_entries) {
                self.lifecycle.set_recovered();
                tracing::info!("recovered; reads are served");
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = progress.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// What a starting node has to reach before it serves reads.
///
/// openraft's own `wait_for_recovery` compares with the growing end of the log, which a loaded
/// follower may never reach. The target here is fixed at the start.
#[derive(Debug)]
struct RecoveryTarget {
    /// Number of entries the log held at the start: everything this disk had acknowledged.
    log_entries_at_start: u64,
    /// Number of entries that were committed when this node first heard from the cluster. An empty
    /// disk has no other target; any other disk gets close to what the cluster serves.
    committed_at_contact: Option<u64>,
}

impl RecoveryTarget {
    fn new(log_entries_at_start: u64) -> Self {
        Self { log_entries_at_start, committed_at_contact: None }
    }

    /// Whether the target is reached, given the numbers of entries that the cluster has committed,
    /// that the log holds, and that are applied.
    fn is_reached(&mut self, committed: u64, log_entries: u64, applied: u64) -> bool {
        if committed == 0 {
            return false;
        }
        let at_contact = *self.committed_at_contact.get_or_insert(committed);
        // The log may be shorter than at the start, if the leader replaced its tail.
        let target = self.log_entries_at_start.min(log_entries).max(at_contact);
        committed >= target && applied >= target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_acknowledged_by_the_lost_disk_must_be_committed_and_applied_again() {
        let mut target = RecoveryTarget::new(10);
        assert!(!target.is_reached(0, 10, 8), "no node was heard yet");
        assert!(!target.is_reached(7, 10, 10));
        assert!(!target.is_reached(10, 10, 9));
        assert!(target.is_reached(11, 11, 10), "what came later does not count");
    }

    #[test]
    fn a_tail_that_was_replaced_is_not_waited_for() {
        let mut target = RecoveryTarget::new(10);
        assert!(!target.is_reached(6, 10, 6));
        assert!(target.is_reached(8, 8, 8));
    }

    #[test]
    fn an_empty_disk_first_gets_the_committed_entries_of_the_cluster() {
        let mut target = RecoveryTarget::new(0);
        assert!(!target.is_reached(1_000, 0, 0));
        assert!(!target.is_reached(1_500, 1_200, 999));
        assert!(target.is_reached(2_000, 1_200, 1_000));
    }
}
