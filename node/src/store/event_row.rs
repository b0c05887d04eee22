//! Family `event`: the events themselves, in the order they were stored.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | key | 8 | position, big-endian |
//! | value | 1 | version of the encoding, now 1 |
//! | | rest | [`EventRecord`], protobuf |

use bytes::{BufMut, Bytes};
use headwater_proto::reader::{Malformed, Reader, WireType};
use headwater_proto::stored::EventRecord;
use headwater_proto::stored::fields::event_record as field;
use prost::Message;
use uuid::Uuid;

use super::ReadError;
use crate::event::{EventRef, Position, Ticks};

const VERSION: u8 = 1;

/// Key of the event at `position`.
pub(crate) fn key(position: Position) -> [u8; 8] {
    position.to_be_bytes()
}

/// The position in a key.
pub(crate) fn position(key: &[u8]) -> Result<Position, ReadError> {
    let bytes = key.try_into().map_err(|_| damaged(None, "key of a wrong length"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Replaces the content of `buffer` by the value for `record`.
pub(crate) fn encode(record: &EventRecord, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.reserve(1 + record.encoded_len());
    buffer.put_u8(VERSION);
    record.encode_raw(buffer);
}

/// Reads a value; the payloads of the result share its memory.
pub(crate) fn decode(position: Position, mut value: Bytes) -> Result<EventRecord, ReadError> {
    if value.first() != Some(&VERSION) {
        return Err(damaged(Some(position), "unknown encoding version"));
    }
    let _ = value.split_to(1);
    EventRecord::decode(value).map_err(|error| damaged(Some(position), &error.to_string()))
}

/// Reads a value in place: the event borrows from it. The generated decoder copies every text, and
/// a page does not need copies (measured in [`headwater_proto::reader`]).
pub(crate) fn read(position: Position, value: &[u8]) -> Result<EventRef<'_>, ReadError> {
    let Some((&VERSION, record)) = value.split_first() else {
        return Err(damaged(Some(position), "unknown encoding version"));
    };
    let (event, event_id) = read_record(record).map_err(|error| damaged(Some(position), &error.to_string()))?;
    let event_id = Uuid::from_slice(event_id).map_err(|_| damaged(Some(position), WRONG_ID))?;
    Ok(EventRef { position, event_id, ..event })
}

/// The event without position and id, and the bytes of its id.
#[inline]
fn read_record(record: &[u8]) -> Result<(EventRef<'_>, &[u8]), Malformed> {
    let mut event = EventRef {
        position: 0,
        stream: "",
        number: 0,
        event_id: Uuid::nil(),
        event_type: "",
        is_json: false,
        time: Ticks(0),
        data: &[],
        metadata: &[],
    };
    let mut event_id: &[u8] = &[];
    let mut reader = Reader::new(record);
    while let Some(key) = reader.key() {
        match key {
            (field::STREAM, WireType::LengthDelimited) => event.stream = reader.text(),
            (field::NUMBER, WireType::Varint) => event.number = reader.varint(),
            (field::EVENT_ID, WireType::LengthDelimited) => event_id = reader.bytes(),
            (field::EVENT_TYPE, WireType::LengthDelimited) => event.event_type = reader.text(),
            (field::IS_JSON, WireType::Varint) => event.is_json = reader.varint() != 0,
            (field::TIME_TICKS, WireType::SixtyFourBit) => event.time = Ticks(reader.fixed64()),
            (field::DATA, WireType::LengthDelimited) => event.data = reader.bytes(),
            (field::METADATA, WireType::LengthDelimited) => event.metadata = reader.bytes(),
            other => reader.skip(other),
        }
    }
    reader.finish()?;
    Ok((event, event_id))
}

const WRONG_ID: &str = "event id of a wrong length";

/// The id in a record.
pub(crate) fn event_id(position: Position, record: &EventRecord) -> Result<Uuid, ReadError> {
    Uuid::from_slice(&record.event_id).map_err(|_| damaged(Some(position), WRONG_ID))
}

fn damaged(position: Option<Position>, what: &str) -> ReadError {
    match position {
        Some(position) => ReadError::Damaged(format!("event at position {position}: {what}")),
        None => ReadError::Damaged(format!("family event: {what}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip(at: u64, number: u64, ticks: u64, id: u128, stream in ".*", data: Vec<u8>, is_json: bool) {
            let record = EventRecord {
                stream: stream.clone(),
                number,
                event_id: Bytes::copy_from_slice(&id.to_be_bytes()),
                event_type: "type".into(),
                is_json,
                time_ticks: ticks,
                data: data.clone().into(),
                metadata: Bytes::new(),
            };
            let mut value = Vec::new();
            encode(&record, &mut value);
            prop_assert_eq!(position(&key(at)).unwrap(), at);
            prop_assert_eq!(decode(at, Bytes::from(value.clone())).unwrap(), record);
            let event = read(at, &value).unwrap();
            prop_assert_eq!((event.position, event.number, event.stream), (at, number, stream.as_str()));
            prop_assert_eq!((event.event_id.as_u128(), event.data, event.time.0), (id, data.as_slice(), ticks));
            prop_assert_eq!((event.event_type, event.is_json, event.metadata), ("type", is_json, &[][..]));
        }

        #[test]
        fn an_invalid_row_is_damage_and_no_panic(at: u64, value: Vec<u8>, cut in 0..40usize) {
            let mut row = vec![VERSION];
            row.extend_from_slice(&value);
            for value in [value, row] {
                // Both readers accept the same rows, wherever a row was cut off.
                let value = &value[..value.len().saturating_sub(cut)];
                let decoded = decode(at, Bytes::copy_from_slice(value)).and_then(|record| event_id(at, &record));
                prop_assert_eq!(read(at, value).is_ok(), decoded.is_ok());
            }
        }

        #[test]
        fn keys_sort_like_positions(a: u64, b: u64) {
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
        }
    }

    #[test]
    fn an_unknown_version_is_damage() {
        assert!(matches!(decode(0, Bytes::from_static(&[9, 1, 2])), Err(ReadError::Damaged(_))));
        assert!(matches!(decode(0, Bytes::new()), Err(ReadError::Damaged(_))));
    }
}
