//! Answers: status, reason phrase, and the headers that every answer has (contract/streams 1.2).

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;
use percent_encoding::{CONTROLS, utf8_percent_encode};

use crate::config::Challenge;
use crate::http::Reply;
use crate::http::exchange::media_type::MediaType;
use crate::http::format::json::Object;
use crate::http::limits::MAX_PREFLIGHT_NAMES_BYTES;

/// Number of the stream's last event, in answers to a wrong expected version.
pub(crate) const ES_CURRENT_VERSION: HeaderName = HeaderName::from_static("es-currentversion");
/// Its later name (contract/streams 17).
pub(crate) const KURRENT_CURRENT_VERSION: HeaderName = HeaderName::from_static("kurrent-currentversion");
/// Position of the last event of a write.
pub(crate) const ES_POSITION: HeaderName = HeaderName::from_static("es-position");

/// Tells a proxy whether to collect an answer before it passes it on.
pub(crate) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const USUAL_HEADERS_OF_REQUESTS: &str = "Content-Type, X-Requested-With, X-Forwarded-Host, X-Forwarded-Port, X-Forwarded-Proto, X-Forwarded-Prefix, X-PINGOTHER, \
     Authorization, If-None-Match, ES-LongPoll, ES-ExpectedVersion, ES-EventId, ES-EventType, ES-RequiresMaster, \
     ES-RequireMaster, ES-RequireLeader, ES-HardDelete, ES-ResolveLinkTos, ES-MinPosition, Last-Event-ID, \
     Kurrent-LongPoll, Kurrent-ExpectedVersion, Kurrent-EventId, Kurrent-EventType, Kurrent-RequireLeader, \
     Kurrent-HardDelete, Kurrent-ResolveLinkTos, Kurrent-MinPosition";
const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(USUAL_HEADERS_OF_REQUESTS);
const EXPOSE_HEADERS: HeaderValue =
    HeaderValue::from_static("Location, ES-Position, ES-CurrentVersion, ETag, Retry-After, ES-MinPosition");

/// Access-Control-Allow-Methods of answers that are made before the methods of a path count
/// (contract/streams 1.2).
pub(crate) const NO_METHODS: HeaderValue = HeaderValue::from_static("");

/// How long a browser may keep the answer to a preflight, in seconds (contract/streams 1.2).
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

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

/// A list in JSON without elements.
pub(crate) fn empty_list(status: StatusCode) -> Response<Reply> {
    with_body(status, MediaType::Json.header(), b"[]".to_vec())
}

/// An answer with this Content-Type, whose body may still be under way.
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

/// Lets a script of another page send any header: adds what the answer to its preflight `asked` for
/// has beside the headers of every answer (contract/streams 1.2). No answer allows credentials, so
/// a browser adds none of its own to a request that needed a preflight.
pub(crate) fn add_preflight_headers(answer: &mut Response<Reply>, asked: &HeaderMap) {
    let signs = [header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_REQUEST_HEADERS];
    if !signs.iter().any(|name| asked.contains_key(name)) {
        return;
    }
    let headers = answer.headers_mut();
    if let Some(allowed) = allowed_beside_the_usual(asked) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    headers.insert(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
}

/// The usual list and the names asked for that are not in it, as they were sent; `None` when there
/// are none. What is no name of a header is left out, and so is what is beyond
/// [`MAX_PREFLIGHT_NAMES_BYTES`].
fn allowed_beside_the_usual(asked: &HeaderMap) -> Option<HeaderValue> {
    let usual = USUAL_HEADERS_OF_REQUESTS;
    let is_usual = |name: &str| usual.split(", ").any(|known| known.eq_ignore_ascii_case(name));
    let lines = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|line| line.to_str().ok());
    let mut left = MAX_PREFLIGHT_NAMES_BYTES;
    let mut list = usual.to_owned();
    for name in lines.flat_map(|line| line.split(',')).map(str::trim) {
        if is_usual(name) || HeaderName::from_bytes(name.as_bytes()).is_err() {
            continue;
        }
        let Some(rest) = left.checked_sub(name.len()) else { break };
        left = rest;
        // Writing to a String cannot fail.
        let _ = write!(list, ", {name}");
    }
    if list.len() == usual.len() { None } else { HeaderValue::try_from(list).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is allowed beside the usual headers.
    fn allowed_for(asked: &[&str]) -> Option<String> {
        let lines = asked.iter().map(|line| HeaderValue::from_str(line).unwrap());
        let mut asked = HeaderMap::new();
        for line in lines {
            asked.append(header::ACCESS_CONTROL_REQUEST_HEADERS, line);
        }
        let mut answer = status_only(StatusCode::OK, "OK");
        add_common_headers(&mut answer, NO_METHODS);
        add_preflight_headers(&mut answer, &asked);
        let allowed = answer.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
        let more = allowed.strip_prefix(USUAL_HEADERS_OF_REQUESTS).unwrap();
        more.strip_prefix(", ").map(str::to_owned)
    }

    #[test]
    fn a_preflight_is_allowed_every_header_that_it_asks_for() {
        for (asked, expected) in [
            (&[][..], None),
            (&["traceparent"], Some("traceparent")),
            (&["traceparent,X-A , cache-control"], Some("traceparent, X-A, cache-control")),
            (&["traceparent", "x-a"], Some("traceparent, x-a")),
            (&["es-longpoll, CONTENT-TYPE, kurrent-eventid"], None),
            (&["", " ,, "], None),
            (&["a b, x/y, <x>, good"], Some("good")),
        ] {
            assert_eq!(allowed_for(asked).as_deref(), expected, "{asked:?}");
        }
    }

    #[test]
    fn only_so_many_names_are_repeated() {
        let names: Vec<String> = (0..2_000).map(|number| format!("x-{number:06}")).collect();
        let allowed = allowed_for(&[&names.join(",")]).unwrap();
        assert_eq!(allowed.split(", ").count(), MAX_PREFLIGHT_NAMES_BYTES / names[0].len());
    }

    #[test]
    fn an_answer_that_is_no_preflight_stays_as_it_is() {
        let mut answer = status_only(StatusCode::OK, "OK");
        add_preflight_headers(&mut answer, &HeaderMap::new());
        assert!(answer.headers().is_empty());
        let asked = HeaderMap::from_iter([(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"))]);
        add_preflight_headers(&mut answer, &asked);
        assert_eq!(answer.headers()[header::ACCESS_CONTROL_MAX_AGE], "600");
    }

    #[test]
    fn every_header_of_the_api_and_its_alias_are_usual() {
        let source = include_str!("extract/headers.rs");
        let fields: Vec<&str> =
            source.split("Field::new(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(fields.len() > 8, "{fields:?}");
        // The later versions that have aliases speak of leaders only.
        let has_alias = |name: &str| !name.ends_with("Master");
        let aliases = fields.iter().filter(|name| has_alias(name)).filter_map(|name| name.strip_prefix("ES-"));
        let names = fields.iter().map(|name| (*name).to_owned());
        for name in names.chain(aliases.map(|name| format!("Kurrent-{name}"))) {
            let is_usual = USUAL_HEADERS_OF_REQUESTS.split(", ").any(|usual| usual.trim() == name);
            assert!(is_usual, "Access-Control-Allow-Headers lacks {name}");
        }
    }
}
