//! Pages of the log of all events (contract/streams 10).

use std::time::Duration;

use http::Response;

use super::atom::{Entry, Feed};
use super::caching::{self, Freshness};
use super::error::ApiError;
use super::limits::{DEFAULT_PAGE_EVENTS, MAX_PAGE_BYTES, MAX_PAGE_EVENTS, SMALL_PAGE_BYTES};
use super::read::{self, Resolver};
use super::request::{ReadBarrier, Request};
use super::{Reply, extract, feed};
use crate::event::{Position, stream_id};
use crate::store::{ReadError, ReadView, StreamInfo};

/// A position as printed: 32 hex digits. Both halves are the same here; clients treat the value as opaque.
fn printed(position: Position) -> String {
    format!("{position:016X}{position:016X}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
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

/// GET of any page of `$all`.
pub async fn page(request: &Request<'_>, is_forward: bool) -> Result<Response<Reply>, ApiError> {
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
    let base = request.base();
    let uri = base.stream(stream_id::ALL);
    let newest = entries.first().map(|entry| entry.positioned().position);
    let oldest = entries.last().map(|entry| entry.positioned().position);
    let (has_last, next, previous) = match from {
        From::Head | From::Before(_) => {
            let asked = if let From::Before(position) = from { position } else { found.next_position };
            let previous = newest.map_or(asked.min(found.next_position), |newest| newest + 1);
            (is_full, oldest.filter(|_| is_full), Some(previous))
        }
        From::At(position) => {
            let previous = newest.map_or(position, |newest| newest + 1);
            (position != 0, (position != 0).then_some(position), (is_full || newest.is_some()).then_some(previous))
        }
    };
    let mut links = vec![("self", uri.clone()), ("first", format!("{uri}/head/backward/{count}"))];
    if has_last {
        links.push(("last", format!("{uri}/{}/forward/{count}", printed(0))));
    }
    if let Some(next) = next {
        links.push(("next", format!("{uri}/{}/backward/{count}", printed(next))));
    }
    if let Some(previous) = previous {
        links.push(("previous", format!("{uri}/{}/forward/{count}", printed(previous))));
    }
    links.push(("metadata", format!("{uri}/metadata")));
    let document = Feed {
        title: "All events".to_owned(),
        id: uri,
        updated: entries.first().and_then(Entry::shown).map(|event| event.time),
        stream: None,
        head_of_stream: false,
        has_self_url: false,
        tag: None,
        links,
        entries,
    };
    let mut answer = feed::document(request, &document, &base);
    let is_immutable = match from {
        From::Head => false,
        From::Before(position) => position <= found.next_position,
        From::At(_) => is_full,
    };
    let freshness = match is_immutable {
        true => Freshness::Immutable,
        false => Freshness::Head { cache_control_s: found.info.metadata.cache_control_s },
    };
    let is_public = caching::is_public(stream_id::ALL, &found.info);
    caching::add_headers(&mut answer, freshness, is_public, request.state.config.disable_http_caching);
    if !is_immutable {
        caching::add_tag(&mut answer, &caching::tag(found.next_position as i64 - 1, request.chosen.media_type));
    }
    Ok(answer)
}
