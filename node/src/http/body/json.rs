//! A JSON array of `{eventId, eventType, data, metadata}` (contract/streams 6.3, 6.4).

use headwater_proto::stored::NewEvent;
use serde_json::value::RawValue;

use super::{BodyError, Draft, Payload, finish, parse_guid};
use crate::http::json::tree::{Members, Text};
use crate::http::limits::MAX_EVENTS_PER_REQUEST;

/// Reads the events of a body.
pub fn parse_events(body: &str) -> Result<Vec<NewEvent>, BodyError> {
    let elements: Vec<Members<'_>> = serde_json::from_str(body).map_err(|_| BodyError::Invalid)?;
    if elements.len() > MAX_EVENTS_PER_REQUEST {
        return Err(BodyError::TooManyEvents);
    }
    let drafts = elements.into_iter().map(draft).collect::<Result<_, _>>()?;
    finish(drafts)
}

fn draft(Members(members): Members<'_>) -> Result<Draft, BodyError> {
    let mut draft = Draft::default();
    for (name, value) in members {
        if name.eq_ignore_ascii_case("eventId") {
            draft.id = id(value.get())?;
        } else if name.eq_ignore_ascii_case("eventType") {
            draft.event_type = event_type(value.get())?;
        } else if name.eq_ignore_ascii_case("data") {
            draft.data = payload(value)?;
        } else if name.eq_ignore_ascii_case("metadata") {
            draft.metadata = payload(value)?;
        }
    }
    Ok(draft)
}

fn id(value: &str) -> Result<Option<uuid::Uuid>, BodyError> {
    if value == "null" {
        return Ok(None);
    }
    parse_guid(&string(value)?).map(Some).ok_or(BodyError::Invalid)
}

fn event_type(value: &str) -> Result<Option<String>, BodyError> {
    match value.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => string(value).map(|text| Some(text.into_owned())),
        Some(b'{' | b'[') | None => Err(BodyError::Invalid),
        Some(_) => Ok(Some(value.to_owned())),
    }
}

fn payload(value: &RawValue) -> Result<Payload, BodyError> {
    match value.get().as_bytes().first() {
        Some(b'{' | b'[') => Payload::from_json(value),
        Some(b'"') => Payload::from_text(&string(value.get())?),
        // Numbers, true, false and null have always been lost here.
        _ => Ok(Payload::default()),
    }
}

fn string(value: &str) -> Result<std::borrow::Cow<'_, str>, BodyError> {
    serde_json::from_str::<Text<'_>>(value).map(|Text(text)| text).map_err(|_| BodyError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4de092c3-1867-5d51-87af-522878b5ce9c";

    fn one(members: &str) -> NewEvent {
        let body = format!(r#"[{{"eventId":"{ID}","eventType":"t",{members}}}]"#);
        parse_events(&body).unwrap().remove(0)
    }

    #[test]
    fn objects_and_arrays_are_stored_re_indented() {
        let event = one(r#""data":{"b":1,  "a":2},"metadata":[1]"#);
        assert_eq!((&event.data[..], &event.metadata[..]), (&b"{\n  \"b\": 1,\n  \"a\": 2\n}"[..], &b"[\n  1\n]"[..]));
        assert!(event.is_json);
        assert_eq!(event.event_id.len(), 16);
    }

    #[test]
    fn strings_are_stored_as_text_unless_they_hold_json() {
        let event = one(r#""data":"plain \"text\"""#);
        assert_eq!((&event.data[..], event.is_json), (&b"plain \"text\""[..], false));
        let event = one(r#""data":"{\"x\": 1}""#);
        assert_eq!((&event.data[..], event.is_json), (&b"{\n  \"x\": 1\n}"[..], true));
        let event = one(r#""data":"{nope""#);
        assert_eq!((&event.data[..], event.is_json), (&b"{nope"[..], false));
        let event = one(r#""data":"text","metadata":{"m":1}"#);
        assert_eq!((&event.data[..], event.is_json), (&b"text"[..], true));
    }

    #[test]
    fn scalars_are_lost() {
        for scalar in ["42", "true", "null", "1.5"] {
            let event = one(&format!(r#""data":{scalar}"#));
            assert_eq!((event.data.len(), event.is_json), (0, false));
        }
    }

    #[test]
    fn names_match_in_any_case_and_unknown_ones_are_ignored() {
        let body = format!(r#"[{{"EVENTID":"{{{ID}}}","EventType":7,"Data":{{}},"zzz":[]}}]"#);
        let event = parse_events(&body).unwrap().remove(0);
        assert_eq!((event.event_type.as_str(), &event.data[..]), ("7", &b"{}"[..]));
    }

    #[test]
    fn every_broken_body_has_its_message() {
        let id = format!(r#""eventId":"{ID}""#);
        for (body, error) in [
            (String::new(), BodyError::Invalid),
            ("  ".into(), BodyError::Invalid),
            ("[]".into(), BodyError::Invalid),
            ("{}".into(), BodyError::Invalid),
            ("null".into(), BodyError::Invalid),
            ("[null]".into(), BodyError::Invalid),
            ("[1]".into(), BodyError::Invalid),
            ("[{\"eventId\": ".into(), BodyError::Invalid),
            (format!(r#"[{{{id},"eventType":"t"}}] xx"#), BodyError::Invalid),
            (format!("\u{feff}[{{{id},\"eventType\":\"t\"}}]"), BodyError::Invalid),
            (r#"[{"eventId":"not-a-guid","eventType":"t"}]"#.into(), BodyError::Invalid),
            (r#"[{"eventId":12,"eventType":"t"}]"#.into(), BodyError::Invalid),
            (format!(r#"[{{"eventType":"t"}},{{"eventId":"bad","eventType":"t"}}, {{{id}}}]"#), BodyError::Invalid),
            (r#"[{"eventType":"t"}]"#.into(), BodyError::EmptyId),
            (r#"[{"eventId":null,"eventType":"t"}]"#.into(), BodyError::EmptyId),
            (r#"[{"eventId":"00000000-0000-0000-0000-000000000000","eventType":"t"}]"#.into(), BodyError::EmptyId),
            (format!("[{{{id}}}]"), BodyError::EmptyType),
            (format!(r#"[{{{id},"eventType":""}}]"#), BodyError::EmptyType),
            (format!(r#"[{{{id},"eventType":null}}]"#), BodyError::EmptyType),
        ] {
            assert_eq!(parse_events(&body), Err(error), "{body}");
        }
    }

    #[test]
    fn an_event_of_exactly_four_mebibytes_is_accepted_and_one_more_byte_is_not() {
        let body = |bytes: usize| format!(r#"[{{"eventId":"{ID}","eventType":"t","data":"{}"}}]"#, "y".repeat(bytes));
        assert!(parse_events(&body(4_194_304)).is_ok());
        assert_eq!(parse_events(&body(4_194_305)), Err(BodyError::EventTooLarge));
        assert_eq!(parse_events(&body(16 << 20)), Err(BodyError::RecordTooLarge));
    }
}
