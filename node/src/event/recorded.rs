//! An event as it was stored.

use bytes::Bytes;
use uuid::Uuid;

use super::{EventNumber, LINK_EVENT_TYPE, Position, Ticks};

/// A stored event with its place in the stream and in the log of all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Place in the log of all events.
    pub position: Position,
    /// Name of the stream.
    pub stream: String,
    /// Number in the stream; [`super::MAX_NUMBER`] for a tombstone.
    pub number: EventNumber,
    /// Chosen by the writer.
    pub event_id: Uuid,
    /// Chosen by the writer.
    pub event_type: String,
    /// Whether the writer declared (or the server found) the payload to be JSON (contract/streams 6.4).
    pub is_json: bool,
    /// When the leader proposed it.
    pub time: Ticks,
    /// Stored bytes, as sent or re-serialised by the rules of contract/streams 6.4.
    pub data: Bytes,
    /// Stored bytes, empty when there are none.
    pub metadata: Bytes,
}

impl RecordedEvent {
    /// The link text `{number}@{stream}` when this event is a well-formed link (contract/streams 11).
    ///
    /// The split is at the first `@`; a text without `@` or without a number before it is no link.
    pub fn link_target(&self) -> Option<(EventNumber, &str)> {
        if self.event_type != LINK_EVENT_TYPE {
            return None;
        }
        let text = std::str::from_utf8(&self.data).ok()?;
        let (number, stream) = text.split_once('@')?;
        let number = number.trim().parse::<i64>().ok()?;
        Some((u64::try_from(number).ok()?, stream))
    }
}
