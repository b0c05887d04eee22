//! Data and metadata in a line, in the first of these forms that is exact:
//!
//! | field | bytes |
//! |---|---|
//! | absent | there are none |
//! | `data` | one JSON value but `null`, on one line, with nothing around it; it stands there as it is |
//! | `dataText` | any other text in UTF-8, as a JSON string: also JSON with line breaks |
//! | `dataBase64` | anything else |
//!
//! The same with `metadata`, `metadataText` and `metadataBase64`.

use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

/// The forms in a line, of which there is one at most.
pub(super) struct Payload<'a> {
    pub(super) json: Option<&'a RawValue>,
    pub(super) text: Option<String>,
    pub(super) base64: Option<String>,
}

impl Payload<'_> {
    /// The bytes; `None` when there are two forms, or one cannot be read.
    pub(super) fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self { json: Some(json), text: None, base64: None } => Some(Bytes::copy_from_slice(json.get().as_bytes())),
            Self { json: None, text: Some(text), base64: None } => Some(text.into_bytes().into()),
            Self { json: None, text: None, base64: Some(text) } => STANDARD.decode(text).ok().map(Bytes::from),
            Self { json: None, text: None, base64: None } => Some(Bytes::new()),
            _ => None,
        }
    }
}

/// Appends the field with these bytes, if there are any.
pub(super) fn push(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    // Writing to a Vec cannot fail.
    match std::str::from_utf8(bytes) {
        Ok(text) if stands_as_it_is(text) => drop(write!(out, ",\"{name}\":{text}")),
        Ok(text) => {
            let _ = write!(out, ",\"{name}Text\":");
            let _ = serde_json::to_writer(out, text);
        }
        Err(_) => drop(write!(out, ",\"{name}Base64\":\"{}\"", STANDARD.encode(bytes))),
    }
}

/// Whether a reader of the line finds exactly this text again where it stands as JSON.
fn stands_as_it_is(text: &str) -> bool {
    let (Some(first), Some(last)) = (text.as_bytes().first(), text.as_bytes().last()) else { return false };
    if first.is_ascii_whitespace() || last.is_ascii_whitespace() || text == "null" {
        return false;
    }
    // Line breaks may stand between the parts of a value only, where they end the line.
    if text.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return false;
    }
    serde_json::from_str::<&RawValue>(text).is_ok_and(|value| value.get().len() == text.len())
}
