//! Composition root: open stores, start raft, start listeners, ordered shutdown.

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod stale_follower_tests;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
pub(crate) mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use headwater_proto::cluster::cluster_server::ClusterServer;
use headwater_proto::raft::raft_server::RaftServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;

use crate::access::Access;
use crate::backup::{Backups, CatchUp};
use crate::cluster::connector::Connector;
use crate::cluster::identity::Identity;
use crate::cluster::service::ClusterService;
use crate::cluster::{Background, Cluster, Dependencies};
use crate::config::Config;
use crate::descriptors::OpenFiles;
use crate::metrics::Metrics;
use crate::raft::service::RaftService;
use crate::scavenge::{ScavengeMetrics, Scavenger};
use crate::streams::Streams;
use crate::tls::{Certificates, NodeTls};
use crate::transport::dialer::{CONNECTION_WINDOW_BYTES, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, STREAM_WINDOW_BYTES};
use crate::transport::{Dialer, MAX_MESSAGE_BYTES, Member, NodeId, Resolve, Traffic, listener};
use crate::{backup, fatal, files, http, log, ndjson, raft, store};

/// How long an ordered shutdown waits for another leader.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);

/// How long an ordered shutdown waits for each listener to finish its answers.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// How long an ordered shutdown may take. This is longer than all waits in it that have a deadline;
/// the others wait for the disk.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Calls per connection that a peer may cancel before this node has seen them; beyond that the
/// connection is cut. HTTP/2 libraries cut at 20, against hostile clients. Peers are not hostile: a
/// node that was frozen or starved for some seconds finds a heartbeat for each tenth of a second,
/// and cutting off its leader would not help.
const ABANDONED_CALLS: usize = 1_024;

/// Open files of a node that may open as many as it likes.
pub const OPEN_FILES: OpenFiles = OpenFiles {
    state_tables: store::options::MAX_OPEN_FILES,
    log_tables: log::MAX_OPEN_TABLES,
    nodes: listener::MAX_CONNECTIONS as u64,
    clients: http::limits::MAX_CONNECTIONS as u64,
};

/// What this program is: its version, the commit that it was built of, and the formats that it
/// writes.
pub fn version() -> String {
    format!(
        "headwater {} (commit {})\nformats: log {}, state {}, backup {}, export {}\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("HEADWATER_COMMIT").unwrap_or("unknown"),
        log::keys::FORMAT_VERSION,
        store::FORMAT_VERSION,
        backup::manifest::FORMAT,
        ndjson::VERSION,
    )
}

/// A running node.
pub struct Node {
    cluster: Cluster,
    access: Access,
    certificates: Certificates,
    parts: raft::Parts,
    /// Stops the listener for clients first; traffic between nodes and background work stop last.
    stop_http: CancellationToken,
    stop_all: CancellationToken,
    http_server: tokio::task::JoinHandle<()>,
    raft_server: tokio::task::JoinHandle<()>,
}

impl Node {
    /// Runs a node, within so many open files, until SIGTERM or SIGINT, then stops it in order. On
    /// a second signal, or when stopping takes longer than [`STOP_DEADLINE`], the process ends at
    /// once.
    ///
    /// # Errors
    /// Why it could not start, in a sentence. Later failures of the disk end the process (see
    /// [`crate::fatal`]).
    pub async fn run(config: Config, open_files: OpenFiles) -> anyhow::Result<()> {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let mut hang_up = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        let node = Self::start(config, open_files).await?;
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    tracing::info!("SIGTERM: stopping");
                    break;
                }
                _ = interrupt.recv() => {
                    tracing::info!("SIGINT: stopping");
                    break;
                }
                _ = hang_up.recv() => {
                    tracing::info!("SIGHUP: loading the certificates again");
                    node.reload_certificates().await;
                }
            }
        }
        leave_after(STOP_DEADLINE);
        tokio::select! {
            () = node.stop() => Ok(()),
            _ = terminate.recv() => leave_unfinished("SIGTERM again"),
            _ = interrupt.recv() => leave_unfinished("SIGINT again"),
        }
    }

    /// Opens the stores and starts all parts; returns when the listeners are up. The node joins its
    /// cluster by itself.
    pub async fn start(config: Config, open_files: OpenFiles) -> anyhow::Result<Self> {
        check_clock(SystemTime::now())?;
        let config = Arc::new(config);
        let metrics = Metrics::new();
        let certificates = load_certificates(&config).await?;
        metrics.register(|registry| certificates.metrics().register(registry));
        for exposure in config.exposures() {
            tracing::warn!("{exposure}");
        }
        let http_listener = listen(config.http_listen, "http-listen").await?;
        let raft_listener = listen(config.raft_listen, "raft-listen").await?;

        let dialer = Dialer::new(certificates.for_nodes());
        let traffic = dialer.traffic().clone();
        let base = Base::open(&config, dialer, &metrics, open_files).await?;
        let Base { identity, parts, cluster, background } = base;
        let stop_http = CancellationToken::new();
        let stop_all = CancellationToken::new();
        parts.run(&config, &stop_all).await;
        let service = ClusterService::new(cluster.clone(), stop_all.clone());
        let port = NodePort {
            listener: raft_listener,
            most_nodes: open_files.nodes as usize,
            traffic,
            tls: certificates.for_nodes(),
            stop: stop_all.clone(),
        };
        let raft_server = tokio::spawn(port.serve(nodes_routes(parts.service(identity.local()), service)));

        tokio::spawn(certificates.clone().remind(stop_all.clone()));
        background.start(&stop_all);
        let access = Access::new(cluster.clone(), &config)?;
        tokio::spawn(access.clone().run(config.clone(), stop_all.clone()));
        let catching_up = cluster.clone();
        let catch_up: CatchUp = Box::new(move || {
            let cluster = catching_up.clone();
            Box::pin(async move { cluster.catch_up().await.is_ok() })
        });
        let backups = Backups::new(parts.apply().clone(), catch_up, identity.local(), &config.data_dir);
        let state = clients_state(&config, &cluster, &access, backups, metrics, &stop_all)?;
        let http_address = http_listener.local_addr()?;
        let https = certificates.for_clients();
        let (http_tls, raft_tls) = (https.is_some(), certificates.for_nodes().is_some());
        let most_clients = open_files.clients as usize;
        let http_server = tokio::spawn(http::serve(http_listener, most_clients, https, state, stop_http.clone()));
        tracing::info!(http = %http_address, http_tls, raft = %config.raft_listen, raft_tls, "listening");
        Ok(Self { cluster, access, certificates, parts, stop_http, stop_all, http_server, raft_server })
    }

    /// This node's part in the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Loads certificates and keys from their files again, for new handshakes. When a file is
    /// unusable, nothing changes.
    pub async fn reload_certificates(&self) {
        let certificates = self.certificates.clone();
        match tokio::task::spawn_blocking(move || certificates.reload()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the certificates in use are kept: {error}"),
            Err(error) => tracing::error!(%error, "the certificates were not loaded again"),
        }
    }

    /// Users and access lists.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Stops in order: hands over leadership, answers open requests, stops consensus, flushes the
    /// stores.
    pub async fn stop(self) {
        self.cluster.hand_over(HAND_OVER_DEADLINE).await;
        self.stop_http.cancel();
        finish(self.http_server, "HTTP requests").await;
        self.stop_all.cancel();
        self.parts.stop().await;
        finish(self.raft_server, "calls of other nodes").await;
        tracing::info!("stopped");
    }
}

/// The stores of a node, and what is built on them for both ports.
struct Base {
    identity: Arc<Identity>,
    parts: raft::Parts,
    cluster: Cluster,
    background: Background,
}

impl Base {
    /// Opens the data directory. Nothing runs yet.
    async fn open(
        config: &Arc<Config>,
        dialer: Dialer,
        metrics: &Arc<Metrics>,
        open_files: OpenFiles,
    ) -> anyhow::Result<Self> {
        // Before anything is read or written there; data of older versions lie open.
        if let Err(error) = files::make_private(&config.data_dir) {
            tracing::warn!("{error}; let the user of this node own its data directory");
        }
        let identity = Arc::new(Identity::open(&config.data_dir, config.server_id)?);
        identity.require_log(raft::log_directory(&config.data_dir).join(log::MARK_FILE_NAME))?;
        tracing::info!(node = %identity.node_id(), data_dir = %config.data_dir.display(), "opening the stores");
        let resolve = configured_addresses(config);
        let founding = if identity.is_restored() { raft::Founding::OfRestored } else { raft::Founding::Complete };
        let (own, resolved) = (identity.local(), resolve.clone());
        let parts = raft::build(config, own, dialer.clone(), resolved, metrics.clone(), open_files, founding).await?;
        let (cluster, background) = Cluster::new(Dependencies {
            config: config.clone(),
            identity: identity.clone(),
            consensus: parts.consensus(),
            store: parts.store.clone(),
            stamps: parts.stamps.clone(),
            metrics: metrics.clone(),
            connector: Connector::new(identity.local(), dialer, resolve),
            log_progress: parts.log_progress(),
            log_entries_at_start: parts.log_end_at_start,
        });
        Ok(Self { identity, parts, cluster, background })
    }
}

/// The gRPC services for other nodes.
fn nodes_routes(raft: RaftServer<RaftService>, cluster: ClusterService) -> Router {
    let cluster = ClusterServer::new(cluster)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        // Resources held for a vanished peer are released with the connection.
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(ABANDONED_CALLS))
        .add_service(raft)
        .add_service(cluster)
}

/// The port at which other nodes call this one.
struct NodePort {
    listener: TcpListener,
    /// Connections at a time.
    most_nodes: usize,
    /// Counts what is sent and received.
    traffic: Traffic,
    tls: Option<NodeTls>,
    stop: CancellationToken,
}

impl NodePort {
    /// Answers calls until the node stops.
    async fn serve(self, routes: Router) {
        let Self { listener, most_nodes, traffic, tls, stop } = self;
        let stopped = stop.clone().cancelled_owned();
        let served = match tls {
            None => {
                let connections = listener::plain(listener, most_nodes, traffic, stop);
                routes.serve_with_incoming_shutdown(connections, stopped).await
            }
            Some(tls) => {
                let connections = listener::secure(listener, most_nodes, tls, traffic, stop);
                routes.serve_with_incoming_shutdown(connections, stopped).await
            }
        };
        if let Err(error) = served {
            tracing::error!(%error, "the listener for other nodes failed");
        }
    }
}

/// What the port for clients works with. Starts the rooms that only clients need.
fn clients_state(
    config: &Arc<Config>,
    cluster: &Cluster,
    access: &Access,
    backups: Backups,
    metrics: Arc<Metrics>,
    stop: &CancellationToken,
) -> anyhow::Result<http::AppState> {
    let http_metrics = http::HttpMetrics::default();
    metrics.register(|registry| http_metrics.register(registry));
    let streams = Streams::start(cluster.clone(), access.clone(), config.read_wait)?;
    let scavenge_metrics = ScavengeMetrics::default();
    metrics.register(|registry| scavenge_metrics.register(registry));
    let scavenger = Scavenger::new(cluster.clone(), config.clone(), scavenge_metrics);
    tokio::spawn(scavenger.clone().run(stop.clone()));
    let rooms = http::Rooms { streams, cluster: cluster.view(), access: access.clone(), scavenger, backups };
    Ok(http::AppState::new(rooms, config.clone(), metrics, http_metrics))
}

/// Ends the process when it has not ended by itself in time. It runs on a thread, which waits
/// neither for other threads nor for the disk.
#[expect(clippy::disallowed_methods, reason = "on a thread of its own")]
fn leave_after(deadline: Duration) {
    let watch = std::thread::Builder::new().name("stop-deadline".to_owned()).spawn(move || {
        std::thread::sleep(deadline);
        leave_unfinished("not stopped in time");
    });
    if let Err(error) = watch {
        tracing::warn!(%error, "a thread to end a slow shutdown cannot be started");
    }
}

/// Acknowledged writes are in the log on disk, and the next start recovers from there, as after a
/// crash.
fn leave_unfinished(why: &str) -> ! {
    fatal::tell(&format!(
        "{why}: the process ends before all parts have stopped in order; no acknowledged write is lost"
    ));
    fatal::leave(fatal::EXIT_REFUSED)
}

async fn load_certificates(config: &Arc<Config>) -> anyhow::Result<Certificates> {
    let config = config.clone();
    Ok(tokio::task::spawn_blocking(move || Certificates::load(&config.tls, config.server_id)).await??)
}

/// Times that a clock can say: a day after those that count from zero, and a day before those of
/// five digits, which no document of the API can hold, and with which hyper panics as it does with
/// those before 1970. Once the node runs its clock stays between them: Linux lets nobody set a
/// clock to less than the time since the machine was started, nor beyond 2232 (clock_settime(2)).
const CLOCK_SECONDS: std::ops::Range<u64> = 86_400..253_370_678_400;

/// Refuses a clock that was never set: what it stamps stays for ever.
fn check_clock(now: SystemTime) -> anyhow::Result<()> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if CLOCK_SECONDS.contains(&seconds) {
        return Ok(());
    }
    let time =
        jiff::Timestamp::try_from(now).map_or_else(|_| "a time of no calendar".to_owned(), |time| time.to_string());
    anyhow::bail!("the clock of this machine says {time}; set it: events keep the times that they are stamped with")
}

async fn listen(address: std::net::SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: stop the process that uses it, or change --{option}"))
}

async fn finish(server: tokio::task::JoinHandle<()>, what: &str) {
    let abort = server.abort_handle();
    if tokio::time::timeout(DRAIN_DEADLINE, server).await.is_err() {
        tracing::warn!("{what} did not end in time and were cut off");
        abort.abort();
    }
}

/// The configured addresses take precedence over those in the replicated member list, so that a
/// server can move when all nodes are restarted with a new list.
fn configured_addresses(config: &Arc<Config>) -> Resolve {
    let config = config.clone();
    Arc::new(move |node_id: NodeId, member: &Member| {
        let configured = config.members.iter().find(|m| m.id == node_id.server());
        configured.map_or_else(
            || member.clone(),
            |m| Member { raft_address: m.raft_address.clone(), http_address: m.http_address.clone() },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_refused() {
        let at = |seconds: u64| check_clock(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (seconds, says) in [
            (0, "1970-01-01T00:00:00Z"),
            (CLOCK_SECONDS.start - 1, "1970-01-01T23:59:59Z"),
            (CLOCK_SECONDS.end, "9998-12-31T00:00:00Z"),
            (300_000_000_000, "a time of no calendar"),
        ] {
            let refused = at(seconds).unwrap_err().to_string();
            assert!(refused.contains(&format!("says {says}; set it")), "{refused}");
        }
        let before = check_clock(SystemTime::UNIX_EPOCH - Duration::from_secs(3_600)).unwrap_err().to_string();
        assert!(before.contains("1969-12-31T23:00:00Z"), "{before}");
        for seconds in [CLOCK_SECONDS.start, 1_800_000_000, CLOCK_SECONDS.end - 1] {
            at(seconds).unwrap();
        }
    }
}
