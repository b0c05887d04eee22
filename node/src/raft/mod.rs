//! Thin adapters between openraft, tonic and the rooms below.
//!
//! [`start`] puts them together. In order: the snapshots are opened (leftovers of a crash go), the apply thread starts, openraft is built (it re-applies
//! what the last state flush left out) and returned **not yet running**. The caller then starts the listener that serves
//! [`RaftParts::service`] and only then calls `raft.run()`, so that no election is held by a node that cannot be answered.
//! At the end: stop accepting, transfer leadership, `raft.shutdown()`, [`apply::ApplyHandle::shutdown`], close the log.

pub mod apply;
pub mod caller;
pub mod codec;
pub mod network;
pub mod service;
pub mod settings;
pub mod snapshot;
pub mod snapshot_policy;
pub mod state_machine;
pub mod transfer;
pub mod types;
pub mod wire;

use std::sync::Arc;

use headwater_proto::raft::raft_server::RaftServer;
use headwater_proto::stored;
use openraft::storage::RaftLogStorage;
use prost::Message;

pub use caller::{ClusterId, LocalIdentity};
pub use network::Resolve;
pub use snapshot_policy::SnapshotPolicy;
pub use state_machine::StateMachine;
pub use types::{Member, NodeId, Proposal, TypeConfig};

use crate::config::Config;
use crate::log::{Log, Record};
use crate::metrics::Metrics;
use crate::store::Store;

/// The handle of this node's consensus.
pub type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// What [`start`] works with.
pub struct Setup<'a, R: Record, LS> {
    /// The configuration.
    pub config: &'a Config,
    /// Who this node is; the cluster id may be set later.
    pub identity: Arc<LocalIdentity>,
    /// Where members are reached.
    pub resolve: Resolve,
    /// The log, for waiting on its durability and measuring it.
    pub log: Log<R>,
    /// openraft's view of the same log.
    pub log_storage: LS,
    /// The state.
    pub store: Store,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// What [`start`] puts together.
pub struct RaftParts {
    /// Consensus, not yet running: call `run()` once the listener accepts.
    pub raft: Raft,
    /// The apply thread, to be shut down after openraft.
    pub apply: apply::ApplyHandle,
    /// The gRPC service for the other nodes.
    pub service: RaftServer<service::RaftService>,
    /// To be spawned; takes snapshots and purges the log.
    pub policy: SnapshotPolicy,
}

/// Why consensus cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The timeouts do not fit each other.
    #[error("configuration: {0}")]
    Settings(#[from] openraft::ConfigError),
    /// The snapshots or a thread.
    #[error("snapshots and apply thread: {0}")]
    Io(#[from] std::io::Error),
    /// The state database.
    #[error(transparent)]
    State(#[from] crate::store::ReadError),
    /// The log.
    #[error(transparent)]
    Log(#[from] crate::log::LogError),
    /// openraft found log, state and snapshot not to fit each other, or could not read them.
    #[error("consensus cannot start: {0}")]
    Consensus(#[from] openraft::errors::Fatal<TypeConfig>),
}

/// Puts consensus together on top of an open log and state; see the module for the order of things.
pub async fn start<R, LS>(setup: Setup<'_, R, LS>) -> Result<RaftParts, StartError>
where
    R: Record,
    LS: RaftLogStorage<TypeConfig>,
{
    let Setup { config, identity, resolve, log, log_storage, store, metrics } = setup;
    let settings = settings::raft_config(config)?;
    let data_dir = config.data_dir.clone();
    let snapshot_metrics = metrics.clone();
    let snapshots =
        snapshot::blocking(move || snapshot::SnapshotStore::open(&data_dir, snapshot_metrics)).await.map(Arc::new)?;

    let gate_log = log.clone();
    let gate: apply::DurableGate = Arc::new(move |end| gate_log.wait_durable(end));
    let applied_entries = applied_entries(&store)?;
    let apply = apply::ApplyHandle::start(store, gate, metrics.clone())?;
    let estimate = tokio::task::spawn_blocking(move || snapshot_policy::estimate_volume(&log, applied_entries));
    let estimate = estimate.await.map_err(std::io::Error::other)??;
    apply.volume().lock().prepend(&estimate);

    let network =
        network::Network::new(identity.clone(), resolve, metrics.clone(), config.snapshot_bytes_per_second);
    let state_machine = StateMachine::new(apply.clone(), snapshots.clone());
    let raft = Raft::build(identity.node_id(), settings, network, log_storage, state_machine).await?;
    let service = service::RaftService::server(raft.clone(), identity, snapshots);
    let policy = SnapshotPolicy::new(raft.clone(), apply.clone(), config);
    Ok(RaftParts { raft, apply, service, policy })
}

/// How many log entries the state holds.
fn applied_entries(store: &Store) -> Result<u64, StartError> {
    let Some(bytes) = store.last_applied()?.last_applied else { return Ok(0) };
    let log_id = stored::LogId::decode(&bytes[..]).map_err(std::io::Error::other)?;
    Ok(log_id.index + 1)
}
