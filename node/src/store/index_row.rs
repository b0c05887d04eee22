//! Family `index`: where the events of a stream are in the log of all events.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | key | 8 | numeric id of the stream, big-endian |
//! | | 8 | number in the stream, big-endian |
//! | value | 8 | position, big-endian |
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

/// Value of a row.
pub fn value(position: Position) -> [u8; 8] {
    position.to_be_bytes()
}

/// The position in a value.
pub fn position(value: &[u8]) -> Result<Position, ReadError> {
    let bytes = value.try_into().map_err(|_| ReadError::Damaged("family index: value of a wrong length".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip_and_sort_by_stream_then_number(a: (u32, u64), b: (u32, u64), at: u64) {
            let (ka, kb) = (key(a.0.into(), a.1), key(b.0.into(), b.1));
            prop_assert_eq!(number(&ka).unwrap(), a.1);
            prop_assert_eq!(position(&value(at)).unwrap(), at);
            prop_assert_eq!(ka.cmp(&kb), a.cmp(&b));
            prop_assert!(ka < end_key(a.0.into()));
        }
    }

    #[test]
    fn wrong_lengths_are_damage() {
        assert!(number(&[0; 15]).is_err());
        assert!(position(&[0; 9]).is_err());
    }
}
