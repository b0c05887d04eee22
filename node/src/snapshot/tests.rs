//! Shared by the tests of sending and receiving.

use std::sync::Arc;

use futures::StreamExt;
use headwater_proto::raft::SnapshotPart;
use headwater_proto::stored;

use super::kept::tests::fabricate;
use super::send::{CHUNK_BYTES, send};
use super::{SnapshotDir, SnapshotStore};
use crate::metrics::Metrics;

/// A rate so high that sending never pauses.
const RATE: u64 = 1 << 40;

pub(super) struct Fixture {
    pub(super) data: tempfile::TempDir,
    pub(super) snapshots: SnapshotStore,
    pub(super) source: Arc<SnapshotDir>,
    pub(super) content: Vec<u8>,
}

/// A snapshot with a file of several chunks, an empty one and a small one.
pub(super) fn fixture() -> Fixture {
    let data = tempfile::tempdir().unwrap();
    let snapshots = SnapshotStore::open(data.path(), Metrics::new()).unwrap();
    let content: Vec<u8> = (0..CHUNK_BYTES * 2 + 17).map(|i| i as u8).collect();
    let source = fabricate(&snapshots, 5, &[("1.sst", &content), ("EMPTY", b""), ("last", b"end")]);
    Fixture { data, snapshots, source, content }
}

pub(super) fn vote() -> stored::Vote {
    stored::Vote { term: 3, node_id: Some(1), committed: true }
}

pub(super) async fn parts_of(source: &Arc<SnapshotDir>) -> Vec<SnapshotPart> {
    send(source.clone(), vote(), RATE).collect().await
}
