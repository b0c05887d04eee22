//! Counters of the HTTP API.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// A route and the status of an answer, as labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// Name of the route; `none` where none matched.
    pub route: &'static str,
    /// Status code.
    pub status: u32,
}

/// Counters of the HTTP API. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    kept_pages: Counter,
}

impl HttpMetrics {
    /// Makes the counters part of `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "HTTP requests answered, by route and status", self.requests.clone());
        let kept = "Pages of streams sent as they were kept, without a look at the database";
        registry.register("http_kept_pages", kept, self.kept_pages.clone());
    }

    /// Counts a page that was sent as it was kept.
    pub fn sent_kept_page(&self) {
        self.kept_pages.inc();
    }

    /// Counts an answer.
    pub fn answered(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status: u32::from(status) }).inc();
    }
}
