//! Composition root: open stores, start raft, start listeners, ordered shutdown.

#[cfg(test)]
mod access_tests;
mod check;
mod client_port;
mod clock;
mod for_clients;
mod late_end;
#[cfg(test)]
mod leader_end_tests;
mod node_port;
#[cfg(test)]
mod node_port_tests;
mod open_files;
mod reload;
#[cfg(test)]
mod stale_follower_tests;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
pub(crate) mod support;
mod taken_port;
mod traces;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::backup::{Backups, CatchUp};
use crate::cluster::connector::Connector;
use crate::cluster::identity::Identity;
use crate::cluster::service::ClusterService;
use crate::cluster::{Background, Cluster, Dependencies};
use crate::config::{Config, canonical_list};
#[cfg(test)]
use crate::consumers::Consumers;
use crate::descriptors::OpenFiles;
use crate::event::ClusterVersion;
use crate::metrics::Metrics;
use crate::tls::Certificates;
use crate::trace::Traces;
use crate::transport::{Dialer, Member, NodeId, Resolve};
use crate::{backup, files, http, log, ndjson, raft, store, supervisor};
pub(crate) use check::{Findings, check};
use client_port::ClientServer;
use clock::check_clock;
use for_clients::ForClients;
use late_end::{leave_after, leave_unfinished};
use node_port::{NodePort, nodes_routes};
pub use open_files::OPEN_FILES;
pub(crate) use open_files::raise_open_files;
use reload::{ReadAgain, Reloader};
use taken_port::TakenPort;
use traces::TracesOfNode;

/// How long an ordered shutdown waits for each listener to finish its answers.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// How often a node that is about to stop looks whether others can serve its clients.
const LEAVING_LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// It waits for nobody when no other member has been ready for this long: twice the time between
/// two answers of a member.
const ALONE: Duration = Duration::from_secs(1);

/// How long an ordered shutdown may take once clients are no longer served. This is longer than all
/// waits in it that have a deadline; the others wait for the disk.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What this program is: its version, the commit that it was built of, the formats that it writes,
/// and the cluster versions that it takes part in.
pub(crate) fn version() -> String {
    format!(
        "headwater {} (commit {})\nformats: log {}, state {}, backup {}, export {}\n\
         cluster versions: {} to {}\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("HEADWATER_COMMIT").unwrap_or("unknown"),
        log::keys::FORMAT_VERSION,
        store::FORMAT_VERSION,
        backup::manifest::FORMAT,
        ndjson::VERSION,
        ClusterVersion::FIRST,
        ClusterVersion::NEWEST,
    )
}

/// A running node.
pub struct Node {
    cluster: Cluster,
    /// Tests look at it.
    #[cfg(test)]
    access: Access,
    #[cfg(test)]
    consumers: Consumers,
    parts: raft::Parts,
    config: Arc<Config>,
    /// What operators tell this node.
    control: Arc<http::Control>,
    /// Stops the listener for clients first; traffic between nodes and background work stop last.
    stop_http: CancellationToken,
    stop_all: CancellationToken,
    http_server: tokio::task::JoinHandle<()>,
    raft_server: tokio::task::JoinHandle<()>,
    traces: TracesOfNode,
}

impl Node {
    /// Runs a node, within so many open files, until SIGTERM or SIGINT, then stops it in order. On
    /// a second signal, or when stopping takes longer than [`STOP_DEADLINE`], the process ends at
    /// once. Only after SIGTERM clients get time to go elsewhere ([`Self::leave`]): SIGINT comes
    /// from somebody who waits.
    ///
    /// # Errors
    /// Why it could not start, in a sentence. Later failures of the disk end the process (see
    /// `fatal`).
    pub(crate) async fn run(config: Config, open_files: OpenFiles, read_again: ReadAgain) -> anyhow::Result<()> {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let mut hang_up = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        let node = Self::start_reloading(config, open_files, Some(read_again)).await?;
        supervisor::live();
        let drain = loop {
            tokio::select! {
                _ = terminate.recv() => {
                    tracing::info!("SIGTERM: stopping");
                    break node.config.live.now().drain;
                }
                _ = interrupt.recv() => {
                    tracing::info!("SIGINT: stopping");
                    break Duration::ZERO;
                }
                _ = hang_up.recv() => {
                    tracing::info!("SIGHUP: reading options and certificates again");
                    // What goes wrong is in the log. Signals that come meanwhile do not wait for
                    // it.
                    tokio::spawn((node.control.reload)());
                }
                () = node.control.shut_down.cancelled() => break node.config.live.now().drain,
            }
        };
        supervisor::stopping();
        leave_after(drain + STOP_DEADLINE);
        let stopped = async {
            node.leave(drain).await;
            node.stop().await;
        };
        tokio::select! {
            () = stopped => Ok(()),
            _ = terminate.recv() => leave_unfinished("SIGTERM again"),
            _ = interrupt.recv() => leave_unfinished("SIGINT again"),
        }
    }

    /// Opens the stores and starts all parts. The node joins its cluster by itself, and opens its
    /// port for clients when it is ready, or after `--start-wait-ms`.
    pub async fn start(config: Config, open_files: OpenFiles) -> anyhow::Result<Self> {
        Self::start_reloading(config, open_files, None).await
    }

    async fn start_reloading(
        config: Config,
        open_files: OpenFiles,
        read_again: Option<ReadAgain>,
    ) -> anyhow::Result<Self> {
        check_clock(SystemTime::now())?;
        let config = Arc::new(config);
        let metrics = Metrics::new();
        let certificates = load_certificates(&config).await?;
        metrics.register(|registry| certificates.metrics().register(registry));
        config.exposures().iter().for_each(|exposure| tracing::warn!("{exposure}"));
        let client_port = TakenPort::take(config.http_listen, "--http-listen")?;
        let raft_listener = TakenPort::take(config.raft_listen, "--raft-listen")?.open()?;

        let dialer = Dialer::new(certificates.for_nodes());
        let traffic = dialer.traffic().clone();
        let traces = TracesOfNode::start(&config, &metrics)?;
        let base = Base::open(&config, dialer, &metrics, open_files, &traces.begin()).await?;
        let Base { identity, parts, cluster, background } = base;
        let reloader = Reloader::new(&config, read_again, &certificates, &cluster, &traces.begin());
        let control = Arc::new(http::Control::new(reloader.into_reload()));
        let (stop_http, stop_all) = (CancellationToken::new(), CancellationToken::new());
        parts.run(&config, &stop_all).await;
        let service = ClusterService::new(cluster.clone(), stop_all.clone());
        let port = NodePort {
            listener: raft_listener,
            most_nodes: open_files.nodes as usize,
            traffic,
            tls: certificates.for_nodes(),
            stop: stop_all.clone(),
        };
        let tls = port.tls.is_some();
        let raft_server =
            tokio::spawn(port.serve(nodes_routes(parts.service(identity.local(), traces.begin()), service)));
        tracing::info!(raft = %config.raft_listen, tls, "other nodes can call");

        tokio::spawn(certificates.clone().remind(stop_all.clone()));
        background.start(&stop_all);
        let access = Access::new(cluster.clone(), &config)?;
        tokio::spawn(access.clone().run(config.clone(), stop_all.clone()));
        let backups = Backups::new(parts.apply().clone(), catch_up_of(&cluster), identity.local(), &config.data_dir);
        let for_clients =
            ForClients { access: access.clone(), backups, control: control.clone(), traces: traces.begin() };
        let state = for_clients.into_state(&config, &cluster, metrics, &stop_all)?;
        #[cfg(test)]
        let consumers = state.rooms.consumers.clone();
        let clients = ClientServer {
            port: client_port,
            most: open_files.clients as usize,
            https: certificates.for_clients(),
            state,
            cluster: cluster.clone(),
            patience: config.start_wait,
            stop: stop_http.clone(),
        };
        let http_server = clients.start()?;
        Ok(Self {
            cluster,
            #[cfg(test)]
            access,
            #[cfg(test)]
            consumers,
            parts,
            config,
            control,
            stop_http,
            stop_all,
            http_server,
            raft_server,
            traces,
        })
    }

    /// Takes options, certificates and keys anew, as SIGHUP does.
    ///
    /// # Errors
    /// A sentence for operators; nothing has changed then.
    pub async fn reload(&self) -> Result<(), String> {
        (self.control.reload)().await
    }

    /// Whether an operator has asked over HTTP to stop this node. [`Self::run`] does it.
    pub fn is_to_stop(&self) -> bool {
        self.control.shut_down.is_cancelled()
    }

    /// Whether this node serves reads and knows a leader for writes.
    pub fn is_ready(&self) -> bool {
        self.cluster.status().ready
    }

    /// Whether this node leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.cluster.leads()
    }

    /// This node's part in the cluster.
    #[cfg(test)]
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Users and access lists.
    #[cfg(test)]
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Groups of consumers.
    #[cfg(test)]
    pub(crate) fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    /// Goes on serving for `drain`, while everybody learns that this node is not ready and another
    /// one leads. It is shorter when no other member can serve the clients of this node: there is
    /// nowhere to go.
    pub async fn leave(&self, drain: Duration) {
        self.cluster.begin_stop();
        self.control.leaving.cancel();
        self.hand_over().await;
        let end = Instant::now() + drain;
        let mut seen = Instant::now();
        while !self.is_alone() && Instant::now() < end.min(seen + ALONE) {
            if self.cluster.has_ready_peer() {
                seen = Instant::now();
            }
            tokio::time::sleep_until(end.min(Instant::now() + LEAVING_LOOK_INTERVAL)).await;
        }
    }

    /// Whether the cluster has no other member.
    fn is_alone(&self) -> bool {
        self.cluster.status().members.len() == 1
    }

    async fn hand_over(&self) {
        if let Err(error) = self.cluster.hand_over().await
            && !self.is_alone()
        {
            tracing::info!("leadership was not handed over: {error}");
        }
    }

    /// Stops in order: hands over leadership, answers open requests, stops consensus, flushes the
    /// stores.
    pub async fn stop(self) {
        self.cluster.begin_stop();
        self.hand_over().await;
        self.stop_http.cancel();
        finish(self.http_server, "HTTP requests").await;
        // One that leads still has nobody to hand over to.
        self.cluster.rest_groups().await;
        self.stop_all.cancel();
        self.parts.stop().await;
        finish(self.raft_server, "calls of other nodes").await;
        self.traces.stop().await;
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
        traces: &Traces,
    ) -> anyhow::Result<Self> {
        // Before anything is read or written there; data of older versions lie open.
        if let Err(error) = files::make_private(&config.data_dir) {
            tracing::warn!("{error}; let the user of this node own its data directory");
        }
        let identity = Arc::new(Identity::open(&config.data_dir, config.server_id)?);
        identity.require_list(&canonical_list(&config.members))?;
        identity.require_log(raft::log_directory(&config.data_dir).join(log::MARK_FILE_NAME))?;
        tracing::info!(node = %identity.node_id(), data_dir = %config.data_dir.display(), "opening the stores");
        let resolve = configured_addresses(config);
        let founding = founding_of(&identity);
        let (own, resolved) = (identity.local(), resolve.clone());
        let parts = raft::build(config, own, dialer.clone(), resolved, metrics.clone(), open_files, founding).await?;
        let (cluster, background) = Cluster::new(Dependencies {
            config: config.clone(),
            identity: identity.clone(),
            consensus: parts.consensus(),
            store: parts.store.clone(),
            stamps: parts.stamps.clone(),
            metrics: metrics.clone(),
            traces: traces.clone(),
            connector: Connector::new(identity.local(), dialer, resolve),
            log_progress: parts.log_progress(),
            log_promise: parts.log_promise(),
            broken_streams: parts.broken_streams(),
            log_entries_at_start: parts.log_end_at_start,
        });
        Ok(Self { identity, parts, cluster, background })
    }
}

/// Which servers the data on this disk may lack.
fn founding_of(identity: &Identity) -> raft::Founding {
    if identity.is_restored() { raft::Founding::OfRestored } else { raft::Founding::Complete }
}

/// Waits until this node has everything that was acknowledged anywhere.
fn catch_up_of(cluster: &Cluster) -> CatchUp {
    let cluster = cluster.clone();
    Box::new(move || {
        let cluster = cluster.clone();
        Box::pin(async move { cluster.catch_up().await.is_ok() })
    })
}

async fn load_certificates(config: &Arc<Config>) -> anyhow::Result<Certificates> {
    let config = config.clone();
    Ok(tokio::task::spawn_blocking(move || Certificates::load(&config.tls, config.server_id)).await??)
}

async fn finish(server: tokio::task::JoinHandle<()>, what: &str) {
    let abort = server.abort_handle();
    if tokio::time::timeout(DRAIN_DEADLINE, server).await.is_err() {
        tracing::warn!("{what} did not end in time and were cut off");
        abort.abort();
    }
}

/// The configured addresses take precedence over those in the replicated member list, so that a
/// server can move when all nodes are restarted with a new list. A server that was added while the
/// cluster ran is where the replicated list says.
fn configured_addresses(config: &Arc<Config>) -> Resolve {
    let config = config.clone();
    Arc::new(move |node_id: NodeId, member: &Member| {
        let configured = config.members.iter().find(|m| m.id == node_id.server() && !member.joined);
        configured.map_or_else(
            || member.clone(),
            |m| member.moved_to(&Member::at(m.raft_address.as_str(), m.http_address.as_str())),
        )
    })
}
