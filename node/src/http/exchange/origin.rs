//! Whether a browser sends a request for a page of somebody else (contract/services 1.2). Browsers
//! add credentials that they remember to what any page makes them send, a form for example. So the
//! author of the page would act with the rights of its reader.

use http::{HeaderMap, HeaderName, Method, header};

use crate::access::Caller;
use crate::http::AppState;
use crate::http::exchange::authentication::client_address;
use crate::http::exchange::request::Connection;
use crate::http::format::authority::{is_authority, is_host, split_port};
use crate::http::format::links::Base;

/// What a browser says of the page that makes it send a request; scripts cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Bytes of an origin in the audit log.
const MAX_LOGGED_BYTES: usize = 256;

/// Whether a request with this method may change anything.
pub(crate) fn may_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a page that is not one of this node sends the request. What is no browser says nothing
/// of pages, and is not foreign.
pub(crate) fn is_foreign(state: &AppState, connection: &Connection, headers: &HeaderMap) -> bool {
    let origin = only(headers, &header::ORIGIN);
    let is_trusted =
        || origin.flatten().is_some_and(|origin| state.config.trusted_origins.iter().any(|known| known == origin));
    match only(headers, &SEC_FETCH_SITE) {
        Some(site) => !site.is_some_and(is_own_site) && !is_trusted(),
        None => match origin {
            None => false,
            Some(sent) => !sent.is_some_and(|origin| is_own(state, connection, headers, origin)) && !is_trusted(),
        },
    }
}

/// Writes to the audit log that a browser sent a write for a page of somebody else.
pub(crate) fn log_refusal(state: &AppState, connection: &Connection, headers: &HeaderMap, caller: &Caller) {
    let from = client_address(headers, connection.peer.ip(), &state.config.trusted_proxies);
    let (user, origin) = (caller.login().unwrap_or_default(), logged(headers));
    tracing::info!(target: "audit", ?user, %from, %origin, "audit: a write from a foreign page was refused");
}

/// The origin of a request for the audit log: quoted, so that it cannot end the line, and cut.
fn logged(headers: &HeaderMap) -> String {
    let value = headers.get(header::ORIGIN).map_or(&b""[..], |value| value.as_bytes());
    format!("{:?}", String::from_utf8_lossy(&value[..value.len().min(MAX_LOGGED_BYTES)]))
}

/// The value of a header; `None` where it is missing, `Some(None)` where there are several or it is
/// no text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.to_str().ok().filter(|_| values.next().is_none()).map(str::trim))
}

/// `none` is what the user has asked for without any page, in the address bar for example.
fn is_own_site(site: &str) -> bool {
    site.eq_ignore_ascii_case("same-origin") || site.eq_ignore_ascii_case("none")
}

/// Whether `origin` is an address of this node: that of the request, as the node or a proxy before
/// it has it, or the advertised one. Schemes are not compared, because TLS may end before this
/// node. A page cannot make a browser that adds credentials send X-Forwarded headers: that needs a
/// preflight, which allows no credentials.
fn is_own(state: &AppState, connection: &Connection, headers: &HeaderMap, origin: &str) -> bool {
    let Some(origin) = Origin::parse(origin) else { return false };
    let advertised = state.config.advertise_http.as_deref();
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).map(str::trim);
    let base = || Base::of_request(headers, connection.scheme(), advertised, &state.local_address);
    [host, advertised].into_iter().flatten().any(|own| origin.is_at(own)) || origin.is_at(base().authority())
}

/// Where a page comes from (RFC 6454 7).
#[derive(Debug, PartialEq, Eq)]
struct Origin<'h> {
    host: &'h str,
    port: u16,
}

impl<'h> Origin<'h> {
    /// `None` for `null` and for what is no origin of a page from the network.
    fn parse(text: &'h str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let default_port = match () {
            () if scheme.eq_ignore_ascii_case("http") => 80,
            () if scheme.eq_ignore_ascii_case("https") => 443,
            () => return None,
        };
        if !is_authority(authority) || !is_host(authority) {
            return None;
        }
        let (host, port) = split_port(authority);
        Some(Self { host, port: port.unwrap_or(default_port) })
    }

    /// Whether it is at this authority, which may leave out the port of either scheme.
    fn is_at(&self, authority: &str) -> bool {
        let (host, port) = split_port(authority);
        let is_port = port.map_or(matches!(self.port, 80 | 443), |port| port == self.port);
        is_port && host.eq_ignore_ascii_case(self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_at_the_authority_with_the_same_host_and_port() {
        for (origin, authority) in [
            ("http://node:2113", "node:2113"),
            ("https://node:2113", "NODE:2113"),
            ("http://node", "node"),
            ("https://node", "node"),
            ("https://node", "node:443"),
            ("http://node:80", "node"),
            ("http://[::1]:2113", "[::1]:2113"),
        ] {
            assert!(Origin::parse(origin).unwrap().is_at(authority), "{origin} {authority}");
        }
        for (origin, authority) in [
            ("http://node:2114", "node:2113"),
            ("http://node", "node:2113"),
            ("http://node:2113", "node"),
            ("http://evil.example:2113", "node:2113"),
            ("http://node.evil.example", "node"),
            ("http://[::2]:2113", "[::1]:2113"),
        ] {
            assert!(!Origin::parse(origin).unwrap().is_at(authority), "{origin} {authority}");
        }
    }

    #[test]
    fn what_is_no_origin_of_a_page_is_at_no_authority() {
        for text in [
            "",
            "null",
            "node",
            "file://",
            "file://node",
            "http://",
            "http://a/b",
            "http://a b",
            "http://u@node",
            "http://node:x",
            "http://node:70000",
            "chrome-extension://node",
            "http://a,http://b",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_header_counts_where_it_is_there_once() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ORIGIN, http::HeaderValue::from_static(value));
            }
            headers
        };
        assert_eq!(only(&headers(&[]), &header::ORIGIN), None);
        assert_eq!(only(&headers(&[" a "]), &header::ORIGIN), Some(Some("a")));
        assert_eq!(only(&headers(&["a", "a"]), &header::ORIGIN), Some(None));
    }

    #[test]
    fn a_logged_origin_is_quoted_and_bounded() {
        let long = "x".repeat(10_000);
        let headers = HeaderMap::from_iter([(header::ORIGIN, http::HeaderValue::from_str(&long).unwrap())]);
        assert_eq!(logged(&headers), format!("\"{}\"", "x".repeat(MAX_LOGGED_BYTES)));
        let headers = HeaderMap::from_iter([(header::ORIGIN, http::HeaderValue::from_bytes(b"\xff\"").unwrap())]);
        assert_eq!(logged(&headers), "\"\u{fffd}\\\"\"");
    }
}
