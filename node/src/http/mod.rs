//! The HTTP API: parses requests, calls the rooms below, renders answers.

mod budgets;
mod connection;
mod control;
mod exchange;
mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod limits;
mod resources;
mod routes;

use std::sync::Arc;

pub(crate) use connection::server::serve;
pub(crate) use control::{Control, Reload};
pub(crate) use exchange::metrics::HttpMetrics;
pub(crate) use exchange::reply::Reply;
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
use crate::trace::Traces;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState {
    /// What can be asked for.
    pub(crate) router: Arc<Router>,
    /// The rooms below that handlers call.
    pub(crate) rooms: Arc<Rooms>,
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// All metrics, for `/metrics`.
    pub(crate) metrics: Arc<Metrics>,
    /// Counters of this room; the composition root registers them in `metrics`.
    pub(crate) http_metrics: HttpMetrics,
    /// The log of requests that take long.
    pub(crate) slow_requests: SlowRequests,
    /// Memory for what is large.
    pub(crate) budgets: budgets::Budgets,
    /// Pages that were sent lately.
    pub(crate) kept_pages: Arc<KeptPages>,
    /// Figures for `/stats`.
    pub(crate) stats: Arc<resources::stats::Stats>,
    /// `host:port` in links when a request has no Host header.
    pub(crate) local_address: Arc<str>,
}

/// The rooms below that handlers call.
pub(crate) struct Rooms {
    /// What is done with streams.
    pub(crate) streams: Streams,
    /// Groups of competing consumers.
    pub(crate) consumers: Consumers,
    /// What is seen of the cluster this node is part of.
    pub(crate) cluster: ClusterView,
    /// Users and access lists.
    pub(crate) access: Access,
    /// What removes what nobody can see.
    pub(crate) scavenger: Scavenger,
    /// Copies of all that this node has.
    pub(crate) backups: Backups,
    /// What operators tell the node.
    pub(crate) control: Arc<Control>,
    /// Where traces begin.
    pub(crate) traces: Traces,
}

impl AppState {
    /// The state of a node's HTTP API.
    pub(crate) fn new(rooms: Rooms, config: Arc<Config>, metrics: Arc<Metrics>, http_metrics: HttpMetrics) -> Self {
        let local_address = config.http_listen.to_string().into();
        let stats = Arc::new(resources::stats::Stats::new(config.data_dir.clone()));
        Self {
            router: Arc::new(Router::new(routes::ROUTES)),
            rooms: Arc::new(rooms),
            slow_requests: SlowRequests::new(config.live.clone()),
            budgets: budgets::Budgets::default(),
            config,
            metrics,
            kept_pages: Arc::new(KeptPages::new(http_metrics.clone())),
            http_metrics,
            stats,
            local_address,
        }
    }
}
