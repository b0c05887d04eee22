//! The Atom documents: what a feed and an entry are, written as JSON or XML.

pub mod json;
pub mod xml;

use super::json::push_escaped;
use super::links::Base;
use crate::event::{EventNumber, RecordedEvent, Ticks, TimePrinter};

/// How much of an event is shown in a feed (contract/streams 8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// What a position of a stream shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The event that stands there.
    Plain(RecordedEvent),
    /// A link and the event it leads to.
    Resolved {
        /// The link.
        link: RecordedEvent,
        /// Where it leads.
        target: RecordedEvent,
    },
    /// A link whose target cannot be read.
    Unresolvable {
        /// The link.
        link: RecordedEvent,
        /// Number of the target, from the link's text.
        number: EventNumber,
        /// Stream of the target, from the link's text.
        stream: String,
    },
}

impl Entry {
    /// The event that stands at the position read: the link of a resolved one.
    pub fn positioned(&self) -> &RecordedEvent {
        match self {
            Self::Plain(event) => event,
            Self::Resolved { link, .. } | Self::Unresolvable { link, .. } => link,
        }
    }

    /// The event shown, if it can be read.
    pub fn shown(&self) -> Option<&RecordedEvent> {
        match self {
            Self::Plain(event) => Some(event),
            Self::Resolved { target, .. } => Some(target),
            Self::Unresolvable { .. } => None,
        }
    }

    /// Number and stream in title and links.
    pub fn identity(&self) -> (EventNumber, &str) {
        match self {
            Self::Plain(event) => (event.number, &event.stream),
            Self::Resolved { target, .. } => (target.number, &target.stream),
            Self::Unresolvable { number, stream, .. } => (*number, stream),
        }
    }

    /// `{n}@{S}`
    pub fn title(&self) -> String {
        let (number, stream) = self.identity();
        format!("{number}@{stream}")
    }

    /// URI of the event.
    pub fn uri(&self, base: &Base) -> String {
        let (number, stream) = self.identity();
        format!("{}/{number}", base.stream(stream))
    }

    /// The event type, `$>` for a link.
    pub fn summary(&self) -> &str {
        &self.positioned().event_type
    }

    /// The event whose content is shown: only plain JSON events have one.
    pub fn content(&self) -> Option<&RecordedEvent> {
        match self {
            Self::Plain(event) if event.is_json => Some(event),
            _ => None,
        }
    }
}

/// Bytes of the payload that entries show.
pub fn payload(entries: &[Entry]) -> usize {
    let shown = entries.iter().filter_map(Entry::shown);
    shown.map(|event| event.data.len() + event.metadata.len()).sum()
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

/// A feed document.
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
    /// Newest first.
    pub entries: Vec<Entry>,
}

/// `updated` of a feed.
pub fn updated(time: Option<Ticks>) -> String {
    time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
