//! Metrics of scavenging.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a node tells about runs and about its own tables. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScavengeMetrics {
    /// 1 while this node works on a run.
    pub(crate) running: Gauge,
    /// Bytes of rows that can be removed, as the leader last found.
    pub(crate) removable_bytes: Gauge,
    /// Seconds until the run is done, about; 0 when there is none.
    pub(crate) eta_seconds: Gauge,
    /// Events removed by runs of this node.
    pub(crate) removed_events: Counter,
    /// Bytes of their rows.
    pub(crate) removed_bytes: Counter,
    /// Bytes of tables rewritten on this node.
    pub(crate) rewritten_bytes: Counter,
    /// Bytes that rewriting has given back to the disk of this node.
    pub(crate) reclaimed_bytes: Counter,
    /// Bytes of tables with removed rows that are still to be rewritten on this node.
    pub(crate) reclaimable_bytes: Gauge,
    /// Bytes of all tables of the state.
    pub(crate) state_bytes: Gauge,
}

impl ScavengeMetrics {
    /// Registers all of them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("scavenge_running", "1 while this node works on a run", self.running.clone());
        registry.register(
            "scavenge_removable_bytes",
            "Bytes of events that can be removed, as the leader last found",
            self.removable_bytes.clone(),
        );
        registry.register(
            "scavenge_eta_seconds",
            "Seconds until the run is done, about; 0 when there is none",
            self.eta_seconds.clone(),
        );
        registry.register(
            "scavenge_removed_events",
            "Events removed by runs of this node",
            self.removed_events.clone(),
        );
        registry.register("scavenge_removed_bytes", "Bytes of these events", self.removed_bytes.clone());
        registry.register(
            "state_rewritten_bytes",
            "Bytes of tables rewritten on this node to give space back",
            self.rewritten_bytes.clone(),
        );
        registry.register(
            "state_reclaimed_bytes",
            "Bytes that rewriting has given back to the disk of this node",
            self.reclaimed_bytes.clone(),
        );
        registry.register(
            "state_reclaimable_bytes",
            "Bytes of tables with removed rows that are still to be rewritten on this node",
            self.reclaimable_bytes.clone(),
        );
        registry.register("state_table_bytes", "Bytes of all tables of the state", self.state_bytes.clone());
    }
}
