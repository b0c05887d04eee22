//! Checks of the head of an HTTP/1.1 request that hyper leaves to its user: its size, parts that
//! could be understood in two ways, and the form of its target.

use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};

use crate::http::Reply;
use crate::http::exchange::response;
use crate::http::format::authority::is_host;
use crate::http::limits::MAX_HEADER_BYTES;

/// Answers a request whose head is too large or ambiguous.
pub(in crate::http) fn refusal<B>(request: &Request<B>) -> Option<Response<Reply>> {
    // hyper takes a larger head if it arrives in one piece.
    let (status, reason) = if head_bytes(request) > MAX_HEADER_BYTES {
        (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request Header Fields Too Large")
    } else {
        (StatusCode::BAD_REQUEST, ambiguity(request)?)
    };
    let mut answer = response::closing(status, reason);
    response::add_common_headers(&mut answer, response::NO_METHODS);
    Some(answer)
}

/// Moves the authority of a target into Host, whose value it replaces (RFC 9112 3.2.2). Path and
/// query remain as the target.
pub(in crate::http) fn into_origin_form<B>(request: &mut Request<B>) {
    let uri = std::mem::take(request.uri_mut());
    let mut parts = uri.into_parts();
    let authority = parts.authority.take().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
    if let Some(authority) = authority {
        request.headers_mut().insert(header::HOST, authority);
    }
    parts.scheme = None;
    // A target that was valid with an authority is valid without it, or has become `*`.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

/// Why an intermediary in front of this node could have understood the head differently: it would
/// have taken other bytes for the body, or the request for one to another host (RFC 9112 3.2 and
/// 6.1). hyper itself refuses lengths that contradict each other.
fn ambiguity<B>(request: &Request<B>) -> Option<&'static str> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    match hosts.next() {
        None if request.version() == Version::HTTP_11 => return Some("Host header is missing."),
        Some(host) if !host.to_str().is_ok_and(|host| is_host(host.trim())) => {
            return Some("Host header in wrong format.");
        }
        _ => {}
    }
    if hosts.next().is_some() {
        return Some("More than one Host header.");
    }
    // It takes the place of Host.
    if request.uri().authority().is_some_and(|authority| !is_host(authority.as_str())) {
        return Some("Host of the target in wrong format.");
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked =
        codings.next().is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    (!is_chunked || codings.next().is_some()).then_some("Transfer-Encoding has to be chunked.")
}

/// Length of the head, written without needless blanks.
fn head_bytes<B>(request: &Request<B>) -> usize {
    const LINE_END: usize = "\r\n".len();
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let line = request.method().as_str().len() + scheme + authority + path + "  HTTP/1.1".len() + LINE_END;
    let field =
        |(name, value): (&http::HeaderName, &HeaderValue)| name.as_str().len() + ": ".len() + value.len() + LINE_END;
    line + request.headers().iter().map(field).sum::<usize>() + LINE_END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_as_long_as_it_is_written() {
        for (target, request) in [
            ("/streams/a?embed=body", "GET /streams/a?embed=body HTTP/1.1\r\nHost: n\r\nAccept: a/b\r\n\r\n"),
            ("http://n:1/p", "GET http://n:1/p HTTP/1.1\r\nHost: n\r\nAccept: a/b\r\n\r\n"),
        ] {
            let parsed = Request::get(target).header("Host", "n").header("Accept", "a/b").body(()).unwrap();
            assert_eq!(head_bytes(&parsed), request.len());
        }
    }

    #[test]
    fn a_refusal_has_the_headers_of_every_answer() {
        let refused = refusal(&Request::get("/streams/a").body(()).unwrap()).unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, ""),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (header::CONNECTION, "close"),
        ] {
            assert_eq!(refused.headers()[&name], value, "{name}");
        }
        for name in [header::ACCESS_CONTROL_ALLOW_HEADERS, header::ACCESS_CONTROL_EXPOSE_HEADERS] {
            assert!(refused.headers().contains_key(&name), "{name}");
        }
    }

    #[test]
    fn the_authority_of_a_target_is_what_a_host_header_may_be() {
        let is_refused = |target: &str| refusal(&Request::get(target).header("Host", "n").body(()).unwrap()).is_some();
        for target in ["http://n/", "http://n:2113/", "http://[::1]:2113/", "/streams/http:%2F%2Fu@n"] {
            assert!(!is_refused(target), "{target}");
        }
        for target in ["http://n:211z/", "http://n:70000/", "http://u@n/", "http://u:p@n:1/"] {
            assert!(is_refused(target), "{target}");
        }
    }

    #[test]
    fn the_authority_becomes_the_host_and_the_target_is_a_path() {
        let target = "https://node:2113/streams/a%2Fb?embed=body";
        let mut request = Request::get(target).header("Host", "other").body(()).unwrap();
        into_origin_form(&mut request);
        assert_eq!(request.uri().to_string(), "/streams/a%2Fb?embed=body");
        assert_eq!(request.headers()[header::HOST], "node:2113");
    }
}
