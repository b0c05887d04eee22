//! Answers: status, reason phrase, and the headers that every answer has (contract/streams 1.2).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;
use percent_encoding::{CONTROLS, utf8_percent_encode};

use crate::config::Challenge;
use crate::http::Reply;
use crate::http::exchange::media_type::MediaType;
use crate::http::format::json::Object;

/// Number of the stream's last event, in answers to a wrong expected version.
pub(crate) const ES_CURRENT_VERSION: HeaderName = HeaderName::from_static("es-currentversion");
/// Its later name (contract/streams 17).
pub(crate) const KURRENT_CURRENT_VERSION: HeaderName = HeaderName::from_static("kurrent-currentversion");
/// Position of the last event of a write.
pub(crate) const ES_POSITION: HeaderName = HeaderName::from_static("es-position");

/// Tells a proxy whether to collect an answer before it passes it on.
pub(crate) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type, X-Requested-With, X-Forwarded-Host, X-Forwarded-Port, X-Forwarded-Proto, X-Forwarded-Prefix, X-PINGOTHER, \
     Authorization, If-None-Match, ES-LongPoll, ES-ExpectedVersion, ES-EventId, ES-EventType, ES-RequiresMaster, \
     ES-RequireMaster, ES-RequireLeader, ES-HardDelete, ES-ResolveLinkTos, ES-MinPosition, Last-Event-ID, \
     Kurrent-LongPoll, Kurrent-ExpectedVersion, Kurrent-EventId, Kurrent-EventType, Kurrent-RequireLeader, \
     Kurrent-HardDelete, Kurrent-ResolveLinkTos, Kurrent-MinPosition",
);
const EXPOSE_HEADERS: HeaderValue = HeaderValue::from_static("Location, ES-Position, ES-CurrentVersion");

/// Longest reason phrase: it may repeat a part of the path.
const MAX_REASON_BYTES: usize = 256;

/// An answer with this body and Content-Type.
pub(crate) fn with_body(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Response<Reply> {
    with_reply(status, content_type, Reply::new(Bytes::from(body)))
}

/// A document in JSON with these members.
pub(crate) fn json(status: StatusCode, members: impl FnOnce(&mut Object<'_>)) -> Response<Reply> {
    let mut out = Vec::with_capacity(512);
    let mut object = Object::open(&mut out, 0);
    members(&mut object);
    object.close();
    with_body(status, MediaType::Json.header(), out)
}

/// The same with a body that may still be under way.
pub(crate) fn with_reply(status: StatusCode, content_type: HeaderValue, reply: Reply) -> Response<Reply> {
    let mut answer = bare(status, reply);
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer
}

/// Most answers have no more headers than this: their table is allocated once and does not grow.
const USUAL_HEADERS: usize = 12;

fn bare(status: StatusCode, reply: Reply) -> Response<Reply> {
    let mut answer = Response::new(reply);
    *answer.status_mut() = status;
    *answer.headers_mut() = HeaderMap::with_capacity(USUAL_HEADERS);
    answer
}

/// An answer that consists of its reason phrase: no body, no Content-Type.
pub(crate) fn status_only(status: StatusCode, reason: &str) -> Response<Reply> {
    let mut answer = bare(status, Reply::default());
    set_reason(&mut answer, reason);
    answer
}

/// The same with the Content-Type of plain text.
pub(crate) fn text(status: StatusCode, reason: &str) -> Response<Reply> {
    let mut answer = status_only(status, reason);
    answer.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    answer
}

/// The same; then the connection is closed, because the rest of the request was not read.
pub(crate) fn closing(status: StatusCode, reason: &str) -> Response<Reply> {
    let mut answer = status_only(status, reason);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Sets the reason phrase; a character that HTTP does not allow there becomes `?`.
pub(crate) fn set_reason(answer: &mut Response<Reply>, reason: &str) {
    if answer.status().canonical_reason() == Some(reason) {
        return;
    }
    let bytes = reason.bytes().take(MAX_REASON_BYTES);
    let bytes: Vec<u8> = bytes.map(|byte| if byte < 0x20 || byte == 0x7f { b'?' } else { byte }).collect();
    if let Ok(phrase) = ReasonPhrase::try_from(bytes) {
        answer.extensions_mut().insert(phrase);
    }
}

/// Sets Location. Characters beyond ASCII, which the target of a request may have, are encoded; a
/// text that still cannot be the value of a header is left out.
pub(crate) fn set_location(answer: &mut Response<Reply>, location: &str) {
    let value = if location.is_ascii() {
        HeaderValue::from_str(location)
    } else {
        HeaderValue::try_from(utf8_percent_encode(location, CONTROLS).to_string())
    };
    if let Ok(location) = value {
        answer.headers_mut().insert(header::LOCATION, location);
    }
}

/// Adds the challenge that every 401 carries (contract/services 1.2).
pub(crate) fn add_challenge(answer: &mut Response<Reply>, challenge: Challenge) {
    let value = match challenge {
        Challenge::BasicCustom => HeaderValue::from_static("BasicCustom realm=\"ES\""),
        Challenge::Basic => HeaderValue::from_static("Basic realm=\"ES\""),
    };
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, value);
}

/// Adds the headers of every answer. `allowed` is empty where the contract wants it so.
pub(crate) fn add_common_headers(answer: &mut Response<Reply>, allowed: HeaderValue) {
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allowed);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
}
