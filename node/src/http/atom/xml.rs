//! Feeds, entries and events as XML (contract/streams 8.4, 8.5, 9.2).

use super::{Embed, Entry, Feed, updated};
use crate::event::RecordedEvent;
use crate::http::json::tree::{Json, parse};
use crate::http::links::Base;
use crate::http::xml::{close, open, push_attribute, push_element, push_json};

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

/// A feed document.
pub fn feed(feed: &Feed, base: &Base, embed: Embed) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024 + 512 * feed.entries.len());
    out.extend_from_slice(DECLARATION);
    open(&mut out, "feed", &format!(" xmlns=\"{NAMESPACE}\""));
    push_element(&mut out, "title", &feed.title);
    push_element(&mut out, "id", &feed.id);
    push_element(&mut out, "updated", &updated(feed.updated));
    author(&mut out, &IN_FEED);
    for (relation, uri) in &feed.links {
        link(&mut out, &IN_FEED, uri, relation);
    }
    for entry in &feed.entries {
        push_entry(&mut out, &IN_FEED, "", entry, base, embed == Embed::Content);
    }
    close(&mut out, "feed");
    out
}

/// One entry as a document.
pub fn entry(entry: &Entry, base: &Base) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(DECLARATION);
    push_entry(&mut out, &ALONE, &format!(" xmlns:atom=\"{NAMESPACE}\""), entry, base, true);
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

fn push_entry(out: &mut Vec<u8>, names: &Names, attributes: &str, entry: &Entry, base: &Base, with_content: bool) {
    let uri = entry.uri(base);
    open(out, names.entry, attributes);
    push_element(out, names.title, &entry.title());
    push_element(out, names.id, &uri);
    push_element(out, names.updated, &entry.positioned().time.to_string());
    author(out, names);
    push_element(out, names.summary, entry.summary());
    link(out, names, &uri, "edit");
    link(out, names, &uri, "alternate");
    if with_content && let Some(event) = entry.content() {
        open(out, names.content, " type=\"application/xml\"");
        event_elements(out, event, names.no_namespace);
        close(out, names.content);
    }
    close(out, names.entry);
}

fn event_elements(out: &mut Vec<u8>, event: &RecordedEvent, attributes: &str) {
    let texts = [
        ("eventStreamId", event.stream.clone()),
        ("eventNumber", event.number.to_string()),
        ("eventType", event.event_type.clone()),
        ("eventId", event.event_id.hyphenated().to_string()),
    ];
    for (name, text) in texts {
        push_json(out, name, attributes, &Json::String(text.into()));
    }
    for (name, bytes) in [("data", &event.data), ("metadata", &event.metadata)] {
        let text = String::from_utf8_lossy(bytes);
        let value = if event.is_json { parse(&text) } else { None };
        push_json(out, name, attributes, &value.unwrap_or(Json::String(text.as_ref().into())));
    }
}

/// A whole event: application/vnd.eventstore.event+xml.
pub fn event(event: &RecordedEvent) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + event.data.len());
    open(&mut out, "event", "");
    event_elements(&mut out, event, "");
    close(&mut out, "event");
    out
}

/// The data alone: `<data>`, converted when it is a JSON object, else as text.
pub fn data(event: &RecordedEvent) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + event.data.len());
    let text = String::from_utf8_lossy(&event.data);
    match parse(&text).filter(|_| event.is_json) {
        Some(object @ Json::Object(_)) => push_json(&mut out, "data", "", &object),
        _ => push_element(&mut out, "data", &text),
    }
    out
}
