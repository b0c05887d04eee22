//! Bodies that carry events.

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use crate::http::format::body::{BodyError, EventsFormat, Text, text};
use crate::http::format::json::{IndentError, indent, push_string, tree};
use crate::http::format::xml::from_json::push_json;
use crate::http::format::xml::{close, open, push_element, push_text};
use crate::http::limits::MAX_PAYLOAD_AS_XML_BYTES;
use crate::streams::events::{CheckedEvents, ProposedEvent};
use crate::streams::limits::{MAX_EVENT_BYTES, MAX_EVENT_TYPE_BYTES, MAX_EVENTS_PER_APPEND};

/// An array of events. The same events are read from what they are written as, and accepted as XML.
pub(crate) fn json(input: &[u8]) -> Option<()> {
    let events = EventsFormat::JsonArray.parse(Bytes::copy_from_slice(input)).ok()?;
    check(&events);
    is_read_again(&events);
    is_accepted_as_xml(&events);
    Some(())
}

/// A list of events in XML, which is the same list in JSON; and the data of one event.
pub(crate) fn xml(input: &[u8]) -> Option<()> {
    let event = ProposedEvent { id: Some(Uuid::from_u128(1)), event_type: Some("t".into()), ..Default::default() };
    let one = EventsFormat::One { event, text: Some(Text::Xml) }.parse(Bytes::copy_from_slice(input));
    let list = EventsFormat::XmlList.parse(Bytes::copy_from_slice(input));
    match &one {
        Ok(one) => assert_eq!(one.as_slice()[0].data, text(input).as_bytes()),
        Err(error) => assert_eq!((error, list.as_ref()), (&BodyError::Charset, Err(&BodyError::Charset))),
    }
    let events = list.ok()?;
    check(&events);
    is_read_again(&events);
    Some(())
}

/// What every list of events keeps to that was accepted.
fn check(events: &CheckedEvents) {
    assert!((1..=MAX_EVENTS_PER_APPEND).contains(&events.as_slice().len()));
    for event in events.as_slice() {
        assert!(Uuid::from_slice(&event.event_id).is_ok_and(|id| !id.is_nil()));
        assert!((1..=MAX_EVENT_TYPE_BYTES).contains(&event.event_type.len()));
        assert!(event.data.len() + event.metadata.len() <= MAX_EVENT_BYTES);
        for payload in [&event.data, &event.metadata] {
            let written = as_json(payload);
            assert!(event.is_json || written.is_none(), "JSON that does not count as such");
            // JSON is stored in one form only.
            assert!(written.is_none_or(|written| written == payload[..]), "{}", text(payload));
        }
    }
}

/// A payload that is an object or an array, as it is stored.
fn as_json(payload: &[u8]) -> Option<Vec<u8>> {
    let text = text(payload);
    let is_json = text.trim_start().starts_with(['{', '[']);
    match indent(&text) {
        Ok(written) if is_json => Some(written),
        Ok(_) | Err(IndentError::NotJson | IndentError::TooDeep | IndentError::TooLarge) => None,
    }
}

/// Writes the events as an array, which has to be read as the same events.
fn is_read_again(events: &CheckedEvents) {
    let mut body = b"[".to_vec();
    for (at, event) in events.as_slice().iter().enumerate() {
        let NewEvent { event_id, event_type, data, metadata, .. } = event;
        let id = Uuid::from_slice(event_id).unwrap_or_default();
        body.extend_from_slice(if at > 0 { b"," } else { b"" });
        body.extend_from_slice(format!("{{\"eventId\":\"{id}\",\"eventType\":").as_bytes());
        push_string(&mut body, event_type);
        for (name, payload) in [("data", data), ("metadata", metadata)] {
            body.extend_from_slice(format!(",\"{name}\":").as_bytes());
            match as_json(payload) {
                Some(json) => body.extend_from_slice(&json),
                None => push_string(&mut body, &text(payload)),
            }
        }
        body.push(b'}');
    }
    body.push(b']');
    let again = EventsFormat::JsonArray.parse(body.into());
    assert_eq!(again.as_ref(), Ok(events));
}

/// Writes the events as they are shown in XML, which has to be accepted as a list of events with
/// the same ids and types.
fn is_accepted_as_xml(events: &CheckedEvents) {
    let mut body = Vec::new();
    open(&mut body, "events", "");
    for event in events.as_slice() {
        open(&mut body, "event", "");
        push_element(&mut body, "eventId", &Uuid::from_slice(&event.event_id).unwrap_or_default().to_string());
        push_element(&mut body, "eventType", &event.event_type);
        for (name, payload) in [("data", &event.data), ("metadata", &event.metadata)] {
            let text = text(payload);
            let limit = body.len() + MAX_PAYLOAD_AS_XML_BYTES;
            let value = as_json(payload).and_then(|_| tree::parse(&text));
            // Elements of the document are counted with those of the payload.
            let value = value.filter(|_| depth(&text) < 100);
            if value.is_none_or(|value| push_json(&mut body, name, "", &value, limit).is_err()) {
                open(&mut body, name, "");
                push_text(&mut body, &text);
                close(&mut body, name);
            }
        }
        close(&mut body, "event");
    }
    close(&mut body, "events");
    let text = String::from_utf8_lossy(&body).into_owned();
    let again = match EventsFormat::XmlList.parse(body.into()) {
        Ok(again) => again,
        // XML takes more bytes than JSON.
        Err(BodyError::Event(_) | BodyError::TooLarge) => return,
        Err(error) => panic!("{error}: {text}"),
    };
    let shown = |event_type: &str| event_type.replace(|c| c < ' ' && !"\t\r\n".contains(c), "\u{fffd}");
    let shown = |event_type: &str| shown(event_type).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    assert_eq!(again.as_slice().len(), events.as_slice().len());
    for (event, again) in events.as_slice().iter().zip(again.as_slice()) {
        assert_eq!(again.event_id, event.event_id);
        assert_eq!(again.event_type, shown(&event.event_type));
    }
}

/// No value of the text is nested more deeply.
pub(super) fn depth(text: &str) -> usize {
    text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count()
}
