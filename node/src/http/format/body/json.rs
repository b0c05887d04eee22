//! A JSON array of `{eventId, eventType, data, metadata}` (contract/streams 6.3, 6.4).

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{BodyError, Draft, Payload, parse_guid};
use crate::http::format::json::tree::Text;
use crate::streams::events::{CheckedEvents, EventCollector, EventError};
use crate::streams::limits::MAX_EVENTS_PER_APPEND;

/// Reads the events of a body.
pub(crate) fn parse_events(body: &str) -> Result<CheckedEvents, BodyError> {
    let mut events = EventCollector::default();
    for members in elements(body)? {
        events.push(members.draft()?.into())?;
    }
    Ok(events.finish()?)
}

/// The elements of the array, no more than an append may have.
fn elements(body: &str) -> Result<Vec<Members<'_>>, BodyError> {
    let mut json = serde_json::Deserializer::from_str(body);
    let mut elements = Elements { found: Vec::new(), are_too_many: false };
    let read = elements.deserialize(&mut json).and_then(|()| json.end());
    match read {
        _ if elements.are_too_many => Err(EventError::TooMany.into()),
        Err(_) => Err(BodyError::Invalid),
        Ok(()) => Ok(elements.found),
    }
}

/// Collects the elements of an array. It ends at the first one too many, because a body has room
/// for millions.
struct Elements<'text> {
    found: Vec<Members<'text>>,
    are_too_many: bool,
}

impl<'de> DeserializeSeed<'de> for &mut Elements<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Elements<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(members) = array.next_element()? {
            if self.found.len() == MAX_EVENTS_PER_APPEND {
                self.are_too_many = true;
                return Err(A::Error::custom("too many events"));
            }
            self.found.push(members);
        }
        Ok(())
    }
}

/// The members of an element that mean something, as text. Of one that comes twice the last counts;
/// others are not kept.
#[derive(Default)]
struct Members<'text> {
    id: Option<&'text RawValue>,
    event_type: Option<&'text RawValue>,
    data: Option<&'text RawValue>,
    metadata: Option<&'text RawValue>,
}

impl<'text> Members<'text> {
    fn place(&mut self, name: &str) -> Option<&mut Option<&'text RawValue>> {
        if name.eq_ignore_ascii_case("eventId") {
            Some(&mut self.id)
        } else if name.eq_ignore_ascii_case("eventType") {
            Some(&mut self.event_type)
        } else if name.eq_ignore_ascii_case("data") {
            Some(&mut self.data)
        } else if name.eq_ignore_ascii_case("metadata") {
            Some(&mut self.metadata)
        } else {
            None
        }
    }

    fn draft(self) -> Result<Draft, BodyError> {
        Ok(Draft {
            id: self.id.map_or(Ok(None), |value| id(value.get()))?,
            event_type: self.event_type.map_or(Ok(None), |value| event_type(value.get()))?,
            data: self.data.map_or(Ok(Payload::default()), payload)?,
            metadata: self.metadata.map_or(Ok(Payload::default()), payload)?,
        })
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
                    match members.place(&name) {
                        Some(place) => *place = Some(map.next_value()?),
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
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
    use headwater_proto::stored::NewEvent;

    use super::*;

    const ID: &str = "4de092c3-1867-5d51-87af-522878b5ce9c";

    fn first(body: &str) -> NewEvent {
        parse_events(body).unwrap().as_slice()[0].clone()
    }

    fn one(members: &str) -> NewEvent {
        let body = format!(r#"[{{"eventId":"{ID}","eventType":"t",{members}}}]"#);
        first(&body)
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
        let event = first(&body);
        assert_eq!((event.event_type.as_str(), &event.data[..]), ("7", &b"{}"[..]));
    }

    #[test]
    fn every_broken_body_has_its_message() {
        let id = format!(r#""eventId":"{ID}""#);
        for (body, error) in [
            (String::new(), BodyError::Invalid),
            ("  ".into(), BodyError::Invalid),
            ("[]".into(), BodyError::Event(EventError::NoEvents)),
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
            (r#"[{"eventType":"t"}]"#.into(), BodyError::Event(EventError::EmptyId)),
            (r#"[{"eventId":null,"eventType":"t"}]"#.into(), BodyError::Event(EventError::EmptyId)),
            (
                r#"[{"eventId":"00000000-0000-0000-0000-000000000000","eventType":"t"}]"#.into(),
                BodyError::Event(EventError::EmptyId),
            ),
            (format!("[{{{id}}}]"), BodyError::Event(EventError::EmptyType)),
            (format!(r#"[{{{id},"eventType":""}}]"#), BodyError::Event(EventError::EmptyType)),
            (format!(r#"[{{{id},"eventType":null}}]"#), BodyError::Event(EventError::EmptyType)),
        ] {
            assert_eq!(parse_events(&body), Err(error), "{body}");
        }
    }

    #[test]
    fn the_last_of_members_with_one_name_counts() {
        let event = one(r#""eventtype":"u","data":{"a":1},"DATA":"text","eventId":"nope","other":1,"other":2"#
            .replace("nope", ID)
            .as_str());
        assert_eq!((event.event_type.as_str(), &event.data[..]), ("u", &b"text"[..]));
    }

    #[test]
    fn one_event_too_many_ends_the_reading() {
        let many = |count: usize| format!("[{}", "{},".repeat(count));
        assert_eq!(parse_events(&many(MAX_EVENTS_PER_APPEND + 1)), Err(BodyError::Event(EventError::TooMany)));
        assert_eq!(parse_events(&many(MAX_EVENTS_PER_APPEND)), Err(BodyError::Invalid));
        let body = many(MAX_EVENTS_PER_APPEND - 1) + "{}]";
        assert_eq!(parse_events(&body), Err(BodyError::Event(EventError::EmptyId)));
    }

    #[test]
    fn events_that_outgrow_an_append_are_refused_before_they_do() {
        // One of 4 KiB becomes one of nearly 1 MiB.
        let deep = format!("{}{}{}", "[".repeat(120), ["1"; 2_000].join(","), "]".repeat(120));
        let event = format!(r#"{{"eventId":"{ID}","eventType":"t","data":{deep}}}"#);
        assert!(parse_events(&format!("[{event}]")).is_ok());
        let body = format!("[{}]", vec![event; 1_000].join(","));
        assert_eq!(parse_events(&body), Err(BodyError::Event(EventError::AllTooLarge)));
    }

    #[test]
    fn an_event_of_exactly_four_mebibytes_is_accepted_and_one_more_byte_is_not() {
        let body = |bytes: usize| format!(r#"[{{"eventId":"{ID}","eventType":"t","data":"{}"}}]"#, "y".repeat(bytes));
        assert!(parse_events(&body(4_194_304)).is_ok());
        assert_eq!(parse_events(&body(4_194_305)), Err(BodyError::Event(EventError::TooLarge)));
        assert_eq!(parse_events(&body(16 << 20)), Err(BodyError::Event(EventError::RecordTooLarge)));
    }
}
