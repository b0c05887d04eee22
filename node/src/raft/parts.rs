//! The running parts of consensus, and their end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::raft::raft_server::RaftServer;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::service::RaftService;
use super::types::{self, NodeId, TypeConfig};
use super::{Consensus, Raft};
use crate::apply::ApplyHandle;
use crate::config::Config;
use crate::event::{ClusterVersion, Stamps};
use crate::fatal;
use crate::log::Log;
use crate::snapshot::{Limits, Outgoing, SnapshotPolicy, SnapshotStore};
use crate::store::Store;
use crate::threads;
use crate::trace::Traces;
use crate::transport::LocalIdentity;

/// How long a stop waits for calls of other nodes that are just being handed to consensus.
const CALLS_DEADLINE: Duration = Duration::from_secs(1);

/// How long a stop waits for openraft's worker, which still applies committed entries: seconds at
/// most.
const WORKER_DEADLINE: Duration = Duration::from_secs(10);

/// The result of [`build`](super::build).
pub(crate) struct Parts {
    pub(super) raft: Raft,
    /// The state.
    pub(crate) store: Store,
    /// What the node stamps writes with while it leads.
    pub(crate) stamps: Arc<Stamps>,
    /// Index after the last entry that the log held when it was opened: what recovery has to reach.
    pub(crate) log_end_at_start: u64,
    pub(super) log: Log<types::LogEntry>,
    pub(super) apply: ApplyHandle,
    /// Closed when the state machine is released, see
    /// [`StateMachine::new`](super::StateMachine::new).
    pub(super) released: tokio::sync::Mutex<mpsc::Receiver<Infallible>>,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) outgoing: Outgoing,
    /// Cancelled when [`Self::stop`] begins or this value is dropped: a start that failed half way
    /// is not a failure of consensus.
    pub(super) closing: DropGuard,
    /// Calls of other nodes that may still hand something to consensus.
    pub(super) calls: TaskTracker,
    /// See [`Self::broken_streams`].
    pub(super) broken: broadcast::Sender<NodeId>,
}

impl Parts {
    /// Consensus.
    pub(crate) fn consensus(&self) -> Consensus {
        Consensus::new(self.raft.clone())
    }

    /// How far the log is written and synced.
    pub(crate) fn log_progress(&self) -> LogProgress {
        LogProgress(self.log.clone())
    }

    /// What this disk promises about the programs that may open it.
    pub(crate) fn log_promise(&self) -> LogPromise {
        LogPromise { log: self.log.clone(), turn: Arc::default() }
    }

    /// The gRPC service for the other nodes.
    pub(crate) fn service(&self, identity: Arc<LocalIdentity>, traces: Traces) -> RaftServer<RaftService> {
        let (closing, calls) = (self.closing.token().clone(), self.calls.clone());
        let (raft, snapshots, broken) = (self.raft.clone(), self.snapshots.clone(), self.broken.clone());
        RaftService::server(raft, identity, snapshots, closing, calls, broken, traces)
    }

    /// The nodes whose streams of entries are cut off from now on: a connection of theirs has
    /// ended.
    pub(crate) fn broken_streams(&self) -> broadcast::Receiver<NodeId> {
        self.broken.subscribe()
    }

    /// First index of the log, and the index after its last.
    #[cfg(test)]
    pub(crate) fn log_extent(&self) -> std::ops::Range<u64> {
        let extent = self.log.extent();
        extent.first..extent.end
    }

    /// The entries of the log in this range, as they are stored.
    #[cfg(test)]
    pub(crate) fn log_entries(&self, range: std::ops::Range<u64>) -> Vec<headwater_proto::stored::Entry> {
        let entries = self.log.read(range).unwrap();
        entries.iter().map(super::codec::entry_to_message).collect()
    }

    /// Waits for RocksDB's background work, so that the files can be copied.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.log.settle();
        self.store.settle();
    }

    /// Pretends that the stream of this node was cut off.
    #[cfg(test)]
    pub(crate) fn report_broken_stream(&self, caller: NodeId) {
        self.broken.send(caller).unwrap();
    }

    /// Takes part in elections from now on, and takes snapshots until `stop`. Before it returns,
    /// consensus publishes what it found on disk. Earlier, it publishes the state of an empty disk,
    /// and this node would report that to its peers.
    pub(crate) async fn run(&self, config: &Config, stop: &CancellationToken) {
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
        // This fails when consensus has ended, which ends the node.
        let _ = self.raft.with_raft_state(|_| ()).await;
    }

    /// The apply thread.
    pub(crate) fn apply(&self) -> &ApplyHandle {
        &self.apply
    }

    /// Stops consensus, applies committed entries, and makes log and state durable. The caller has
    /// handed over leadership before.
    pub(crate) async fn stop(&self) {
        self.closing.token().cancel();
        // A call that reached consensus after its end would be reported as an error.
        self.calls.close();
        if tokio::time::timeout(CALLS_DEADLINE, self.calls.wait()).await.is_err() {
            tracing::debug!("calls of other nodes are still under way after {CALLS_DEADLINE:?}");
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not end in order");
        }
        // openraft's worker applies what it was given before the apply thread ends.
        let released = async { self.released.lock().await.recv().await };
        if tokio::time::timeout(WORKER_DEADLINE, released).await.is_err() {
            tracing::warn!("the state machine is still in use after {WORKER_DEADLINE:?}");
        }
        self.apply.shutdown().await;
        let log = self.log.clone();
        if let Err(error) = threads::blocking(move || log.close()).await {
            tracing::warn!(%error, "the log was not closed in order");
        }
    }
}

/// How far the log is written and synced. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogProgress(Log<types::LogEntry>);

impl LogProgress {
    /// Number of entries written.
    pub(crate) fn written(&self) -> u64 {
        self.0.extent().end
    }

    /// Number of entries that are certainly on disk.
    pub(crate) fn durable(&self) -> u64 {
        self.0.durable_end()
    }
}

/// The cluster version that a program has to know to open the log of this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogPromise {
    log: Log<types::LogEntry>,
    /// Held while the version is raised, so that it never goes down.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl LogPromise {
    /// The version; older programs refuse the log.
    pub(crate) fn version(&self) -> ClusterVersion {
        ClusterVersion::reported(self.log.cluster_version())
    }

    /// From now on, and for good, programs that do not know this version refuse the log. Durable on
    /// return. Does nothing for a version that is promised already.
    pub(crate) async fn raise(&self, version: ClusterVersion) {
        let _turn = self.turn.lock().await;
        if version <= self.version() {
            return;
        }
        let (durable, done) = oneshot::channel();
        let tell = move || {
            // The caller may no longer be waiting.
            let _ = durable.send(());
        };
        self.log.promise_cluster_version(version.0, Box::new(tell));
        // Dropped without an answer only when the log is closed, and the node stops.
        let _ = done.await;
    }
}

/// Ends the process when consensus ends by itself. Its task has logged the failure and is gone; the
/// rest of the node would go on with what it knew last.
async fn stop_with_consensus(raft: Raft, closing: CancellationToken) {
    let failure = closing.run_until_cancelled(failure_of_consensus(&raft)).await.flatten();
    if let Some(failure) = failure
        && !closing.is_cancelled()
    {
        fatal::stop("consensus has ended on this node", &failure);
    }
}

/// Waits until consensus has ended; returns the failure, or `None` when it was stopped.
async fn failure_of_consensus(raft: &Raft) -> Option<Fatal<TypeConfig>> {
    // These metrics change only with leadership and members, so waiting for their end costs nothing
    // per write.
    let mut metrics = raft.server_metrics();
    while metrics.changed().await.is_ok() {}
    #[expect(clippy::disallowed_methods, reason = "copied in one statement")]
    let end = raft.metrics().borrow_watched().running_state.clone();
    match end {
        Err(Fatal::Stopped) => None,
        Err(failure) => Some(failure),
        // Consensus reports the failure before it ends, unless it panics.
        Ok(()) => Some(Fatal::Panicked),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Founding, build, settings};
    use super::*;
    use crate::descriptors::OpenFiles;
    use crate::metrics::Metrics;
    use crate::transport::{Dialer, Member, NodeId, Resolve};

    async fn running(data: &tempfile::TempDir) -> Parts {
        let config = settings::config_for_tests(data.path());
        let identity = Arc::new(LocalIdentity::new(NodeId::generate(1), None));
        let resolve: Resolve = Arc::new(|_, member: &Member| member.clone());
        let parts =
            build(&config, identity, Dialer::default(), resolve, Metrics::new(), OpenFiles::AMPLE, Founding::Complete)
                .await
                .unwrap();
        parts.raft.run();
        parts
    }

    #[tokio::test]
    async fn the_end_of_consensus_is_a_failure_unless_it_was_stopped() {
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

    /// Set in the process that is meant to end.
    const ENDING: &str = "TEST_ENDS_WITH_ITS_CONSENSUS";

    #[test]
    fn the_process_ends_with_its_consensus() {
        if std::env::var_os(ENDING).is_none() {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child
                .args(["--exact", "raft::parts::tests::the_process_ends_with_its_consensus", "--nocapture"])
                .env(ENDING, "1");
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
            let parts = build(
                &config,
                identity,
                Dialer::default(),
                resolve,
                Metrics::new(),
                OpenFiles::AMPLE,
                Founding::Complete,
            )
            .await
            .unwrap();
            parts.run(&config, &CancellationToken::new()).await;
            let _ = parts.raft.with_raft_state(|_| panic!("on purpose")).await;
            // Only a node that does not notice the end gets past this line.
            tokio::time::sleep(Duration::from_secs(30)).await;
        });
    }
}
