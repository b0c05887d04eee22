//! Pages of a stream (contract/streams 8).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use crate::access::Policy;
use crate::event::paging::{BackwardPage, ForwardPage, From, PageLinks};
use crate::event::visibility::{Bounds, VisibleEvents};
use crate::event::{EventNumber, LINK_EVENT_TYPE, MAX_NUMBER, StreamNameRef, Ticks, Visibility};
use crate::http::Reply;
use crate::http::exchange::caching::{self, Freshness};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::kept_pages::{KeptPages, PageKey};
use crate::http::exchange::negotiate::MediaType;
use crate::http::exchange::request::{ReadBarrier, Request};
use crate::http::exchange::{delivery, extract, response};
use crate::http::format::atom::{Embed, Feed, Format, Notation};
use crate::http::format::links::Base;
use crate::http::limits::{DEFAULT_PAGE_EVENTS, MAX_PAGE_EVENTS};
use crate::http::resources::live;
use crate::http::resources::page::{self, Beginning, DatedBy, Ends, Events, Page};
use crate::http::resources::read::{self, Targets};
use crate::http::resources::streams;

use crate::store::{Headings, ReadError, ReadView, StreamInfo};

/// Which way a page goes and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Backward(From),
    Forward(EventNumber),
}

/// What a page request says.
#[derive(Debug, Clone)]
struct PageRequest {
    stream: String,
    direction: Direction,
    count: u64,
    resolve_links: bool,
    barrier: ReadBarrier,
    long_poll: Option<Duration>,
}

impl PageRequest {
    /// Whether the newest events are asked for, whatever their numbers.
    fn is_head(&self) -> bool {
        self.direction == Direction::Backward(From::Head)
    }
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
    let metastream = match of {
        Of::Stream => None,
        Of::Metadata if StreamNameRef::new(&params.stream).is_metastream() => {
            return Err(ApiError::BadRequest(format!("Invalid stream name '{}'", params.stream).into()));
        }
        Of::Metadata => Some(StreamNameRef::new(&params.stream).metastream()),
    };
    let stream = extract::stream(&params.stream)?;
    let stream = metastream.unwrap_or_else(|| stream.into());
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
    info: Arc<StreamInfo>,
    answer: FoundPage,
}

enum FoundPage {
    Page {
        bounds: Bounds,
        /// The document, or its head and the page that follows.
        document: Document,
        is_public: bool,
    },
    /// Not to be read, not there, or not modified.
    None(ApiError),
}

/// A page as written by the first look at it.
pub enum Document {
    /// All of it.
    Whole(Bytes),
    /// What comes before the entries of a large page.
    Head(Vec<u8>, Page),
}

/// GET /streams/{stream}: the newest page, or the stream as server-sent events.
pub(crate) async fn head(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.is_live() {
        // Rare, and larger than a page.
        return Box::pin(live::stream(request)).await;
    }
    backward(request).await
}

/// GET /streams/{stream}/{number}/backward/{count}
pub(crate) async fn backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    match streams::description(request) {
        Some(answer) => Ok(answer),
        None => page(request, Of::Stream, false).await,
    }
}

/// GET /streams/{stream}/{number}/forward/{count}
pub(crate) async fn forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, Of::Stream, true).await
}

/// GET /streams/{stream}/metadata/{number}/backward/{count}
pub(crate) async fn metadata_backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, Of::Metadata, false).await
}

/// GET /streams/{stream}/metadata/{number}/forward/{count}
pub(crate) async fn metadata_forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, Of::Metadata, true).await
}

async fn page(request: &Request<'_>, of: Of, is_forward: bool) -> Result<Response<Reply>, ApiError> {
    let wanted = Arc::new(parse(request, of, is_forward)?);
    if wanted.count > MAX_PAGE_EVENTS {
        return Err(ApiError::PageTooLarge);
    }
    request.read_barrier(wanted.barrier).await?;
    let mut found = look(request, &wanted).await?;
    if let (Some(wait), Direction::Forward(from)) = (wanted.long_poll, wanted.direction)
        && !found.info.tombstoned
        && !matches!(found.answer, FoundPage::None(ApiError::Unauthorized))
        && ForwardPage::is_beyond_the_head(from, found.info.last_number)
    {
        let state = request.state;
        state.waiters.stream_grows(state.cluster.store(), &wanted.stream, found.info.last_number, wait).await?;
        found = look(request, &wanted).await?;
    }
    let (bounds, document, is_public) = match found.answer {
        FoundPage::Page { bounds, document, is_public } => (bounds, document, is_public),
        FoundPage::None(answer) => return Err(answer),
    };
    let reply = deliver(request, document).await?;
    Ok(answer(request, &wanted, &found.info, bounds, is_public, reply))
}

/// Finds the page in memory, or reads it under one view, and writes it where it is small.
async fn look(request: &Request<'_>, wanted: &Arc<PageRequest>) -> Result<Found, ApiError> {
    let store = request.state.cluster.store();
    let look = Look {
        headers: if_none_match(request.headers),
        media_type: request.chosen.media_type,
        format: format(request, &wanted.stream),
        now: read::now(),
        policy: request.policy().await?,
        kept: request.state.kept_pages.clone(),
        wanted: wanted.clone(),
    };
    let (place, known) = store.known_stream(&wanted.stream);
    let Some(info) = known else {
        let read = move |view: &ReadView<'_>| look.read(view, Arc::new(view.stream(&look.wanted.stream)?));
        let found = store.read(read).await?;
        store.remember_stream(place, &wanted.stream, &found.info);
        return Ok(found);
    };
    match look.answer_from_memory(&info) {
        Some(answer) => {
            if matches!(answer, FoundPage::Page { .. }) {
                request.state.http_metrics.sent_kept_page();
            }
            Ok(Found { info, answer })
        }
        // What is known of the stream holds for this read, too: the view is not older.
        None => Ok(store.read(move |view: &ReadView<'_>| look.read(view, info.clone())).await?),
    }
}

/// Everything that a look at a stream needs; a look at the disk may need it twice.
struct Look {
    wanted: Arc<PageRequest>,
    headers: HeaderMap,
    media_type: MediaType,
    format: Format,
    now: Ticks,
    policy: Policy,
    kept: Arc<KeptPages>,
}

/// A page before its events are looked up.
struct Outline {
    bounds: Bounds,
    numbers: Option<RangeInclusive<EventNumber>>,
    /// Older events are not shown.
    oldest: Ticks,
}

impl Look {
    /// What the state of the stream alone says: which numbers the page has, or an answer that is none.
    fn outline(&self, info: &StreamInfo) -> Result<Outline, ApiError> {
        let wanted = &self.wanted;
        if !self.policy.may_read(&wanted.stream, info) {
            return Err(ApiError::Unauthorized);
        }
        // The last event of a hard-deleted stream is its tombstone.
        let last = if info.tombstoned { Some(MAX_NUMBER) } else { info.last_number };
        let version = last.map_or(-1, |last| last as i64);
        if !self.headers.is_empty() && caching::matches(&self.headers, &caching::tag(version, self.media_type)) {
            return Err(ApiError::NotModified);
        }
        let VisibleEvents { bounds, oldest } = match info.visibility(self.now) {
            Visibility::Readable(visible) => visible,
            Visibility::NotFound => return Err(ApiError::NotFound),
            Visibility::Deleted => return Err(ApiError::Deleted),
        };
        let numbers = match wanted.direction {
            Direction::Backward(from) => BackwardPage::new(bounds, from, wanted.count).numbers(),
            Direction::Forward(from) => ForwardPage::new(bounds, from, wanted.count).numbers(),
        };
        Ok(Outline { bounds, numbers, oldest })
    }

    /// The answer, if nothing is needed for it that is not in memory.
    fn answer_from_memory(&self, info: &StreamInfo) -> Option<FoundPage> {
        let outline = match self.outline(info) {
            Ok(outline) => outline,
            Err(answer) => return Some(FoundPage::None(answer)),
        };
        let document = self.kept.get(&self.key(info, &outline)?)?;
        let is_public = self.policy.is_public(&self.wanted.stream, info);
        Some(FoundPage::Page { bounds: outline.bounds, document: Document::Whole(document), is_public })
    }

    fn read(&self, view: &ReadView<'_>, info: Arc<StreamInfo>) -> Result<Found, ReadError> {
        let answer = match self.outline(&info) {
            Ok(outline) => self.read_events(view, &info, outline)?,
            Err(answer) => FoundPage::None(answer),
        };
        Ok(Found { info, answer })
    }

    fn read_events(&self, view: &ReadView<'_>, info: &StreamInfo, outline: Outline) -> Result<FoundPage, ReadError> {
        let key = self.key(info, &outline);
        let Outline { bounds, numbers, oldest } = outline;
        let wanted = &self.wanted;
        let (places, headings) = match (info.id, numbers.clone()) {
            (Some(id), Some(numbers)) if self.format.shows_headings_alone() => view.places_and_headings(id, numbers)?,
            (Some(id), Some(numbers)) => (view.places(id, numbers)?, None),
            _ => (Vec::new(), None),
        };
        let may_have_links = match (info.id, numbers) {
            (Some(id), Some(numbers)) if page::is_large(&places) => match &headings {
                Some(headings) => has_links(headings),
                // The head of a large page is sent before its rows are read; the index tells the types, where it has them.
                None => view.places_and_headings(id, numbers)?.1.as_ref().is_none_or(has_links),
            },
            _ => true,
        };
        let page = Page {
            events: Events::Places(places),
            format: self.format.clone(),
            follows_links: wanted.resolve_links,
            may_have_links,
            oldest,
            now: self.now,
            policy: self.policy.clone(),
        };
        let dated_by = match wanted.direction {
            Direction::Backward(_) => DatedBy::Newest,
            Direction::Forward(_) => DatedBy::Oldest,
        };
        let feed = |ends| feed(wanted, bounds, &self.format.base, ends);
        let by_headings = match headings {
            Some(headings) => page.begin_by_headings(view, &wanted.stream, &headings, dated_by, feed)?,
            None => None,
        };
        let (beginning, targets) = match by_headings {
            Some(begun) => begun,
            None => page.begin(view, dated_by, feed)?,
        };
        if targets == Targets::Denied {
            return Ok(FoundPage::None(ApiError::Unauthorized));
        }
        let is_public = targets == Targets::Public && self.policy.is_public(&wanted.stream, info);
        let document = match beginning {
            Beginning::Whole(document, depends_on_its_events_alone) => {
                let is_to_be_kept = |key: &PageKey| depends_on_its_events_alone && self.kept.is_wanted_again(key);
                match key.filter(is_to_be_kept) {
                    None => Document::Whole(document.into()),
                    Some(key) => {
                        // Without the memory that it was written in.
                        let document = Bytes::from(document.into_boxed_slice());
                        self.kept.put(key, document.clone());
                        Document::Whole(document)
                    }
                }
            }
            Beginning::Head(head) => Document::Head(head, page),
        };
        Ok(FoundPage::Page { bounds, document, is_public })
    }

    /// What a document of this page depends on; `None` when that is more than numbers: the time of day, or that there are no events.
    fn key(&self, info: &StreamInfo, outline: &Outline) -> Option<PageKey> {
        let (wanted, numbers) = (&self.wanted, outline.numbers.as_ref()?);
        if outline.oldest != Ticks(0) {
            return None;
        }
        let numbers = (*numbers.start(), *numbers.end());
        let (links, head_of_stream) = links(wanted, outline.bounds, Some(numbers.0));
        Some(PageKey {
            stream_id: info.id?,
            numbers,
            links,
            count: wanted.count,
            head_of_stream,
            version: wanted.is_head().then_some(outline.bounds.last),
            is_backward: matches!(wanted.direction, Direction::Backward(_)),
            follows_links: wanted.resolve_links,
            format: self.format.clone(),
        })
    }
}

/// How the feed of a stream is written for this request.
pub fn format(request: &Request<'_>, stream: &str) -> Format {
    let (notation, embed) = match request.chosen.media_type {
        MediaType::Html => (Notation::Html { stream: stream.to_owned() }, Embed::Pretty),
        media_type => {
            let notation = if media_type.is_json() { Notation::Json } else { Notation::Xml };
            (notation, Embed::parse(request.query("embed").as_deref()))
        }
    };
    Format { notation, embed, base: request.base() }
}

/// The body with this document; a large one reserves its memory first.
pub async fn deliver(request: &Request<'_>, document: Document) -> Result<Reply, ApiError> {
    match document {
        Document::Whole(body) => Ok(Reply::new(body)),
        Document::Head(head, page) => {
            let memory = request.answer_memory().await?;
            let state = request.state;
            let reply = delivery::page(state.cluster.store(), &state.budgets.answers, memory, page, head).await?;
            reply.ok_or(ApiError::Unauthorized)
        }
    }
}

/// Only If-None-Match, because the closure of a read owns what it needs.
pub fn if_none_match(headers: &HeaderMap) -> HeaderMap {
    let values = headers.get_all(http::header::IF_NONE_MATCH).iter();
    values.map(|value| (http::header::IF_NONE_MATCH, value.clone())).collect()
}

/// Where a page leads, given the smallest number among its visible events, and whether it reaches the head of the stream.
fn has_links(headings: &Headings) -> bool {
    headings.events("").any(|event| event.event_type == LINK_EVENT_TYPE)
}

fn links(wanted: &PageRequest, bounds: Bounds, lowest: Option<EventNumber>) -> (PageLinks, bool) {
    match wanted.direction {
        Direction::Backward(from) => (BackwardPage::new(bounds, from, wanted.count).links(lowest), from == From::Head),
        Direction::Forward(from) => {
            let page = ForwardPage::new(bounds, from, wanted.count);
            (page.links(lowest.is_some()), page.reaches_the_head())
        }
    }
}

/// What the feed says of itself, given its entries.
fn feed(wanted: &PageRequest, bounds: Bounds, base: &Base, ends: Ends) -> Feed {
    let (links, head_of_stream) = links(wanted, bounds, ends.lowest);
    let uri = base.stream(&wanted.stream);
    Feed {
        title: ["Event stream '", &wanted.stream, "'"].concat(),
        links: link_list(&uri, links, wanted.count),
        id: uri,
        updated: ends.updated,
        stream: Some(wanted.stream.clone()),
        head_of_stream,
        has_self_url: matches!(wanted.direction, Direction::Backward(_)),
        tag: wanted.is_head().then(|| caching::tag(bounds.last as i64, MediaType::AtomJson)),
    }
}

fn answer(
    request: &Request<'_>,
    wanted: &PageRequest,
    info: &StreamInfo,
    bounds: Bounds,
    is_public: bool,
    reply: Reply,
) -> Response<Reply> {
    let media_type = request.chosen.media_type;
    let mut answer = response::with_reply(StatusCode::OK, request.chosen.header(), reply);
    let is_immutable = match wanted.direction {
        Direction::Backward(from) => BackwardPage::new(bounds, from, wanted.count).is_immutable(),
        Direction::Forward(from) => ForwardPage::new(bounds, from, wanted.count).is_immutable(),
    };
    let freshness = match is_immutable {
        true => Freshness::Immutable,
        false => Freshness::Head { cache_control_s: info.metadata.cache_control_s },
    };
    caching::add_headers(&mut answer, freshness, is_public, request.state.config.disable_http_caching);
    if !is_immutable {
        caching::add_tag(&mut answer, &caching::tag(bounds.last as i64, media_type));
    }
    answer
}

fn link_list(uri: &str, links: PageLinks, count: u64) -> Vec<(&'static str, String)> {
    let mut list = Vec::with_capacity(6);
    list.push(("self", uri.to_owned()));
    list.push(("first", page_uri(uri, "head", "backward", count)));
    if links.last {
        list.push(("last", page_uri(uri, "0", "forward", count)));
    }
    let mut digits = itoa::Buffer::new();
    if let Some(next) = links.next {
        list.push(("next", page_uri(uri, digits.format(next), "backward", count)));
    }
    if let Some(previous) = links.previous {
        list.push(("previous", page_uri(uri, digits.format(previous), "forward", count)));
    }
    list.push(("metadata", [uri, "/metadata"].concat()));
    list
}

fn page_uri(stream: &str, from: &str, direction: &str, count: u64) -> String {
    [stream, "/", from, "/", direction, "/", itoa::Buffer::new().format(count)].concat()
}
