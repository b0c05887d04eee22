//! The rooms that only clients need.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::backup::Backups;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::consumers::{ConsumerMetrics, Consumers};
use crate::http;
use crate::metrics::Metrics;
use crate::scavenge::{ScavengeMetrics, Scavenger};
use crate::streams::Streams;
use crate::trace::Traces;

/// What only the port for clients works with.
pub(super) struct ForClients {
    pub(super) access: Access,
    pub(super) backups: Backups,
    pub(super) control: Arc<http::Control>,
    pub(super) traces: Traces,
}

impl ForClients {
    /// What handlers work with. Starts the rooms that only clients need.
    pub(super) fn into_state(
        self,
        config: &Arc<Config>,
        cluster: &Cluster,
        metrics: Arc<Metrics>,
        stop: &CancellationToken,
    ) -> anyhow::Result<http::AppState> {
        let Self { access, backups, control, traces } = self;
        let http_metrics = http::HttpMetrics::default();
        metrics.register(|registry| http_metrics.register(registry));
        let streams = Streams::start(cluster.clone(), access.clone(), config.read_wait)?;
        let scavenge_metrics = ScavengeMetrics::default();
        metrics.register(|registry| scavenge_metrics.register(registry));
        let scavenger = Scavenger::new(cluster.clone(), config.clone(), scavenge_metrics);
        tokio::spawn(scavenger.clone().run(stop.clone()));
        let consumer_metrics = ConsumerMetrics::default();
        metrics.register(|registry| consumer_metrics.register(registry));
        let consumers = Consumers::start(cluster.clone(), access.clone(), streams.clone(), consumer_metrics, stop);
        let cluster = cluster.view();
        let rooms = http::Rooms { streams, consumers, cluster, access, scavenger, backups, control, traces };
        Ok(http::AppState::new(rooms, config.clone(), metrics, http_metrics))
    }
}
