//! Family `index`: the positions of a stream's events in the log of all events.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | key | 8 | numeric id of the stream, big-endian |
//! | | 8 | number in the stream, big-endian |
//! | value | 8 | position, big-endian |
//! | | 4 | size of the row in `event` in bytes, big-endian; absent in rows of the first versions |
//! | | 8 | time of the event in ticks, big-endian; absent in rows written before format 3, and for long types |
//! | | rest | type of the event, UTF-8 |
//!
//! A page without bodies shows only time and type of an event, so it is written from these rows
//! alone (docs/adr/0013-headings-in-the-index.md).
//!
//! There are many small rows: the encoding has no version byte of its own, but is covered by the
//! format version of the database ([`super::system_row`]). A tombstone has no row here.

use super::ReadError;
use crate::event::{EventNumber, Position, Ticks};

/// Longest type, in bytes, that is repeated here. For an event with a longer type, pages read its
/// own row.
pub(crate) const MAX_TYPE_BYTES: usize = 128;

/// Key of one event.
pub(crate) fn key(stream_id: u64, number: EventNumber) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&stream_id.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Key above all events of a stream.
pub(crate) fn end_key(stream_id: u64) -> [u8; 16] {
    key(stream_id + 1, 0)
}

/// The numeric id of the stream in a key.
pub(crate) fn stream_id(key: &[u8]) -> Result<u64, ReadError> {
    match key.first_chunk() {
        Some(bytes) => Ok(u64::from_be_bytes(*bytes)),
        None => Err(ReadError::Damaged("family index: key of a wrong length".into())),
    }
}

/// The number in a key.
pub(crate) fn number(key: &[u8]) -> Result<EventNumber, ReadError> {
    match key.get(8..).and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => Ok(u64::from_be_bytes(bytes)),
        None => Err(ReadError::Damaged("family index: key of a wrong length".into())),
    }
}

/// The stream and the number in a key.
pub(crate) fn stream_and_number(key: &[u8]) -> Result<(u64, EventNumber), ReadError> {
    match key.split_first_chunk::<8>() {
        Some((stream_id, _)) => Ok((u64::from_be_bytes(*stream_id), number(key)?)),
        None => Err(ReadError::Damaged("family index: key of a wrong length".into())),
    }
}

/// The position of an event, and how much has to be read for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventPlace {
    /// Number in the stream.
    pub(crate) number: EventNumber,
    /// Position in the log of all events.
    pub(crate) position: Position,
    /// Size of the stored row; [`UNKNOWN_BYTES`] for rows of the first versions.
    pub(crate) bytes: u32,
}

/// More than any row has: a careful reader takes a row of unknown size for a large one.
pub(crate) const UNKNOWN_BYTES: u32 = u32::MAX;

/// Time and type of an event: all that a page shows besides its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heading<'a> {
    /// When the leader proposed it.
    pub(crate) time: Ticks,
    /// Its type.
    pub(crate) event_type: &'a str,
}

/// Value of a row.
pub(crate) struct IndexValue {
    bytes: [u8; TYPE_AT + MAX_TYPE_BYTES],
    length: usize,
}

const BYTES_AT: usize = 8;
const TIME_AT: usize = 12;
const TYPE_AT: usize = 20;

impl IndexValue {
    /// For an event whose row in `event` has this many bytes.
    pub(crate) fn new(position: Position, bytes: usize, heading: Heading<'_>) -> Self {
        let mut value = Self { bytes: [0; TYPE_AT + MAX_TYPE_BYTES], length: TIME_AT };
        value.bytes[..BYTES_AT].copy_from_slice(&position.to_be_bytes());
        value.bytes[BYTES_AT..TIME_AT].copy_from_slice(&u32::try_from(bytes).unwrap_or(UNKNOWN_BYTES).to_be_bytes());
        let event_type = heading.event_type.as_bytes();
        if event_type.len() <= MAX_TYPE_BYTES {
            value.length = TYPE_AT + event_type.len();
            value.bytes[TIME_AT..TYPE_AT].copy_from_slice(&heading.time.0.to_be_bytes());
            value.bytes[TYPE_AT..value.length].copy_from_slice(event_type);
        }
        value
    }
}

impl AsRef<[u8]> for IndexValue {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The position in a value.
pub(crate) fn position(value: &[u8]) -> Result<Position, ReadError> {
    Ok(split(value)?.0)
}

/// The place in a row.
pub(crate) fn place(key: &[u8], value: &[u8]) -> Result<EventPlace, ReadError> {
    let (position, bytes, _) = split(value)?;
    Ok(EventPlace { number: number(key)?, position, bytes })
}

/// The place in a row, and time and type if the row has them.
pub(crate) fn place_and_heading<'a>(
    key: &[u8],
    value: &'a [u8],
) -> Result<(EventPlace, Option<Heading<'a>>), ReadError> {
    let (position, bytes, rest) = split(value)?;
    let place = EventPlace { number: number(key)?, position, bytes };
    let Some((time, event_type)) = rest.split_first_chunk() else { return Ok((place, None)) };
    let event_type = std::str::from_utf8(event_type)
        .map_err(|_| ReadError::Damaged("family index: type of an event that is no UTF-8".into()))?;
    Ok((place, Some(Heading { time: Ticks(u64::from_be_bytes(*time)), event_type })))
}

/// Position, size, and the remaining bytes: nothing, or time and type.
fn split(value: &[u8]) -> Result<(Position, u32, &[u8]), ReadError> {
    let wrong_length = || ReadError::Damaged("family index: value of a wrong length".into());
    let (position, rest) = value.split_first_chunk().ok_or_else(wrong_length)?;
    let position = u64::from_be_bytes(*position);
    if rest.is_empty() {
        return Ok((position, UNKNOWN_BYTES, rest));
    }
    let (bytes, rest) = rest.split_first_chunk().ok_or_else(wrong_length)?;
    if (1..TYPE_AT - TIME_AT).contains(&rest.len()) {
        return Err(wrong_length());
    }
    Ok((position, u32::from_be_bytes(*bytes), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip_and_sort_by_stream_then_number(
            a: (u32, u64), b: (u32, u64), at: u64, bytes: u32, ticks: u64, event_type in ".{0,80}",
        ) {
            let (ka, kb) = (key(a.0.into(), a.1), key(b.0.into(), b.1));
            prop_assert_eq!(number(&ka).unwrap(), a.1);
            let heading = Heading { time: Ticks(ticks), event_type: &event_type };
            let value = IndexValue::new(at, bytes as usize, heading);
            let value = value.as_ref();
            let expected = EventPlace { number: a.1, position: at, bytes };
            prop_assert_eq!(place(&ka, value).unwrap(), expected);
            let kept = (event_type.len() <= MAX_TYPE_BYTES).then_some(heading);
            prop_assert_eq!(place_and_heading(&ka, value).unwrap(), (expected, kept));
            prop_assert_eq!(place_and_heading(&ka, &value[..TIME_AT]).unwrap(), (expected, None));
            let of_unknown_size = EventPlace { number: a.1, position: at, bytes: UNKNOWN_BYTES };
            prop_assert_eq!(place_and_heading(&ka, &value[..BYTES_AT]).unwrap(), (of_unknown_size, None));
            prop_assert_eq!(ka.cmp(&kb), a.cmp(&b));
            prop_assert!(ka < end_key(a.0.into()));
        }
    }

    #[test]
    fn types_up_to_the_limit_are_kept_whole() {
        for (length, is_told) in [(0, true), (MAX_TYPE_BYTES, true), (MAX_TYPE_BYTES + 1, false), (1024, false)] {
            let event_type = "t".repeat(length);
            let value = IndexValue::new(7, 300, Heading { time: Ticks(5), event_type: &event_type });
            let (place, heading) = place_and_heading(&key(1, 2), value.as_ref()).unwrap();
            assert_eq!(place, EventPlace { number: 2, position: 7, bytes: 300 });
            assert_eq!(heading.is_some(), is_told, "{length}");
            assert!(heading.is_none_or(|heading| heading.event_type == event_type));
        }
    }

    #[test]
    fn an_invalid_row_is_damage() {
        assert!(number(&[0; 15]).is_err());
        for length in [0, 7, 9, 11, 13, 19] {
            assert!(position(&vec![0; length]).is_err(), "{length}");
        }
        assert!(place_and_heading(&key(1, 2), &[0xff; 21]).is_err(), "a type that is no text");
    }
}
