//! The way of spans to the collector, in batches. No request ever waits for it.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::TraceMetrics;

/// Spans that wait to be sent. Beyond this they are dropped.
pub(super) const QUEUED_SPANS: usize = 4_096;

/// Spans in one message to the collector.
const BATCH_SPANS: usize = 512;

/// How long spans are gathered for a message.
const GATHER_TIME: Duration = Duration::from_millis(500);

/// How long one message may take, repetitions included.
const EXPORT_DEADLINE: Duration = Duration::from_secs(5);

/// How long a stopping node goes on sending what is left.
pub(crate) const LAST_EXPORT_DEADLINE: Duration = Duration::from_secs(1);

/// Where spans go, and what stands with all of them.
pub(crate) struct Destination {
    /// Base of the collector, to which `/v1/traces` is added.
    pub(crate) endpoint: String,
    /// Reaches it.
    pub(crate) client: reqwest::Client,
    /// Which node they come from.
    pub(crate) node: Vec<(&'static str, String)>,
}

/// Sends spans to the collector.
pub(crate) struct Exporter {
    queued: mpsc::Receiver<SpanData>,
    collector: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    /// Whether the last message was not taken; only changes are logged.
    is_away: bool,
    metrics: TraceMetrics,
}

impl Exporter {
    /// # Errors
    /// A sentence, when the destination cannot be one.
    pub(super) fn new(
        destination: Destination,
        queued: mpsc::Receiver<SpanData>,
        metrics: TraceMetrics,
    ) -> Result<Self, String> {
        let endpoint = format!("{}/v1/traces", destination.endpoint.trim_end_matches('/'));
        let mut collector = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(destination.client)
            .with_endpoint(endpoint.as_str())
            .with_timeout(EXPORT_DEADLINE)
            .build()
            .map_err(|error| error.to_string())?;
        let attributes = destination.node.into_iter().map(|(key, value)| KeyValue::new(key, value));
        collector.set_resource(&Resource::builder_empty().with_attributes(attributes).build());
        Ok(Self { queued, collector, endpoint, is_away: false, metrics })
    }

    /// Works until `stop`, and then sends what is left.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_SPANS);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                received = self.queued.recv_many(&mut batch, BATCH_SPANS) => if received == 0 {
                    return;
                },
            }
            self.gather(&mut batch, &stop).await;
            self.export(std::mem::replace(&mut batch, Vec::with_capacity(BATCH_SPANS))).await;
        }
        self.queued.close();
        while self.queued.recv_many(&mut batch, BATCH_SPANS).await > 0 {
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    /// Fills the batch, for a while.
    async fn gather(&mut self, batch: &mut Vec<SpanData>, stop: &CancellationToken) {
        let end = Instant::now() + GATHER_TIME;
        while batch.len() < BATCH_SPANS {
            let room = BATCH_SPANS - batch.len();
            let received = tokio::select! {
                received = timeout_at(end, self.queued.recv_many(batch, room)) => received,
                () = stop.cancelled() => return,
            };
            if !matches!(received, Ok(1..)) {
                return;
            }
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        let failed = match timeout(EXPORT_DEADLINE, self.collector.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        let was_away = std::mem::replace(&mut self.is_away, failed.is_some());
        match failed {
            None => {
                self.metrics.sent.inc_by(spans);
                if was_away {
                    tracing::info!(endpoint = self.endpoint, "the collector takes traces again");
                }
            }
            Some(error) => {
                self.metrics.undelivered.inc_by(spans);
                if !was_away {
                    tracing::warn!(
                        endpoint = self.endpoint,
                        error,
                        "the collector does not take traces; they are lost, and counted in headwater_trace_spans_undelivered_total"
                    );
                }
            }
        }
    }
}
