//! openraft's own storage suite against Headwater's log.
//!
//! The suite wants a state machine beside the log; here it is the smallest one that is correct, so that what fails is the log.

#![allow(clippy::unwrap_used, reason = "a test may fail by a panic, also in its helpers")]

use std::io;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt};
use headwater::log::Log;
use headwater::raft::TypeConfig;
use headwater::raft::log_storage::LogStorage;
use headwater::raft::types::{LogId, StoredMembership};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageError};
use tempfile::TempDir;

type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
type Snapshot = SnapshotOf<TypeConfig, ()>;

/// Remembers only what was applied last.
#[derive(Clone, Default)]
struct MinimalStateMachine {
    applied: Arc<Mutex<(Option<LogId>, StoredMembership)>>,
    snapshot: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for MinimalStateMachine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (last_log_id, last_membership) = self.applied.lock().unwrap().clone();
        let meta = SnapshotMeta { last_log_id, last_membership };
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for MinimalStateMachine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.applied.lock().unwrap().clone())
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            assert!(responder.is_none(), "the suite waits for no answers");
            let mut applied = self.applied.lock().unwrap();
            applied.0 = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                applied.1 = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, (): ()) -> io::Result<()> {
        *self.applied.lock().unwrap() = (meta.last_log_id, meta.last_membership.clone());
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshot.lock().unwrap().clone().map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStorage, MinimalStateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStorage, MinimalStateMachine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(&directory.path().join("log"), Box::new(|_| {})).unwrap();
        Ok((directory, LogStorage::new(log).unwrap(), MinimalStateMachine::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_passes_openrafts_storage_suite() {
    Suite::test_all(Builder).await.unwrap();
}
