//! An event as it was stored.

use bytes::Bytes;
use uuid::Uuid;

use super::{EventNumber, LINK_EVENT_TYPE, Position, Ticks};

/// A stored event with its number in the stream and its position in the log of all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedEvent {
    /// Position in the log of all events.
    pub(crate) position: Position,
    /// Name of the stream.
    pub(crate) stream: String,
    /// Number in the stream; [`super::MAX_NUMBER`] for a tombstone.
    pub(crate) number: EventNumber,
    /// Chosen by the writer.
    pub(crate) event_id: Uuid,
    /// Chosen by the writer.
    pub(crate) event_type: String,
    /// Whether the writer declared (or the server found) the payload to be JSON (contract/streams
    /// 6.4).
    pub(crate) is_json: bool,
    /// When the leader proposed it.
    pub(crate) time: Ticks,
    /// Stored bytes, as sent or re-serialised by the rules of contract/streams 6.4.
    pub(crate) data: Bytes,
    /// Stored bytes, empty when there are none.
    pub(crate) metadata: Bytes,
}

impl RecordedEvent {
    /// The event, borrowed.
    pub(crate) fn borrowed(&self) -> EventRef<'_> {
        EventRef {
            position: self.position,
            stream: &self.stream,
            number: self.number,
            event_id: self.event_id,
            event_type: &self.event_type,
            is_json: self.is_json,
            time: self.time,
            data: &self.data,
            metadata: &self.metadata,
        }
    }
}

/// A borrowed event: pages are written from rows of the database without a copy in between. The
/// fields are those of [`RecordedEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) struct EventRef<'a> {
    pub(crate) position: Position,
    pub(crate) stream: &'a str,
    pub(crate) number: EventNumber,
    pub(crate) event_id: Uuid,
    pub(crate) event_type: &'a str,
    pub(crate) is_json: bool,
    pub(crate) time: Ticks,
    pub(crate) data: &'a [u8],
    pub(crate) metadata: &'a [u8],
}

impl<'a> EventRef<'a> {
    /// An owned copy.
    pub(crate) fn to_recorded(self) -> RecordedEvent {
        RecordedEvent {
            position: self.position,
            stream: self.stream.to_owned(),
            number: self.number,
            event_id: self.event_id,
            event_type: self.event_type.to_owned(),
            is_json: self.is_json,
            time: self.time,
            data: Bytes::copy_from_slice(self.data),
            metadata: Bytes::copy_from_slice(self.metadata),
        }
    }

    /// The link text `{number}@{stream}` when this event is a well-formed link (contract/streams
    /// 11).
    ///
    /// The text is split at the first `@`. A text without `@`, or without a number before it, is
    /// not a link.
    pub(crate) fn link_target(&self) -> Option<(EventNumber, &'a str)> {
        if self.event_type != LINK_EVENT_TYPE {
            return None;
        }
        let text = std::str::from_utf8(self.data).ok()?;
        let (number, stream) = text.split_once('@')?;
        let number = number.trim().parse::<i64>().ok()?;
        Some((u64::try_from(number).ok()?, stream))
    }
}
