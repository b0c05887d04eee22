//! Pages of the log of all events that have only what a filter wants (contract/streams 17).
//!
//! There is no index of types or prefixes, so a page is found by looking at one event after the other. A request looks at a bounded number of
//! them; a page that ends there is shorter than asked for, and its links lead on from there.

use std::sync::Arc;

use http::Response;

use crate::event::{Position, RecordedEvent, stream_name};
use crate::http::Reply;
use crate::http::exchange::caching;
use crate::http::exchange::delivery;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::format::atom::{self, FeedWriter, OwnedEntry};
use crate::http::limits::{MAX_SCANNED_BYTES, MAX_SCANNED_EVENTS, SCAN_STEP_EVENTS, SMALL_PAGE_BYTES};
use crate::http::resources::all::{self, From, Page, PageRequest};
use crate::http::resources::feed;
use crate::http::resources::filter::Filter;
use crate::http::resources::live;
use crate::http::resources::read::{self, Resolver, Targets};
use crate::store::{ReadError, ReadView, StreamInfo};

/// Payload of a page, and of a step, as far as that can be helped: one event may be larger.
const MOST: usize = SMALL_PAGE_BYTES as usize;

/// GET /streams/$all/filtered: the newest page, or the filtered log as server-sent events.
pub(crate) async fn head(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.is_live() {
        let filter = Filter::parse(request.uri.query())?;
        return Box::pin(live::log(request, Some(filter))).await;
    }
    page(request, false).await
}

/// GET /streams/$all/filtered/{number}/backward/{count}
pub(crate) async fn backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, false).await
}

/// GET /streams/$all/filtered/{number}/forward/{count}
pub(crate) async fn forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, true).await
}

async fn page(request: &Request<'_>, is_forward: bool) -> Result<Response<Reply>, ApiError> {
    let PageRequest { from, count, barrier, long_poll } = all::parse(request, is_forward)?;
    let filter = Arc::new(Filter::parse(request.uri.query())?);
    request.read_barrier(barrier).await?;
    request.authorize_read(stream_name::ALL).await?;
    let mut scan = Scan::run(request, &filter, from, count).await?;
    if let Some(wait) = long_poll
        && scan.entries.is_empty()
        && scan.is_at_the_end
    {
        let state = request.state;
        state.waiters.log_grows(state.cluster.store(), scan.next_position, wait).await?;
        request.authorize_read(stream_name::ALL).await?;
        scan = Scan::run(request, &filter, from, count).await?;
    }
    let Scan { mut entries, at, is_at_the_end, next_position, info, targets } = scan;
    if targets == Targets::Denied {
        return Err(ApiError::Unauthorized);
    }
    let is_public = targets == Targets::Public && request.policy().await?.is_public(stream_name::ALL, &info);
    if is_forward {
        entries.reverse();
    }
    let has_moved = from != From::At(at);
    let reached = has_moved.then_some(at);
    let is_full = !is_at_the_end || is_forward && entries.len() as u64 == count;
    let page = Page { from, count, reached, is_full, next_position };
    let format = feed::format(request, stream_name::ALL);
    let uri = format!("{}/filtered", format.base.stream(stream_name::ALL));
    let query = format!("?{}", filter.query());
    let updated = entries.first().and_then(|entry| Some(entry.borrowed().shown()?.time));
    let feed = all::feed(format!("{uri}{query}"), updated, page.links(&uri, &query));
    let mut body = Vec::with_capacity(1024 + 768 * entries.len());
    let mut writer = FeedWriter::new(&format, false);
    writer.start(&mut body, &feed);
    entries.iter().for_each(|entry| writer.entry(&mut body, &entry.borrowed()));
    writer.end(&mut body);
    drop(entries);
    let reply = match body.len() > MOST {
        true => delivery::whole(request.answer_memory().await?, body),
        false => Reply::new(body.into()),
    };
    Ok(page.answer(request, reply, &info, is_public))
}

/// A walk along the log.
struct Scan {
    /// What was found, in the order of the walk.
    entries: Vec<OwnedEntry>,
    /// Where it is: everything between the beginning and this position was looked at.
    at: Position,
    /// Whether there is nothing behind it.
    is_at_the_end: bool,
    next_position: Position,
    info: StreamInfo,
    /// What the links among the entries lead to.
    targets: Targets,
}

/// What one step of a walk found.
struct Step {
    entries: Vec<OwnedEntry>,
    at: Position,
    is_at_the_end: bool,
    looked_at: u64,
    bytes: usize,
    next_position: Position,
    info: StreamInfo,
    targets: Targets,
}

impl Scan {
    /// Walks until `count` events are found, the log ends or enough was looked at.
    async fn run(request: &Request<'_>, filter: &Arc<Filter>, from: From, count: u64) -> Result<Self, ApiError> {
        let Some(first) = step(request, filter, from, count, true).await? else { return Err(ApiError::NotModified) };
        let Step { entries, at, is_at_the_end, mut looked_at, mut bytes, next_position, info, targets } = first;
        let mut scan = Self { entries, at, is_at_the_end, next_position, info, targets };
        let mut shown = atom::payload(&scan.entries);
        while !scan.is_at_the_end
            && (scan.entries.len() as u64) < count
            && looked_at < MAX_SCANNED_EVENTS
            && bytes < MAX_SCANNED_BYTES
            && shown < MOST
        {
            tokio::task::yield_now().await;
            let from = if matches!(from, From::At(_)) { From::At(scan.at) } else { From::Before(scan.at) };
            let wanted = count - scan.entries.len() as u64;
            let Some(step) = step(request, filter, from, wanted, false).await? else { break };
            looked_at += step.looked_at;
            bytes += step.bytes;
            shown += atom::payload(&step.entries);
            scan.entries.extend(step.entries);
            scan.targets = scan.targets.max(step.targets);
            (scan.at, scan.is_at_the_end, scan.next_position) = (step.at, step.is_at_the_end, step.next_position);
        }
        Ok(scan)
    }
}

/// Looks at the next events; `None` when If-None-Match, looked at if `is_first`, holds the current version.
async fn step(
    request: &Request<'_>,
    filter: &Arc<Filter>,
    from: From,
    wanted: u64,
    is_first: bool,
) -> Result<Option<Step>, ApiError> {
    let filter = filter.clone();
    let known = if is_first { feed::if_none_match(request.headers) } else { http::HeaderMap::new() };
    let media_type = request.chosen.media_type;
    let now = read::now();
    let policy = request.policy().await?;
    let read = move |view: &ReadView<'_>| -> Result<Option<Step>, ReadError> {
        let next_position = view.next_position()?;
        let info = view.stream(stream_name::ALL)?;
        if !known.is_empty() && caching::matches(&known, &caching::tag(next_position as i64 - 1, media_type)) {
            return Ok(None);
        }
        let most = SCAN_STEP_EVENTS as usize;
        let (begin, events) = match from {
            From::Head => (next_position, view.log_backward(next_position, most, MOST)?),
            From::Before(position) => {
                let begin = position.min(next_position);
                (begin, view.log_backward(begin, most, MOST)?)
            }
            From::At(position) => (position, view.log_forward(position, most, MOST)?),
        };
        let is_forward = matches!(from, From::At(_));
        let behind = |event: &RecordedEvent| if is_forward { event.position + 1 } else { event.position };
        let mut step = Step {
            entries: Vec::new(),
            at: begin,
            is_at_the_end: false,
            looked_at: 0,
            bytes: 0,
            next_position,
            info,
            targets: Targets::Public,
        };
        let mut resolver = Resolver::new(view, now, &policy);
        let mut shown = 0;
        for event in events {
            // Links may lead to payloads that are larger than what was looked at.
            if step.entries.len() as u64 == wanted || shown > MOST {
                break;
            }
            step.at = behind(&event);
            step.looked_at += 1;
            step.bytes += event.data.len() + event.metadata.len();
            if filter.matches(&event) {
                let entry = resolver.entry(event)?;
                shown += entry.payload();
                step.entries.push(entry);
            }
        }
        step.targets = resolver.targets();
        step.is_at_the_end = if is_forward { step.at >= next_position } else { step.at == 0 };
        Ok(Some(step))
    };
    Ok(request.state.cluster.store().read(read).await?)
}
