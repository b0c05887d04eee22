//! Prometheus metrics: one struct of counters that every room gets a reference to.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// All metrics of a node.
#[derive(Debug)]
pub struct Metrics {
    /// Commands handed to Raft by this node as leader.
    pub proposals: Counter,
    /// Commands in one batch of the proposal gate.
    pub proposal_batch: Histogram,
    /// Log entries applied.
    pub applied_entries: Counter,
    /// Entries in one chunk of the apply thread.
    pub apply_chunk: Histogram,
    /// Events stored by applied commands.
    pub applied_events: Counter,
    /// Syncs of the log.
    pub log_syncs: Counter,
    /// Seconds one sync took.
    pub log_sync_seconds: Histogram,
    /// Callers completed by one sync.
    pub log_sync_batch: Histogram,
    /// Bytes of entries written to the log.
    pub log_bytes: Counter,
    /// Changes of the leader seen by this node.
    pub leader_changes: Counter,
    /// Log entries known committed on this node.
    pub committed_entries: Gauge,
    /// Writes sent to the leader by this node as follower.
    pub forwards_sent: Counter,
    /// Writes received from followers.
    pub forwards_received: Counter,
    /// Writes without a known outcome.
    pub unknown_outcomes: Counter,
    /// Snapshots built, sent and installed.
    pub snapshots_built: Counter,
    /// See [`Self::snapshots_built`].
    pub snapshots_sent: Counter,
    /// See [`Self::snapshots_built`].
    pub snapshots_installed: Counter,
    registry: Registry,
}

impl Metrics {
    /// Registers everything under the prefix `headwater_`.
    pub fn new() -> Arc<Self> {
        unimplemented!()
    }

    /// The text exposition format.
    pub fn encode(&self) -> String {
        let _ = &self.registry;
        unimplemented!()
    }
}
