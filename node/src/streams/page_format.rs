//! How a door writes pages. A page is written inside the read, from rows where they lie: what it is
//! written in is the door's business, and which events are on it, in which order and in how many
//! parts, is decided here.

use bytes::Bytes;

use super::links::Links;
use crate::event::log_paging::LogPage;
use crate::event::paging::StreamPageHead;
use crate::event::{EventNumber, ResolvedRef, Ticks};

/// A form in which a door shows pages. Known at compile time, so that writing an event is a plain
/// call.
pub(crate) trait PageFormat: Send + Sync + 'static {
    /// Writes one page, or a part of one.
    type Writer<'a>: PageWriter
    where
        Self: 'a;

    /// How much of an event the pages show.
    fn detail(&self) -> Detail;

    /// A writer that goes on behind what another one wrote of the same page, which `has_events`
    /// already or not.
    fn writer(&self, has_events: bool) -> Self::Writer<'_>;

    /// The document of this page, if it was kept by [`Self::offer`].
    fn recall(&self, _page: PageIdentity) -> Option<Bytes> {
        None
    }

    /// Takes note of a document that will be the same whenever this page is written again.
    fn offer(&self, _page: PageIdentity, document: Vec<u8>) -> Bytes {
        document.into()
    }
}

/// How much of an event a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Its stream, number, time and type.
    Heading,
    /// More, but neither data nor metadata.
    Description,
    /// Everything: data and metadata weigh as much on the page as in the database.
    Payload,
}

/// Appends a page to a buffer, in order: start, events from the newest to the oldest, end.
pub(crate) trait PageWriter {
    /// Everything before the first event.
    fn start(&mut self, out: &mut Vec<u8>, head: &PageHead<'_>);

    /// The next event.
    fn event(&mut self, out: &mut Vec<u8>, event: &ResolvedRef<'_>);

    /// Everything behind the last event.
    fn end(&mut self, out: &mut Vec<u8>);

    /// Whether there is an event so far.
    fn has_events(&self) -> bool;
}

/// What a page says of itself besides its events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageHead<'a> {
    /// Which page it is.
    pub(crate) page: PageKind<'a>,
    /// The time of the event that dates the page, if it can be read.
    pub(crate) updated: Option<Ticks>,
    /// How many redactions count for the version of the page.
    pub(crate) redactions: u32,
}

/// What a page is a page of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PageKind<'a> {
    /// One stream.
    Stream {
        /// Its name.
        name: &'a str,
        /// What the page says of itself.
        head: StreamPageHead,
    },
    /// The log of all events, or what a filter leaves of it.
    Log(LogPage),
}

/// All that the document of a page of a stream depends on besides its format, if it follows no link
/// and hides no event for its age: stored events change by redaction only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PageIdentity {
    /// The stream, by the id that is never given to another one.
    pub(crate) stream_id: u64,
    /// Smallest and largest number on the page.
    pub(crate) numbers: (EventNumber, EventNumber),
    /// How many redactions count for its version.
    pub(crate) redactions: u32,
    /// What the page says of itself.
    pub(crate) head: StreamPageHead,
    /// What would have been done with links, had there been any.
    pub(crate) links: Links,
}
