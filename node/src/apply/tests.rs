//! The apply thread on a real store.

use bytes::Bytes;
use headwater_proto::stored::{Append, Command, NewEvent, command};
use prost::Message;

use super::*;
use crate::event::Ticks;

fn entry(term: u64, index: u64, stream: &str) -> Entry {
    let event = NewEvent {
        event_id: Bytes::copy_from_slice(&u128::from(index + 1).to_be_bytes()),
        event_type: "t".into(),
        ..NewEvent::default()
    };
    let append = Append { stream: stream.into(), expected_version: -2, events: vec![event], ..Append::default() };
    let command = Command::of_streams(command::Kind::Append(append)).encode_to_vec();
    let proposal = Proposal { time: Ticks(index), commands: [Bytes::from(command)].into(), trace: None };
    Entry { id: EntryId { term, index }, payload: Payload::Commands(proposal) }
}

async fn apply(handle: &ApplyHandle, entries: Vec<Entry>) {
    handle.apply(entries, Box::new(|_| {})).await.unwrap().await.unwrap();
}

/// Number of the last event of each stream.
async fn last_numbers<const N: usize>(handle: &ApplyHandle, streams: [&'static str; N]) -> [Option<u64>; N] {
    let read = move |writer: &mut StateWriter| {
        let mut chunk = writer.begin();
        streams.map(|name| {
            let stream = chunk.stream(name).unwrap();
            chunk.head(stream).last_number
        })
    };
    handle.run(read).await.unwrap()
}

#[tokio::test]
async fn outcomes_are_given_entry_by_entry_once_readers_see_them() {
    let directory = tempfile::tempdir().unwrap();
    let writer = StateWriter::open(&directory.path().join("state"), 1 << 20).unwrap();
    let store = Store::clone(&writer);
    let handle = ApplyHandle::start(writer, Arc::new(|_| {}), Metrics::new()).unwrap();
    let blank = Entry { id: EntryId { term: 1, index: 0 }, payload: Payload::Blank };
    let members = Entry { id: EntryId { term: 1, index: 2 }, payload: Payload::Members(vec![7]) };
    let (told, answer) = oneshot::channel();
    let seen = store.clone();
    let answering = Box::new(move |outcomes| told.send((outcomes, seen.applied().current().log_entries)).unwrap());
    handle.apply(vec![blank, entry(1, 1, "a"), members], answering).await.unwrap().await.unwrap();
    let (outcomes, applied) = answer.await.unwrap();
    let appended = WriteOutcome::Appended { first_number: 0, position: 0, repeated: false };
    assert_eq!((outcomes, applied), (vec![vec![], vec![appended], vec![]], 3));
    assert_eq!(store.last_applied().unwrap().membership, Some(vec![7]));
    handle.shutdown().await;
}

#[tokio::test]
async fn tasks_see_the_chunks_before_them_and_an_ordered_end_keeps_what_was_applied() {
    let directory = tempfile::tempdir().unwrap();
    let writer = StateWriter::open(&directory.path().join("state"), 1 << 20).unwrap();
    let store = Store::clone(&writer);
    let handle = ApplyHandle::start(writer, Arc::new(|_| {}), Metrics::new()).unwrap();
    apply(&handle, vec![entry(1, 0, "a"), entry(1, 1, "a")]).await;
    apply(&handle, vec![entry(2, 2, "b")]).await;
    assert_eq!(last_numbers(&handle, ["a", "b", "c"]).await, [Some(1), Some(0), None]);
    assert_eq!(store.applied().current().log_entries, 3);
    handle.shutdown().await;
    drop((handle, store));
    let store = StateWriter::open(&directory.path().join("state"), 1 << 20).unwrap();
    assert_eq!(store.applied().current().log_entries, 3);
}
