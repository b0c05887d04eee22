//! Family `event`: the events themselves, in the order they were stored.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | key | 8 | position, big-endian |
//! | value | 1 | version of the encoding, now 1 |
//! | | rest | [`EventRecord`], protobuf |

use bytes::{BufMut, Bytes};
use headwater_proto::stored::EventRecord;
use prost::Message;
use uuid::Uuid;

use super::ReadError;
use crate::event::{Position, RecordedEvent, Ticks};

const VERSION: u8 = 1;

/// Key of the event at `position`.
pub fn key(position: Position) -> [u8; 8] {
    position.to_be_bytes()
}

/// The position in a key.
pub fn position(key: &[u8]) -> Result<Position, ReadError> {
    let bytes = key.try_into().map_err(|_| damaged(None, "key of a wrong length"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Replaces the content of `buffer` by the value for `record`.
pub fn encode(record: &EventRecord, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.reserve(1 + record.encoded_len());
    buffer.put_u8(VERSION);
    record.encode_raw(buffer);
}

/// Reads a value; payloads of the result share its memory.
pub fn decode(position: Position, mut value: Bytes) -> Result<EventRecord, ReadError> {
    if value.first() != Some(&VERSION) {
        return Err(damaged(Some(position), "unknown encoding version"));
    }
    let _ = value.split_to(1);
    EventRecord::decode(value).map_err(|error| damaged(Some(position), &error.to_string()))
}

/// Reads a value as the event it stands for.
pub fn decode_event(position: Position, value: &[u8]) -> Result<RecordedEvent, ReadError> {
    let record = decode(position, Bytes::copy_from_slice(value))?;
    Ok(RecordedEvent {
        position,
        event_id: event_id(position, &record)?,
        stream: record.stream,
        number: record.number,
        event_type: record.event_type,
        is_json: record.is_json,
        time: Ticks(record.time_ticks),
        data: record.data,
        metadata: record.metadata,
    })
}

/// The id in a record.
pub fn event_id(position: Position, record: &EventRecord) -> Result<Uuid, ReadError> {
    Uuid::from_slice(&record.event_id).map_err(|_| damaged(Some(position), "event id of a wrong length"))
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
            let event = decode_event(at, &value).unwrap();
            prop_assert_eq!((event.position, event.number, event.stream), (at, number, stream));
            prop_assert_eq!((event.event_id.as_u128(), event.data.to_vec(), event.time.0), (id, data, ticks));
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
