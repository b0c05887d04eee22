//! Rows of the state database, fed with arbitrary bytes (docs/correctness.md, "Fuzzing").

use bytes::Bytes;
use uuid::Uuid;

use super::hole_row::{Holes, SPAN};
use super::system_row::Counters;
use super::{event_id_row, event_row, index_row, stream_row};
use crate::event::metadata::document_of;
use crate::event::{EventRef, StreamMetadata, Ticks};

/// A row of the family that the first byte names.
pub(crate) fn rows(input: &[u8]) -> Option<()> {
    let (&family, row) = input.split_first()?;
    match family % 6 {
        0 => event(row),
        1 => stream(row),
        2 => index(row),
        3 => event_ids(row),
        4 => holes(row),
        _ => counters(row),
    }
}

/// What the decoder takes, the reader in place reads as the same.
fn event(row: &[u8]) -> Option<()> {
    let position = 7;
    assert_eq!(event_row::position(&event_row::key(position)).ok(), Some(position));
    let record = event_row::decode(position, Bytes::copy_from_slice(row)).ok()?;
    let event_id = event_row::event_id(position, &record).ok()?;
    let read = event_row::read(position, row).unwrap_or_else(|error| panic!("{error}"));
    let expected = EventRef {
        position,
        stream: &record.stream,
        number: record.number,
        event_id,
        event_type: &record.event_type,
        is_json: record.is_json,
        time: Ticks(record.time_ticks),
        data: &record.data,
        metadata: &record.metadata,
    };
    assert_eq!(read, expected);
    let mut written = Vec::new();
    event_row::encode(&record, &mut written);
    assert_eq!(event_row::decode(position, written.into()).ok(), Some(record));
    Some(())
}

fn stream(row: &[u8]) -> Option<()> {
    let record = stream_row::decode("s", row).ok()?;
    let mut written = Vec::new();
    stream_row::encode(&record, &mut written);
    assert_eq!(stream_row::decode("s", &written).ok().as_ref(), Some(&record));
    if let Some(stored) = &record.metadata {
        let metadata = stream_row::metadata_from_stored(stored.clone());
        assert_eq!(&stream_row::metadata_to_stored(&metadata), stored);
        // A document that says the same, but for what a document cannot say.
        let again = StreamMetadata::parse(&document_of(&metadata));
        assert!(again.is_some_and(|again| again.acl == metadata.acl));
    }
    let mut copy = record.clone();
    stream_row::set_removed(&mut copy, &stream_row::removed(&record));
    assert_eq!(copy, record);
    let recreation = stream_row::recreation(&record);
    let mut copy = record.clone();
    (copy.recreation, copy.undone_recreation) = (None, None);
    stream_row::set_recreation(&mut copy, recreation);
    assert_eq!(stream_row::recreation(&copy), recreation);
    Some(())
}

/// A key of 16 bytes and the value behind it.
fn index(row: &[u8]) -> Option<()> {
    let (key, value) = row.split_at_checked(16)?;
    let (stream, number) = index_row::stream_and_number(key).ok()?;
    assert_eq!(index_row::key(stream, number), key);
    assert_eq!(index_row::stream_id(key).ok(), Some(stream));
    let place = index_row::place(key, value).ok()?;
    assert_eq!((index_row::position(value).ok(), index_row::number(key).ok()), (Some(place.position), Some(number)));
    let (same, heading) = index_row::place_and_heading(key, value).ok()?;
    assert_eq!(same, place);
    let heading = heading?;
    let written = index_row::IndexValue::new(place.position, place.bytes as usize, heading);
    let again = index_row::place_and_heading(key, written.as_ref()).ok();
    let is_kept = heading.event_type.len() <= index_row::MAX_TYPE_BYTES;
    assert_eq!(again, Some((place, is_kept.then_some(heading))));
    Some(())
}

fn event_ids(row: &[u8]) -> Option<()> {
    let (key, value) = row.split_at_checked(event_id_row::KEY_BYTES)?;
    let (stream, id): (u64, Uuid) = event_id_row::id(key).ok()?;
    assert_eq!(event_id_row::key(stream, id), key);
    let number = event_id_row::number(value).ok()?;
    assert_eq!(event_id_row::value(number), value);
    Some(())
}

fn holes(row: &[u8]) -> Option<()> {
    let holes = Holes::decode(row).ok()?;
    assert_eq!(Holes::decode(&holes.encode()).ok().as_ref(), Some(&holes));
    let (first, last) = (holes.first_kept(0..SPAN), holes.last_kept(0..SPAN));
    assert_eq!(first.is_none(), last.is_none());
    assert!(first.into_iter().chain(last).all(|offset| !holes.contains(offset)));
    let mut cut = holes.clone();
    cut.truncate(SPAN / 2);
    assert!(!(SPAN / 2..SPAN).any(|offset| cut.contains(offset)));
    assert!((0..SPAN / 2).all(|offset| cut.contains(offset) == holes.contains(offset)));
    Some(())
}

fn counters(row: &[u8]) -> Option<()> {
    let counters = Counters::decode(row).ok()?;
    assert_eq!(counters.encode(), row);
    Some(())
}
