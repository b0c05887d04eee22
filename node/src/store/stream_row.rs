//! Family `stream`: the state of a stream, without its events. It is not written for each append.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | key | any | name of the stream, UTF-8 |
//! | value | 1 | version of the encoding, now 1 |
//! | | rest | [`StreamRecord`], protobuf |

use bytes::{BufMut, Bytes};
use headwater_proto::stored::{self, StreamRecord};
use prost::Message;
use uuid::Uuid;

use super::ReadError;
use crate::event::metadata::Acl;
use crate::event::{Recreation, RemovalMark, Removed, StreamMetadata, Ticks};

const VERSION: u8 = 1;

/// Key of a stream.
pub(crate) fn key(stream: &str) -> &[u8] {
    stream.as_bytes()
}

/// Replaces the content of `buffer` by the value for `record`.
pub(crate) fn encode(record: &StreamRecord, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.put_u8(VERSION);
    record.encode_raw(buffer);
}

/// Reads a value.
pub(crate) fn decode(stream: &str, value: &[u8]) -> Result<StreamRecord, ReadError> {
    match value.split_first() {
        Some((&VERSION, record)) => StreamRecord::decode(record)
            .map_err(|error| ReadError::Damaged(format!("record of stream '{stream}': {error}"))),
        _ => Err(ReadError::Damaged(format!("record of stream '{stream}': unknown encoding version"))),
    }
}

/// The stored form of a metadata document's meaning.
pub(crate) fn metadata_to_stored(metadata: &StreamMetadata) -> stored::StreamMetadata {
    let list = |roles: &Option<Vec<String>>| roles.clone().map(|roles| stored::RoleList { roles });
    stored::StreamMetadata {
        max_count: metadata.max_count,
        max_age_s: metadata.max_age_s,
        truncate_before: metadata.truncate_before,
        cache_control_s: metadata.cache_control_s,
        acl: metadata.acl.as_ref().map(|acl| stored::Acl {
            read: list(&acl.read),
            write: list(&acl.write),
            delete: list(&acl.delete),
            meta_read: list(&acl.meta_read),
            meta_write: list(&acl.meta_write),
        }),
    }
}

/// See [`metadata_to_stored`].
pub(crate) fn metadata_from_stored(metadata: stored::StreamMetadata) -> StreamMetadata {
    let roles = |list: Option<stored::RoleList>| list.map(|list| list.roles);
    StreamMetadata {
        max_count: metadata.max_count,
        max_age_s: metadata.max_age_s,
        truncate_before: metadata.truncate_before,
        cache_control_s: metadata.cache_control_s,
        acl: metadata.acl.map(|acl| Acl {
            read: roles(acl.read),
            write: roles(acl.write),
            delete: roles(acl.delete),
            meta_read: roles(acl.meta_read),
            meta_write: roles(acl.meta_write),
        }),
    }
}

/// Puts a recreation into the record.
pub(crate) fn set_recreation(record: &mut StreamRecord, recreation: Option<Recreation>) {
    let Some(Recreation { first_number, events, write_id, is_undone }) = recreation else { return };
    let write_id = write_id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes()));
    let stored = stored::Recreation { first_number, events, write_id };
    let place = if is_undone { &mut record.undone_recreation } else { &mut record.recreation };
    *place = Some(stored);
}

/// Puts what was removed of the stream into the record.
pub(crate) fn set_removed(record: &mut StreamRecord, removed: &Removed) {
    record.removed_before = removed.before;
    record.forgotten_before = removed.forgotten_before;
    let stored = |mark: &RemovalMark| stored::RemovalMark { before: mark.before, time_ticks: mark.time.0 };
    record.removals = removed.marks.iter().map(stored).collect();
}

/// What was removed of the stream.
pub(crate) fn removed(record: &StreamRecord) -> Removed {
    let mark = |stored: &stored::RemovalMark| RemovalMark { before: stored.before, time: Ticks(stored.time_ticks) };
    Removed {
        before: record.removed_before,
        forgotten_before: record.forgotten_before,
        marks: record.removals.iter().map(mark).collect(),
    }
}

/// The recreation in a record.
pub(crate) fn recreation(record: &StreamRecord) -> Option<Recreation> {
    let (stored, is_undone) = match (&record.recreation, &record.undone_recreation) {
        (Some(in_force), _) => (in_force, false),
        (None, Some(undone)) => (undone, true),
        (None, None) => return None,
    };
    let stored::Recreation { first_number, events, write_id } = stored;
    let write_id = Uuid::from_slice(write_id).ok();
    Some(Recreation { first_number: *first_number, events: *events, write_id, is_undone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        let metadata = StreamMetadata {
            max_count: Some(3),
            max_age_s: None,
            truncate_before: Some(crate::event::MAX_NUMBER),
            cache_control_s: Some(1),
            acl: Some(Acl { read: Some(vec!["$all".into(), "ann".into()]), write: Some(vec![]), ..Acl::default() }),
        };
        for (write_id, is_undone) in
            [(None, false), (Some(Uuid::from_u128(9)), false), (Some(Uuid::from_u128(9)), true)]
        {
            let mut record = StreamRecord {
                id: 7,
                tombstone_position: Some(0),
                metadata: Some(metadata_to_stored(&metadata)),
                last_number: Some(0),
                ..StreamRecord::default()
            };
            let written = Recreation { first_number: 5, events: 2, write_id, is_undone };
            set_recreation(&mut record, Some(written));
            let marks = vec![RemovalMark { before: 3, time: Ticks(9) }];
            let gone = Removed { before: 4, forgotten_before: 2, marks };
            set_removed(&mut record, &gone);
            let mut value = Vec::new();
            encode(&record, &mut value);
            let read = decode("s", &value).unwrap();
            assert_eq!(read, record);
            assert_eq!(recreation(&read), Some(written));
            assert_eq!(removed(&read), gone);
            assert_eq!(metadata_from_stored(read.metadata.unwrap()), metadata);
        }
    }

    #[test]
    fn records_of_older_versions_can_be_read() {
        // Version 1, id 7, last number 3, without a recreation.
        let read = decode("s", &[1, 0x08, 7, 0x20, 3]).unwrap();
        assert_eq!(read, StreamRecord { id: 7, last_number: Some(3), ..StreamRecord::default() });
    }

    #[test]
    fn an_unknown_version_is_damage() {
        assert!(matches!(decode("s", &[0]), Err(ReadError::Damaged(_))));
        assert!(matches!(decode("s", &[]), Err(ReadError::Damaged(_))));
    }
}
