//! The space of removed events comes back.

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use crate::event::{Removable, Ticks};
use crate::store::{StateWriter, Store};

const STREAMS: u64 = 40;
const EVENTS_OF_A_STREAM: u64 = 500;
/// Of each stream.
const KEPT: u64 = 100;

/// Payload that no compression makes smaller.
fn payload(seed: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(400);
    for part in 0..25u64 {
        bytes.extend_from_slice(Uuid::new_v5(&Uuid::from_u128(u128::from(seed)), &part.to_be_bytes()).as_bytes());
    }
    bytes.into()
}

fn event(seed: u64) -> (Uuid, NewEvent) {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &seed.to_be_bytes());
    let event_id = Bytes::copy_from_slice(id.as_bytes());
    (id, NewEvent { event_id, event_type: "t".into(), data: payload(seed), ..NewEvent::default() })
}

/// Stores these numbers of every stream, in turns, and flushes now and then.
fn fill(writer: &mut StateWriter, numbers: std::ops::Range<u64>) {
    let mut entries = 0;
    for number in numbers {
        let mut chunk = writer.begin();
        for stream in 0..STREAMS {
            let stream_ref = chunk.stream(&format!("stream-{stream}")).unwrap();
            let (id, event) = event(stream * EVENTS_OF_A_STREAM + number);
            chunk.append(stream_ref, Ticks(number + 1), id, event).unwrap();
        }
        entries += 1;
        chunk.commit(entries, Vec::new(), None);
        if number % 100 == 99 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
}

fn reclaim(store: &Store) {
    for range in store.reclaimable().unwrap() {
        store.reclaim(&range).unwrap();
    }
    store.settle();
}

/// As after the compactions that come by themselves in time.
fn compacted_bytes(store: &Store) -> u64 {
    store.compact_everything();
    store.table_bytes().unwrap()
}

#[test]
fn a_store_that_lost_most_events_is_as_small_as_one_that_never_had_them() {
    let (large, small) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut writer = StateWriter::open(large.path(), 8 << 20).unwrap();
    fill(&mut writer, 0..EVENTS_OF_A_STREAM);
    let full = writer.table_bytes().unwrap();
    let mut chunk = writer.begin();
    let before = EVENTS_OF_A_STREAM - KEPT;
    for stream in 0..STREAMS {
        let stream = chunk.stream(&format!("stream-{stream}")).unwrap();
        let removable = Removable { below: before, oldest: None };
        let removed = chunk.remove_events(stream, removable, Ticks(1_000), u64::MAX).unwrap();
        assert_eq!((removed.events, removed.is_finished), (before, true));
    }
    chunk.commit(1_000, Vec::new(), None);
    reclaim(&writer);
    let with_ids = writer.table_bytes().unwrap();
    assert!(with_ids * 2 < full, "{with_ids} of {full} bytes are left although four fifths were removed");
    let mut chunk = writer.begin();
    for stream in 0..STREAMS {
        let stream = chunk.stream(&format!("stream-{stream}")).unwrap();
        assert!(chunk.forget_ids(stream, Ticks(1_001)));
    }
    chunk.commit(1_001, Vec::new(), None);
    reclaim(&writer);
    let left = writer.table_bytes().unwrap();
    assert!(left < with_ids, "{left} of {with_ids} bytes");
    assert!(writer.reclaimable().unwrap().is_empty(), "nothing is rewritten twice");

    let mut other = StateWriter::open(small.path(), 8 << 20).unwrap();
    fill(&mut other, before..EVENTS_OF_A_STREAM);
    let only_the_rest = compacted_bytes(&other);
    assert!(left * 100 <= only_the_rest * 115, "{left} bytes, {only_the_rest} of a store with the rest alone");
}
