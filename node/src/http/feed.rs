//! Pages of a stream (contract/streams 8).

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};

use super::atom::{self, Embed, Entry, Feed};
use super::caching::{self, Freshness};
use super::error::ApiError;
use super::limits::{DEFAULT_PAGE_EVENTS, MAX_PAGE_BYTES, MAX_PAGE_EVENTS, SMALL_PAGE_BYTES};
use super::links::Base;
use super::negotiate::MediaType;
use super::read::{self, Order, Page, Readable, Resolver};
use super::request::{ReadBarrier, Request};
use super::{Reply, extract, html, response};
use crate::event::paging::{BackwardPage, ForwardPage, From, PageLinks};
use crate::event::{EventNumber, RecordedEvent, stream_id};
use crate::store::{ReadError, StreamInfo};

/// Which way a page goes and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Backward(From),
    Forward(EventNumber),
}

impl Direction {
    /// The count of a page that ends right before number `cut_at`: what is left of one that its bytes cut short. It is an
    /// ordinary page of a smaller count, so its links lead on without a gap.
    fn count_before(self, cut_at: EventNumber, last: EventNumber) -> u64 {
        match self {
            Self::Backward(From::Head) => last - cut_at,
            Self::Backward(From::Number(from)) => from - cut_at,
            Self::Forward(from) => cut_at - from,
        }
    }
}

/// What a page request says.
#[derive(Debug)]
struct PageRequest {
    stream: String,
    direction: Direction,
    count: u64,
    resolve_links: bool,
    barrier: ReadBarrier,
    long_poll: Option<Duration>,
}

/// Whose pages are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The stream in the path.
    Stream,
    /// Its metadata.
    Metadata,
}

fn parse(request: &Request<'_>, of: Of, is_forward: bool) -> Result<PageRequest, ApiError> {
    let (params, headers) = (request.params, request.headers);
    let stream = match of {
        Of::Stream => params.stream.clone(),
        Of::Metadata if stream_id::is_metastream(&params.stream) => {
            return Err(ApiError::BadRequest(format!("Invalid stream name '{}'", params.stream).into()));
        }
        Of::Metadata => format!("{}{}", stream_id::METASTREAM_PREFIX, params.stream),
    };
    extract::stream(&params.stream)?;
    let number = params.number.as_deref().unwrap_or("head");
    let direction = match number {
        _ if is_forward => Direction::Forward(extract::number(number)?),
        "head" => Direction::Backward(From::Head),
        _ => Direction::Backward(From::Number(extract::number(number)?)),
    };
    let count = count(params.count.as_deref())?;
    let resolve_links = extract::resolve_links(headers)?;
    let barrier = ReadBarrier::parse(headers)?;
    let long_poll = if is_forward { extract::long_poll(headers)? } else { None };
    Ok(PageRequest { stream, direction, count, resolve_links, barrier, long_poll })
}

fn count(text: Option<&str>) -> Result<u64, ApiError> {
    let Some(text) = text else { return Ok(DEFAULT_PAGE_EVENTS) };
    extract::count(text)
        .ok_or_else(|| ApiError::BadRequest(format!("'{text}' is not valid count. Should be positive integer").into()))
}

/// What one look at the store found.
struct Found {
    info: StreamInfo,
    page: FoundPage,
}

impl Found {
    fn is_cut_short(&self, wanted: u64) -> bool {
        matches!(&self.page, FoundPage::Entries { count, .. } if *count < wanted)
    }
}

enum FoundPage {
    /// `count` is less than asked for when the page was cut short by its bytes.
    Entries {
        entries: Vec<Entry>,
        lowest: Option<EventNumber>,
        count: u64,
    },
    NotModified,
    Unreadable(ApiError),
}

/// GET of any page of a stream or of its metadata.
pub async fn page(request: &Request<'_>, of: Of, is_forward: bool) -> Result<Response<Reply>, ApiError> {
    let wanted = parse(request, of, is_forward)?;
    if wanted.count > MAX_PAGE_EVENTS {
        return Err(ApiError::PageTooLarge);
    }
    request.read_barrier(wanted.barrier).await?;
    let mut found = look(request, &wanted, SMALL_PAGE_BYTES).await?;
    if let (Some(wait), Direction::Forward(from)) = (wanted.long_poll, wanted.direction)
        && !found.info.tombstoned
        && ForwardPage::is_beyond_the_head(from, found.info.last_number)
    {
        let state = request.state;
        state.waiters.stream_grows(state.cluster.store(), &wanted.stream, found.info.last_number, wait).await?;
        found = look(request, &wanted, SMALL_PAGE_BYTES).await?;
    }
    if !found.is_cut_short(wanted.count) {
        return render(request, &wanted, found);
    }
    drop(found);
    let _place = request.large_page().await?;
    let found = look(request, &wanted, MAX_PAGE_BYTES).await?;
    render(request, &wanted, found)
}

/// Reads everything of the page under one view.
async fn look(request: &Request<'_>, wanted: &PageRequest, max_bytes: usize) -> Result<Found, ApiError> {
    let (stream, direction, count, resolve) =
        (wanted.stream.clone(), wanted.direction, wanted.count, wanted.resolve_links);
    let headers: HeaderMap = if_none_match(request.headers);
    let media_type = request.chosen.media_type;
    let now = read::now();
    let read = move |view: &crate::store::ReadView<'_>| -> Result<Found, ReadError> {
        let info = view.stream(&stream)?;
        let version = info.last_number.map_or(-1, |last| last as i64);
        if !headers.is_empty() && caching::matches(&headers, &caching::tag(version, media_type)) {
            return Ok(Found { info, page: FoundPage::NotModified });
        }
        let bounds = match read::readable(&info) {
            Readable::Yes(bounds) => bounds,
            Readable::NotFound => return Ok(Found { info, page: FoundPage::Unreadable(ApiError::NotFound) }),
            Readable::Deleted => return Ok(Found { info, page: FoundPage::Unreadable(ApiError::Deleted) }),
        };
        let (numbers, order) = match direction {
            Direction::Backward(from) => (BackwardPage::new(bounds, from, count).numbers(), Order::NewestFirst),
            Direction::Forward(from) => (ForwardPage::new(bounds, from, count).numbers(), Order::OldestFirst),
        };
        let Page { events, cut_at } = read::page(view, &info, numbers, order, now, max_bytes)?;
        let count = cut_at.map_or(count, |cut_at| direction.count_before(cut_at, bounds.last));
        let lowest = events.last().map(|event| event.number);
        let mut resolver = Resolver::new(view, now);
        let entry = |event: RecordedEvent| if resolve { resolver.entry(event) } else { Ok(Entry::Plain(event)) };
        let entries = events.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Found { info, page: FoundPage::Entries { entries, lowest, count } })
    };
    Ok(request.state.cluster.store().read(read).await?)
}

/// Only If-None-Match, because the closure of a read owns what it needs.
pub fn if_none_match(headers: &HeaderMap) -> HeaderMap {
    let values = headers.get_all(http::header::IF_NONE_MATCH).iter();
    values.map(|value| (http::header::IF_NONE_MATCH, value.clone())).collect()
}

fn render(request: &Request<'_>, wanted: &PageRequest, found: Found) -> Result<Response<Reply>, ApiError> {
    let info = found.info;
    let (entries, lowest, count) = match found.page {
        FoundPage::Entries { entries, lowest, count } => (entries, lowest, count),
        FoundPage::NotModified => return Err(ApiError::NotModified),
        FoundPage::Unreadable(error) => return Err(error),
    };
    let Readable::Yes(bounds) = read::readable(&info) else { return Err(ApiError::NotFound) };
    let base = request.base();
    let (links, is_immutable, head_of_stream) = match wanted.direction {
        Direction::Backward(from) => {
            let page = BackwardPage::new(bounds, from, count);
            (page.links(lowest), page.is_immutable(), from == From::Head)
        }
        Direction::Forward(from) => {
            let page = ForwardPage::new(bounds, from, count);
            (page.links(!entries.is_empty()), page.is_immutable(), page.reaches_the_head())
        }
    };
    let is_backward = matches!(wanted.direction, Direction::Backward(_));
    let is_head = is_backward && head_of_stream;
    let dated_by = if is_backward { entries.first() } else { entries.last() };
    let uri = base.stream(&wanted.stream);
    let feed = Feed {
        title: format!("Event stream '{}'", wanted.stream),
        links: link_list(&uri, links, wanted.count),
        id: uri,
        updated: dated_by.and_then(Entry::shown).map(|event| event.time),
        stream: Some(wanted.stream.clone()),
        head_of_stream,
        has_self_url: is_backward,
        tag: is_head.then(|| caching::tag(bounds.last as i64, MediaType::AtomJson)),
        entries,
    };
    let mut answer = document(request, &feed, &base);
    let freshness = match is_immutable {
        true => Freshness::Immutable,
        false => Freshness::Head { cache_control_s: info.metadata.cache_control_s },
    };
    let is_public = caching::is_public(&wanted.stream, &info);
    caching::add_headers(&mut answer, freshness, is_public, request.state.config.disable_http_caching);
    if freshness != Freshness::Immutable {
        caching::add_tag(&mut answer, &caching::tag(bounds.last as i64, request.chosen.media_type));
    }
    Ok(answer)
}

fn link_list(uri: &str, links: PageLinks, count: u64) -> Vec<(&'static str, String)> {
    let mut list = Vec::with_capacity(6);
    list.push(("self", uri.to_owned()));
    list.push(("first", format!("{uri}/head/backward/{count}")));
    if links.last {
        list.push(("last", format!("{uri}/0/forward/{count}")));
    }
    if let Some(next) = links.next {
        list.push(("next", format!("{uri}/{next}/backward/{count}")));
    }
    if let Some(previous) = links.previous {
        list.push(("previous", format!("{uri}/{previous}/forward/{count}")));
    }
    list.push(("metadata", format!("{uri}/metadata")));
    list
}

/// The feed in the negotiated type.
pub fn document(request: &Request<'_>, feed: &Feed, base: &Base) -> Response<Reply> {
    let media_type = request.chosen.media_type;
    let embed = Embed::parse(request.query("embed").as_deref());
    let body = match media_type {
        MediaType::Html => {
            let path = feed.stream.as_deref().unwrap_or(stream_id::ALL);
            html::page(&atom::json::feed(feed, base, Embed::Pretty), path, None)
        }
        _ if media_type.is_json() => atom::json::feed(feed, base, embed),
        _ => atom::xml::feed(feed, base, embed),
    };
    response::with_body(StatusCode::OK, request.chosen.header(), body)
}
