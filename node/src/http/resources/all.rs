//! Pages of the log of all events (contract/streams 10).

use std::ops::Range;
use std::time::Duration;

use http::{Response, StatusCode};

use crate::event::{Position, Ticks, stream_name};
use crate::http::Reply;
use crate::http::exchange::caching::{self, Freshness};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::{ReadBarrier, Request};
use crate::http::exchange::{extract, response};
use crate::http::format::atom::Feed;
use crate::http::limits::{DEFAULT_PAGE_EVENTS, MAX_PAGE_EVENTS};
use crate::http::resources::feed::{self, Document};
use crate::http::resources::live;
use crate::http::resources::page::{self, Beginning, DatedBy, Ends, Events};
use crate::http::resources::read::{self, Targets};
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

impl From {
    /// The positions of a page of `count` events. They are dense: none is missing between them.
    fn positions(self, count: u64, next_position: Position) -> Range<Position> {
        match self {
            Self::Head => next_position.saturating_sub(count)..next_position,
            Self::Before(position) => {
                let end = position.min(next_position);
                end.saturating_sub(count)..end
            }
            Self::At(position) => {
                let start = position.min(next_position);
                start..start.saturating_add(count).min(next_position)
            }
        }
    }
}

/// What one look at the store found.
struct Found {
    /// An error when If-None-Match holds the current version.
    document: Result<Document, ApiError>,
    page: Page,
    info: StreamInfo,
    is_public: bool,
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

/// GET /streams/$all: the newest page, or the log as server-sent events.
pub(crate) async fn head(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.is_live() { Box::pin(live::log(request, None)).await } else { page(request, false).await }
}

/// GET /streams/$all/{number}/backward/{count}
pub(crate) async fn backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, false).await
}

/// GET /streams/$all/{number}/forward/{count}
pub(crate) async fn forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, true).await
}

async fn page(request: &Request<'_>, is_forward: bool) -> Result<Response<Reply>, ApiError> {
    let PageRequest { from, count, barrier, long_poll } = parse(request, is_forward)?;
    request.read_barrier(barrier).await?;
    let mut found = look(request, from, count).await?;
    if let (Some(wait), From::At(position)) = (long_poll, from)
        && position >= found.page.next_position
        && !matches!(found.document, Err(ApiError::Unauthorized))
    {
        let state = request.state;
        state.waiters.log_grows(state.cluster.store(), found.page.next_position, wait).await?;
        found = look(request, from, count).await?;
    }
    let reply = feed::deliver(request, found.document?).await?;
    Ok(found.page.answer(request, reply, &found.info, found.is_public))
}

async fn look(request: &Request<'_>, from: From, count: u64) -> Result<Found, ApiError> {
    let headers = feed::if_none_match(request.headers);
    let media_type = request.chosen.media_type;
    let format = feed::format(request, stream_name::ALL);
    let now = read::now();
    let policy = request.policy().await?;
    let read = move |view: &ReadView<'_>| -> Result<Found, ReadError> {
        let next_position = view.next_position()?;
        let info = view.stream(stream_name::ALL)?;
        let positions = from.positions(count, next_position);
        let is_forward = matches!(from, From::At(_));
        let page = Page {
            from,
            count,
            reached: (!positions.is_empty()).then_some(if is_forward { positions.end } else { positions.start }),
            is_full: positions.end - positions.start >= count,
            next_position,
        };
        let refused = |error, info| Ok(Found { document: Err(error), page, info, is_public: false });
        if !policy.may_read(stream_name::ALL, &info) {
            return refused(ApiError::Unauthorized, info);
        }
        if !headers.is_empty() && caching::matches(&headers, &caching::tag(next_position as i64 - 1, media_type)) {
            return refused(ApiError::NotModified, info);
        }
        let events = page::Page {
            events: Events::Log(positions),
            format: format.clone(),
            // Links are always followed here (contract/streams 10).
            follows_links: true,
            may_have_links: true,
            oldest: Ticks(0),
            now,
            policy: policy.clone(),
        };
        let uri = format.base.stream(stream_name::ALL);
        let mut links = page.links(&uri, "");
        links.push(("metadata", format!("{uri}/metadata")));
        let (beginning, targets) = events.begin(view, DatedBy::Newest, |ends: Ends| feed(uri, ends.updated, links))?;
        if targets == Targets::Denied {
            return refused(ApiError::Unauthorized, info);
        }
        let is_public = targets == Targets::Public && policy.is_public(stream_name::ALL, &info);
        let document = match beginning {
            Beginning::Whole(document, _) => Document::Whole(document.into()),
            Beginning::Head(head) => Document::Head(head, events),
        };
        Ok(Found { document: Ok(document), page, info, is_public })
    };
    Ok(request.state.cluster.store().read(read).await?)
}

/// What the feed says of itself.
pub fn feed(id: String, updated: Option<Ticks>, links: Vec<(&'static str, String)>) -> Feed {
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

/// A page of the log, or of what a filter leaves of it, without its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Where it begins.
    pub from: From,
    /// How many entries were asked for.
    pub count: u64,
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

    /// The answer with the page's headers.
    pub fn answer(self, request: &Request<'_>, reply: Reply, info: &StreamInfo, is_public: bool) -> Response<Reply> {
        let Self { from, is_full, next_position, .. } = self;
        let mut answer = response::with_reply(StatusCode::OK, request.chosen.header(), reply);
        let is_immutable = match from {
            From::Head => false,
            // Behind the last event it begins where the log still grows.
            From::Before(position) => position < next_position,
            From::At(_) => is_full,
        };
        let freshness = match is_immutable {
            true => Freshness::Immutable,
            false => Freshness::Head { cache_control_s: info.metadata.cache_control_s },
        };
        caching::add_headers(&mut answer, freshness, is_public, request.state.config.disable_http_caching);
        if !is_immutable {
            caching::add_tag(&mut answer, &caching::tag(next_position as i64 - 1, request.chosen.media_type));
        }
        answer
    }
}
