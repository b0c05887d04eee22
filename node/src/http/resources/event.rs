//! Single events, of a stream or of its metadata (contract/streams 9 and 12.2).

use http::{Response, StatusCode};

use crate::event::{EventNumber, ResolvedRef, StreamName};
use crate::http::Reply;
use crate::http::exchange::caching::{self, Freshness, Sharing};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::{delivery, extract, response};
use crate::http::format::atom::{self, Embed};
use crate::http::format::html;
use crate::streams::{EventRead, ReadEvent, ReadEventError, Version};

/// GET /streams/{stream}/{number}; errors carry `{}` for JSON types.
pub(crate) async fn of_stream(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    with_json_errors(request, stream_event(request).await)
}

/// GET /streams/{stream}/metadata, of the head or of a number; errors carry `{}` for JSON types.
pub(crate) async fn of_metadata(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    with_json_errors(request, metadata_event(request).await)
}

fn with_json_errors(
    request: &Request<'_>,
    answer: Result<Response<Reply>, ApiError>,
) -> Result<Response<Reply>, ApiError> {
    if request.chosen.media_type.is_json() { answer.or_else(|error| Ok(error.into_json_response())) } else { answer }
}

async fn stream_event(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let read = parse(request, extract::stream(&request.params.stream)?)?;
    let number = read.number;
    match request.state.rooms.streams.read_event(&request.caller, read).await {
        Ok(found) => Ok(render(request, number, found)),
        Err(error) => Err(ApiError::of_read_event(error, request)),
    }
}

async fn metadata_event(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let reason = "Stream must be non-empty string and should not be metastream";
    let metastream = extract::metastream(&request.params.stream, || ApiError::BadRequest(reason.into()))?;
    let read = parse(request, metastream)?;
    let number = read.number;
    match request.state.rooms.streams.read_event(&request.caller, read).await {
        Ok(found) => Ok(render(request, number, found)),
        Err(ReadEventError::NoMetadata { is_public }) => Ok(no_metadata(request, Sharing::of(is_public))),
        Err(error) => Err(ApiError::of_read_event(error, request)),
    }
}

fn parse(request: &Request<'_>, stream: StreamName) -> Result<ReadEvent, ApiError> {
    let number = match request.params.number.as_deref() {
        None | Some("head") => None,
        Some(text) => Some(extract::number(text)?),
    };
    let headers = request.headers;
    Ok(ReadEvent { stream, number, links: extract::links(headers)?, barrier: extract::read_barrier(headers)? })
}

/// The answer with an event that was asked for by its number, or as the head of its stream.
fn render(request: &Request<'_>, number: Option<EventNumber>, found: EventRead) -> Response<Reply> {
    let media_type = request.chosen.media_type;
    let body = body(request, &found.event.borrowed());
    let reply = match found.large {
        Some(answer) => delivery::whole(request.connection, body, answer),
        None => Reply::new(body.into()),
    };
    let mut answer = response::with_reply(StatusCode::OK, request.chosen.header(), reply);
    let freshness = match number {
        Some(_) => Freshness::Immutable,
        None => Freshness::Head { cache_control_s: found.cache_control_s },
    };
    caching::add_headers(answer.headers_mut(), freshness, Sharing::of(found.is_public), request);
    if number.is_none() {
        let version = Version { last: found.event.original.number as i64, redactions: found.redactions };
        caching::add_tag(answer.headers_mut(), &caching::tag(version, media_type));
    }
    answer
}

fn body(request: &Request<'_>, event: &ResolvedRef<'_>) -> Vec<u8> {
    let base = request.base();
    let Some(shown) = event.shown() else { return Vec::new() };
    match request.chosen.media_type {
        MediaType::AtomXml => atom::xml::entry(event, &base),
        MediaType::TextXml | MediaType::Xml => atom::xml::data(shown),
        MediaType::EventXml | MediaType::EventsXml => atom::xml::event(shown),
        MediaType::Json => atom::json::data(shown),
        MediaType::EventJson | MediaType::EventsJson => atom::json::event(shown),
        MediaType::OctetStream => shown.data.to_vec(),
        MediaType::Html => {
            let position = event.original;
            html::page(&atom::json::entry(event, &base, Embed::TryHarder), position.stream, Some(position.number))
        }
        // No event has one of the last five.
        MediaType::AtomJson
        | MediaType::MessagesXml
        | MediaType::MessagesJson
        | MediaType::StreamDescription
        | MediaType::EventStream
        | MediaType::Text => atom::json::entry(event, &base, Embed::parse(request.query("embed").as_deref())),
    }
}

fn no_metadata(request: &Request<'_>, sharing: Sharing) -> Response<Reply> {
    let media_type = request.chosen.media_type;
    let body = if media_type.is_json() { b"{}".to_vec() } else { Vec::new() };
    let mut answer = response::with_body(StatusCode::OK, request.chosen.header(), body);
    caching::add_headers(answer.headers_mut(), Freshness::Head { cache_control_s: None }, sharing, request);
    answer
}
