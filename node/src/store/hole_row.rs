//! Family `hole`: which positions of the log of all events have no event any more, because it was
//! removed. A position without an event and without its bit here is damage.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | key | 8 | position / 8192, big-endian |
//! | value | 1 | 1: a bit for each position follows; 2: every position is a hole |
//! | | 1024 | bit `n % 8` of byte `n / 8` says whether position `8192 * key + n` is a hole |

use std::ops::Range;

use super::ReadError;
use crate::event::Position;

/// Positions of one row.
pub(crate) const SPAN: u64 = 8_192;

const BYTES: usize = SPAN as usize / 8;
const BITS: u8 = 1;
const ALL: u8 = 2;

/// Key of the row that covers this position.
pub(crate) fn key(position: Position) -> [u8; 8] {
    (position / SPAN).to_be_bytes()
}

/// The holes among the positions of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holes {
    bits: Box<[u8; BYTES]>,
}

impl Default for Holes {
    fn default() -> Self {
        Self { bits: Box::new([0; BYTES]) }
    }
}

impl Holes {
    /// Reads a value.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, ReadError> {
        match value.split_first() {
            Some((&ALL, [])) => Ok(Self { bits: Box::new([0xff; BYTES]) }),
            Some((&BITS, bits)) => match bits.try_into() {
                Ok(bits) => Ok(Self { bits: Box::new(bits) }),
                Err(_) => Err(damaged("value of a wrong length")),
            },
            _ => Err(damaged("unknown encoding version")),
        }
    }

    /// Value of the row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if self.bits.iter().all(|byte| *byte == 0xff) {
            return vec![ALL];
        }
        let mut value = Vec::with_capacity(1 + BYTES);
        value.push(BITS);
        value.extend_from_slice(&self.bits[..]);
        value
    }

    /// Whether the position is a hole, counted from the first one of the row.
    pub(crate) fn contains(&self, offset: u64) -> bool {
        self.bits[offset as usize / 8] & (1 << (offset % 8)) != 0
    }

    /// Makes a position a hole.
    pub(crate) fn insert(&mut self, offset: u64) {
        self.bits[offset as usize / 8] |= 1 << (offset % 8);
    }

    /// Takes back all holes from this offset on.
    pub(crate) fn truncate(&mut self, from: u64) {
        (from..SPAN).for_each(|offset| self.bits[offset as usize / 8] &= !(1 << (offset % 8)));
    }

    /// The lowest offset of the range that is not a hole.
    pub(crate) fn first_kept(&self, offsets: Range<u64>) -> Option<u64> {
        offsets.clone().find(|offset| !self.contains(*offset))
    }

    /// The highest offset of the range that is not a hole.
    pub(crate) fn last_kept(&self, mut offsets: Range<u64>) -> Option<u64> {
        offsets.rfind(|offset| !self.contains(*offset))
    }
}

fn damaged(what: &str) -> ReadError {
    ReadError::Damaged(format!("family hole: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip(positions in prop::collection::btree_set(0..SPAN, 0..64), from in 0..SPAN) {
            let mut holes = Holes::default();
            positions.iter().for_each(|position| holes.insert(*position));
            let read = Holes::decode(&holes.encode()).unwrap();
            prop_assert_eq!(&read, &holes);
            prop_assert!((0..SPAN).all(|offset| read.contains(offset) == positions.contains(&offset)));
            prop_assert_eq!(read.first_kept(from..SPAN), (from..SPAN).find(|at| !positions.contains(at)));
            let mut cut = read.clone();
            cut.truncate(from);
            prop_assert!((0..SPAN).all(|at| cut.contains(at) == (at < from && positions.contains(&at))));
            prop_assert_eq!(read.last_kept(0..from), (0..from).rev().find(|at| !positions.contains(at)));
        }

        #[test]
        fn an_invalid_row_is_damage_and_no_panic(value: Vec<u8>) {
            let _ = Holes::decode(&value);
        }
    }

    #[test]
    fn a_row_full_of_holes_is_short() {
        let mut holes = Holes::default();
        (0..SPAN).for_each(|offset| holes.insert(offset));
        assert_eq!(holes.encode(), [ALL]);
        assert_eq!(Holes::decode(&[ALL]).unwrap(), holes);
        assert_eq!((holes.first_kept(0..SPAN), holes.last_kept(0..SPAN)), (None, None));
    }

    #[test]
    fn positions_belong_to_rows_and_a_wrong_row_is_damage() {
        assert_eq!(key(SPAN - 1), key(0));
        assert_eq!(key(5 * SPAN + 7), key(5 * SPAN));
        assert!(key(SPAN - 1) < key(SPAN));
        for wrong in [&[][..], &[0], &[3], &[BITS, 1], &[ALL, 0]] {
            assert!(Holes::decode(wrong).is_err());
        }
    }
}
