//! Metrics of traces.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counters of this room. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceMetrics {
    pub(super) sent: Counter,
    pub(super) dropped: Counter,
    pub(super) undelivered: Counter,
}

impl TraceMetrics {
    /// Registers the metrics; their names get the prefix of the registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("trace_spans_sent", "Spans that the collector has taken", self.sent.clone());
        let dropped = "Spans that found no place in the queue to the collector";
        registry.register("trace_spans_dropped", dropped, self.dropped.clone());
        let undelivered = "Spans that the collector did not take";
        registry.register("trace_spans_undelivered", undelivered, self.undelivered.clone());
    }
}
