//! Family `event_id`: the number that the first event with an id got in a stream. It makes repeated
//! appends exact for ever.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | key | 8 | numeric id of the stream, big-endian |
//! | | 16 | event id, big-endian |
//! | value | 8 | number in the stream, big-endian |
//!
//! Read by exact key only. The rows of the newest events are not here yet, see
//! [`super::recent_ids`]. Like `index`, it has no version byte of its own.

use uuid::Uuid;

use super::ReadError;
use crate::event::EventNumber;

/// Length of a key.
pub(crate) const KEY_BYTES: usize = 24;

/// Key of one id in one stream.
pub(crate) fn key(stream_id: u64, event_id: Uuid) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&stream_id.to_be_bytes());
    key[8..].copy_from_slice(event_id.as_bytes());
    key
}

/// The stream and the id in a key.
pub(crate) fn id(key: &[u8]) -> Result<(u64, Uuid), ReadError> {
    let wrong_length = || ReadError::Damaged("family event_id: key of a wrong length".into());
    let (stream_id, event_id) = key.split_first_chunk().ok_or_else(wrong_length)?;
    Ok((u64::from_be_bytes(*stream_id), Uuid::from_slice(event_id).map_err(|_| wrong_length())?))
}

/// Value of a row.
pub(crate) fn value(number: EventNumber) -> [u8; 8] {
    number.to_be_bytes()
}

/// The number in a value.
pub(crate) fn number(value: &[u8]) -> Result<EventNumber, ReadError> {
    let bytes = value.try_into().map_err(|_| ReadError::Damaged("family event_id: value of a wrong length".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip_and_keys_differ(a: (u64, u128), b: (u64, u128), n: u64) {
            prop_assert_eq!(number(&value(n)).unwrap(), n);
            let same = key(a.0, Uuid::from_u128(a.1)) == key(b.0, Uuid::from_u128(b.1));
            prop_assert_eq!(same, a == b);
            prop_assert_eq!(id(&key(a.0, Uuid::from_u128(a.1))).unwrap(), (a.0, Uuid::from_u128(a.1)));
        }
    }

    #[test]
    fn a_wrong_length_is_damage() {
        assert!(number(&[0; 7]).is_err());
        for length in [0, 7, 8, 23, 25] {
            assert!(id(&vec![0; length]).is_err(), "{length}");
        }
    }
}
