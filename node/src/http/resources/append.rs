//! POST: append to a stream, to its metadata, and `/incoming` (contract/streams 6 and 12.3).

use std::sync::Arc;

use bytes::Bytes;
use headwater_proto::stored::{self, NewEvent, command};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use prost::Message as _;
use uuid::Uuid;

use crate::access::Right;
use crate::budget::{MemoryBudget, Reservation};
use crate::event::metadata::{Acl, AclError, check_acl, check_settings};
use crate::event::{ExpectedVersion, METADATA_EVENT_TYPE, StreamMetadata, StreamNameRef, WriteOutcome, stream_name};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::negotiate::MediaType;
use crate::http::exchange::request::{Request, utf8};
use crate::http::exchange::{audit, extract, request_body, response};
use crate::http::format::body::{self, BodyError};
use crate::http::format::links::Base;
use crate::http::limits::{MAX_BODY_BYTES, MAX_COMMAND_BYTES, PARSED_AT_ONCE_BYTES, SMALL_BODY_BYTES};
use crate::http::{AppState, Reply};

/// Where the event of a single-event body gets its type and id from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `/streams/{S}`: both from headers, a missing id is answered by 307.
    Stream,
    /// `/streams/{S}/incoming/{guid}`: the id from the path.
    Incoming,
    /// `/streams/{S}/metadata`: the type is `$metadata`.
    Metadata,
}

/// What an append says besides its body.
#[derive(Debug)]
struct Append {
    stream: String,
    expected_version: ExpectedVersion,
    require_leader: bool,
    kind: Kind,
}

/// How the body is to be read.
#[derive(Debug)]
enum Kind {
    JsonArray,
    XmlList,
    One { id: Uuid, event_type: String, is_json: bool, is_text: bool },
}

/// The headers are right, or the request is sent on to a URI that holds an id.
enum Parsed {
    Append(Append),
    NeedsId,
}

fn bad(reason: &'static str) -> ApiError {
    ApiError::BadRequest(reason.into())
}

fn is_array(media_type: MediaType) -> bool {
    use MediaType::*;
    matches!(media_type, EventsJson | EventJson | EventsXml | EventXml | StreamDescription)
}

fn parse(
    source: Source,
    stream: &str,
    guid: Option<&str>,
    headers: &HeaderMap,
    media_type: MediaType,
) -> Result<Parsed, ApiError> {
    let stream = target_stream(source, stream)?;
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
            let id = guid.and_then(body::parse_guid).ok_or_else(|| bad("Invalid request. Unable to parse guid"))?;
            (Some(id), event_type)
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
    let kind = kind(media_type, id, event_type)?;
    Ok(Parsed::Append(Append { stream, expected_version, require_leader, kind }))
}

fn kind(media_type: MediaType, id: Option<Uuid>, event_type: Option<String>) -> Result<Kind, ApiError> {
    let (is_json, is_text) = match media_type {
        MediaType::EventsJson | MediaType::EventJson | MediaType::AtomJson => return Ok(Kind::JsonArray),
        MediaType::EventsXml | MediaType::EventXml | MediaType::AtomXml => return Ok(Kind::XmlList),
        MediaType::StreamDescription | MediaType::Html | MediaType::EventStream | MediaType::Text => {
            return Err(BodyError::Invalid.into());
        }
        MediaType::Json => (true, true),
        MediaType::TextXml | MediaType::Xml => (false, true),
        MediaType::OctetStream => (false, false),
    };
    let id = id.filter(|id| !id.is_nil()).ok_or(BodyError::EmptyId)?;
    let event_type = event_type.filter(|text| !text.is_empty()).ok_or(BodyError::EmptyType)?;
    Ok(Kind::One { id, event_type, is_json, is_text })
}

/// The stream that is written to.
fn target_stream(source: Source, stream: &str) -> Result<String, ApiError> {
    let stream = match source {
        Source::Metadata => extract::appended_metastream(stream)?,
        Source::Stream | Source::Incoming => extract::appended_stream(stream)?,
    };
    Ok(stream.into())
}

/// The events of a body. A large list takes up to a second to read, and a multiple of its length in memory, so that is done apart from the
/// workers, which also run consensus, and for few at a time.
async fn events(state: &AppState, kind: Kind, body: Bytes) -> Result<Vec<NewEvent>, ApiError> {
    if body.len() <= PARSED_AT_ONCE_BYTES || matches!(kind, Kind::One { .. }) {
        return Ok(parse_events(kind, body)?);
    }
    let memory = state.budgets.lists.reserve(MAX_BODY_BYTES).await?;
    let parsing = tokio::task::spawn_blocking(move || {
        let events = parse_events(kind, body);
        drop(memory);
        events
    });
    match parsing.await {
        Ok(events) => Ok(events?),
        Err(error) => {
            tracing::error!(%error, "reading a request body failed");
            Err(ApiError::Internal)
        }
    }
}

fn parse_events(kind: Kind, body: Bytes) -> Result<Vec<NewEvent>, BodyError> {
    match kind {
        Kind::JsonArray => body::json::parse_events(&body::bounded_text(&body)?),
        Kind::XmlList => body::xml::parse_events(&body::bounded_text(&body)?),
        Kind::One { id, event_type, is_json, is_text } => {
            let data = if is_text { utf8(body) } else { body };
            Ok(vec![body::new_event(id, event_type, is_json, data, Bytes::new())?])
        }
    }
}

/// Memory for events that are much longer than their body was, because they are stored indented. It is kept until the write is
/// decided, as that of a large body.
async fn memory_of_grown(
    budget: &MemoryBudget,
    body_bytes: usize,
    payload_bytes: usize,
) -> Result<Option<Reservation>, ApiError> {
    if payload_bytes <= SMALL_BODY_BYTES.max(2 * body_bytes) {
        return Ok(None);
    }
    Ok(Some(budget.reserve(payload_bytes).await?))
}

/// What a write means for access to streams.
enum Concern {
    Nothing,
    /// The list of the described stream, and what it was before the write.
    List {
        described: String,
        before: Option<Arc<Acl>>,
        after: Option<Acl>,
    },
    Settings,
}

/// Refuses access lists that would not be in force (contract/services 1.6) and notes what is to be told of the others.
async fn concern(request: &Request<'_>, stream: &str, events: &[NewEvent]) -> Result<Concern, ApiError> {
    let refuse = |error: AclError| ApiError::BadRequest(error.to_string().into());
    let Some(last) = events.last() else { return Ok(Concern::Nothing) };
    if stream == stream_name::SETTINGS {
        for event in events {
            check_settings(&event.data).map_err(refuse)?;
        }
        return Ok(Concern::Settings);
    }
    let Some(described) = StreamNameRef::new(stream).described() else { return Ok(Concern::Nothing) };
    let described = described.as_str();
    for event in events {
        check_acl(&event.data, event.is_json).map_err(refuse)?;
    }
    let before = request.state.access.list_of(described).await?;
    let after = StreamMetadata::parse(&last.data).filter(|_| last.is_json).and_then(|metadata| metadata.acl);
    Ok(Concern::List { described: described.to_owned(), before, after })
}

/// Serves all three kinds of POST.
pub async fn append<B>(
    request: &Request<'_>,
    source: Source,
    media_type: MediaType,
    body: B,
) -> Result<Response<Reply>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let params = request.params;
    let append = match parse(source, &params.stream, params.guid.as_deref(), request.headers, media_type)? {
        Parsed::Append(append) => append,
        Parsed::NeedsId => return Ok(forward_to_incoming(request)),
    };
    // Keeps its memory until the write is decided, because the command is as large.
    let mut body = request_body::read(body, &request.state.budgets.bodies).await?;
    let body_bytes = body.bytes.len();
    let events = events(request.state, append.kind, std::mem::take(&mut body.bytes)).await?;
    let payload_bytes = events.iter().map(|event| event.data.len() + event.metadata.len()).sum();
    let _more_memory = memory_of_grown(&request.state.budgets.grown_events, body_bytes, payload_bytes).await?;
    request.write_barrier(append.require_leader).await?;
    let checked = request.authorize_write(&append.stream, Right::Write).await?;
    let concern = match concern(request, &append.stream, &events).await {
        Ok(concern) => concern,
        Err(error) => return Err(request.refused(&append.stream, checked, error).await),
    };
    let expected_version = append.expected_version.to_number();
    let write_id = match append.expected_version {
        ExpectedVersion::NoStream => Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
        _ => Bytes::new(),
    };
    let kind =
        command::Kind::Append(stored::Append { stream: append.stream.clone(), expected_version, events, write_id });
    let command = stored::Command { kind: Some(kind) };
    if command.encoded_len() > MAX_COMMAND_BYTES {
        return Err(ApiError::BodyTooLarge);
    }
    let encoded = command.encode_to_vec();
    drop(command);
    let outcome = request.write(encoded.into(), checked).await;
    match outcome.map_err(|error| ApiError::of_write(error, ApiError::WriteTimeout))? {
        WriteOutcome::Appended { first_number, position, .. } => {
            match concern {
                Concern::Nothing => {}
                Concern::List { described, before, after } => {
                    audit::acl(request, &described, before.as_deref(), after.as_ref());
                }
                Concern::Settings => audit::settings(request),
            }
            let mut answer = response::text(StatusCode::CREATED, "Created");
            response::set_location(&mut answer, &request.base().event(&append.stream, first_number));
            answer.headers_mut().insert(response::ES_POSITION, HeaderValue::from(position));
            Ok(answer)
        }
        other => Err(refusal(other)),
    }
}

/// A decision that is no success.
pub fn refusal(outcome: WriteOutcome) -> ApiError {
    match outcome {
        WriteOutcome::WrongExpectedVersion { current } => ApiError::WrongExpectedVersion(current),
        WriteOutcome::StreamDeleted => ApiError::StreamDeleted,
        WriteOutcome::Rejected { reason } => ApiError::BadRequest(reason.into()),
        WriteOutcome::Appended { .. } | WriteOutcome::Deleted { .. } => {
            tracing::error!(?outcome, "a write was answered with the outcome of something else");
            ApiError::Internal
        }
    }
}

/// 307 to a URI with a fresh id, so that a repeated request is recognised (contract/streams 6.6).
fn forward_to_incoming(request: &Request<'_>) -> Response<Reply> {
    let base = Base::of_raw_request(request.headers, request.connection.scheme(), &request.state.local_address);
    let mut answer = response::text(StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect");
    let path = request.uri.path();
    response::set_location(&mut answer, &format!("{}{path}/incoming/{}", base.as_str(), Uuid::new_v4()));
    *answer.body_mut() = Reply::new(Bytes::from_static(b"Forwarding to idempotent URI"));
    answer
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn events_that_have_grown_reserve_memory_of_their_own() {
        let budget = MemoryBudget::new(1 << 20, Duration::ZERO);
        for (body_bytes, payload_bytes) in [(100, SMALL_BODY_BYTES), (1 << 20, 2 << 20), (1 << 25, 1 << 24)] {
            assert!(matches!(memory_of_grown(&budget, body_bytes, payload_bytes).await, Ok(None)));
        }
        let reserved = memory_of_grown(&budget, 10_000, 1 << 20).await.unwrap();
        assert!(reserved.is_some());
        let refused = memory_of_grown(&budget, 10_000, 100_000).await.map(drop);
        assert_eq!(refused, Err(ApiError::TooBusy));
        drop(reserved);
        assert!(memory_of_grown(&budget, 10_000, 1 << 20).await.is_ok());
    }
}
