//! Events as they are shown: pages, entries and live events in each notation.

use serde::de::IgnoredAny;
use uuid::Uuid;

use super::bodies::depth;
use crate::event::resolved::LinkTarget;
use crate::event::{EventRef, MAX_NUMBER, RecordedEvent, ResolvedEvent, Ticks};
use crate::http::format::atom::{self, Embed, Feed, FeedWriter, Format, Notation};
use crate::http::format::body::text;
use crate::http::format::html;
use crate::http::format::json::tree::Members;
use crate::http::format::json::{indent, indent_value};
use crate::http::format::links::Base;
use crate::http::format::sse;
use crate::http::format::xml::document::{Part, XmlDocument};
use crate::http::format::xml::error::DocumentError;
use crate::http::limits::MAX_NESTING;

const EMBEDS: [Embed; 6] = [Embed::None, Embed::Content, Embed::Rich, Embed::Body, Embed::Pretty, Embed::TryHarder];

/// An event, put together from the input: a byte of properties, eight of a number, and then its
/// stream, type, metadata and data, which the byte 0xfe ends.
pub(crate) fn rendered(input: &[u8]) -> Option<()> {
    let (&properties, rest) = input.split_first()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    let mut fields = rest.splitn(4, |byte| *byte == 0xfe);
    let mut field = || fields.next().unwrap_or_default();
    let (stream, event_type, metadata, data) = (field(), field(), field(), field());
    let event = RecordedEvent {
        position: number & MAX_NUMBER,
        stream: text(stream).into_owned(),
        number: number & MAX_NUMBER,
        event_id: Uuid::from_u64_pair(number, number),
        event_type: text(event_type).into_owned(),
        is_json: properties & 1 != 0,
        time: Ticks(number),
        data: data.to_vec().into(),
        metadata: metadata.to_vec().into(),
    };
    let target = match properties >> 1 & 3 {
        0 | 1 => LinkTarget::NotFollowed,
        2 => LinkTarget::Event(RecordedEvent { metadata: Default::default(), ..event.clone() }),
        _ => LinkTarget::Dangling { number: event.number, stream: event.stream.clone() },
    };
    alone(event.borrowed());
    in_feeds(&ResolvedEvent { original: event, target });
    Some(())
}

/// The event as a document of its own, in JSON and in XML, which agree.
fn alone(event: EventRef<'_>) {
    let json = atom::json::event(event);
    let Members(members) = serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{error}: {}", text(&json)));
    let member = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, value)| value.get());
    let string = |name: &str| member(name).and_then(|value| serde_json::from_str::<String>(value).ok());
    assert_eq!(string("eventStreamId").as_deref(), Some(event.stream));
    assert_eq!(string("eventType").as_deref(), Some(event.event_type));
    for (name, payload) in [("data", event.data), ("metadata", event.metadata)] {
        is_shown(event.is_json, payload, members.iter().find(|(known, _)| known == name).map(|(_, value)| *value));
    }
    is_json(&atom::json::data(event));
    let shown = leading_texts(&atom::xml::event(event), event);
    let expected = [event.stream.to_owned(), event.number.to_string(), event.event_type.to_owned()];
    if let Some(shown) = shown {
        assert_eq!(shown, expected.map(|text| as_xml_holds_it(&text)));
    }
    is_xml(&atom::xml::data(event), event);
}

/// The value of a payload in JSON: the JSON that it is, or a string.
fn is_shown(is_json: bool, payload: &[u8], value: Option<&serde_json::value::RawValue>) {
    let Some(value) = value else { panic!("a payload is not shown") };
    match serde_json::from_str::<String>(value.get()) {
        // A payload may itself be a string in JSON.
        Ok(string) => assert!(string == text(payload) || is_json, "{}", value.get()),
        Err(_) => assert!(is_json && indent_value(value).ok() == indent(&text(payload)).ok(), "{}", value.get()),
    }
}

/// The texts of the first three elements, and whether all of it is well-formed.
fn leading_texts(document: &[u8], event: EventRef<'_>) -> Option<[String; 3]> {
    is_xml(document, event);
    let written = text(document);
    let mut reader = XmlDocument::new(&written).ok()?;
    let mut texts: [String; 3] = Default::default();
    let mut element = 0;
    while let Ok(Some(part)) = reader.next_part() {
        match part {
            Part::Open(_) if reader.depth() == 2 => element += 1,
            Part::Text(text) if (1..=3).contains(&element) => texts[element - 1].push_str(&text),
            Part::Open(_) | Part::Text(_) | Part::Close => {}
        }
    }
    Some(texts)
}

/// XML has no place for some characters.
fn as_xml_holds_it(text: &str) -> String {
    let is_without_place =
        |c: char| (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}');
    text.replace(is_without_place, "\u{fffd}")
}

/// A document that the strict reader takes, unless the payload uses up what it takes.
fn is_xml(document: &[u8], event: EventRef<'_>) {
    let levels = depth(&text(event.data)).max(depth(&text(event.metadata)));
    if levels + 8 > MAX_NESTING {
        return;
    }
    let written = std::str::from_utf8(document).unwrap_or_else(|error| panic!("{error}"));
    let read = || {
        let mut reader = XmlDocument::new(written)?;
        while reader.next_part()?.is_some() {}
        Ok(())
    };
    assert!(matches!(read(), Ok(()) | Err(DocumentError::TooLarge)), "{written}");
}

fn is_json(document: &[u8]) {
    let read = std::str::from_utf8(document).map_err(|error| error.to_string());
    let read = read.and_then(|text| serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string()));
    assert!(read.is_ok(), "{read:?}: {}", text(document));
}

/// The event in feeds, as an entry and as a live event.
fn in_feeds(event: &ResolvedEvent) {
    let base = Base::of_request(&http::HeaderMap::new(), "http", None, "localhost:2113");
    let original = event.original.borrowed();
    let name = event.original.stream.clone();
    let feed = Feed {
        title: format!("Event stream '{name}'"),
        id: base.stream(&name),
        updated: Some(event.original.time),
        stream: Some(name.clone()),
        head_of_stream: true,
        has_self_url: true,
        tag: Some("0;1".to_owned()),
        links: vec![("self", base.stream(&name))],
    };
    for embed in EMBEDS {
        for notation in [Notation::Json, Notation::Xml, Notation::Html { stream: name.clone() }] {
            let format = Format { notation, embed, base: base.clone() };
            let mut out = Vec::new();
            let mut writer = FeedWriter::new(&format, false);
            writer.start(&mut out, &feed);
            writer.entry(&mut out, &event.borrowed());
            writer.entry(&mut out, &event.borrowed());
            writer.end(&mut out);
            match format.notation {
                Notation::Json => is_json(&out),
                Notation::Xml => is_xml(&out, original),
                Notation::Html { .. } => is_html(&out),
            }
        }
        let entry = atom::json::entry(&event.borrowed(), &base, embed);
        is_json(&entry);
        is_html(&html::page(&entry, &name, Some(event.original.number)));
        let mut live = Vec::new();
        sse::push_event(&mut live, "7", &event.borrowed(), &base, embed);
        is_one_live_event(&live);
    }
    is_xml(&atom::xml::entry(&event.borrowed(), &base), original);
}

/// The script holds nothing that would end it.
fn is_html(page: &[u8]) {
    let page = text(page);
    let script = page.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>"));
    let Some((script, rest)) = script else { panic!("{page}") };
    assert!(!script.contains(['<', '>', '&']), "{script}");
    assert_eq!(rest, "\n</head>\n<body></body>\n</html>\n");
}

/// Three fields of a line each: id, type and data, which is JSON.
fn is_one_live_event(live: &[u8]) {
    let live = text(live);
    assert!(!live.contains('\r'));
    let lines: Vec<&str> = live.split('\n').collect();
    let [id, event, data, "", ""] = lines[..] else { panic!("{live}") };
    assert!(id == "id: 7" && event.starts_with("event: "), "{live}");
    is_json(data.strip_prefix("data: ").unwrap_or_default().as_bytes());
}
