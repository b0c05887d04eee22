//! Feeds, entries and events as JSON (contract/streams 8.3, 8.5, 8.6, 9.2).

use std::borrow::Cow;
use std::sync::LazyLock;

use super::{Additions, Embed, EntryContent, Feed, Printer, updated};
use crate::event::{EventRef, ResolvedRef};
use crate::http::format::body::text as text_of;
use crate::http::format::json::{Object, indent, indent_into, push_escaped, push_indent, push_string};
use crate::http::format::links::Base;

/// A feed up to its first entry.
pub(crate) fn start(out: &mut Vec<u8>, feed: &Feed) {
    let mut document = Object::open(out, 0);
    document.string("title", &feed.title);
    document.string("id", &feed.id);
    document.string("updated", &updated(feed.updated));
    if let Some(stream) = &feed.stream {
        document.string("streamId", stream);
    }
    author(&mut document);
    document.bool("headOfStream", feed.head_of_stream);
    if feed.has_self_url {
        document.string("selfUrl", &feed.id);
    }
    if let Some(tag) = &feed.tag {
        document.string("eTag", tag);
    }
    document.objects("links", &feed.links, |link, (relation, uri)| {
        link.string("uri", uri);
        link.string("relation", relation);
    });
    document.key("entries").push(b'[');
}

/// Where an entry stands in its feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before all others.
    First,
    /// Behind another entry.
    BehindAnother,
}

/// The next entry of a feed.
pub(crate) fn entry_of_feed(
    out: &mut Vec<u8>,
    entry: &ResolvedRef<'_>,
    printer: &mut Printer<'_>,
    embed: Embed,
    place: Place,
    additions: Additions<'_>,
) {
    out.extend_from_slice(match place {
        Place::First => b"\n    ",
        Place::BehindAnother => b",\n    ",
    });
    let mut object = Object::open(out, 4);
    members(&mut object, entry, &IN_FEED, printer, Shown::in_feed(embed, additions));
    object.close();
}

/// A feed behind its last entry.
pub(crate) fn end(out: &mut Vec<u8>, has_entries: bool) {
    out.extend_from_slice(if has_entries { b"\n  ]\n}" } else { b"]\n}" });
}

/// One entry as a document: with content, whatever is embedded besides.
pub(crate) fn entry(entry: &ResolvedRef<'_>, base: &Base, embed: Embed) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut document = Object::open(&mut out, 0);
    let shown = Shown { embed, content: EntryContent::Shown, additions: Additions::default() };
    members(&mut document, entry, &ALONE, &mut Printer::new(base), shown);
    document.close();
    out
}

/// One entry as it stands in a feed.
pub(crate) fn feed_entry(entry: &ResolvedRef<'_>, base: &Base, embed: Embed, additions: Additions<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut document = Object::open(&mut out, 0);
    members(&mut document, entry, &ALONE, &mut Printer::new(base), Shown::in_feed(embed, additions));
    document.close();
    out
}

/// What an entry shows besides what all entries show.
#[derive(Clone, Copy)]
struct Shown<'a> {
    embed: Embed,
    content: EntryContent,
    additions: Additions<'a>,
}

impl<'a> Shown<'a> {
    fn in_feed(embed: Embed, additions: Additions<'a>) -> Self {
        Self { embed, content: EntryContent::of_feed(embed), additions }
    }
}

fn author(object: &mut Object<'_>) {
    object.object("author", |author| author.plain("name", "EventStore"));
}

/// What stands between the parts of an entry: the same text in all entries that stand equally deep.
struct Text {
    /// Of the closing brace of the entry.
    indent: usize,
    to_title: Vec<u8>,
    to_id: Vec<u8>,
    to_updated: Vec<u8>,
    to_summary: Vec<u8>,
    to_edit: Vec<u8>,
    to_alternate: Vec<u8>,
    /// Up to the end of the link before, behind which further links may come.
    to_more_links: Vec<u8>,
    to_end: Vec<u8>,
}

static IN_FEED: LazyLock<Text> = LazyLock::new(|| Text::new(4));
static ALONE: LazyLock<Text> = LazyLock::new(|| Text::new(0));

impl Text {
    /// The text of an entry whose closing brace stands `indent` spaces from the margin.
    fn new(indent: usize) -> Self {
        // Stands for a part; nothing else of an entry has this character.
        const PART: &str = "|";
        let mut out = Vec::new();
        let mut entry = Object::open(&mut out, indent);
        for name in ["title", "id", "updated"] {
            entry.plain(name, PART);
        }
        author(&mut entry);
        entry.plain("summary", PART);
        entry.objects("links", ["edit", "alternate"], |link, relation| {
            link.plain("uri", PART);
            link.plain("relation", relation);
        });
        let mut texts = out.split(|byte| *byte == PART.as_bytes()[0]);
        let mut next = |skipped: &str| {
            let text = texts.next().unwrap_or_default();
            text.strip_prefix(skipped.as_bytes()).unwrap_or(text).to_vec()
        };
        let mut text = Self {
            indent,
            to_title: next("{"),
            to_id: next(""),
            to_updated: next(""),
            to_summary: next(""),
            // The content may come between.
            to_edit: next("\","),
            to_alternate: next(""),
            to_more_links: next(""),
            to_end: Vec::new(),
        };
        let links_end = text.to_more_links.iter().rposition(|byte| *byte == b'}').map_or(0, |at| at + 1);
        text.to_end = text.to_more_links.split_off(links_end);
        text
    }
}

fn members(object: &mut Object<'_>, entry: &ResolvedRef<'_>, text: &Text, printer: &mut Printer<'_>, shown: Shown<'_>) {
    let Shown { embed, content, additions } = shown;
    if embed >= Embed::Rich
        && let Some(event) = entry.shown()
    {
        rich_members(object, entry, event, embed);
    }
    let (number, stream) = entry.identity();
    let mut digits = itoa::Buffer::new();
    let number = digits.format(number).as_bytes();
    let out = object.prepared(&text.to_title);
    let (uri, title) = printer.around_number(stream);
    push_all(out, &[number, title, &text.to_id, uri.as_bytes(), number, &text.to_updated]);
    printer.times.push(out, entry.original.time);
    out.extend_from_slice(&text.to_summary);
    push_escaped(out, entry.original.event_type);
    out.push(b'"');
    if let Some(event) = content.of(entry) {
        object.object("content", |content| event_members(content, event));
    }
    let out = object.prepared(&text.to_edit);
    let (uri, _) = printer.around_number(stream);
    push_all(out, &[uri.as_bytes(), number, &text.to_alternate, uri.as_bytes(), number, &text.to_more_links]);
    for (relation, uri) in additions.links {
        push_link(out, text.indent + 4, relation, uri);
    }
    out.extend_from_slice(&text.to_end);
    if let Some(retries) = additions.retries {
        object.integer("retryCount", retries);
    }
}

/// A link behind another one, whose braces stand `indent` spaces from the margin.
fn push_link(out: &mut Vec<u8>, indent: usize, relation: &str, uri: &str) {
    out.extend_from_slice(b",\n");
    push_indent(out, indent);
    let mut link = Object::open(out, indent);
    link.plain("uri", uri);
    link.plain("relation", relation);
    link.close();
}

fn push_all(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.reserve(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn rich_members(object: &mut Object<'_>, entry: &ResolvedRef<'_>, event: EventRef<'_>, embed: Embed) {
    let link = entry.followed_link();
    let has_bodies = embed >= Embed::Body;
    let mut is_json = event.is_json;
    object.string("eventId", event.event_id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    object.string("eventType", event.event_type);
    object.integer("eventNumber", event.number);
    if has_bodies {
        if event.is_json {
            object.string("data", &shown(event.data, embed));
        } else if embed == Embed::TryHarder {
            let text = text_of(event.data);
            is_json = as_object(&text).is_some();
            object.string("data", &shown(event.data, embed));
        }
        if !event.metadata.is_empty() {
            object.string("metaData", &shown(event.metadata, embed));
        }
        if let Some(link) = link {
            object.string("linkMetaData", &shown(link.metadata, embed));
        }
    }
    object.string("streamId", event.stream);
    object.bool("isJson", is_json);
    object.bool("isMetaData", has_bodies && !event.metadata.is_empty());
    object.bool("isLinkMetaData", has_bodies && link.is_some_and(|link| !link.metadata.is_empty()));
    object.integer("positionEventNumber", entry.original.number);
    object.string("positionStreamId", entry.original.stream);
}

/// Stored text as it is, or from level pretty on re-indented when it is an object.
fn shown(bytes: &[u8], embed: Embed) -> Cow<'_, str> {
    let text = text_of(bytes);
    if embed >= Embed::Pretty
        && let Some(pretty) = as_object(&text)
    {
        return Cow::Owned(pretty);
    }
    text
}

fn as_object(text: &str) -> Option<String> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    String::from_utf8(indent(text).ok()?).ok()
}

/// The six members of a whole event.
fn event_members(object: &mut Object<'_>, event: EventRef<'_>) {
    object.string("eventStreamId", event.stream);
    object.integer("eventNumber", event.number);
    object.string("eventType", event.event_type);
    object.string("eventId", event.event_id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    for (name, bytes) in [("data", event.data), ("metadata", event.metadata)] {
        let margin = object.member_indent();
        push_value(object.key(name), bytes, event.is_json, margin);
    }
}

/// Appends a payload: as the JSON value it holds, else as string. A lone `null` is the string
/// "null".
fn push_value(out: &mut Vec<u8>, bytes: &[u8], is_json: bool, margin: usize) {
    let text = text_of(bytes);
    if is_json && text.trim() != "null" && indent_into(out, &text, margin).is_ok() {
        return;
    }
    push_string(out, &text);
}

/// A whole event: application/vnd.eventstore.event+json.
pub(crate) fn event(event: EventRef<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + event.data.len() * 2);
    let mut document = Object::open(&mut out, 0);
    event_members(&mut document, event);
    document.close();
    out
}

/// The data alone: application/json.
pub(crate) fn data(event: EventRef<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.data.len() * 2);
    push_value(&mut out, event.data, event.is_json, 0);
    out
}
