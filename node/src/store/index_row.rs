//! Family `index`: where the events of a stream are in the log of all events.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | key | 8 | numeric id of the stream, big-endian |
//! | | 8 | number in the stream, big-endian |
//! | value | 8 | position, big-endian |
//! | | 4 | size of the row in `event` in bytes, big-endian; rows of the first versions end before it |
//!
//! There are many and they are small: the encoding has no version byte of its own, the format version of the
//! database ([`super::system_row`]) covers it. A tombstone has no row here.

use super::ReadError;
use crate::event::{EventNumber, Position};

/// Key of one event.
pub fn key(stream_id: u64, number: EventNumber) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&stream_id.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Key above all events of a stream.
pub fn end_key(stream_id: u64) -> [u8; 16] {
    key(stream_id + 1, 0)
}

/// The number in a key.
pub fn number(key: &[u8]) -> Result<EventNumber, ReadError> {
    match key.get(8..).and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => Ok(u64::from_be_bytes(bytes)),
        None => Err(ReadError::Damaged("family index: key of a wrong length".into())),
    }
}

/// Where an event is, and how much has to be read for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPlace {
    /// Number in the stream.
    pub number: EventNumber,
    /// Place in the log of all events.
    pub position: Position,
    /// Size of the stored row; [`UNKNOWN_BYTES`] for one of the first versions.
    pub bytes: u32,
}

/// More than any row has: who reads with care takes a row of unknown size for a large one.
pub const UNKNOWN_BYTES: u32 = u32::MAX;

/// Value of a row.
pub fn value(position: Position, bytes: usize) -> [u8; 12] {
    let mut value = [0; 12];
    value[..8].copy_from_slice(&position.to_be_bytes());
    value[8..].copy_from_slice(&u32::try_from(bytes).unwrap_or(UNKNOWN_BYTES).to_be_bytes());
    value
}

/// The position in a value.
pub fn position(value: &[u8]) -> Result<Position, ReadError> {
    Ok(position_and_bytes(value)?.0)
}

/// The place in a row.
pub fn place(key: &[u8], value: &[u8]) -> Result<EventPlace, ReadError> {
    let (position, bytes) = position_and_bytes(value)?;
    Ok(EventPlace { number: number(key)?, position, bytes })
}

fn position_and_bytes(value: &[u8]) -> Result<(Position, u32), ReadError> {
    let wrong_length = || ReadError::Damaged("family index: value of a wrong length".into());
    let (position, bytes) = value.split_first_chunk().ok_or_else(wrong_length)?;
    let bytes = match bytes {
        [] => UNKNOWN_BYTES,
        bytes => u32::from_be_bytes(bytes.try_into().map_err(|_| wrong_length())?),
    };
    Ok((u64::from_be_bytes(*position), bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip_and_sort_by_stream_then_number(a: (u32, u64), b: (u32, u64), at: u64, bytes: u32) {
            let (ka, kb) = (key(a.0.into(), a.1), key(b.0.into(), b.1));
            prop_assert_eq!(number(&ka).unwrap(), a.1);
            let value = value(at, bytes as usize);
            prop_assert_eq!(place(&ka, &value).unwrap(), EventPlace { number: a.1, position: at, bytes });
            let of_unknown_size = EventPlace { number: a.1, position: at, bytes: UNKNOWN_BYTES };
            prop_assert_eq!(place(&ka, &value[..8]).unwrap(), of_unknown_size);
            prop_assert_eq!(ka.cmp(&kb), a.cmp(&b));
            prop_assert!(ka < end_key(a.0.into()));
        }
    }

    #[test]
    fn wrong_lengths_are_damage() {
        assert!(number(&[0; 15]).is_err());
        for length in [0, 7, 9, 11, 13] {
            assert!(position(&vec![0; length]).is_err(), "{length}");
        }
    }
}
