//! An XML list of events (contract/streams 6.5): each child of the root is one event.

use headwater_proto::stored::NewEvent;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{BodyError, Draft, Payload, finish, parse_guid};
use crate::http::json::{push_indent, push_string};
use crate::http::limits::MAX_NESTING;

/// An element with everything in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
    /// Written as `<name/>`.
    is_self_closing: bool,
}

/// Reads the events of a body.
pub fn parse_events(body: &str) -> Result<Vec<NewEvent>, BodyError> {
    let root = parse(body).ok_or(BodyError::Invalid)?;
    let drafts = root.children.into_iter().map(draft).collect::<Result<_, _>>()?;
    finish(drafts)
}

fn draft(event: Element) -> Result<Draft, BodyError> {
    let mut draft = Draft::default();
    for part in event.children {
        if part.name.eq_ignore_ascii_case("eventId") {
            let text = part.text.trim();
            draft.id = if text.is_empty() { None } else { Some(parse_guid(text).ok_or(BodyError::Invalid)?) };
        } else if part.name.eq_ignore_ascii_case("eventType") {
            draft.event_type = Some(part.text);
        } else if part.name.eq_ignore_ascii_case("data") {
            draft.data = payload(&part)?;
        } else if part.name.eq_ignore_ascii_case("metadata") {
            draft.metadata = payload(&part)?;
        }
    }
    Ok(draft)
}

fn payload(element: &Element) -> Result<Payload, BodyError> {
    if element.children.is_empty() && element.attributes.is_empty() {
        return Payload::from_text(&element.text);
    }
    let mut json = Vec::new();
    push_value(&mut json, element, 0);
    Ok(Payload { bytes: json.into(), is_json: true })
}

/// Appends the element's content as a JSON value.
fn push_value(out: &mut Vec<u8>, element: &Element, indent: usize) {
    if element.children.is_empty() && element.attributes.is_empty() {
        if element.is_self_closing {
            out.extend_from_slice(b"null");
        } else {
            push_string(out, &element.text);
        }
        return;
    }
    let mut is_first = true;
    let mut member = |out: &mut Vec<u8>, name: &str| {
        out.extend_from_slice(if is_first { b"{\n" } else { b",\n" });
        is_first = false;
        push_indent(out, indent + 2);
        push_string(out, name);
        out.extend_from_slice(b": ");
    };
    for (name, value) in &element.attributes {
        member(out, &format!("@{name}"));
        push_string(out, value);
    }
    if !element.text.trim().is_empty() {
        member(out, "#text");
        push_string(out, &element.text);
    }
    let mut groups: Vec<(&str, Vec<&Element>)> = Vec::new();
    let mut group_of = std::collections::HashMap::new();
    for child in &element.children {
        let group = *group_of.entry(child.name.as_str()).or_insert_with(|| {
            groups.push((&child.name, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(child);
    }
    for (name, elements) in groups {
        member(out, name);
        match elements[..] {
            [one] => push_value(out, one, indent + 2),
            _ => push_array(out, &elements, indent + 2),
        }
    }
    out.push(b'\n');
    push_indent(out, indent);
    out.push(b'}');
}

fn push_array(out: &mut Vec<u8>, elements: &[&Element], indent: usize) {
    out.push(b'[');
    for (at, element) in elements.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\n" } else { b",\n" });
        push_indent(out, indent + 2);
        push_value(out, element, indent + 2);
    }
    out.push(b'\n');
    push_indent(out, indent);
    out.push(b']');
}

/// The root element; `None` when the text is not one well-formed element within the limits.
fn parse(body: &str) -> Option<Element> {
    let mut reader = Reader::from_str(body);
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    loop {
        let closed = match reader.read_event().ok()? {
            Event::Start(start) => {
                if open.len() >= MAX_NESTING || root.is_some() {
                    return None;
                }
                open.push(element(&start)?);
                continue;
            }
            Event::Empty(start) => Element { is_self_closing: true, ..element(&start)? },
            // The reader has checked that the name fits.
            Event::End(_) => open.pop()?,
            Event::Text(text) => {
                let text = text.decode().ok()?;
                match open.last_mut() {
                    Some(parent) => parent.text.push_str(&text),
                    None if text.trim().is_empty() => {}
                    None => return None,
                }
                continue;
            }
            Event::CData(text) => {
                open.last_mut()?.text.push_str(&text.decode().ok()?);
                continue;
            }
            Event::GeneralRef(reference) => {
                let c = match reference.resolve_char_ref().ok()? {
                    Some(c) => c,
                    None => predefined(&reference.decode().ok()?)?,
                };
                open.last_mut()?.text.push(c);
                continue;
            }
            Event::Eof if open.is_empty() => return root,
            Event::Eof => return None,
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => continue,
        };
        match open.last_mut() {
            Some(parent) => parent.children.push(closed),
            None if root.is_none() => root = Some(closed),
            None => return None,
        }
    }
}

fn element(start: &BytesStart<'_>) -> Option<Element> {
    let name = std::str::from_utf8(start.name().as_ref()).ok()?.to_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.ok()?;
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
    use super::*;

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
    }

    #[test]
    fn text_is_handled_like_a_json_string() {
        assert_eq!(data("5"), "5");
        assert_eq!(data("{\"x\":1}"), "{\n  \"x\": 1\n}");
        assert_eq!(data("<![CDATA[<a>]]>"), "<a>");
        assert_eq!(data("2012-04-23T18:25:43Z"), "2012-04-23T18:25:43Z");
        assert!(!one("<data>5</data>").is_json);
        assert!(!one("<data/>").is_json);
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
}
