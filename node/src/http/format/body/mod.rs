//! Request bodies that carry several events: JSON arrays and XML lists (contract/streams 6.3 to 6.5).

pub mod json;
pub mod xml;

use std::borrow::Cow;

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::http::format::json::{IndentError, indent, indent_value};
use crate::http::limits::{
    MAX_BODY_BYTES, MAX_COMMAND_BYTES, MAX_EVENT_BYTES, MAX_EVENT_TYPE_BYTES, MAX_EVENTS_PER_REQUEST, MAX_RECORD_BYTES,
};

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not what the content type says.
    #[error("Write request body invalid.")]
    Invalid,
    /// An event without an id, or with the zero id.
    #[error("Empty eventId provided.")]
    EmptyId,
    /// An event without a type.
    #[error("Empty eventType provided.")]
    EmptyType,
    /// An event type beyond [`MAX_EVENT_TYPE_BYTES`].
    #[error("The eventType is too long.")]
    TypeTooLong,
    /// More than [`MAX_EVENTS_PER_REQUEST`].
    #[error("Too many events in one request.")]
    TooManyEvents,
    /// An event beyond [`MAX_EVENT_BYTES`].
    #[error("Too large events received. Limit is 4mb")]
    EventTooLarge,
    /// An event of [`MAX_RECORD_BYTES`] or more.
    #[error("Record is too big")]
    RecordTooLarge,
    /// Events of more than [`MAX_COMMAND_BYTES`] together, or a body that is longer than [`MAX_BODY_BYTES`] as text.
    #[error("Request body is too large")]
    TooLarge,
}

impl BodyError {
    /// What an event of so many bytes is refused with.
    fn too_large(bytes: usize) -> Self {
        if bytes < MAX_RECORD_BYTES { Self::EventTooLarge } else { Self::RecordTooLarge }
    }
}

/// A body, sent or stored, as text. What is no UTF-8 in it becomes U+FFFD; the usual case is checked many bytes at a time.
pub fn text(body: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(body),
    }
}

/// The same within the largest size of a body: each byte that is no UTF-8 takes three in the text.
pub fn bounded_text(body: &[u8]) -> Result<Cow<'_, str>, BodyError> {
    let bytes: usize = match std::str::from_utf8(body) {
        Ok(text) => return Ok(Cow::Borrowed(text)),
        Err(_) => body.utf8_chunks().map(|chunk| chunk.valid().len() + REPLACEMENT_BYTES).sum(),
    };
    if bytes > MAX_BODY_BYTES { Err(BodyError::TooLarge) } else { Ok(String::from_utf8_lossy(body)) }
}

/// What U+FFFD takes.
const REPLACEMENT_BYTES: usize = char::REPLACEMENT_CHARACTER.len_utf8();

/// Reads a GUID in any usual notation: 32 hex digits, hyphenated, in braces or in parentheses.
pub fn parse_guid(text: &str) -> Option<Uuid> {
    let text = text.trim();
    if text.len() > 45 || text.starts_with("urn:") {
        return None;
    }
    match text.strip_prefix('(') {
        Some(inner) => {
            inner.strip_suffix(')').and_then(|inner| inner.parse::<uuid::fmt::Hyphenated>().ok()).map(Uuid::from)
        }
        None => Uuid::parse_str(text).ok(),
    }
}

/// A payload as it will be stored, and whether it counts as JSON (contract/streams 6.4).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Payload {
    bytes: Bytes,
    is_json: bool,
}

impl Payload {
    /// The text of a string value: JSON when it is itself an object or array.
    fn from_text(text: &str) -> Result<Self, BodyError> {
        if text.trim_start().starts_with(['{', '[']) {
            match indent(text) {
                Ok(bytes) => return Ok(Self { bytes: bytes.into(), is_json: true }),
                Err(IndentError::TooLarge) => return Err(BodyError::too_large(text.len())),
                Err(IndentError::NotJson | IndentError::TooDeep) => {}
            }
        }
        Ok(Self { bytes: Bytes::copy_from_slice(text.as_bytes()), is_json: false })
    }

    /// An object or array.
    fn from_json(value: &RawValue) -> Result<Self, BodyError> {
        match indent_value(value) {
            Ok(bytes) => Ok(Self { bytes: bytes.into(), is_json: true }),
            Err(IndentError::TooLarge) => Err(BodyError::too_large(value.get().len())),
            Err(IndentError::NotJson | IndentError::TooDeep) => Err(BodyError::Invalid),
        }
    }
}

/// An event as read, its parts not yet required.
#[derive(Debug, Default)]
struct Draft {
    id: Option<Uuid>,
    event_type: Option<String>,
    data: Payload,
    metadata: Payload,
}

/// The events of a body as they are read. A body that cannot be read is [`BodyError::Invalid`] even if an event before lacks
/// its id, so what is wrong with an event is told at the end; from then on no events are kept.
#[derive(Debug, Default)]
struct Events {
    kept: Vec<NewEvent>,
    count: usize,
    bytes: usize,
    refused: Option<BodyError>,
}

impl Events {
    /// Adds the next event. Indented payloads can be a hundred times as long as they were in the body: more of them than a command may
    /// have end the reading.
    fn push(&mut self, draft: Draft) -> Result<(), BodyError> {
        self.count += 1;
        if self.count > MAX_EVENTS_PER_REQUEST {
            return Err(BodyError::TooManyEvents);
        }
        self.bytes += draft.data.bytes.len() + draft.metadata.bytes.len();
        match finish_one(draft) {
            Ok(event) if self.refused.is_none() => self.kept.push(event),
            Ok(_) => {}
            Err(error) => {
                self.refused.get_or_insert(error);
                self.kept = Vec::new();
            }
        }
        if self.bytes > MAX_COMMAND_BYTES {
            return Err(self.refused.unwrap_or(BodyError::TooLarge));
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<NewEvent>, BodyError> {
        match self.refused {
            Some(error) => Err(error),
            None if self.kept.is_empty() => Err(BodyError::Invalid),
            None => Ok(self.kept),
        }
    }
}

fn finish_one(draft: Draft) -> Result<NewEvent, BodyError> {
    let id = draft.id.filter(|id| !id.is_nil()).ok_or(BodyError::EmptyId)?;
    let event_type = draft.event_type.filter(|text| !text.is_empty()).ok_or(BodyError::EmptyType)?;
    let is_json = draft.data.is_json || draft.metadata.is_json;
    new_event(id, event_type, is_json, draft.data.bytes, draft.metadata.bytes)
}

/// One event within the limits; a zero id or an empty type is refused.
pub fn new_event(
    id: Uuid,
    event_type: String,
    is_json: bool,
    data: Bytes,
    metadata: Bytes,
) -> Result<NewEvent, BodyError> {
    if id.is_nil() {
        return Err(BodyError::EmptyId);
    }
    if event_type.is_empty() {
        return Err(BodyError::EmptyType);
    }
    if event_type.len() > MAX_EVENT_TYPE_BYTES {
        return Err(BodyError::TypeTooLong);
    }
    if data.len() + metadata.len() > MAX_EVENT_BYTES {
        return Err(BodyError::too_large(data.len() + metadata.len()));
    }
    Ok(NewEvent { event_id: Bytes::copy_from_slice(id.as_bytes()), event_type, is_json, data, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_read_in_any_usual_notation() {
        let id = parse_guid("ab910b12-1e9d-5d21-9d35-8942cadd7236");
        assert!(id.is_some());
        for text in [
            "AB910B12-1E9D-5D21-9D35-8942CADD7236",
            "ab910b121e9d5d219d358942cadd7236",
            "{ab910b12-1e9d-5d21-9d35-8942cadd7236}",
            "(ab910b12-1e9d-5d21-9d35-8942cadd7236)",
            " ab910b12-1e9d-5d21-9d35-8942cadd7236 ",
        ] {
            assert_eq!(parse_guid(text), id, "{text}");
        }
        for text in
            ["", "nope", "12", "(ab910b12-1e9d-5d21-9d35-8942cadd7236", "urn:uuid:ab910b12-1e9d-5d21-9d35-8942cadd7236"]
        {
            assert_eq!(parse_guid(text), None, "{text}");
        }
    }
}
