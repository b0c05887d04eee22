//! What openraft's suite does not cover: restarts, the hint, bounds, the order of votes.

use std::path::Path;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;

use super::*;
use crate::event::Ticks;
use crate::raft::types::{NodeId, Proposal};

fn open(directory: &Path) -> LogStorage {
    LogStorage::new(Log::open(directory, Box::new(|_| {})).unwrap(), Arc::default()).unwrap()
}

fn log_id(index: u64) -> LogId {
    LogId::new(3.into(), index)
}

fn entry(index: u64, bytes: usize) -> LogEntry {
    let command = bytes::Bytes::from(vec![index as u8; bytes]);
    LogEntry::new(
        log_id(index),
        EntryPayload::Normal(Proposal { time: Ticks(index), commands: [command].into(), trace: None }),
    )
}

async fn append(storage: &mut LogStorage, entries: impl IntoIterator<Item = LogEntry>) {
    let (sender, done) = tokio::sync::oneshot::channel();
    let entries: Vec<_> = entries.into_iter().collect();
    storage.log.append(entries, Box::new(move || sender.send(()).unwrap()));
    done.await.unwrap();
}

#[tokio::test]
async fn entries_vote_and_marks_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let vote = Vote::new_committed(3, NodeId(7));
    {
        let mut storage = open(directory.path());
        assert_eq!(storage.read_vote().await.unwrap(), None);
        append(&mut storage, (0..10).map(|index| entry(index, 20))).await;
        storage.save_vote(&vote).await.unwrap();
        storage.save_committed(Some(log_id(8))).await.unwrap();
        storage.purge(log_id(3)).await.unwrap();
    }
    let mut storage = open(directory.path());
    assert_eq!(storage.read_vote().await.unwrap(), Some(vote));
    assert_eq!(storage.read_committed().await.unwrap(), Some(log_id(8)));
    let state = storage.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(3)), Some(log_id(9))));
    let entries = storage.try_get_log_entries(..).await.unwrap();
    assert_eq!(entries, (4..10).map(|index| entry(index, 20)).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_newest_write_in_the_log_bounds_the_stamps_of_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let newest = |storage: &LogStorage| storage.stamps.newest();
    {
        let mut storage = open(directory.path());
        assert_eq!(newest(&storage), Ticks(0));
        append(&mut storage, (0..10).map(|index| entry(index, 20))).await;
    }
    {
        let mut storage = open(directory.path());
        assert_eq!(newest(&storage), Ticks(9));
        // Leaders came and went without a write.
        append(&mut storage, (10..20).map(|index| LogEntry::new(log_id(index), EntryPayload::Blank))).await;
    }
    let mut storage = open(directory.path());
    assert_eq!(newest(&storage), Ticks(9));
    storage.truncate_after(Some(log_id(4))).await.unwrap();
    drop(storage);
    let mut storage = open(directory.path());
    assert_eq!(newest(&storage), Ticks(4));
    storage.purge(log_id(4)).await.unwrap();
    drop(storage);
    assert_eq!(newest(&open(directory.path())), Ticks(0), "the state has it");
}

#[tokio::test]
async fn the_committed_hint_is_never_above_the_last_entry() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = open(directory.path());
    append(&mut storage, (0..5).map(|index| entry(index, 20))).await;
    storage.save_committed(Some(log_id(2))).await.unwrap();
    storage.save_committed(Some(log_id(5))).await.unwrap();
    assert_eq!(storage.read_committed().await.unwrap(), Some(log_id(2)));
    storage.truncate_after(Some(log_id(1))).await.unwrap();
    assert_eq!(storage.read_committed().await.unwrap(), None);
}

#[tokio::test]
async fn replication_reads_about_a_mebibyte_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = open(directory.path());
    append(&mut storage, (0..10).map(|index| entry(index, 300 << 10))).await;
    append(&mut storage, [entry(10, READ_BYTES * 2)]).await;
    let read = storage.limited_get_log_entries(0, 11).await.unwrap();
    assert_eq!(read.len(), 3);
    let read = storage.limited_get_log_entries(10, 11).await.unwrap();
    assert_eq!(read.len(), 1, "an entry above the limit must not stop replication");
}

#[tokio::test]
async fn the_stream_for_apply_gives_everything_in_order_from_memory_and_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = open(directory.path());
    append(&mut storage, (0..20).map(|index| entry(index, 200 << 10))).await;
    // From memory, then from the disk.
    let mut storage = Some(storage);
    for _ in 0..2 {
        let mut storage = storage.take().unwrap_or_else(|| open(directory.path()));
        for range in [0..20, 3..17, 5..5] {
            let entries: Vec<_> = storage.entries_stream(range.clone()).await.collect().await;
            let entries: Vec<_> = entries.into_iter().map(|entry| entry.unwrap().log_id.index).collect();
            assert_eq!(entries, range.collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_purge_mark_that_does_not_meet_the_first_entry_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    {
        let mut storage = open(directory.path());
        append(&mut storage, (0..5).map(|index| entry(index, 20))).await;
        let above = codec::log_id_to_message(&log_id(7)).encode_to_vec();
        storage.log.put_hint(LAST_PURGED, above);
    }
    let log = Log::open(directory.path(), Box::new(|_| {})).unwrap();
    let error = LogStorage::new(log, Arc::default()).map(drop).unwrap_err().to_string();
    assert!(error.contains("purge mark") && error.contains("--rejoin"), "{error}");
}
