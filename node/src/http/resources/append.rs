//! POST: append to a stream, to its metadata, and `/incoming` (contract/streams 6 and 12.3).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use uuid::Uuid;

use crate::event::{ExpectedVersion, METADATA_EVENT_TYPE, StreamName};
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::{extract, request_body, response};
use crate::http::format::body::{self, BodyError, EventsFormat, Text};
use crate::streams::events::ProposedEvent;
use crate::streams::{Append, Appended};

/// POST /streams/{stream}
pub(crate) async fn to_stream(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    append(request, AppendRoute::Stream, body).await
}

/// POST /streams/{stream}/incoming/{guid}
pub(crate) async fn incoming(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    append(request, AppendRoute::Incoming, body).await
}

/// POST /streams/{stream}/metadata
pub(crate) async fn metadata(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    append(request, AppendRoute::Metadata, body).await
}

/// The route of an append. It says where the event of a single-event body has its type and id from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AppendRoute {
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

async fn append(request: &Request<'_>, route: AppendRoute, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let Head { stream, expected_version, require_leader, format } = match parse(request, route)? {
        Parsed::Head(head) => head,
        Parsed::NeedsId => return Ok(redirect_to_incoming(request)),
    };
    // The memory is kept until the append is decided, because the command is as large as the body.
    let (events, _memory) = request_body::read_events(request, body, format).await?;
    let append = Append { stream: &stream, expected_version, events, require_leader };
    let appended = request.state.rooms.streams.append(request.client(), append).await;
    let Appended { first_number, position } = appended.map_err(|error| ApiError::of_append(error, request))?;
    let mut answer = response::text(StatusCode::CREATED, "Created");
    response::set_location(&mut answer, &request.base().event(stream.as_str(), first_number));
    answer.headers_mut().insert(response::ES_POSITION, HeaderValue::from(position));
    Ok(answer)
}

fn parse(request: &Request<'_>, route: AppendRoute) -> Result<Parsed, ApiError> {
    let (params, headers, media_type) = (request.params, request.headers, request.body_type);
    let stream = match route {
        AppendRoute::Stream | AppendRoute::Incoming => extract::appended_stream(&params.stream)?,
        AppendRoute::Metadata => extract::appended_metastream(&params.stream)?,
    };
    let event_type = extract::text(headers, &extract::EVENT_TYPE);
    let (id, event_type) = match route {
        AppendRoute::Stream => {
            if event_type.is_none() && !names_its_events(media_type) {
                return Err(bad(
                    "Must include an event type with the request either in body or as ES-EventType header.",
                ));
            }
            let id = extract::event_id(headers)?;
            if id.is_none() && !names_its_events(media_type) {
                return Ok(Parsed::NeedsId);
            }
            (id, event_type)
        }
        AppendRoute::Incoming => {
            let id = params.guid.as_deref().and_then(body::parse_guid);
            (Some(id.ok_or_else(|| bad("Invalid request. Unable to parse guid"))?), event_type)
        }
        AppendRoute::Metadata => {
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

/// Whether a body of this type says the types and ids of its events itself, so that no header has
/// to. That of a feed does, too, but as in the reference its request has to name both
/// (contract/streams 6.2).
fn names_its_events(media_type: MediaType) -> bool {
    match media_type {
        MediaType::EventsJson
        | MediaType::EventJson
        | MediaType::EventsXml
        | MediaType::EventXml
        | MediaType::StreamDescription => true,
        MediaType::AtomXml
        | MediaType::AtomJson
        | MediaType::TextXml
        | MediaType::Xml
        | MediaType::Json
        | MediaType::Html
        | MediaType::OctetStream
        | MediaType::EventStream
        | MediaType::MessagesXml
        | MediaType::MessagesJson
        | MediaType::Text => false,
    }
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
        MediaType::StreamDescription
        | MediaType::Html
        | MediaType::EventStream
        | MediaType::MessagesXml
        | MediaType::MessagesJson
        | MediaType::Text => {
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
    let base = request.base();
    let mut answer = response::text(StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect");
    let path = request.uri.path();
    response::set_location(&mut answer, &format!("{}{path}/incoming/{}", base.as_str(), Uuid::new_v4()));
    *answer.body_mut() = Reply::new(Bytes::from_static(b"Forwarding to idempotent URI"));
    answer
}
