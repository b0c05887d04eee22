//! When a node that was started knows again what it knew before.

/// What a starting node has to reach before it serves reads.
///
/// openraft's own `wait_for_recovery` compares with the growing end of the log, which a loaded
/// follower may never reach; what was known at start is what counts.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Number of entries the log held at start: everything this disk had acknowledged.
    log_end_at_start: u64,
    /// Number of entries that were committed when the cluster was first heard of. For an empty disk
    /// it is the only measure, and for any other it brings the node at least near to what the
    /// cluster serves.
    committed_at_contact: Option<u64>,
}

impl Recovery {
    /// For a log that ended there.
    pub(super) fn new(log_end_at_start: u64) -> Self {
        Self { log_end_at_start, committed_at_contact: None }
    }

    /// Whether it is over, given the numbers of entries that the cluster has committed, that the
    /// log holds, and that are applied.
    pub(super) fn is_over(&mut self, committed: u64, log_end: u64, applied: u64) -> bool {
        if committed == 0 {
            return false;
        }
        let at_contact = *self.committed_at_contact.get_or_insert(committed);
        // A tail that the leader replaced may leave the log shorter than it was.
        let target = self.log_end_at_start.min(log_end).max(at_contact);
        committed >= target && applied >= target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_acknowledged_by_the_lost_disk_must_be_committed_and_applied_again() {
        let mut recovery = Recovery::new(10);
        assert!(!recovery.is_over(0, 10, 8), "nobody was heard");
        assert!(!recovery.is_over(7, 10, 10));
        assert!(!recovery.is_over(10, 10, 9));
        assert!(recovery.is_over(11, 11, 10), "what came later does not count");
    }

    #[test]
    fn a_tail_that_was_replaced_is_not_waited_for() {
        let mut recovery = Recovery::new(10);
        assert!(!recovery.is_over(6, 10, 6));
        assert!(recovery.is_over(8, 8, 8));
    }

    #[test]
    fn an_empty_disk_first_gets_the_committed_entries_of_the_cluster() {
        let mut recovery = Recovery::new(0);
        assert!(!recovery.is_over(1_000, 0, 0));
        assert!(!recovery.is_over(1_500, 1_200, 999));
        assert!(recovery.is_over(2_000, 1_200, 1_000));
    }
}
