//! Counters of the HTTP API.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// A route and the status of an answer, as labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// Name of the route; `none` where none matched.
    pub(crate) route: &'static str,
    /// Status code.
    pub(crate) status: u32,
}

/// What a request wants, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Buckets of the time of requests, in seconds: from a page that is kept to a write that nearly
/// took too long.
const SECONDS: [f64; 14] = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// Counters of the HTTP API. Clones share their values.
#[derive(Debug, Clone)]
pub(crate) struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    kept_pages: Counter,
    seconds: Family<KindLabel, Histogram>,
    /// Of `seconds`, found once.
    seconds_of_reads: Histogram,
    seconds_of_writes: Histogram,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let seconds = Family::<KindLabel, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        let of = |kind| seconds.get_or_create(&KindLabel { kind }).clone();
        let (seconds_of_reads, seconds_of_writes) = (of("read"), of("write"));
        Self {
            requests: Family::default(),
            kept_pages: Counter::default(),
            seconds,
            seconds_of_reads,
            seconds_of_writes,
        }
    }
}

impl HttpMetrics {
    /// Makes the counters part of `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "HTTP requests answered, by route and status", self.requests.clone());
        let kept = "Pages of streams sent as they were kept, without a look at the database";
        registry.register("http_kept_pages", kept, self.kept_pages.clone());
        let seconds = "Time from the head of a request to its answer, without what a long poll waits for";
        registry.register("http_request_seconds", seconds, self.seconds.clone());
    }

    /// Counts a page that was sent as it was kept.
    pub(crate) fn sent_kept_page(&self) {
        self.kept_pages.inc();
    }

    /// Notes how long an answer took, apart from what its client had asked to wait for.
    pub(crate) fn took(&self, may_write: bool, time: Duration) {
        let seconds = if may_write { &self.seconds_of_writes } else { &self.seconds_of_reads };
        seconds.observe(time.as_secs_f64());
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status: u32::from(status) }).inc();
    }
}
