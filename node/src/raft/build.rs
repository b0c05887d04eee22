//! The start of consensus: opens what is on disk, checks it against the configuration, and puts it
//! together.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_proto::stored;
use openraft::errors::Fatal;
use openraft::{ConfigError, StorageHelper};
use prost::Message;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::codec::Membership;
use super::log_storage::LogStorage;
use super::types::{self, NodeId, TypeConfig};
use super::{Parts, Raft, StateMachine, codec, network, service, settings};
use crate::apply::{ApplyHandle, DurableGate};
use crate::config::Config;
use crate::descriptors::OpenFiles;
use crate::event::{ClusterVersion, Stamps, Ticks};
use crate::fatal::Cause;
use crate::log::{Log, LogError, SyncReport, volume};
use crate::metrics::Metrics;
use crate::snapshot::{self, Outgoing, SnapshotStore};
use crate::store::{OpenError, ReadError, StateWriter, Store};
use crate::threads;
use crate::transport::{Dial, LocalIdentity, Resolve};

/// Why consensus cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The timeouts contradict each other.
    #[error("the Raft timeouts contradict each other: {0}")]
    Settings(String),
    /// The snapshots or the apply thread.
    #[error("snapshots and apply thread: {0}")]
    Io(#[from] io::Error),
    /// The state database cannot be opened.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The state database cannot be read.
    #[error(transparent)]
    StateRead(#[from] ReadError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The data belong to a cluster of other servers than the member list names. With such a list a
    /// single node would go on deciding alone although the list promises three, or a node could ask
    /// servers outside its cluster for votes.
    #[error(
        "the data in {} belong to a cluster of other servers ({}) than the member list names ({}): correct --members, --server-id or \
         --data-dir; a list may give a server another address, but servers are added and removed by `headwater cluster`",
        data_dir.display(), names(members), names(listed)
    )]
    OtherMembers {
        /// The data directory.
        data_dir: PathBuf,
        /// Servers of the cluster that the data belong to.
        members: BTreeSet<u16>,
        /// Servers in the configuration.
        listed: BTreeSet<u16>,
    },
    /// The data belong to a cluster that has gone on to a cluster version which this node does not
    /// know, or may not use.
    #[error(
        "the data in {} need cluster version {needed}, and this node knows none beyond {newest}: start a newer version of \
         Headwater, or raise --max-cluster-version",
        data_dir.display()
    )]
    NewerCluster {
        /// The data directory.
        data_dir: PathBuf,
        /// What the cluster has promised itself.
        needed: ClusterVersion,
        /// What this node can apply.
        newest: ClusterVersion,
    },
    /// openraft found that log, state and snapshot do not match, or could not read them.
    #[error("consensus cannot start: {0}")]
    Consensus(String),
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Settings(error.to_string())
    }
}

impl From<Fatal<TypeConfig>> for StartError {
    fn from(error: Fatal<TypeConfig>) -> Self {
        Self::Consensus(error.to_string())
    }
}

impl StartError {
    /// Whether the disk fails or is full, or files are damaged or do not fit each other, as opposed
    /// to settings, permissions and the like.
    pub(crate) fn is_of_storage(&self) -> bool {
        match self {
            Self::Settings(_)
            | Self::Log(LogError::Unusable(_))
            | Self::OtherMembers { .. }
            | Self::NewerCluster { .. } => false,
            Self::Io(error) => Cause::of_io(error).is_of_storage(),
            Self::State(error) => error.is_of_storage(),
            Self::StateRead(_) | Self::Log(LogError::Damaged(_) | LogError::Failed(_)) | Self::Consensus(_) => true,
        }
    }
}

fn names(servers: &BTreeSet<u16>) -> String {
    servers.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// The directory of a node's log.
pub(crate) fn log_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// Whether a data directory was restored from a backup and waits for the other listed servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Founding {
    /// The servers of the data are those of the list, or the disk is empty.
    Complete,
    /// A restored cluster begins with fewer servers than the list names.
    OfRestored,
}

/// Opens `log/`, `state/` and `snapshots/` under the data directory and builds consensus on them;
/// the module describes the order. Must run inside a tokio runtime.
///
/// # Errors
/// The error names what is damaged, contradictory or cannot be opened. Nothing but idle threads is
/// left running then.
pub(crate) async fn build<D: Dial>(
    config: &Config,
    identity: Arc<LocalIdentity>,
    dialer: D,
    resolve: Resolve,
    metrics: Arc<Metrics>,
    open_files: OpenFiles,
    founding: Founding,
) -> Result<Parts, StartError> {
    let settings = settings::raft_config(config)?;
    let opening = (config.clone(), metrics.clone());
    let opened = threads::blocking(move || Opened::open(&opening.0, &opening.1, open_files));
    let Opened { log, state, newest_time, snapshots, volume } = opened.await.map_err(io::Error::other)??;
    let log_end_at_start = log.extent().end;

    let gate_log = log.clone();
    let gate: DurableGate = Arc::new(move |end| gate_log.wait_durable(end));
    let apply = ApplyHandle::start(state, gate, metrics.clone())?;
    apply.volume().lock().prepend(&volume);

    let outgoing = Outgoing::default();
    let sending = network::SnapshotSending { outgoing: outgoing.clone(), live: config.live.clone() };
    let network = network::Network::new(identity.clone(), dialer, resolve, metrics, sending);
    let stamps = Arc::<Stamps>::default();
    stamps.see(newest_time);
    let (mut state_machine, released) = StateMachine::new(apply.clone(), snapshots.clone(), stamps.clone());
    let mut log_storage = LogStorage::new(log.clone(), stamps.clone())?;
    check_members(config, founding, &mut log_storage, &mut state_machine).await?;
    let raft = Raft::build(identity.node_id(), settings, network, log_storage, state_machine).await?;
    let released = tokio::sync::Mutex::new(released);
    let closing = CancellationToken::new().drop_guard();
    let store = apply.store().clone();
    let calls = TaskTracker::new();
    let (broken, _) = broadcast::channel(service::BROKEN_STREAMS);
    Ok(Parts {
        raft,
        store,
        stamps,
        log_end_at_start,
        log,
        apply,
        released,
        snapshots,
        outgoing,
        closing,
        calls,
        broken,
    })
}

/// Refuses data of a cluster that has other servers than the list names. Only server ids count:
/// addresses may change, and a replaced disk keeps the id of its server. A restored cluster may
/// lack servers: on the restored disk any, on the others those that do not vote yet. A server that
/// joins a running cluster has no list of it. Once the members were changed while the cluster ran,
/// the list counts no more (docs/adr/0024).
async fn check_members(
    config: &Config,
    founding: Founding,
    log: &mut LogStorage,
    state: &mut StateMachine,
) -> Result<(), StartError> {
    // The state alone may lack the newest entries of the log, and so the members: it is flushed
    // only at intervals.
    let known = StorageHelper::new(log, state).get_membership().await.map_err(Fatal::StorageError)?;
    refuse_others(config, founding, known.effective().membership())
}

/// The same for the members as the newest snapshot of the data has them: they may have changed
/// since. Reads files alone, so it may be done beside a running node. `None` where there is no
/// snapshot.
///
/// # Errors
/// The members are others, or the snapshot cannot be read.
pub(crate) fn check_members_of_snapshot(config: &Config, founding: Founding) -> Result<Option<()>, StartError> {
    let Some(snapshot) = snapshot::newest_below(&config.data_dir)? else { return Ok(None) };
    let Some(message) = snapshot.manifest().membership.clone() else { return Ok(None) };
    let known = codec::stored_membership_from_message(message).map_err(io::Error::other)?;
    refuse_others(config, founding, known.membership()).map(Some)
}

fn refuse_others(config: &Config, founding: Founding, membership: &Membership) -> Result<(), StartError> {
    if membership.nodes().any(|(_, member)| member.changed) {
        return Ok(());
    }
    let members: BTreeSet<u16> = membership.voter_ids().map(NodeId::server).collect();
    let with_learners: BTreeSet<u16> = membership.nodes().map(|(id, _)| id.server()).collect();
    let listed: BTreeSet<u16> = config.members.iter().map(|member| member.id).collect();
    let may_lack_servers = founding == Founding::OfRestored && members.is_subset(&listed);
    // It was stopped before its log had come to the entry that adds it.
    let is_joining = config.join && !with_learners.contains(&config.server_id);
    if members.is_empty() || members == listed || with_learners == listed || may_lack_servers || is_joining {
        Ok(())
    } else {
        Err(StartError::OtherMembers { data_dir: config.data_dir.clone(), members, listed })
    }
}

/// The opened parts.
struct Opened {
    log: Log<types::LogEntry>,
    state: StateWriter,
    /// The time of the newest write that the state has.
    newest_time: Ticks,
    snapshots: Arc<SnapshotStore>,
    /// See [`volume::estimate`].
    volume: Vec<(u64, u64)>,
}

impl Opened {
    fn open(config: &Config, metrics: &Arc<Metrics>, open_files: OpenFiles) -> Result<Self, StartError> {
        let sync_metrics = metrics.clone();
        let observer = Box::new(move |sync: &SyncReport| count_sync(&sync_metrics, sync));
        let log = Log::open_within(&log_directory(&config.data_dir), open_files.log_tables, observer)?;
        check_version(config, ClusterVersion(log.cluster_version()))?;
        let directory = config.data_dir.join("state");
        let state = StateWriter::open_within(&directory, config.block_cache_bytes, open_files.state_tables)?;
        check_version(config, state.cluster_version())?;
        let snapshots = Arc::new(SnapshotStore::open(&config.data_dir, metrics.clone())?);
        let volume = volume::estimate(&log, applied_entries(&state)?)?;
        let newest_time = newest_time(&state);
        Ok(Self { log, state, newest_time, snapshots, volume })
    }
}

/// Refuses data of which this node may not be able to apply everything.
fn check_version(config: &Config, needed: ClusterVersion) -> Result<(), StartError> {
    let newest = ClusterVersion::newest_within(config.max_cluster_version);
    if needed <= newest {
        return Ok(());
    }
    Err(StartError::NewerCluster { data_dir: config.data_dir.clone(), needed, newest })
}

fn count_sync(metrics: &Metrics, sync: &SyncReport) {
    metrics.log_syncs.inc();
    metrics.log_sync_seconds.observe(sync.duration.as_secs_f64());
    metrics.log_sync_batch.observe(sync.callers as f64);
    metrics.log_bytes.inc_by(sync.bytes);
}

#[expect(clippy::disallowed_methods, reason = "runs at the start, on a thread that may block")]
fn newest_time(store: &Store) -> Ticks {
    store.read_blocking(|view| view.newest_time()).unwrap_or_default()
}

/// How many log entries the state holds.
fn applied_entries(store: &Store) -> Result<u64, StartError> {
    let Some(bytes) = store.last_applied()?.last_applied else { return Ok(0) };
    let log_id = stored::LogId::decode(&bytes[..]).map_err(io::Error::other)?;
    Ok(log_id.index + 1)
}
