//! POST: append to a stream, to its metadata, and `/incoming` (contract/streams 6 and 12.3).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use uuid::Uuid;

use crate::event::{ExpectedVersion, METADATA_EVENT_TYPE, StreamName};
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::negotiate::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::{extract, request_body, response};
use crate::http::format::body::{self, BodyError, EventsFormat, Text};
use crate::http::format::links::Base;
use crate::streams::events::ProposedEvent;
use crate::streams::{Append, Appended};

/// POST /streams/{stream}
pub(crate) async fn to_stream(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    append(request, Source::Stream, body).await
}

/// POST /streams/{stream}/incoming/{guid}
pub(crate) async fn incoming(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    append(request, Source::Incoming, body).await
}

/// POST /streams/{stream}/metadata
pub(crate) async fn metadata(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    append(request, Source::Metadata, body).await
}

/// Where the event of a single-event body gets its type and id from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// `/streams/{S}`: both from headers, a missing id is answered by 307.
    Stream,
    /// `/streams/{S}/incoming/{guid}`: the id from the path.
    Incoming,
    /// `/streams/{S}/metadata`: the type is `$metadata`.
    Metadata,
}

/// What an append says besides its body.
#[derive(Debug)]
struct Head {
    stream: StreamName,
    expected_version: ExpectedVersion,
    require_leader: bool,
    format: EventsFormat,
}

/// The headers are right, or the request is redirected to a URI that holds an id.
enum Parsed {
    Head(Head),
    NeedsId,
}

async fn append(request: &Request<'_>, source: Source, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let Head { stream, expected_version, require_leader, format } = match parse(request, source)? {
        Parsed::Head(head) => head,
        Parsed::NeedsId => return Ok(redirect_to_incoming(request)),
    };
    // The memory is kept until the append is decided, because the command is as large as the body.
    let (events, _memory) = request_body::read_events(request, body, format).await?;
    let append = Append { stream: &stream, expected_version, events, require_leader };
    let appended = request.state.streams.append(request.client(), append).await;
    let Appended { first_number, position } = appended.map_err(|error| ApiError::of_append(error, request))?;
    let mut answer = response::text(StatusCode::CREATED, "Created");
    response::set_location(&mut answer, &request.base().event(stream.as_str(), first_number));
    answer.headers_mut().insert(response::ES_POSITION, HeaderValue::from(position));
    Ok(answer)
}

fn parse(request: &Request<'_>, source: Source) -> Result<Parsed, ApiError> {
    let (params, headers, media_type) = (request.params, request.headers, request.body_type);
    let stream = match source {
        Source::Stream | Source::Incoming => extract::appended_stream(&params.stream)?,
        Source::Metadata => extract::appended_metastream(&params.stream)?,
    };
    let event_type = extract::text(headers, &extract::EVENT_TYPE);
    let (id, event_type) = match source {
        Source::Stream => {
            if event_type.is_none() && !is_array(media_type) {
                return Err(bad(
                    "Must include an event type with the request either in body or as ES-EventType header.",
                ));
            }
            let id = extract::event_id(headers)?;
            if id.is_none() && !is_array(media_type) {
                return Ok(Parsed::NeedsId);
            }
            (id, event_type)
        }
        Source::Incoming => {
            let id = params.guid.as_deref().and_then(body::parse_guid);
            (Some(id.ok_or_else(|| bad("Invalid request. Unable to parse guid"))?), event_type)
        }
        Source::Metadata => {
            let id = extract::event_id(headers)?;
            if event_type.is_some_and(|text| text != METADATA_EVENT_TYPE) {
                return Err(bad("Bad Request. You should not include an event type for metadata."));
            }
            (id, Some(METADATA_EVENT_TYPE.to_owned()))
        }
    };
    let expected_version = extract::expected_version(headers)?;
    let require_leader = extract::require_leader(headers)?;
    let format = events_format(media_type, id, event_type)?;
    Ok(Parsed::Head(Head { stream, expected_version, require_leader, format }))
}

fn bad(reason: &'static str) -> ApiError {
    ApiError::BadRequest(reason.into())
}

fn is_array(media_type: MediaType) -> bool {
    use MediaType::*;
    matches!(media_type, EventsJson | EventJson | EventsXml | EventXml | StreamDescription)
}

/// How the body holds its events; `id` and `event_type` are those of the only one (contract/streams
/// 6.2).
fn events_format(
    media_type: MediaType,
    id: Option<Uuid>,
    event_type: Option<String>,
) -> Result<EventsFormat, ApiError> {
    let (is_json, text) = match media_type {
        MediaType::EventsJson | MediaType::EventJson | MediaType::AtomJson => return Ok(EventsFormat::JsonArray),
        MediaType::EventsXml | MediaType::EventXml | MediaType::AtomXml => return Ok(EventsFormat::XmlList),
        MediaType::StreamDescription | MediaType::Html | MediaType::EventStream | MediaType::Text => {
            return Err(BodyError::Invalid.into());
        }
        MediaType::Json => (true, Some(Text::Json)),
        MediaType::TextXml | MediaType::Xml => (false, Some(Text::Xml)),
        MediaType::OctetStream => (false, None),
    };
    let event = ProposedEvent { id, event_type, is_json, ..ProposedEvent::default() };
    event.check_identity()?;
    Ok(EventsFormat::One { event, text })
}

/// 307 to a URI with a fresh id, so that a repeated request is recognised (contract/streams 6.6).
fn redirect_to_incoming(request: &Request<'_>) -> Response<Reply> {
    let base = Base::of_raw_request(request.headers, request.connection.scheme(), &request.state.local_address);
    let mut answer = response::text(StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect");
    let path = request.uri.path();
    response::set_location(&mut answer, &format!("{}{path}/incoming/{}", base.as_str(), Uuid::new_v4()));
    *answer.body_mut() = Reply::new(Bytes::from_static(b"Forwarding to idempotent URI"));
    answer
}
