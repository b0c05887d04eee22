//! Traces of a node: where they go, and their end.

use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::trace::{Destination, LAST_EXPORT_DEADLINE, TraceMetrics, Traces};

/// How long a connection to the collector may take to be made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// Where traces begin, and the work that sends them.
pub(super) struct TracesOfNode {
    traces: Traces,
    exporting: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl TracesOfNode {
    /// Starts what sends spans to `--otlp-endpoint`, if there is one.
    pub(super) fn start(config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let counters = TraceMetrics::default();
        metrics.register(|registry| counters.register(registry));
        let Some(endpoint) = config.otlp_endpoint.clone() else {
            return Ok(Self { traces: Traces::default(), exporting: None, stop });
        };
        let client = client::plain(CONNECT_DEADLINE).context("traces cannot be sent")?;
        let node = vec![
            ("service.name", "headwater".to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", config.server_id.to_string()),
        ];
        let destination = Destination { endpoint, client, node };
        let ratio = config.live.now().trace_sample_ratio.millionths();
        let (traces, exporter) = Traces::to(destination, ratio, counters)
            .map_err(|error| anyhow::anyhow!("traces cannot be sent: {error}; correct --otlp-endpoint"))?;
        let exporting = tokio::spawn(exporter.run(stop.clone()));
        Ok(Self { traces, exporting: Some(exporting), stop })
    }

    /// Where traces begin.
    pub(super) fn begin(&self) -> Traces {
        self.traces.clone()
    }

    /// Sends what is left, for a while.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        let Some(exporting) = self.exporting else { return };
        let abort = exporting.abort_handle();
        if tokio::time::timeout(LAST_EXPORT_DEADLINE, exporting).await.is_err() {
            abort.abort();
        }
    }
}
