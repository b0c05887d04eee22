//! Single events, of a stream or of its metadata (contract/streams 9 and 12.2).

use std::sync::Arc;

use http::{Response, StatusCode};

use crate::access::Policy;
use crate::budget::Reservation;
use crate::event::visibility::VisibleEvents;
use crate::event::{EventNumber, StreamNameRef, Visibility};
use crate::http::Reply;
use crate::http::exchange::caching::{self, Freshness};
use crate::http::exchange::delivery;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::negotiate::MediaType;
use crate::http::exchange::request::{ReadBarrier, Request};
use crate::http::exchange::{extract, response};
use crate::http::format::atom::{self, Embed, Entry, OwnedEntry, Target};
use crate::http::format::html;
use crate::http::limits::SMALL_PAGE_BYTES;
use crate::http::resources::feed::Of;
use crate::http::resources::read::{self, Resolver, Targets};
use crate::store::{ReadError, ReadView, StreamInfo};

/// What an event request says.
#[derive(Debug)]
struct EventRequest {
    stream: String,
    /// `None` is the head.
    number: Option<EventNumber>,
    resolve_links: bool,
    barrier: ReadBarrier,
}

fn parse(request: &Request<'_>, of: Of) -> Result<EventRequest, ApiError> {
    let name = &request.params.stream;
    let metastream = match of {
        Of::Stream => None,
        Of::Metadata if StreamNameRef::new(name).is_metastream() => {
            return Err(ApiError::BadRequest("Stream must be non-empty string and should not be metastream".into()));
        }
        Of::Metadata => Some(StreamNameRef::new(name).metastream()),
    };
    let stream = extract::stream(name)?;
    let stream = metastream.unwrap_or_else(|| stream.into());
    let number = match request.params.number.as_deref() {
        None | Some("head") => None,
        Some(text) => Some(extract::number(text)?),
    };
    let resolve_links = extract::resolve_links(request.headers)?;
    Ok(EventRequest { stream, number, resolve_links, barrier: ReadBarrier::parse(request.headers)? })
}

/// What one look at the store found.
enum Found {
    Event(Box<FoundEvent>),
    /// The event, or what it leads to, is larger than the look may read.
    TooLarge,
    /// The stream has events, but no metadata was ever written.
    NoMetadataYet {
        is_public: bool,
    },
    /// The caller may not read the stream, or what the event leads to.
    Denied,
    Nothing,
    Deleted,
}

struct FoundEvent {
    entry: OwnedEntry,
    info: Arc<StreamInfo>,
    is_public: bool,
}

/// GET /streams/{stream}/{number}
pub(crate) async fn of_stream(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    event(request, Of::Stream).await
}

/// GET /streams/{stream}/metadata, of the head or of a number
pub(crate) async fn of_metadata(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    event(request, Of::Metadata).await
}

/// Errors carry `{}` for JSON types.
async fn event(request: &Request<'_>, of: Of) -> Result<Response<Reply>, ApiError> {
    let is_json = request.chosen.media_type.is_json();
    answer(request, of).await.or_else(|error| Ok(error.into_event_response(is_json)))
}

async fn answer(request: &Request<'_>, of: Of) -> Result<Response<Reply>, ApiError> {
    let wanted = parse(request, of)?;
    request.read_barrier(wanted.barrier).await?;
    let (stream, number, resolve) = (wanted.stream.clone(), wanted.number, wanted.resolve_links);
    let policy = request.policy().await?;
    let store = request.state.cluster.store();
    let (place, known) = store.known_stream(&stream);
    let is_known = known.is_some();
    let look_at = move |view: &ReadView<'_>, known: Option<&Arc<StreamInfo>>, most| {
        let info = match known {
            Some(info) => info.clone(),
            None => Arc::new(view.stream(&stream)?),
        };
        look(view, info, &policy, &stream, number, resolve, of, most)
    };
    let look_at_small = look_at.clone();
    let (found, memory) = match store.read(move |view| look_at_small(view, known.as_ref(), SMALL_PAGE_BYTES)).await? {
        Found::TooLarge => {
            let memory = request.answer_memory().await?;
            // It may have waited for its memory: the stream is looked at as it is now.
            (store.read_apart(move |view| look_at(view, None, u64::MAX)).await?, Some(memory))
        }
        found => (found, None),
    };
    match found {
        Found::Event(found) => {
            if !is_known {
                store.remember_stream(place, &wanted.stream, &found.info);
            }
            Ok(render(request, &wanted, &found, memory))
        }
        Found::NoMetadataYet { is_public } => Ok(no_metadata(request, is_public)),
        Found::Denied => Err(ApiError::Unauthorized),
        Found::Nothing | Found::TooLarge => Err(ApiError::NotFound),
        Found::Deleted => Err(ApiError::Deleted),
    }
}

#[expect(clippy::too_many_arguments, reason = "all of the request that decides, and what is known of its stream")]
fn look(
    view: &ReadView<'_>,
    info: Arc<StreamInfo>,
    policy: &Policy,
    stream: &str,
    number: Option<u64>,
    resolve: bool,
    of: Of,
    most_bytes: u64,
) -> Result<Found, ReadError> {
    if !policy.may_read(stream, &info) {
        return Ok(Found::Denied);
    }
    let is_public = policy.is_public(stream, &info);
    let now = read::now();
    let VisibleEvents { bounds, oldest } = match info.visibility(now) {
        Visibility::Deleted => return Ok(Found::Deleted),
        Visibility::Readable(visible) => visible,
        Visibility::NotFound => {
            let asks_for_metadata = of == Of::Metadata && number.is_none();
            let described = StreamNameRef::new(stream).described().filter(|_| asks_for_metadata);
            let has_events = match described {
                Some(described) => view.stream(described.as_str())?.last_number.is_some(),
                None => false,
            };
            return Ok(if has_events { Found::NoMetadataYet { is_public } } else { Found::Nothing });
        }
    };
    let number = number.unwrap_or(bounds.last);
    let (Some(id), true) = (info.id, bounds.contains(number)) else { return Ok(Found::Nothing) };
    let Some(place) = view.place(id, number)? else { return Ok(Found::Nothing) };
    if u64::from(place.bytes) > most_bytes {
        return Ok(Found::TooLarge);
    }
    let event = view.event_at(place)?;
    if event.time < oldest {
        return Ok(Found::Nothing);
    }
    let mut resolver = Resolver::new(view, now, policy);
    if resolve && resolver.target_bytes(event.borrowed())? > most_bytes {
        return Ok(Found::TooLarge);
    }
    let target = if resolve { resolver.target(event.borrowed())? } else { Target::None };
    let is_public = is_public && resolver.targets() == Targets::Public;
    Ok(match target {
        _ if resolver.targets() == Targets::Denied => Found::Denied,
        Target::Unreadable { .. } => Found::Nothing,
        target => Found::Event(Box::new(FoundEvent { entry: OwnedEntry { event, target }, info, is_public })),
    })
}

fn render(
    request: &Request<'_>,
    wanted: &EventRequest,
    found: &FoundEvent,
    memory: Option<Reservation>,
) -> Response<Reply> {
    let media_type = request.chosen.media_type;
    let body = body(request, &found.entry.borrowed());
    let reply = match memory {
        Some(memory) => delivery::whole(memory, body),
        None => Reply::new(body.into()),
    };
    let mut answer = response::with_reply(StatusCode::OK, request.chosen.header(), reply);
    let freshness = match wanted.number {
        Some(_) => Freshness::Immutable,
        None => Freshness::Head { cache_control_s: found.info.metadata.cache_control_s },
    };
    caching::add_headers(&mut answer, freshness, found.is_public, request.state.config.disable_http_caching);
    if wanted.number.is_none() {
        caching::add_tag(&mut answer, &caching::tag(found.entry.event.number as i64, media_type));
    }
    answer
}

fn body(request: &Request<'_>, entry: &Entry<'_>) -> Vec<u8> {
    let base = request.base();
    let Some(shown) = entry.shown() else { return Vec::new() };
    match request.chosen.media_type {
        MediaType::AtomXml => atom::xml::entry(entry, &base),
        MediaType::TextXml | MediaType::Xml => atom::xml::data(shown),
        MediaType::EventXml | MediaType::EventsXml => atom::xml::event(shown),
        MediaType::Json => atom::json::data(shown),
        MediaType::EventJson | MediaType::EventsJson => atom::json::event(shown),
        MediaType::OctetStream => shown.data.to_vec(),
        MediaType::Html => {
            let position = entry.positioned;
            html::page(&atom::json::entry(entry, &base, Embed::TryHarder), position.stream, Some(position.number))
        }
        MediaType::AtomJson | MediaType::StreamDescription | MediaType::EventStream | MediaType::Text => {
            atom::json::entry(entry, &base, Embed::parse(request.query("embed").as_deref()))
        }
    }
}

fn no_metadata(request: &Request<'_>, is_public: bool) -> Response<Reply> {
    let media_type = request.chosen.media_type;
    let body = if media_type.is_json() { b"{}".to_vec() } else { Vec::new() };
    let mut answer = response::with_body(StatusCode::OK, request.chosen.header(), body);
    caching::add_headers(&mut answer, Freshness::Head { cache_control_s: None }, is_public, false);
    answer
}
