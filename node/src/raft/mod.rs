//! openraft's traits and types, and thin adapters between them, tonic and the rooms below. None of
//! them leaves this room: above, consensus is [`Consensus`].
//!
//! [`build`] puts them together. In order: log and state are opened, then the snapshots (leftovers
//! of a crash go), the apply thread starts, and openraft is built: it re-applies what the last
//! state flush left out. It does not run yet: the caller serves [`Parts::service`] and only then
//! calls [`Parts::run`], so that no election is held by a node that cannot be answered. At the end:
//! stop accepting, transfer leadership, then [`Parts::stop`].

pub mod codec;
mod consensus;
mod log_record;
pub mod log_storage;
pub mod network;
pub mod service;
pub mod settings;
pub mod state_machine;
pub mod types;
pub mod wire;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_proto::raft::raft_server::RaftServer;
use headwater_proto::stored;
use openraft::StorageHelper;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use consensus::{
    ChangeError, Consensus, Elected, Elections, Ended, EntryResult, Members, NotConfirmed, Progress, Replication, Seen,
    ServerState,
};
pub use state_machine::StateMachine;
pub use types::{Member, NodeId, Outcomes, Proposal, TypeConfig};

use crate::apply::{ApplyHandle, DurableGate};
use crate::config::Config;
use crate::fatal;
use crate::log::{Log, LogError, SyncReport, volume};
use crate::metrics::Metrics;
use crate::snapshot::{Limits, Outgoing, SnapshotPolicy, SnapshotStore};
use crate::store::{OpenError, ReadError, StateWriter, Store};
use crate::transport::{Dialer, LocalIdentity, Resolve};
use log_storage::LogStorage;

/// openraft's handle.
pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// How long stopping waits for openraft's worker: it applies what was committed, seconds at most.
const WORKER_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// What [`build`] puts together.
pub struct Parts {
    raft: Raft,
    /// The state.
    pub store: Store,
    /// Index after the last entry that the log held when it was opened: what recovery has to reach.
    pub log_end_at_start: u64,
    log: Log<types::Entry>,
    apply: ApplyHandle,
    /// See [`StateMachine::new`].
    released: tokio::sync::Mutex<mpsc::Receiver<Infallible>>,
    snapshots: Arc<SnapshotStore>,
    outgoing: Outgoing,
    /// Cancelled when [`Self::stop`] begins, and with this value: a start that failed half way is
    /// no failure of consensus.
    closing: DropGuard,
}

/// Why consensus cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The timeouts do not fit each other.
    #[error("the Raft timeouts do not fit each other: {0}")]
    Settings(#[from] openraft::ConfigError),
    /// The snapshots or a thread.
    #[error("snapshots and apply thread: {0}")]
    Io(#[from] io::Error),
    /// The state database cannot be opened.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The state database cannot be read.
    #[error(transparent)]
    StateRead(#[from] ReadError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The list names other servers than the cluster has. Run with it, a single node would go on
    /// deciding alone while its list promises three, and a node could ask servers that have no part
    /// in its cluster for their votes.
    #[error(
        "the data in {} belong to a cluster of other servers ({}) than the member list names ({}): correct --members, --server-id or \
         --data-dir; a list may give a server another address, but a cluster keeps the servers it was founded with",
        data_dir.display(), names(members), names(listed)
    )]
    OtherMembers {
        /// Where the data are.
        data_dir: PathBuf,
        /// Servers of the cluster that the data belong to.
        members: BTreeSet<u16>,
        /// Servers in the configuration.
        listed: BTreeSet<u16>,
    },
    /// openraft found log, state and snapshot not to fit each other, or could not read them.
    #[error("consensus cannot start: {0}")]
    Consensus(#[from] openraft::errors::Fatal<TypeConfig>),
}

impl StartError {
    /// Whether files are damaged or do not fit each other, as opposed to settings, permissions and
    /// the like.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Settings(_) | Self::Io(_) | Self::Log(LogError::Unusable(_)) | Self::OtherMembers { .. } => false,
            Self::State(_) | Self::StateRead(_) | Self::Log(LogError::Damaged(_)) | Self::Consensus(_) => true,
        }
    }
}

fn names(servers: &BTreeSet<u16>) -> String {
    servers.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// Where the log of a node is kept.
pub fn log_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// Opens `log/`, `state/` and `snapshots/` under the data directory and puts consensus together on
/// top; see the module for the order of things. Must run inside a tokio runtime.
///
/// # Errors
/// What is damaged, does not fit together or cannot be opened. Nothing is left running then but
/// idle threads.
pub async fn build(
    config: &Config,
    identity: Arc<LocalIdentity>,
    dialer: Dialer,
    resolve: Resolve,
    metrics: Arc<Metrics>,
) -> Result<Parts, StartError> {
    let settings = settings::raft_config(config)?;
    let opening = (config.clone(), metrics.clone());
    let opened = tokio::task::spawn_blocking(move || Opened::open(&opening.0, &opening.1));
    let Opened { log, state, snapshots, volume } = opened.await.map_err(io::Error::other)??;
    let log_end_at_start = log.extent().end;

    let gate_log = log.clone();
    let gate: DurableGate = Arc::new(move |end| gate_log.wait_durable(end));
    let apply = ApplyHandle::start(state, gate, metrics.clone())?;
    apply.volume().lock().prepend(&volume);

    let outgoing = Outgoing::default();
    let sending =
        network::SnapshotSending { outgoing: outgoing.clone(), bytes_per_second: config.snapshot_bytes_per_second };
    let network = network::Network::new(identity.clone(), dialer, resolve, metrics, sending);
    let (mut state_machine, released) = StateMachine::new(apply.clone(), snapshots.clone());
    let ahead = apply.clone();
    let as_leader =
        log_storage::AsLeader::new(identity.node_id(), Box::new(move |entries| ahead.decide_ahead(entries)));
    let mut log_storage = LogStorage::new(log.clone())?.telling(as_leader);
    check_members(config, &mut log_storage, &mut state_machine).await?;
    let raft = Raft::build(identity.node_id(), settings, network, log_storage, state_machine).await?;
    let released = tokio::sync::Mutex::new(released);
    let closing = CancellationToken::new().drop_guard();
    let store = apply.store().clone();
    Ok(Parts { raft, store, log_end_at_start, log, apply, released, snapshots, outgoing, closing })
}

/// Refuses data of a cluster that has other servers than the list names. Only their ids count:
/// addresses may change, and a replaced disk keeps the id of its server.
async fn check_members(config: &Config, log: &mut LogStorage, state: &mut StateMachine) -> Result<(), StartError> {
    // The state may lack the newest entries of the log, and with them everybody: it is flushed now
    // and then.
    let known = StorageHelper::new(log, state).get_membership().await.map_err(Fatal::StorageError)?;
    let members: BTreeSet<u16> = known.effective().membership().voter_ids().map(NodeId::server).collect();
    let listed: BTreeSet<u16> = config.members.iter().map(|member| member.id).collect();
    if members.is_empty() || members == listed {
        Ok(())
    } else {
        Err(StartError::OtherMembers { data_dir: config.data_dir.clone(), members, listed })
    }
}

/// How far the log is written and synced. Cheap to clone.
#[derive(Clone)]
pub struct LogProgress(Log<types::Entry>);

impl LogProgress {
    /// Number of entries written.
    pub fn written(&self) -> u64 {
        self.0.extent().end
    }

    /// Number of entries that are on disk for sure.
    pub fn durable(&self) -> u64 {
        self.0.durable_end()
    }
}

impl Parts {
    /// Consensus.
    pub fn consensus(&self) -> Consensus {
        Consensus::new(self.raft.clone())
    }

    /// How far the log is.
    pub fn log_progress(&self) -> LogProgress {
        LogProgress(self.log.clone())
    }

    /// The gRPC service for the other nodes.
    pub fn service(&self, identity: Arc<LocalIdentity>) -> RaftServer<service::RaftService> {
        service::RaftService::server(self.raft.clone(), identity, self.snapshots.clone(), self.closing.token().clone())
    }

    /// Takes part in elections from now on, and takes snapshots until `stop`. On return what
    /// consensus publishes is what it found on the disk; before, it is that of an empty one, and so
    /// would be what this node tells others of itself.
    pub async fn run(&self, config: &Config, stop: &CancellationToken) {
        self.raft.run();
        let (apply, snapshots) = (self.apply.clone(), self.snapshots.clone());
        let limits = Limits {
            log_bytes: config.snapshot_log_bytes,
            interval: config.snapshot_interval,
            keep_log_bytes: config.keep_log_bytes,
        };
        let policy = SnapshotPolicy::new(self.consensus(), apply, snapshots, self.outgoing.clone(), limits);
        tokio::spawn(policy.run(stop.clone()));
        tokio::spawn(stop_with_consensus(self.raft.clone(), self.closing.token().clone()));
        // It fails when consensus has ended, which ends the node.
        let _ = self.raft.with_raft_state(|_| ()).await;
    }

    /// The apply thread, for tests that hold it.
    #[cfg(test)]
    pub(crate) fn apply(&self) -> &ApplyHandle {
        &self.apply
    }

    /// Stops consensus, applies what was committed, and makes log and state durable. Leadership is
    /// handed over before, by the caller.
    pub async fn stop(&self) {
        self.closing.token().cancel();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not end in order");
        }
        // What openraft has handed to its worker is applied before the apply thread ends.
        let released = async { self.released.lock().await.recv().await };
        if tokio::time::timeout(WORKER_DEADLINE, released).await.is_err() {
            tracing::warn!("the state machine is still in use after {WORKER_DEADLINE:?}");
        }
        self.apply.shutdown().await;
        let log = self.log.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || log.close()).await {
            tracing::warn!(%error, "the log was not closed in order");
        }
    }
}

/// Ends the process when consensus ends by itself: its task has told of a failure and is gone, and
/// what is left of the node would go on believing what it knew last.
async fn stop_with_consensus(raft: Raft, closing: CancellationToken) {
    let failure = closing.run_until_cancelled(failure_of_consensus(&raft)).await.flatten();
    if let Some(failure) = failure
        && !closing.is_cancelled()
    {
        fatal::stop("consensus has ended on this node", &failure);
    }
}

/// Waits until consensus has ended: why, or `None` when it was told to.
async fn failure_of_consensus(raft: &Raft) -> Option<Fatal<TypeConfig>> {
    // They change with leadership and members only, so waiting for their end costs nothing per
    // write.
    let mut metrics = raft.server_metrics();
    while metrics.changed().await.is_ok() {}
    #[expect(clippy::disallowed_methods, reason = "copied in one statement")]
    let end = raft.metrics().borrow_watched().running_state.clone();
    match end {
        Err(Fatal::Stopped) => None,
        Err(failure) => Some(failure),
        // It says why before it ends, unless it panics.
        Ok(()) => Some(Fatal::Panicked),
    }
}

/// What lies on disk, opened.
struct Opened {
    log: Log<types::Entry>,
    state: StateWriter,
    snapshots: Arc<SnapshotStore>,
    /// See [`volume::estimate`].
    volume: Vec<(u64, u64)>,
}

impl Opened {
    fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        let sync_metrics = metrics.clone();
        let log = Log::open(&log_directory(&config.data_dir), Box::new(move |sync| count_sync(&sync_metrics, sync)))?;
        let state = StateWriter::open(&config.data_dir.join("state"), config.block_cache_bytes)?;
        let snapshots = Arc::new(SnapshotStore::open(&config.data_dir, metrics.clone())?);
        let volume = volume::estimate(&log, applied_entries(&state)?)?;
        Ok(Self { log, state, snapshots, volume })
    }
}

fn count_sync(metrics: &Metrics, sync: &SyncReport) {
    metrics.log_syncs.inc();
    metrics.log_sync_seconds.observe(sync.duration.as_secs_f64());
    metrics.log_sync_batch.observe(sync.callers as f64);
    metrics.log_bytes.inc_by(sync.bytes);
}

/// How many log entries the state holds.
fn applied_entries(store: &Store) -> Result<u64, StartError> {
    let Some(bytes) = store.last_applied()?.last_applied else { return Ok(0) };
    let log_id = stored::LogId::decode(&bytes[..]).map_err(io::Error::other)?;
    Ok(log_id.index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn running(data: &tempfile::TempDir) -> Parts {
        let config = settings::config_for_tests(data.path());
        let identity = Arc::new(LocalIdentity::new(NodeId::generate(1), None));
        let resolve: Resolve = Arc::new(|_, member: &Member| member.clone());
        let parts = build(&config, identity, Dialer::default(), resolve, Metrics::new()).await.unwrap();
        parts.raft.run();
        parts
    }

    #[tokio::test]
    async fn the_end_of_consensus_is_a_failure_unless_it_was_told_to_end() {
        let data = tempfile::tempdir().unwrap();
        let ordered = running(&data).await;
        ordered.stop().await;
        assert!(failure_of_consensus(&ordered.raft).await.is_none());

        let data = tempfile::tempdir().unwrap();
        let failing = running(&data).await;
        let _ = failing.raft.with_raft_state(|_| panic!("on purpose")).await;
        assert!(matches!(failure_of_consensus(&failing.raft).await, Some(Fatal::Panicked)));
        failing.stop().await;
    }

    /// Set in the process that is to end.
    const ENDING: &str = "TEST_ENDS_WITH_ITS_CONSENSUS";

    #[test]
    fn the_process_ends_with_its_consensus() {
        if std::env::var_os(ENDING).is_none() {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "raft::tests::the_process_ends_with_its_consensus", "--nocapture"]).env(ENDING, "1");
            let ended = child.output().unwrap();
            assert_eq!(ended.status.code(), Some(fatal::EXIT_STORAGE), "{ended:?}");
            assert!(String::from_utf8_lossy(&ended.stderr).contains("consensus has ended on this node"), "{ended:?}");
            return;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let data = tempfile::tempdir().unwrap();
            let config = settings::config_for_tests(data.path());
            let identity = Arc::new(LocalIdentity::new(NodeId::generate(1), None));
            let resolve: Resolve = Arc::new(|_, member: &Member| member.clone());
            let parts = build(&config, identity, Dialer::default(), resolve, Metrics::new()).await.unwrap();
            parts.run(&config, &CancellationToken::new()).await;
            let _ = parts.raft.with_raft_state(|_| panic!("on purpose")).await;
            // Only a node that does not notice comes to the end of this.
            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        });
    }
}
