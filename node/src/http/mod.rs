//! The HTTP API: parses requests, calls the rooms below, renders answers.

mod budgets;
mod connection;
mod control;
mod exchange;
mod format;
pub mod limits;
mod resources;
mod routes;

use std::sync::Arc;

pub use connection::server::serve;
pub use control::{Control, Reload};
pub use exchange::metrics::HttpMetrics;
pub use exchange::reply::Reply;
use exchange::router::Router;
use exchange::slow::SlowRequests;
use resources::kept_pages::KeptPages;

use crate::access::Access;
use crate::backup::Backups;
use crate::cluster::view::ClusterView;
use crate::config::Config;
use crate::consumers::Consumers;
use crate::metrics::Metrics;
use crate::scavenge::Scavenger;
use crate::streams::Streams;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// What can be asked for.
    pub(crate) router: Arc<Router>,
    /// What is done with streams.
    pub streams: Streams,
    /// Groups of competing consumers.
    pub(crate) consumers: Consumers,
    /// What is seen of the cluster this node is part of.
    pub cluster: ClusterView,
    /// Users and access lists.
    pub access: Access,
    /// What removes what nobody can see.
    pub scavenger: Scavenger,
    /// Copies of all that this node has.
    pub backups: Backups,
    /// The configuration.
    pub config: Arc<Config>,
    /// All metrics, for `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Counters of this room; the composition root registers them in `metrics`.
    pub http_metrics: HttpMetrics,
    /// The log of requests that take long.
    pub slow_requests: SlowRequests,
    /// Memory for what is large.
    pub budgets: budgets::Budgets,
    /// Pages that were sent lately.
    pub(crate) kept_pages: Arc<KeptPages>,
    /// Figures for `/stats`.
    pub stats: Arc<resources::stats::Stats>,
    /// `host:port` in links when a request has no Host header.
    pub local_address: Arc<str>,
    /// What operators tell the node.
    pub control: Arc<Control>,
}

/// The rooms below that handlers call.
pub struct Rooms {
    /// What is done with streams.
    pub streams: Streams,
    /// Groups of competing consumers.
    pub(crate) consumers: Consumers,
    /// What is seen of the cluster this node is part of.
    pub cluster: ClusterView,
    /// Users and access lists.
    pub access: Access,
    /// What removes what nobody can see.
    pub scavenger: Scavenger,
    /// Copies of all that this node has.
    pub backups: Backups,
    /// What operators tell the node.
    pub control: Arc<Control>,
}

impl AppState {
    /// The state of a node's HTTP API.
    pub fn new(rooms: Rooms, config: Arc<Config>, metrics: Arc<Metrics>, http_metrics: HttpMetrics) -> Self {
        let Rooms { streams, consumers, cluster, access, scavenger, backups, control } = rooms;
        let local_address = config.http_listen.to_string().into();
        let stats = Arc::new(resources::stats::Stats::new(config.data_dir.clone()));
        Self {
            router: Arc::new(Router::new(routes::ROUTES)),
            streams,
            consumers,
            cluster,
            access,
            scavenger,
            backups,
            slow_requests: SlowRequests::new(config.slow_request),
            budgets: budgets::Budgets::default(),
            config,
            metrics,
            kept_pages: Arc::new(KeptPages::new(http_metrics.clone())),
            http_metrics,
            stats,
            local_address,
            control,
        }
    }
}
