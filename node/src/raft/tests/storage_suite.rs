//! openraft's own storage suite against Headwater's log and state machine, on real directories.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::apply::ApplyHandle;
use crate::event::Stamps;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::raft::log_storage::LogStorage;
use crate::raft::{StateMachine, TypeConfig};
use crate::snapshot::SnapshotStore;
use crate::store::StateWriter;

/// Enough for the handful of entries of a case.
const BLOCK_CACHE_BYTES: usize = 1 << 20;

struct Builder;

impl StoreBuilder<TypeConfig, LogStorage, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStorage, StateMachine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(&directory.path().join("log"), Box::new(|_| {})).unwrap();
        let state = StateWriter::open(&directory.path().join("state"), BLOCK_CACHE_BYTES).unwrap();
        let metrics = Metrics::new();
        // The suite applies entries that it never appended, so the gate on the own durable log has
        // nothing to wait for.
        let apply = ApplyHandle::start(state, Arc::new(|_| {}), metrics.clone()).unwrap();
        let snapshots = Arc::new(SnapshotStore::open(directory.path(), metrics).unwrap());
        let stamps = Arc::<Stamps>::default();
        let state_machine = StateMachine::new(apply, snapshots, stamps.clone()).0;
        Ok((directory, LogStorage::new(log, stamps).unwrap(), state_machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_state_machine_pass_openrafts_storage_suite() {
    Suite::test_all(Builder).await.unwrap();
}
