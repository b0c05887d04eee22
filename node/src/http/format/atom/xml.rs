//! Feeds, entries and events as XML (contract/streams 8.4, 8.5, 9.2).

use super::{Additions, Embed, EntryContent, Feed, Printer, updated};
use crate::event::{EventRef, ResolvedRef};
use crate::http::format::body::text as text_of;
use crate::http::format::json::tree::{Json, parse};
use crate::http::format::links::Base;
use crate::http::format::xml::from_json::push_json;
use crate::http::format::xml::{close, open, push_attribute, push_element, push_text};
use crate::http::limits::MAX_PAYLOAD_AS_XML_BYTES;

const DECLARATION: &[u8] = b"<?xml version=\"1.0\" encoding=\"utf-8\"?>";
const NAMESPACE: &str = "http://www.w3.org/2005/Atom";

/// Names of the elements of an entry, which stand with or without prefix.
struct Names {
    entry: &'static str,
    title: &'static str,
    id: &'static str,
    updated: &'static str,
    author: &'static str,
    name: &'static str,
    summary: &'static str,
    link: &'static str,
    content: &'static str,
    /// Takes the children of content out of the Atom namespace.
    no_namespace: &'static str,
}

const IN_FEED: Names = Names {
    entry: "entry",
    title: "title",
    id: "id",
    updated: "updated",
    author: "author",
    name: "name",
    summary: "summary",
    link: "link",
    content: "content",
    no_namespace: " xmlns=\"\"",
};
const ALONE: Names = Names {
    entry: "atom:entry",
    title: "atom:title",
    id: "atom:id",
    updated: "atom:updated",
    author: "atom:author",
    name: "atom:name",
    summary: "atom:summary",
    link: "atom:link",
    content: "atom:content",
    no_namespace: "",
};

/// A feed up to its first entry.
pub(crate) fn start(out: &mut Vec<u8>, feed: &Feed) {
    out.extend_from_slice(DECLARATION);
    open(out, "feed", &format!(" xmlns=\"{NAMESPACE}\""));
    push_element(out, "title", &feed.title);
    push_element(out, "id", &feed.id);
    push_element(out, "updated", &updated(feed.updated));
    author(out, &IN_FEED);
    for (relation, uri) in &feed.links {
        link(out, &IN_FEED, uri, relation);
    }
}

/// The next entry of a feed.
pub(crate) fn entry_of_feed(
    out: &mut Vec<u8>,
    entry: &ResolvedRef<'_>,
    printer: &mut Printer<'_>,
    embed: Embed,
    additions: Additions<'_>,
) {
    push_entry(out, &IN_FEED, "", entry, printer, (EntryContent::of_feed(embed), additions));
}

/// A feed behind its last entry.
pub(crate) fn end(out: &mut Vec<u8>) {
    close(out, "feed");
}

/// One entry as a document.
pub(crate) fn entry(entry: &ResolvedRef<'_>, base: &Base) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(DECLARATION);
    let namespace = format!(" xmlns:atom=\"{NAMESPACE}\"");
    let shown = (EntryContent::Shown, Additions::default());
    push_entry(&mut out, &ALONE, &namespace, entry, &mut Printer::new(base), shown);
    out
}

fn author(out: &mut Vec<u8>, names: &Names) {
    open(out, names.author, "");
    push_element(out, names.name, "EventStore");
    close(out, names.author);
}

fn link(out: &mut Vec<u8>, names: &Names, uri: &str, relation: &str) {
    out.push(b'<');
    out.extend_from_slice(names.link.as_bytes());
    out.extend_from_slice(b" href=\"");
    push_attribute(out, uri);
    out.extend_from_slice(b"\" rel=\"");
    push_attribute(out, relation);
    out.extend_from_slice(b"\" />");
}

fn push_entry(
    out: &mut Vec<u8>,
    names: &Names,
    attributes: &str,
    entry: &ResolvedRef<'_>,
    printer: &mut Printer<'_>,
    (content, additions): (EntryContent, Additions<'_>),
) {
    let (number, stream) = entry.identity();
    let uri = format!("{}{number}", printer.around_number(stream).0);
    open(out, names.entry, attributes);
    push_element(out, names.title, &format!("{number}@{stream}"));
    push_element(out, names.id, &uri);
    open(out, names.updated, "");
    printer.times.push(out, entry.original.time);
    close(out, names.updated);
    author(out, names);
    push_element(out, names.summary, entry.original.event_type);
    link(out, names, &uri, "edit");
    link(out, names, &uri, "alternate");
    for (relation, uri) in additions.links {
        link(out, names, uri, relation);
    }
    if let Some(event) = content.of(entry) {
        open(out, names.content, " type=\"application/xml\"");
        event_elements(out, event, names.no_namespace);
        close(out, names.content);
    }
    close(out, names.entry);
}

fn event_elements(out: &mut Vec<u8>, event: EventRef<'_>, attributes: &str) {
    let number = event.number.to_string();
    let id = event.event_id.hyphenated().to_string();
    let texts =
        [("eventStreamId", event.stream), ("eventNumber", &number), ("eventType", event.event_type), ("eventId", &id)];
    for (name, text) in texts {
        push_text_element(out, name, attributes, text);
    }
    for (name, bytes) in [("data", event.data), ("metadata", event.metadata)] {
        let text = text_of(bytes);
        let value = if event.is_json { parse(&text) } else { None };
        push_payload(out, name, attributes, value.as_ref(), &text);
    }
}

/// A payload converted, or its text where it has no value or a conversion would grow beyond its
/// limit.
fn push_payload(out: &mut Vec<u8>, name: &str, attributes: &str, value: Option<&Json<'_>>, text: &str) {
    let limit = out.len() + MAX_PAYLOAD_AS_XML_BYTES;
    if value.is_none_or(|value| push_json(out, name, attributes, value, limit).is_err()) {
        push_text_element(out, name, attributes, text);
    }
}

fn push_text_element(out: &mut Vec<u8>, name: &str, attributes: &str, text: &str) {
    open(out, name, attributes);
    push_text(out, text);
    close(out, name);
}

/// A whole event: application/vnd.eventstore.event+xml.
pub(crate) fn event(event: EventRef<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + event.data.len());
    open(&mut out, "event", "");
    event_elements(&mut out, event, "");
    close(&mut out, "event");
    out
}

/// The data alone: `<data>`, converted when it is a JSON object, else as text.
pub(crate) fn data(event: EventRef<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + event.data.len());
    let text = text_of(event.data);
    let object = parse(&text).filter(|value| event.is_json && matches!(value, Json::Object(_)));
    push_payload(&mut out, "data", "", object.as_ref(), &text);
    out
}
