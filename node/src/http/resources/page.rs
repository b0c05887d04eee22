//! Pages as Atom feeds, and the answers that carry them (contract/streams 8 and 10).

use std::fmt::Write as _;

use http::{Response, StatusCode};

use crate::event::log_paging::LogPage;
use crate::event::paging::{Direction, PageLinks, PageSize, PageStart, StreamPageHead};
use crate::event::stream_name::ALL;
use crate::event::{EventNumber, Position, ResolvedRef, Ticks};
use crate::http::Reply;
use crate::http::exchange::caching;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::{Form, MediaType};
use crate::http::exchange::request::Request;
use crate::http::exchange::{delivery, extract, response};
use crate::http::format::atom::{Embed, Feed, FeedWriter, Format, Notation};
use crate::http::limits::DEFAULT_PAGE_EVENTS;
use crate::streams::{
    Detail, LongPoll, PageFormat, PageHead, PageKind, PageRead, PageRequest, PageWriter, ReadPageError, Version,
};

/// How pages are written for one request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FeedFormat {
    /// Notation, embedding, and the base of links.
    pub(crate) feed: Format,
    /// The query of a filtered page, which its links repeat.
    pub(crate) filter: Option<String>,
}

impl FeedFormat {
    /// What the request asks for. `stream` is where the page for browsers leads.
    pub(crate) fn of_request(request: &Request<'_>, stream: &str) -> Self {
        let asked = || Embed::parse(request.query("embed").as_deref());
        let (notation, embed) = match request.chosen.media_type.form() {
            Form::Html => (Notation::Html { stream: stream.to_owned() }, Embed::Pretty),
            Form::Json => (Notation::Json, asked()),
            // No page has one of the last three.
            Form::Xml | Form::Bytes | Form::Events | Form::Text => (Notation::Xml, asked()),
        };
        Self { feed: Format { notation, embed, base: request.base() }, filter: None }
    }
}

impl PageFormat for FeedFormat {
    type Writer<'a> = FeedPageWriter<'a>;

    fn detail(&self) -> Detail {
        match self.feed.embed {
            Embed::None => Detail::Heading,
            Embed::Rich => Detail::Description,
            Embed::Content | Embed::Body | Embed::Pretty | Embed::TryHarder => Detail::Payload,
        }
    }

    fn writer(&self, has_events: bool) -> FeedPageWriter<'_> {
        FeedPageWriter { format: self, writer: FeedWriter::new(&self.feed, has_events) }
    }
}

/// Writes a page as a feed.
pub(crate) struct FeedPageWriter<'a> {
    format: &'a FeedFormat,
    writer: FeedWriter<'a>,
}

impl PageWriter for FeedPageWriter<'_> {
    fn start(&mut self, out: &mut Vec<u8>, head: &PageHead<'_>) {
        let feed = match head.page {
            PageKind::Stream { name, head: page } => stream_feed(self.format, name, &page, head),
            PageKind::Log(page) => log_feed(self.format, &page, head.updated),
        };
        self.writer.start(out, &feed);
    }

    fn event(&mut self, out: &mut Vec<u8>, event: &ResolvedRef<'_>) {
        self.writer.entry(out, event);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.writer.end(out);
    }

    fn has_events(&self) -> bool {
        self.writer.has_entries()
    }
}

/// What the feed of a stream says of itself.
fn stream_feed(format: &FeedFormat, stream: &str, page: &StreamPageHead, head: &PageHead<'_>) -> Feed {
    let version = page.version.map(|last| Version { last: last as i64, redactions: head.redactions });
    let uri = format.feed.base.stream(stream);
    let mut links = link_list(&uri, "", page.links, page.count, push_number);
    links.push(("metadata", [&uri, "/metadata"].concat()));
    Feed {
        title: ["Event stream '", stream, "'"].concat(),
        links,
        id: uri,
        updated: head.updated,
        stream: Some(stream.to_owned()),
        head_of_stream: page.is_head_of_stream,
        has_self_url: page.direction == Direction::Backward,
        // The same as in the header of the JSON form; that of other forms is for their media type.
        tag: version.map(|version| caching::tag(version, MediaType::AtomJson)),
    }
}

/// What the feed of the log says of itself, or that of what a filter leaves of it.
fn log_feed(format: &FeedFormat, page: &LogPage, updated: Option<Ticks>) -> Feed {
    let log = format.feed.base.stream(ALL);
    let (id, links) = match &format.filter {
        None => {
            let mut links = link_list(&log, "", page.links(), page.count, push_position);
            links.push(("metadata", [&log, "/metadata"].concat()));
            (log, links)
        }
        Some(filter) => {
            let (uri, query) = ([&log, "/filtered"].concat(), ["?", filter].concat());
            let links = link_list(&uri, &query, page.links(), page.count, push_position);
            (uri + &query, links)
        }
    };
    Feed {
        title: "All events".to_owned(),
        id,
        updated,
        stream: None,
        head_of_stream: false,
        has_self_url: false,
        tag: None,
        links,
    }
}

/// A position as printed: 32 hex digits. Both halves are the same here; clients treat the value as
/// opaque.
pub(crate) fn printed(position: Position) -> String {
    let mut text = String::with_capacity(32);
    push_position(&mut text, position);
    text
}

fn push_position(out: &mut String, position: Position) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{position:016X}{position:016X}");
}

fn push_number(out: &mut String, number: EventNumber) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// All links but that to metadata. `query` stands behind each; `push` prints a number or position.
fn link_list(
    uri: &str,
    query: &str,
    links: PageLinks,
    count: u64,
    push: impl Fn(&mut String, u64),
) -> Vec<(&'static str, String)> {
    let page = |place: Option<u64>, direction: &str| {
        let mut link = String::with_capacity(uri.len() + query.len() + ROOM_FOR_PAGE);
        link.push_str(uri);
        link.push('/');
        match place {
            Some(place) => push(&mut link, place),
            None => link.push_str("head"),
        }
        link.push_str(direction);
        push_number(&mut link, count);
        link.push_str(query);
        link
    };
    let mut list = Vec::with_capacity(6);
    list.push(("self", [uri, query].concat()));
    list.push(("first", page(None, "/backward/")));
    if links.last {
        list.push(("last", page(Some(0), "/forward/")));
    }
    if let Some(next) = links.next {
        list.push(("next", page(Some(next), "/backward/")));
    }
    if let Some(previous) = links.previous {
        list.push(("previous", page(Some(previous), "/forward/")));
    }
    list
}

/// What stands behind the URI of a stream in that of a page: place, direction and count.
const ROOM_FOR_PAGE: usize = 48;

/// The count in the path; `refusal` makes the reason why a text is none.
pub(crate) fn count(request: &Request<'_>, refusal: impl Fn(&str) -> String) -> Result<u64, ApiError> {
    match request.params.count.as_deref() {
        None => Ok(DEFAULT_PAGE_EVENTS),
        Some(text) => extract::count(text).ok_or_else(|| ApiError::BadRequest(refusal(text).into())),
    }
}

/// What a request for a page of `count` events from `start` on says.
///
/// # Errors
/// A header that cannot be read, or more events than a page may have (contract/streams 5 and 8).
pub(crate) fn request(request: &Request<'_>, count: u64, start: PageStart) -> Result<PageRequest, ApiError> {
    let headers = request.headers;
    Ok(PageRequest {
        start,
        barrier: extract::read_barrier(headers)?,
        long_poll: match start.direction() {
            Direction::Backward => None,
            Direction::Forward => {
                extract::long_poll(headers)?.map(|wait| LongPoll { wait, closed: request.connection.closed.clone() })
            }
        },
        size: PageSize::new(count).ok_or(ApiError::PageTooLarge)?,
        known_versions: caching::known_versions(headers, request.chosen.media_type),
    })
}

/// The answer with a page.
///
/// # Errors
/// The page was not read.
pub(crate) fn answer<F: PageFormat>(
    request: &Request<'_>,
    page: Result<PageRead<F>, ReadPageError>,
) -> Result<Response<Reply>, ApiError> {
    let page = page.map_err(|error| ApiError::of_read_page(error, request))?;
    let reply = delivery::document(request.connection, page.document);
    let mut answer = response::with_reply(StatusCode::OK, request.chosen.header(), reply);
    caching::add_page_headers(answer.headers_mut(), &page.facts, request);
    Ok(answer)
}
