//! Prometheus metrics: one struct of counters, shared by all rooms.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// `Content-Type` of [`Metrics::encode`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of batch sizes, doubling: the order of magnitude shows whether batching works.
const BATCH_BUCKETS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// Upper bounds in seconds of one sync of the log: from a drive with a protected cache (0.1 ms) to
/// a failing disk (1 s).
const SYNC_BUCKETS: [f64; 13] = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// Another node, as label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Peer {
    /// Its server id, as configured by the operator.
    pub(crate) peer: u16,
}

/// All metrics of a node.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Commands handed to Raft by this node as leader.
    pub(crate) proposals: Counter,
    /// Commands in one batch of the proposal gate.
    pub(crate) proposal_batch: Histogram,
    /// Log entries applied.
    pub(crate) applied_entries: Counter,
    /// Commands in one chunk of the apply thread.
    pub(crate) apply_chunk: Histogram,
    /// Events stored by applied commands.
    pub(crate) applied_events: Counter,
    /// Syncs of the log.
    pub(crate) log_syncs: Counter,
    /// Seconds one sync took.
    pub(crate) log_sync_seconds: Histogram,
    /// Callers completed by one sync.
    pub(crate) log_sync_batch: Histogram,
    /// Bytes of entries written to the log.
    pub(crate) log_bytes: Counter,
    /// Changes of the leader seen by this node.
    pub(crate) leader_changes: Counter,
    /// Times that the connection of the leader broke and its port was tried.
    pub(crate) leader_checks: Counter,
    /// Times that its port refused, because its process has ended.
    pub(crate) leader_ends: Counter,
    /// The cluster version in force, as far as this node has applied the log.
    pub(crate) cluster_version: Gauge,
    /// Log entries known committed on this node.
    pub(crate) committed_entries: Gauge,
    /// Log entries that a peer has not confirmed yet, while this node leads; empty on a follower.
    pub(crate) replication_lag: Family<Peer, Gauge>,
    /// Writes sent to the leader by this node as follower.
    pub(crate) forwards_sent: Counter,
    /// Writes received from followers.
    pub(crate) forwards_received: Counter,
    /// Writes without a known outcome.
    pub(crate) unknown_outcomes: Counter,
    /// Snapshots built, sent and installed.
    pub(crate) snapshots_built: Counter,
    /// See [`Self::snapshots_built`].
    pub(crate) snapshots_sent: Counter,
    /// See [`Self::snapshots_built`].
    pub(crate) snapshots_installed: Counter,
    registry: Mutex<Registry>,
}

impl Metrics {
    /// Registers everything under the prefix `headwater_`.
    pub(crate) fn new() -> Arc<Self> {
        let metrics = Self {
            proposals: Counter::default(),
            proposal_batch: Histogram::new(BATCH_BUCKETS),
            applied_entries: Counter::default(),
            apply_chunk: Histogram::new(BATCH_BUCKETS),
            applied_events: Counter::default(),
            log_syncs: Counter::default(),
            log_sync_seconds: Histogram::new(SYNC_BUCKETS),
            log_sync_batch: Histogram::new(BATCH_BUCKETS),
            log_bytes: Counter::default(),
            leader_changes: Counter::default(),
            leader_checks: Counter::default(),
            leader_ends: Counter::default(),
            cluster_version: Gauge::default(),
            committed_entries: Gauge::default(),
            replication_lag: Family::default(),
            forwards_sent: Counter::default(),
            forwards_received: Counter::default(),
            unknown_outcomes: Counter::default(),
            snapshots_built: Counter::default(),
            snapshots_sent: Counter::default(),
            snapshots_installed: Counter::default(),
            registry: Mutex::new(Registry::with_prefix("headwater")),
        };
        metrics.register(|registry| metrics.register_all(registry));
        Arc::new(metrics)
    }

    /// Adds metrics that belong to one room; their names get the prefix too.
    pub(crate) fn register<R>(&self, registration: impl FnOnce(&mut Registry) -> R) -> R {
        registration(&mut self.registry.lock())
    }

    /// The OpenMetrics text exposition, see [`CONTENT_TYPE`].
    pub(crate) fn encode(&self) -> String {
        let mut buffer = String::new();
        // A `String` accepts every write, and the encoders of this crate have no errors of their
        // own.
        if let Err(error) = text::encode(&mut buffer, &self.registry.lock()) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        buffer
    }

    /// Counters get the suffix `_total` in the exposition.
    fn register_all(&self, to: &mut Registry) {
        to.register("proposals", "Commands handed to Raft by this node as leader", self.proposals.clone());
        to.register("proposal_batch_commands", "Commands in one proposed batch", self.proposal_batch.clone());
        to.register("applied_entries", "Log entries applied", self.applied_entries.clone());
        to.register("apply_chunk_commands", "Commands applied in one batch", self.apply_chunk.clone());
        to.register("applied_events", "Events stored", self.applied_events.clone());
        to.register("log_syncs", "Syncs of the log", self.log_syncs.clone());
        to.register("log_sync_seconds", "Duration of one sync of the log", self.log_sync_seconds.clone());
        to.register("log_sync_batch_writes", "Writes completed by one sync of the log", self.log_sync_batch.clone());
        to.register("log_bytes", "Bytes of entries written to the log", self.log_bytes.clone());
        to.register("leader_changes", "Changes of the leader seen by this node", self.leader_changes.clone());
        to.register(
            "leader_checks",
            "Broken connections after which the leader's port was tried",
            self.leader_checks.clone(),
        );
        to.register(
            "leader_ends",
            "Leaders whose port refused, because their process had ended",
            self.leader_ends.clone(),
        );
        to.register("cluster_version", "Cluster version in force", self.cluster_version.clone());
        to.register("committed_entries", "Index of the last log entry known committed", self.committed_entries.clone());
        to.register(
            "replication_lag_entries",
            "Log entries a peer has not confirmed, seen by the leader",
            self.replication_lag.clone(),
        );
        to.register("forwards_sent", "Writes sent to the leader by this node", self.forwards_sent.clone());
        to.register("forwards_received", "Writes received from other nodes", self.forwards_received.clone());
        to.register("unknown_outcomes", "Writes answered without a known outcome", self.unknown_outcomes.clone());
        to.register("snapshots_built", "Snapshots built", self.snapshots_built.clone());
        to.register("snapshots_sent", "Snapshots sent to other nodes", self.snapshots_sent.clone());
        to.register("snapshots_installed", "Snapshots received and installed", self.snapshots_installed.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_appear_in_the_exposition() {
        let metrics = Metrics::new();
        metrics.proposals.inc_by(7);
        metrics.committed_entries.set(41);
        metrics.log_sync_seconds.observe(0.0004);
        metrics.replication_lag.get_or_create(&Peer { peer: 3 }).set(12);
        let text = metrics.encode();
        for line in [
            "headwater_proposals_total 7",
            "headwater_committed_entries 41",
            "headwater_log_sync_seconds_bucket{le=\"0.0002\"} 0",
            "headwater_log_sync_seconds_bucket{le=\"0.0005\"} 1",
            "headwater_log_sync_seconds_count 1",
            "headwater_replication_lag_entries{peer=\"3\"} 12",
            "headwater_unknown_outcomes_total 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_name_has_the_prefix() {
        let text = Metrics::new().encode();
        assert!(
            text.lines().filter(|line| !line.starts_with('#')).all(|line| line.starts_with("headwater_")),
            "{text}"
        );
    }

    #[test]
    fn a_room_can_add_metrics_of_its_own() {
        let metrics = Metrics::new();
        let added = Counter::<u64>::default();
        metrics.register(|registry| registry.register("added", "Added later", added.clone()));
        added.inc();
        assert!(metrics.encode().contains("headwater_added_total 1"));
    }
}
