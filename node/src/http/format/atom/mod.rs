//! The Atom documents: what a feed and an entry are, written as JSON or XML.

pub mod json;
pub mod xml;

use crate::event::{EventNumber, EventRef, RecordedEvent, Ticks, TimePrinter};
use crate::http::format::html;
use crate::http::format::json::push_escaped;
use crate::http::format::links::Base;

/// How much of an event is shown in a feed (contract/streams 8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Embed {
    None,
    Content,
    Rich,
    Body,
    Pretty,
    TryHarder,
}

impl Embed {
    /// The query parameter's value; what is unknown means none.
    pub fn parse(text: Option<&str>) -> Self {
        match text.unwrap_or_default().to_ascii_lowercase().as_str() {
            "content" => Self::Content,
            "rich" => Self::Rich,
            "body" => Self::Body,
            "pretty" | "prettybody" => Self::Pretty,
            "tryharder" => Self::TryHarder,
            _ => Self::None,
        }
    }
}

/// What stands behind an event that may be a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// It is no link, or none that is to be followed.
    None,
    /// The event that the link leads to.
    Event(RecordedEvent),
    /// The link leads to nothing that can be read.
    Unreadable {
        /// Number of the target, from the link's text.
        number: EventNumber,
        /// Stream of the target, from the link's text.
        stream: String,
    },
}

/// What a position of a stream shows.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The event that stands at the position read: a link, if there is a target.
    pub positioned: EventRef<'a>,
    /// Where it leads.
    pub target: &'a Target,
}

impl<'a> Entry<'a> {
    /// The event shown, if it can be read.
    pub fn shown(&self) -> Option<EventRef<'a>> {
        match self.target {
            Target::None => Some(self.positioned),
            Target::Event(target) => Some(target.borrowed()),
            Target::Unreadable { .. } => None,
        }
    }

    /// Number and stream in title and links.
    pub fn identity(&self) -> (EventNumber, &'a str) {
        match self.target {
            Target::None => (self.positioned.number, self.positioned.stream),
            Target::Event(target) => (target.number, &target.stream),
            Target::Unreadable { number, stream } => (*number, stream),
        }
    }

    /// The link, if its target is shown instead.
    pub fn resolved_link(&self) -> Option<EventRef<'a>> {
        matches!(self.target, Target::Event(_)).then_some(self.positioned)
    }

    /// The event type, `$>` for a link.
    pub fn summary(&self) -> &'a str {
        self.positioned.event_type
    }

    /// The event whose content is shown: only plain JSON events have one.
    pub fn content(&self) -> Option<EventRef<'a>> {
        Some(self.positioned).filter(|event| *self.target == Target::None && event.is_json)
    }
}

/// An entry that lives by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedEntry {
    /// See [`Entry::positioned`].
    pub event: RecordedEvent,
    /// See [`Entry::target`].
    pub target: Target,
}

impl OwnedEntry {
    /// The entry.
    pub fn borrowed(&self) -> Entry<'_> {
        Entry { positioned: self.event.borrowed(), target: &self.target }
    }

    /// Bytes of the payload that it shows.
    pub fn payload(&self) -> usize {
        self.borrowed().shown().map_or(0, |event| event.data.len() + event.metadata.len())
    }
}

/// Bytes of the payload that entries show.
pub fn payload(entries: &[OwnedEntry]) -> usize {
    entries.iter().map(OwnedEntry::payload).sum()
}

/// What entries print again and again. Those of a feed mostly stand in one stream and were stored at about the same time, so
/// the name is encoded once and the date printed once.
pub struct Printer<'a> {
    base: &'a Base,
    stream: String,
    /// URI of `stream` and a slash; empty before the first entry.
    uri: String,
    /// `@{stream}` as the inside of a JSON string.
    title: Vec<u8>,
    /// Prints times.
    pub times: TimePrinter,
}

impl<'a> Printer<'a> {
    /// Nothing printed yet.
    pub fn new(base: &'a Base) -> Self {
        let (stream, uri) = Default::default();
        Self { base, stream, uri, title: Vec::new(), times: TimePrinter::default() }
    }

    /// The URI of an entry up to its number, and its JSON title after it.
    pub fn around_number(&mut self, stream: &str) -> (&str, &[u8]) {
        if self.uri.is_empty() || self.stream != stream {
            stream.clone_into(&mut self.stream);
            self.uri = self.base.stream(stream);
            self.uri.push('/');
            self.title.clear();
            self.title.push(b'@');
            push_escaped(&mut self.title, stream);
        }
        (&self.uri, &self.title)
    }
}

/// A feed without its entries.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Title.
    pub title: String,
    /// URI of the stream.
    pub id: String,
    /// Time of the event that dates the page.
    pub updated: Option<Ticks>,
    /// Name of the stream; `None` for the log of all events.
    pub stream: Option<String>,
    /// headOfStream.
    pub head_of_stream: bool,
    /// Whether there is a selfUrl.
    pub has_self_url: bool,
    /// eTag of the document.
    pub tag: Option<String>,
    /// Relation and URI.
    pub links: Vec<(&'static str, String)>,
}

/// How a feed is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Format {
    /// The notation.
    pub notation: Notation,
    /// How much of the events it shows.
    pub embed: Embed,
    /// Base of its links.
    pub base: Base,
}

/// What a feed is written in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Notation {
    /// JSON.
    Json,
    /// XML.
    Xml,
    /// JSON inside the page for browsers, which leads to this stream.
    Html {
        /// Name of the stream.
        stream: String,
    },
}

impl Format {
    /// Whether payloads are shown: then they weigh as much in the document as in the database.
    pub fn shows_payloads(&self) -> bool {
        !matches!(self.embed, Embed::None | Embed::Rich)
    }

    /// Whether nothing of an event is shown but its stream, number, time and type.
    pub fn shows_headings_alone(&self) -> bool {
        self.embed == Embed::None
    }
}

/// Writes a feed piece by piece, in order: start, entries from the newest to the oldest, end.
pub struct FeedWriter<'a> {
    format: &'a Format,
    printer: Printer<'a>,
    has_entries: bool,
    /// JSON on its way into HTML.
    json: Vec<u8>,
}

impl<'a> FeedWriter<'a> {
    /// Goes on behind what another writer wrote, which `has_entries` already or not.
    pub fn new(format: &'a Format, has_entries: bool) -> Self {
        Self { format, printer: Printer::new(&format.base), has_entries, json: Vec::new() }
    }

    /// Whether there is an entry so far.
    pub fn has_entries(&self) -> bool {
        self.has_entries
    }

    /// Everything before the first entry.
    pub fn start(&mut self, out: &mut Vec<u8>, feed: &Feed) {
        match &self.format.notation {
            Notation::Json => json::start(out, feed),
            Notation::Xml => xml::start(out, feed),
            Notation::Html { .. } => {
                html::start(out);
                self.in_html(out, |_, json| json::start(json, feed));
            }
        }
    }

    /// The next entry.
    pub fn entry(&mut self, out: &mut Vec<u8>, entry: &Entry<'_>) {
        let (is_first, embed) = (!self.has_entries, self.format.embed);
        match &self.format.notation {
            Notation::Json => json::entry_of_feed(out, entry, &mut self.printer, embed, is_first),
            Notation::Xml => xml::entry_of_feed(out, entry, &mut self.printer, embed),
            Notation::Html { .. } => {
                self.in_html(out, |printer, json| json::entry_of_feed(json, entry, printer, embed, is_first));
            }
        }
        self.has_entries = true;
    }

    /// Everything behind the last entry.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        let has_entries = self.has_entries;
        match &self.format.notation {
            Notation::Json => json::end(out, has_entries),
            Notation::Xml => xml::end(out),
            Notation::Html { stream } => {
                self.in_html(out, |_, json| json::end(json, has_entries));
                html::end(out, stream, None);
            }
        }
    }

    fn in_html(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Printer<'a>, &mut Vec<u8>)) {
        self.json.clear();
        write(&mut self.printer, &mut self.json);
        html::push_for_script(out, &self.json);
    }
}

/// `updated` of a feed.
pub fn updated(time: Option<Ticks>) -> String {
    time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
