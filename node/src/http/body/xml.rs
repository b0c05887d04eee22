//! An XML list of events (contract/streams 6.5): each child of the root is one event.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use headwater_proto::stored::NewEvent;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{BodyError, Draft, Events, Payload, parse_guid};
use crate::http::json::{push_indent, push_string};
use crate::http::limits::{MAX_INDENTED_BYTES, MAX_NESTING, MAX_XML_NODES};
use crate::http::xml::member_of;

/// An element with everything in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    nodes: Vec<Node>,
    /// Written as `<name/>`.
    is_self_closing: bool,
}

#[derive(Debug)]
enum Node {
    Element(Element),
    /// Text between two tags; never empty.
    Text(String),
}

impl Element {
    fn children(self) -> impl Iterator<Item = Element> {
        self.nodes.into_iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The text of an element that has nothing else, `None` when it has. White space alone is layout.
    fn only_text(&self) -> Option<&str> {
        match &self.nodes[..] {
            _ if !self.attributes.is_empty() => None,
            [] => Some(""),
            [Node::Text(text)] if text.trim().is_empty() => Some(""),
            [Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    fn push_text(&mut self, more: &str) {
        match self.nodes.last_mut() {
            Some(Node::Text(text)) => text.push_str(more),
            _ if more.is_empty() => {}
            _ => self.nodes.push(Node::Text(more.to_owned())),
        }
    }
}

/// Reads the events of a body.
pub fn parse_events(body: &str) -> Result<Vec<NewEvent>, BodyError> {
    parse(body)?.finish()
}

fn draft(event: Element) -> Result<Draft, BodyError> {
    let mut draft = Draft::default();
    for part in event.children() {
        if part.name.eq_ignore_ascii_case("eventId") {
            let text = part.only_text().ok_or(BodyError::Invalid)?.trim();
            draft.id = if text.is_empty() { None } else { Some(parse_guid(text).ok_or(BodyError::Invalid)?) };
        } else if part.name.eq_ignore_ascii_case("eventType") {
            draft.event_type = Some(part.only_text().ok_or(BodyError::Invalid)?.to_owned());
        } else if part.name.eq_ignore_ascii_case("data") {
            draft.data = payload(&part)?;
        } else if part.name.eq_ignore_ascii_case("metadata") {
            draft.metadata = payload(&part)?;
        }
    }
    Ok(draft)
}

fn payload(element: &Element) -> Result<Payload, BodyError> {
    if let Some(text) = element.only_text() {
        return Payload::from_text(text);
    }
    let mut json = Vec::new();
    push_value(&mut json, element, 0)?;
    Ok(Payload { bytes: json.into(), is_json: true })
}

/// A member of the object that an element becomes.
#[derive(Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Element(&'a Element),
}

/// Appends the element's content as a JSON value. Indentation makes deep lists many times longer, hence the limit.
fn push_value(out: &mut Vec<u8>, element: &Element, indent: usize) -> Result<(), BodyError> {
    if out.len() > MAX_INDENTED_BYTES {
        return Err(BodyError::EventTooLarge);
    }
    match element.only_text() {
        Some(_) if element.is_self_closing => {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        Some(text) => {
            push_string(out, text);
            return Ok(());
        }
        None => {}
    }
    for (at, (name, values)) in members(element).iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"{\n" } else { b",\n" });
        push_indent(out, indent + 2);
        push_string(out, name);
        out.extend_from_slice(b": ");
        match values[..] {
            [one] => push_member(out, one, indent + 2)?,
            _ => push_array(out, values, indent + 2)?,
        }
    }
    out.push(b'\n');
    push_indent(out, indent);
    out.push(b'}');
    Ok(())
}

fn push_member(out: &mut Vec<u8>, value: Value<'_>, indent: usize) -> Result<(), BodyError> {
    match value {
        Value::Text(text) => push_string(out, text),
        Value::Element(element) => push_value(out, element, indent)?,
    }
    Ok(())
}

/// Attributes, then elements and texts by name, in the order in which each name first appears.
fn members(element: &Element) -> Vec<(String, Vec<Value<'_>>)> {
    let attributes = element.attributes.iter();
    let mut members: Vec<(String, Vec<Value<'_>>)> =
        attributes.map(|(name, value)| (format!("@{}", member_of(name)), vec![Value::Text(value)])).collect();
    let mut places = HashMap::new();
    for node in &element.nodes {
        let (name, value) = match node {
            // White space between elements is layout.
            Node::Text(text) if text.trim().is_empty() => continue,
            Node::Text(text) => (Cow::Borrowed("#text"), Value::Text(text)),
            Node::Element(child) => (member_of(&child.name), Value::Element(child)),
        };
        let place = *places.entry(name.clone()).or_insert_with(|| {
            members.push((name.into_owned(), Vec::new()));
            members.len() - 1
        });
        members[place].1.push(value);
    }
    members
}

fn push_array(out: &mut Vec<u8>, values: &[Value<'_>], indent: usize) -> Result<(), BodyError> {
    out.push(b'[');
    for (at, value) in values.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\n" } else { b",\n" });
        push_indent(out, indent + 2);
        push_member(out, *value, indent + 2)?;
    }
    out.push(b'\n');
    push_indent(out, indent);
    out.push(b']');
    Ok(())
}

/// The events of one well-formed element within the limits. Each is read as soon as it ends, so that only one stands in memory as a tree.
fn parse(body: &str) -> Result<Events, BodyError> {
    let mut reader = Reader::from_str(body);
    let mut events = Events::default();
    let mut open: Vec<Element> = Vec::new();
    let (mut is_closed, mut nodes) = (false, 0);
    loop {
        let closed = match reader.read_event().map_err(|_| BodyError::Invalid)? {
            Event::Start(start) => {
                if open.len() >= MAX_NESTING || is_closed {
                    return Err(BodyError::Invalid);
                }
                let element = element(&start).ok_or(BodyError::Invalid)?;
                nodes += 1 + element.attributes.len();
                open.push(element);
                continue;
            }
            Event::Empty(start) => {
                let element = element(&start).ok_or(BodyError::Invalid)?;
                nodes += 1 + element.attributes.len();
                Element { is_self_closing: true, ..element }
            }
            // The reader has checked that the name fits.
            Event::End(_) => open.pop().ok_or(BodyError::Invalid)?,
            Event::Eof if open.is_empty() && is_closed => return Ok(events),
            Event::Eof => return Err(BodyError::Invalid),
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => continue,
            other => {
                let text = text(&other).ok_or(BodyError::Invalid)?;
                match open.last_mut() {
                    Some(parent) => parent.push_text(&text),
                    None if text.trim().is_empty() && matches!(other, Event::Text(_)) => {}
                    None => return Err(BodyError::Invalid),
                }
                continue;
            }
        };
        if nodes > MAX_XML_NODES {
            return Err(BodyError::EventTooLarge);
        }
        match &mut open[..] {
            [] if is_closed => return Err(BodyError::Invalid),
            [] => is_closed = true,
            [root] => {
                events.push(draft(closed)?)?;
                (root.nodes, nodes) = (Vec::new(), 0);
            }
            [.., parent] => parent.nodes.push(Node::Element(closed)),
        }
    }
}

/// The text that this part of a document stands for.
fn text<'body>(event: &Event<'body>) -> Option<Cow<'body, str>> {
    match event {
        Event::Text(text) => text.decode().ok(),
        Event::CData(text) => text.decode().ok(),
        Event::GeneralRef(reference) => {
            let c = match reference.resolve_char_ref().ok()? {
                Some(c) => c,
                None => predefined(&reference.decode().ok()?)?,
            };
            Some(Cow::Owned(c.to_string()))
        }
        _ => None,
    }
}

/// An element as it begins; `None` when it is not well-formed or has too many attributes.
fn element(start: &BytesStart<'_>) -> Option<Element> {
    let name = std::str::from_utf8(start.name().as_ref()).ok()?.to_owned();
    let mut attributes = Vec::new();
    let mut names = HashSet::new();
    // The reader's own check for doubled names compares each name with all others.
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.ok()?;
        if !names.insert(attribute.key.into_inner()) || names.len() > MAX_XML_NODES {
            return None;
        }
        let name = std::str::from_utf8(attribute.key.as_ref()).ok()?.to_owned();
        attributes.push((name, attribute.unescape_value().ok()?.into_owned()));
    }
    Some(Element { name, attributes, ..Element::default() })
}

fn predefined(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::json::tree;
    use crate::http::limits::MAX_EVENTS_PER_REQUEST;
    use crate::http::xml::push_json;

    const ID: &str = "48b5f36d-1bb1-5326-9f65-406bc3ab6435";

    fn one(parts: &str) -> NewEvent {
        let body = format!("<Events><Event><EventId>{ID}</EventId><EventType>xt</EventType>{parts}</Event></Events>");
        parse_events(&body).unwrap().remove(0)
    }

    fn data(content: &str) -> String {
        String::from_utf8(one(&format!("<Data>{content}</Data>")).data.to_vec()).unwrap()
    }

    #[test]
    fn elements_become_members_with_string_values() {
        assert_eq!(
            data(r#"<a>1</a><b at="q">txt</b>"#),
            "{\n  \"a\": \"1\",\n  \"b\": {\n    \"@at\": \"q\",\n    \"#text\": \"txt\"\n  }\n}"
        );
        assert_eq!(
            data("<a>1</a><c/><a>2 &amp; &#x41;</a><d></d>"),
            "{\n  \"a\": [\n    \"1\",\n    \"2 & A\"\n  ],\n  \"c\": null,\n  \"d\": \"\"\n}"
        );
        assert_eq!(data("<_x0024_a>1</_x0024_a>"), "{\n  \"$a\": \"1\"\n}");
    }

    #[test]
    fn mixed_text_stands_where_it_first_appears() {
        assert_eq!(
            data("<c/>\n one <d>2</d> three <!-- here --> four <c>5</c>\n"),
            "{\n  \"c\": [\n    null,\n    \"5\"\n  ],\n  \"#text\": [\n    \"\\n one \",\n    \" three  four \"\n  ],\n  \"d\": \"2\"\n}"
        );
        assert_eq!(data("<a> </a>"), "{\n  \"a\": \"\"\n}");
    }

    #[test]
    fn text_is_handled_like_a_json_string() {
        assert_eq!(data("5"), "5");
        assert_eq!(data("{\"x\":1}"), "{\n  \"x\": 1\n}");
        assert_eq!(data("<![CDATA[<a>]]>"), "<a>");
        assert_eq!(data("2012-04-23T18:25:43Z"), "2012-04-23T18:25:43Z");
        assert!(!one("<data>5</data>").is_json);
        assert!(!one("<data/>").is_json);
        assert_eq!(data(" \n "), "");
    }

    #[test]
    fn a_declaration_and_a_default_namespace_are_fine() {
        let body = format!(
            "<?xml version=\"1.0\"?>\n<e xmlns=\"urn:x\"><any><eventId>{ID}</eventId><eventType>t</eventType></any></e>\n"
        );
        assert_eq!(parse_events(&body).unwrap().len(), 1);
    }

    #[test]
    fn every_broken_body_has_its_message() {
        let deep = format!("{}{}", "<a>".repeat(1000), "</a>".repeat(1000));
        for body in [
            "",
            "x",
            "<events><event>",
            "<events></events>",
            "<events/>",
            "<a></b>",
            "<a/><b/>",
            "<a>&nope;</a>",
            "<e><v a=\"1\" a=\"2\"/></e>",
            &deep,
        ] {
            assert_eq!(parse_events(body), Err(BodyError::Invalid), "{body}");
        }
        assert_eq!(
            parse_events("<e><v><eventId>nope</eventId><eventType>t</eventType></v></e>"),
            Err(BodyError::Invalid)
        );
        assert_eq!(parse_events("<e><v><eventType>t</eventType></v></e>"), Err(BodyError::EmptyId));
        assert_eq!(parse_events(&format!("<e><v eventId=\"{ID}\"/></e>")), Err(BodyError::EmptyId));
        assert_eq!(parse_events(&format!("<e><v><eventId>{ID}</eventId></v></e>")), Err(BodyError::EmptyType));
    }

    #[test]
    fn what_grows_beyond_an_event_is_refused_before_it_does() {
        let event =
            |data: &str| format!("<e><v><eventId>{ID}</eventId><eventType>t</eventType><data>{data}</data></v></e>");
        let deep = format!("{}{}{}", "<a>".repeat(120), "<b/>".repeat(400_000), "</a>".repeat(120));
        assert_eq!(parse_events(&event(&deep)), Err(BodyError::EventTooLarge));
        assert_eq!(parse_events(&event(&"<b/>".repeat(MAX_XML_NODES))), Err(BodyError::EventTooLarge));
        assert_eq!(parse_events(&event(&"<b/>".repeat(100))).map(|events| events.len()), Ok(1));
        let many = "<v/>".repeat(MAX_EVENTS_PER_REQUEST + 1);
        assert_eq!(parse_events(&format!("<e>{many}</e>")), Err(BodyError::TooManyEvents));
    }

    #[test]
    fn very_many_attributes_are_read_at_once() {
        let attributes: String = (0..200_000).map(|n| format!(" a{n}=\"\"")).collect();
        let started = std::time::Instant::now();
        assert!(one(&format!("<data><d{attributes}/></data>")).is_json);
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }

    /// JSON that XML can say: objects with members, lists of two and more, text that is not layout.
    fn any_object() -> impl Strategy<Value = serde_json::Value> {
        let text = "[^\\pC]{0,12}".prop_filter("layout", |text| text.is_empty() || !text.trim().is_empty());
        let leaf = text.prop_map(serde_json::Value::from).boxed();
        let object = |value: BoxedStrategy<serde_json::Value>| {
            let list = proptest::collection::vec(value.clone(), 2..4).prop_map(serde_json::Value::from);
            let name = "[^\\pC@#]{1,6}";
            proptest::collection::btree_map(name, prop_oneof![value, list], 1..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
                .boxed()
        };
        let inner = object(leaf.clone());
        object(prop_oneof![leaf, inner].boxed())
    }

    proptest! {
        #[test]
        fn json_written_as_xml_is_read_as_the_same_json(value in any_object()) {
            let text = value.to_string();
            let mut xml = Vec::new();
            push_json(&mut xml, "data", "", &tree::parse(&text).unwrap(), usize::MAX).unwrap();
            let event = one(&String::from_utf8(xml).unwrap());
            prop_assert!(event.is_json);
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&event.data).unwrap(), value);
        }
    }
}
