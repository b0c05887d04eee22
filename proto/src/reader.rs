//! Reads a message in place.
//!
//! The generated decoders copy every text and build every list. A page of events and the leader's
//! check of a forwarded command need neither: they borrow what they need and skip the rest.
//! Measured in instructions, compared with the generated decoders: 830 against 1630 for the row of
//! an event (2010 if the row has to be copied first), 780 against 2090 for the permission that a
//! command with one event needs, 2570 against 26980 with twenty events.

use bytes::Buf;
use prost::DecodeError;
use prost::encoding::{self, DecodeContext};

pub use prost::encoding::WireType;

/// Number and wire type of a field; the numbers are in [`stored::fields`](crate::stored::fields).
pub type Key = (u32, WireType);

/// Why bytes cannot be read as the expected message. The generated decoders refuse them too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// A key or a value that protobuf does not define.
    Encoding(DecodeError),
    /// The message ends within a field.
    CutOff,
    /// A text is not UTF-8.
    NotUtf8,
}

impl std::error::Error for Malformed {}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Encoding(error) => error.fmt(f),
            Self::CutOff => f.write_str("cut off"),
            Self::NotUtf8 => f.write_str("text that is not UTF-8"),
        }
    }
}

/// Reads the fields of one message in order: a key, then the value that the key announces.
///
/// An error ends the message: from then on there are no keys, values are empty, and
/// [`finish`](Self::finish) returns the error. This is a fifth faster than a `Result` for each
/// value.
#[must_use = "only `finish` tells whether the message was read to its end"]
pub struct Reader<'a> {
    /// The bytes that have not been read yet.
    rest: &'a [u8],
    /// The first error.
    error: Option<Malformed>,
}

impl<'a> Reader<'a> {
    /// Reads an encoded message from its start.
    #[inline]
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message, error: None }
    }

    /// The key of the next field; `None` at the end of the message.
    #[inline]
    pub fn key(&mut self) -> Option<Key> {
        if self.rest.is_empty() {
            return None;
        }
        match encoding::decode_key(&mut self.rest) {
            Ok(key) => Some(key),
            Err(error) => self.fail(Malformed::Encoding(error)),
        }
    }

    /// A value of wire type [`WireType::Varint`].
    #[inline]
    pub fn varint(&mut self) -> u64 {
        match encoding::decode_varint(&mut self.rest) {
            Ok(value) => value,
            Err(error) => self.fail(Malformed::Encoding(error)),
        }
    }

    /// A value of wire type [`WireType::SixtyFourBit`].
    #[inline]
    pub fn fixed64(&mut self) -> u64 {
        match self.rest.try_get_u64_le() {
            Ok(value) => value,
            Err(_) => self.fail(Malformed::CutOff),
        }
    }

    /// A value of wire type [`WireType::LengthDelimited`]: bytes, or an embedded message.
    #[inline]
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = self.varint();
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let Some((value, rest)) = split else { return self.fail(Malformed::CutOff) };
        self.rest = rest;
        value
    }

    /// A text, of wire type [`WireType::LengthDelimited`].
    #[inline]
    pub fn text(&mut self) -> &'a str {
        match std::str::from_utf8(self.bytes()) {
            Ok(text) => text,
            Err(_) => self.fail(Malformed::NotUtf8),
        }
    }

    /// Skips the value of a field that the caller does not need.
    #[inline]
    pub fn skip(&mut self, (number, wire_type): Key) {
        if let Err(error) = encoding::skip_field(wire_type, number, &mut self.rest, DecodeContext::default()) {
            self.fail(Malformed::Encoding(error))
        }
    }

    /// Whether everything read so far was well-formed.
    ///
    /// # Errors
    /// The first error.
    #[inline]
    pub fn finish(self) -> Result<(), Malformed> {
        match self.error {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn fail<T: Default>(&mut self, error: Malformed) -> T {
        self.rest = &[];
        self.error.get_or_insert(error);
        T::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_ends_the_message() {
        // Field 1 announces five bytes and has two; the rest is never read.
        let mut reader = Reader::new(&[0x0a, 5, b'a', b'b']);
        assert_eq!(reader.key(), Some((1, WireType::LengthDelimited)));
        assert_eq!((reader.bytes(), reader.key(), reader.varint()), (&[][..], None, 0));
        assert_eq!(reader.finish(), Err(Malformed::CutOff));
    }

    #[test]
    fn fields_are_read_in_their_order_and_others_skipped() {
        let message = [0x08, 0x96, 0x01, 0x12, 1, b'x', 0x19, 7, 0, 0, 0, 0, 0, 0, 0, 0x22, 2, 0xff, 0xfe];
        let mut reader = Reader::new(&message);
        assert_eq!((reader.key(), reader.varint()), (Some((1, WireType::Varint)), 150));
        let key = reader.key().unwrap();
        reader.skip(key);
        assert_eq!((reader.key(), reader.fixed64()), (Some((3, WireType::SixtyFourBit)), 7));
        assert_eq!((reader.key(), reader.text()), (Some((4, WireType::LengthDelimited)), ""));
        assert_eq!(reader.finish(), Err(Malformed::NotUtf8));
    }
}
