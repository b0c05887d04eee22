//! Pages of the log of all events (contract/streams 10).

use std::time::Duration;

use http::Response;

use super::atom::{Entry, Feed};
use super::caching::{self, Freshness};
use super::error::ApiError;
use super::limits::{DEFAULT_PAGE_EVENTS, MAX_PAGE_BYTES, MAX_PAGE_EVENTS, SMALL_PAGE_BYTES};
use super::links::Base;
use super::read::{self, Resolver};
use super::request::{ReadBarrier, Request};
use super::{Reply, extract, feed};
use crate::event::{Position, stream_id};
use crate::store::{ReadError, ReadView, StreamInfo};

/// A position as printed: 32 hex digits. Both halves are the same here; clients treat the value as opaque.
pub fn printed(position: Position) -> String {
    format!("{position:016X}{position:016X}")
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Backward from the newest event.
    Head,
    /// Backward: the events before this position.
    Before(Position),
    /// Forward: the event at this position first.
    At(Position),
}

/// What one look at the store found.
struct Found {
    /// An error when If-None-Match holds the current version.
    entries: Result<Vec<Entry>, ApiError>,
    next_position: Position,
    info: StreamInfo,
}

/// What a request for a page of the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Where it begins.
    pub from: From,
    /// How many events it has at most.
    pub count: u64,
    /// What it demands of the node.
    pub barrier: ReadBarrier,
    /// How long it waits for the first event.
    pub long_poll: Option<Duration>,
}

/// Reads path and headers.
pub fn parse(request: &Request<'_>, is_forward: bool) -> Result<PageRequest, ApiError> {
    let (params, headers) = (request.params, request.headers);
    let from = match params.number.as_deref().unwrap_or("head") {
        text if is_forward => From::At(extract::position(text)?),
        "head" => From::Head,
        text => From::Before(extract::position(text)?),
    };
    let count = match params.count.as_deref() {
        None => DEFAULT_PAGE_EVENTS,
        Some(text) => extract::count(text)
            .ok_or_else(|| ApiError::BadRequest(format!("Invalid count argument: {text}").into()))?,
    };
    let barrier = ReadBarrier::parse(headers)?;
    let long_poll: Option<Duration> = if is_forward { extract::long_poll(headers)? } else { None };
    if count > MAX_PAGE_EVENTS {
        return Err(ApiError::PageTooLarge);
    }
    Ok(PageRequest { from, count, barrier, long_poll })
}

/// GET of any page of `$all`.
pub async fn page(request: &Request<'_>, is_forward: bool) -> Result<Response<Reply>, ApiError> {
    let PageRequest { from, count, barrier, long_poll } = parse(request, is_forward)?;
    request.read_barrier(barrier).await?;
    let mut found = look(request, from, count, SMALL_PAGE_BYTES).await?;
    if let (Some(wait), From::At(position)) = (long_poll, from)
        && position >= found.next_position
    {
        let state = request.state;
        state.waiters.log_grows(state.cluster.store(), found.next_position, wait).await?;
        found = look(request, from, count, SMALL_PAGE_BYTES).await?;
    }
    let is_cut =
        |entries: &Vec<Entry>| (entries.len() as u64) < count && is_cut_short(from, entries, found.next_position);
    if !found.entries.as_ref().is_ok_and(is_cut) {
        return render(request, from, count, found);
    }
    drop(found);
    let _place = request.large_page().await?;
    let found = look(request, from, count, MAX_PAGE_BYTES).await?;
    render(request, from, count, found)
}

async fn look(request: &Request<'_>, from: From, count: u64, max_bytes: usize) -> Result<Found, ApiError> {
    let headers = feed::if_none_match(request.headers);
    let media_type = request.chosen.media_type;
    let now = read::now();
    let read = move |view: &ReadView<'_>| -> Result<Found, ReadError> {
        let next_position = view.next_position()?;
        let info = view.stream(stream_id::ALL)?;
        let found = |entries| Ok(Found { entries, next_position, info: info.clone() });
        if !headers.is_empty() && caching::matches(&headers, &caching::tag(next_position as i64 - 1, media_type)) {
            return found(Err(ApiError::NotModified));
        }
        let most = count as usize;
        let mut events = match from {
            From::Head => view.log_backward(next_position, most, max_bytes)?,
            From::Before(position) => view.log_backward(position.min(next_position), most, max_bytes)?,
            From::At(position) => view.log_forward(position, most, max_bytes)?,
        };
        if matches!(from, From::At(_)) {
            events.reverse();
        }
        let mut resolver = Resolver::new(view, now);
        let entries = events.into_iter().map(|event| resolver.entry(event)).collect::<Result<_, _>>()?;
        found(Ok(entries))
    };
    Ok(request.state.cluster.store().read(read).await?)
}

/// Whether a page ends although there is more of the log in its direction: positions are dense, so the last one tells.
fn is_cut_short(from: From, entries: &[Entry], next_position: Position) -> bool {
    let (newest, oldest) = (entries.first().map(at), entries.last().map(at));
    match from {
        From::Head | From::Before(_) => oldest.is_some_and(|oldest| oldest > 0),
        From::At(_) => newest.is_some_and(|newest| newest + 1 < next_position),
    }
}

fn at(entry: &Entry) -> Position {
    entry.positioned().position
}

fn render(request: &Request<'_>, from: From, count: u64, found: Found) -> Result<Response<Reply>, ApiError> {
    let entries = found.entries?;
    // A page that its bytes cut short has something beyond it as well: it is a full page of a smaller count.
    let is_full = entries.len() as u64 >= count || is_cut_short(from, &entries, found.next_position);
    let reached = match from {
        From::Head | From::Before(_) => entries.last().map(at),
        From::At(_) => entries.first().map(|newest| at(newest) + 1),
    };
    let page = Page { from, count, entries, reached, is_full, next_position: found.next_position };
    let base = request.base();
    let uri = base.stream(stream_id::ALL);
    let mut links = page.links(&uri, "");
    links.push(("metadata", format!("{uri}/metadata")));
    Ok(page.answer(request, &base, uri, links, &found.info))
}

/// A page of the log, or of what a filter leaves of it.
pub struct Page {
    /// Where it begins.
    pub from: From,
    /// How many entries were asked for.
    pub count: u64,
    /// The newest first.
    pub entries: Vec<Entry>,
    /// How far it goes, if it goes anywhere: the smallest position of a backward page, the one behind a forward page.
    pub reached: Option<Position>,
    /// Whether there is more behind it.
    pub is_full: bool,
    /// Position of the next event of the log.
    pub next_position: Position,
}

impl Page {
    /// The links but `metadata`; `query` is put behind each.
    pub fn links(&self, uri: &str, query: &str) -> Vec<(&'static str, String)> {
        let Self { from, count, reached, is_full, .. } = *self;
        let (has_last, next, previous) = match from {
            From::Head => (is_full, reached.filter(|_| is_full), Some(self.next_position)),
            From::Before(position) => (is_full, reached.filter(|_| is_full), Some(position.min(self.next_position))),
            From::At(position) => (position != 0, (position != 0).then_some(position), reached),
        };
        let mut links =
            vec![("self", format!("{uri}{query}")), ("first", format!("{uri}/head/backward/{count}{query}"))];
        if has_last {
            links.push(("last", format!("{uri}/{}/forward/{count}{query}", printed(0))));
        }
        if let Some(next) = next {
            links.push(("next", format!("{uri}/{}/backward/{count}{query}", printed(next))));
        }
        if let Some(previous) = previous {
            links.push(("previous", format!("{uri}/{}/forward/{count}{query}", printed(previous))));
        }
        links
    }

    /// The page in the negotiated type, with its headers.
    pub fn answer(
        self,
        request: &Request<'_>,
        base: &Base,
        id: String,
        links: Vec<(&'static str, String)>,
        info: &StreamInfo,
    ) -> Response<Reply> {
        let Self { from, entries, is_full, next_position, .. } = self;
        let document = Feed {
            title: "All events".to_owned(),
            id,
            updated: entries.first().and_then(Entry::shown).map(|event| event.time),
            stream: None,
            head_of_stream: false,
            has_self_url: false,
            tag: None,
            links,
            entries,
        };
        let mut answer = feed::document(request, &document, base);
        let is_immutable = match from {
            From::Head => false,
            From::Before(position) => position <= next_position,
            From::At(_) => is_full,
        };
        let freshness = match is_immutable {
            true => Freshness::Immutable,
            false => Freshness::Head { cache_control_s: info.metadata.cache_control_s },
        };
        let is_public = caching::is_public(stream_id::ALL, info);
        caching::add_headers(&mut answer, freshness, is_public, request.state.config.disable_http_caching);
        if !is_immutable {
            caching::add_tag(&mut answer, &caching::tag(next_position as i64 - 1, request.chosen.media_type));
        }
        answer
    }
}
