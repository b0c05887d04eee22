//! Request bodies that carry several events: JSON arrays and XML lists (contract/streams 6.3 to
//! 6.5).

mod json;
mod xml;

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::http::format::json::{IndentError, indent, indent_value};
use crate::http::format::xml::markup::{self, Encoding};
use crate::http::limits::MAX_BODY_BYTES;
use crate::streams::events::{CheckedEvents, EventError, ProposedEvent};

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// Not what the content type says.
    #[error("the body is not what its content type says")]
    Invalid,
    /// In another encoding than UTF-8, as it says of itself.
    #[error("the body is not in UTF-8")]
    Charset,
    /// As text the body is longer than [`MAX_BODY_BYTES`].
    #[error("the body is too large as text")]
    TooLarge,
    /// Something is wrong with the events.
    #[error(transparent)]
    Event(#[from] EventError),
}

/// How a body holds events (contract/streams 6.2).
#[derive(Debug)]
pub(crate) enum EventsFormat {
    /// An array of objects.
    JsonArray,
    /// An element for each event in one around them.
    XmlList,
    /// The body is the data of one event.
    One {
        /// The event without its data.
        event: ProposedEvent,
        /// Which text the data is, and so UTF-8; `None` for bytes.
        text: Option<Text>,
    },
}

/// Texts that the data of a single event can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    /// Has no place to name its encoding, which is UTF-8.
    Json,
    /// May name its encoding.
    Xml,
}

impl EventsFormat {
    /// The events of a body.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub(crate) fn parse(self, body: Bytes) -> Result<CheckedEvents, BodyError> {
        match self {
            Self::JsonArray => json::parse_events(&bounded_text(&body)?),
            Self::XmlList => {
                check_encoding(&body)?;
                xml::parse_events(&bounded_text(&body)?)
            }
            Self::One { event, text } => {
                if text == Some(Text::Xml) {
                    check_encoding(&body)?;
                }
                let data = if text.is_some() { utf8(body) } else { body };
                Ok(CheckedEvents::one(ProposedEvent { data, ..event })?)
            }
        }
    }
}

/// Whether an XML body is in UTF-8, by what it says of itself (contract/streams 1.5). In another
/// encoding it would be stored as something else than was sent.
fn check_encoding(body: &[u8]) -> Result<(), BodyError> {
    let is_utf8 = match markup::encoding_of(body) {
        Encoding::Utf16 => false,
        Encoding::Named(name) => name.eq_ignore_ascii_case(b"utf-8"),
        Encoding::Unnamed => true,
    };
    if is_utf8 { Ok(()) } else { Err(BodyError::Charset) }
}

/// A body as UTF-8; what is none in it becomes U+FFFD.
fn utf8(body: Bytes) -> Bytes {
    match text(&body) {
        Cow::Borrowed(_) => body,
        Cow::Owned(text) => text.into(),
    }
}

/// A body, sent or stored, as text. What is no UTF-8 in it becomes U+FFFD; the usual case is
/// checked many bytes at a time.
pub(crate) fn text(body: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(body),
    }
}

/// The same within the largest size of a body: each byte that is no UTF-8 takes three in the text.
pub(crate) fn bounded_text(body: &[u8]) -> Result<Cow<'_, str>, BodyError> {
    let bytes: usize = match std::str::from_utf8(body) {
        Ok(text) => return Ok(Cow::Borrowed(text)),
        Err(_) => body.utf8_chunks().map(|chunk| chunk.valid().len() + REPLACEMENT_BYTES).sum(),
    };
    if bytes > MAX_BODY_BYTES { Err(BodyError::TooLarge) } else { Ok(String::from_utf8_lossy(body)) }
}

/// What U+FFFD takes.
const REPLACEMENT_BYTES: usize = char::REPLACEMENT_CHARACTER.len_utf8();

/// Reads a GUID in any usual notation: 32 hex digits, hyphenated, in braces or in parentheses.
pub(crate) fn parse_guid(text: &str) -> Option<Uuid> {
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
                Err(IndentError::TooLarge) => return Err(EventError::of_size(text.len()).into()),
                Err(IndentError::NotJson | IndentError::TooDeep) => {}
            }
        }
        Ok(Self { bytes: Bytes::copy_from_slice(text.as_bytes()), is_json: false })
    }

    /// An object or array.
    fn from_json(value: &RawValue) -> Result<Self, BodyError> {
        match indent_value(value) {
            Ok(bytes) => Ok(Self { bytes: bytes.into(), is_json: true }),
            Err(IndentError::TooLarge) => Err(EventError::of_size(value.get().len()).into()),
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

impl From<Draft> for ProposedEvent {
    fn from(draft: Draft) -> Self {
        Self {
            id: draft.id,
            event_type: draft.event_type,
            is_json: draft.data.is_json || draft.metadata.is_json,
            data: draft.data.bytes,
            metadata: draft.metadata.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of a body of text/xml and of an XML list.
    fn as_xml(body: &[u8]) -> [Result<CheckedEvents, BodyError>; 2] {
        let body = Bytes::copy_from_slice(body);
        let event = ProposedEvent { id: Some(Uuid::from_u128(1)), event_type: Some("t".into()), ..Default::default() };
        [EventsFormat::One { event, text: Some(Text::Xml) }.parse(body.clone()), EventsFormat::XmlList.parse(body)]
    }

    fn is_refused_for_its_charset(body: &[u8]) -> bool {
        let [one, list] = as_xml(body).map(|result| result == Err(BodyError::Charset));
        assert_eq!(one, list, "{body:?}");
        one
    }

    #[test]
    fn an_xml_body_that_says_that_it_is_not_utf8_is_refused() {
        for body in [
            "",
            "text",
            "<a encoding='latin1'/>",
            "<?xml version=\"1.0\"?><a/>",
            "<?xml version='1.0' encoding='UTF-8'?><a/>",
            "<?xml version='1.0'\tencoding =\n\"utf-8\" standalone='yes'?><a/>",
            "\u{feff}<?xml version='1.0' encoding=\"Utf-8\"?><a/>",
            "<?xml-stylesheet encoding='latin1'?><a/>",
            "<?xml version='1.0'?><a>encoding='latin1'</a>",
            "<?xml version='1.0' encoding",
        ] {
            assert!(!is_refused_for_its_charset(body.as_bytes()), "{body}");
        }
        for body in [
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a/>",
            "<?xml version='1.0' encoding='utf-16'?><a/>",
            "<?xml version='1.0' encoding='utf-8x'?><a/>",
            "<?xml version='1.0' encoding=''?><a/>",
            "<?xml encoding='latin1' version='1.0'?><a/>",
            "<?xml\nencoding\t=\r\n\"windows-1252\"?><a/>",
            "\u{feff}<?xml version='1.0' encoding='latin1'?><a/>",
            "\n <?xml version='1.0' encoding='latin1'?><a/>",
            "<?xml version='1.0' encoding='latin1",
            "<?xml version='encoding' encoding='latin1'?><a/>",
            &format!("<?xml version='1.0'{}encoding='latin1'?><a/>", " ".repeat(5_000)),
        ] {
            assert!(is_refused_for_its_charset(body.as_bytes()), "{body}");
        }
        let utf16 = |order: fn(u16) -> [u8; 2], text: &str| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        for text in ["\u{feff}<a/>", "<a/>", "\u{feff}\u{e9}"] {
            assert!(is_refused_for_its_charset(&utf16(u16::to_le_bytes, text)), "{text}");
            assert!(is_refused_for_its_charset(&utf16(u16::to_be_bytes, text)), "{text}");
        }
        for wide in [&[0xff, 0xfe, 0, 0, b'<', 0, 0, 0][..], &[b'<', 0, 0, 0], &[0, 0, 0, b'<']] {
            assert!(is_refused_for_its_charset(wide), "{wide:?}");
        }
    }

    proptest! {
        #[test]
        fn an_xml_declaration_is_understood_however_it_is_written(
            mark in "\u{feff}?",
            white in "[ \t\r\n]{1,3}",
            around in "[ \t\r\n]{0,2}",
            quote in "[\"']",
            encoding in "([uU][tT][fF]-8)|[a-zA-Z][a-zA-Z0-9._-]{0,12}",
            rest in "( standalone='yes')?",
        ) {
            let body = format!(
                "{mark}<?xml{white}version='1.0'{white}encoding{around}={around}{quote}{encoding}{quote}{rest}?><a/>"
            );
            prop_assert_eq!(is_refused_for_its_charset(body.as_bytes()), !encoding.eq_ignore_ascii_case("utf-8"));
        }

        #[test]
        fn no_bytes_make_the_check_fail(bytes: Vec<u8>, declared in "[ encoding='\"=<?>x]{0,40}") {
            let _ = is_refused_for_its_charset(&bytes);
            let _ = is_refused_for_its_charset(format!("<?xml {declared}").as_bytes());
        }
    }

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
