//! The Atom documents: what a feed and an entry are, written as JSON or XML.

pub(crate) mod json;
pub(crate) mod xml;

use crate::event::{EventRef, LinkTarget, ResolvedRef, Ticks, TimePrinter};
use crate::http::format::html;
use crate::http::format::json::push_escaped;
use crate::http::format::links::Base;

/// How much of an event is shown in a feed (contract/streams 8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub(crate) enum Embed {
    None,
    Content,
    Rich,
    Body,
    Pretty,
    TryHarder,
}

impl Embed {
    /// The query parameter's value; what is unknown means none.
    pub(crate) fn parse(text: Option<&str>) -> Self {
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

/// Whether an entry carries its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryContent {
    Shown,
    LeftOut,
}

impl EntryContent {
    /// What the entries of a feed with this embedding have.
    fn of_feed(embed: Embed) -> Self {
        match embed {
            Embed::Content => Self::Shown,
            Embed::None | Embed::Rich | Embed::Body | Embed::Pretty | Embed::TryHarder => Self::LeftOut,
        }
    }

    /// The event that the entry carries, where this says so and a document can hold it.
    fn of<'a>(self, entry: &ResolvedRef<'a>) -> Option<EventRef<'a>> {
        match self {
            Self::Shown => content(entry),
            Self::LeftOut => None,
        }
    }
}

/// The event whose content an entry shows: only plain JSON events have one.
fn content<'a>(entry: &ResolvedRef<'a>) -> Option<EventRef<'a>> {
    let is_plain = matches!(entry.target, LinkTarget::NotFollowed) && entry.original.is_json;
    is_plain.then_some(entry.original)
}

/// What an entry has besides what all entries have; by default nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Additions<'a> {
    /// Links behind `edit` and `alternate`: relation and URI.
    pub(crate) links: &'a [(&'static str, String)],
    /// How often the message was handed out before.
    pub(crate) retries: Option<u32>,
}

/// What entries print again and again. Those of a feed mostly stand in one stream and were stored
/// at about the same time, so the name is encoded once and the date printed once.
pub(crate) struct Printer<'a> {
    base: &'a Base,
    stream: String,
    /// URI of `stream` and a slash; empty before the first entry.
    uri: String,
    /// `@{stream}` as the inside of a JSON string.
    title: Vec<u8>,
    /// Prints times.
    pub(crate) times: TimePrinter,
}

impl<'a> Printer<'a> {
    /// Nothing printed yet.
    pub(crate) fn new(base: &'a Base) -> Self {
        let (stream, uri) = Default::default();
        Self { base, stream, uri, title: Vec::new(), times: TimePrinter::default() }
    }

    /// The URI of an entry up to its number, and its JSON title after it.
    pub(crate) fn around_number(&mut self, stream: &str) -> (&str, &[u8]) {
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
pub(crate) struct Feed {
    /// Title.
    pub(crate) title: String,
    /// URI of the stream.
    pub(crate) id: String,
    /// Time of the event that dates the page.
    pub(crate) updated: Option<Ticks>,
    /// Name of the stream; `None` for the log of all events.
    pub(crate) stream: Option<String>,
    /// headOfStream.
    pub(crate) head_of_stream: bool,
    /// Whether there is a selfUrl.
    pub(crate) has_self_url: bool,
    /// eTag of the document.
    pub(crate) tag: Option<String>,
    /// Relation and URI.
    pub(crate) links: Vec<(&'static str, String)>,
}

/// How a feed is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Format {
    /// The notation.
    pub(crate) notation: Notation,
    /// How much of the events it shows.
    pub(crate) embed: Embed,
    /// Base of its links.
    pub(crate) base: Base,
}

/// What a feed is written in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Notation {
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

/// Writes a feed piece by piece, in order: start, entries from the newest to the oldest, end.
pub(crate) struct FeedWriter<'a> {
    format: &'a Format,
    printer: Printer<'a>,
    has_entries: bool,
    /// JSON on its way into HTML.
    json: Vec<u8>,
}

impl<'a> FeedWriter<'a> {
    /// Goes on behind what another writer wrote, which `has_entries` already or not.
    pub(crate) fn new(format: &'a Format, has_entries: bool) -> Self {
        Self { format, printer: Printer::new(&format.base), has_entries, json: Vec::new() }
    }

    /// Whether there is an entry so far.
    pub(crate) fn has_entries(&self) -> bool {
        self.has_entries
    }

    /// Everything before the first entry.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>, feed: &Feed) {
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
    pub(crate) fn entry(&mut self, out: &mut Vec<u8>, entry: &ResolvedRef<'_>) {
        self.entry_with(out, entry, Additions::default());
    }

    /// The next entry, with more than entries usually have.
    pub(crate) fn entry_with(&mut self, out: &mut Vec<u8>, entry: &ResolvedRef<'_>, additions: Additions<'_>) {
        let place = if self.has_entries { json::Place::BehindAnother } else { json::Place::First };
        let embed = self.format.embed;
        match &self.format.notation {
            Notation::Json => json::entry_of_feed(out, entry, &mut self.printer, embed, place, additions),
            Notation::Xml => xml::entry_of_feed(out, entry, &mut self.printer, embed, additions),
            Notation::Html { .. } => self.in_html(out, |printer, json| {
                json::entry_of_feed(json, entry, printer, embed, place, additions);
            }),
        }
        self.has_entries = true;
    }

    /// Everything behind the last entry.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
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
pub(crate) fn updated(time: Option<Ticks>) -> String {
    time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
