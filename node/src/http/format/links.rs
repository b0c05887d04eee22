//! The base of generated links, and URIs of streams, pages and events (contract/streams 14).

use http::{HeaderMap, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::http::format::authority::{is_authority, split_port};
use crate::http::format::forwarded::{self, Forwarded, ForwardedPort};

/// Everything is encoded except letters, digits and `-._~` (contract/streams 2.1).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A stream's name as it stands in a path.
pub(crate) fn encode(stream: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(stream, ENCODED)
}

/// `scheme://host[:port][/prefix]`, no slash at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Base(String);

impl Base {
    /// The base for the links of an answer. `scheme` is that of the connection; `local` stands in
    /// for a missing Host header.
    pub(crate) fn of_request(headers: &HeaderMap, scheme: &'static str, advertised: Option<&str>, local: &str) -> Self {
        let sent = || headers.get(header::HOST).and_then(|value| value.to_str().ok()).map(str::trim);
        let own = advertised.or_else(sent).filter(|host| is_authority(host)).unwrap_or(local);
        let (host, port) = split_port(own);
        if !forwarded::is_sent(headers) {
            return Self::new(scheme, host, port, "");
        }
        let forwarded = Forwarded::of(headers);
        let port = match forwarded.port {
            ForwardedPort::Unsaid => port,
            ForwardedPort::Is(port) => Some(port),
            ForwardedPort::DefaultOfScheme => None,
        };
        let host = forwarded.host.as_deref().unwrap_or(host);
        Self::new(forwarded.scheme.unwrap_or(scheme), host, port, &forwarded.prefix)
    }

    fn new(scheme: &str, host: &str, port: Option<u16>, prefix: &str) -> Self {
        let room = scheme.len() + "://".len() + host.len() + ":65535".len() + prefix.len();
        let mut base = String::with_capacity(room);
        base.push_str(scheme);
        base.push_str("://");
        base.push_str(host);
        if let Some(port) = port.filter(|port| !matches!((scheme, port), ("http", 80) | ("https", 443))) {
            base.push(':');
            base.push_str(itoa::Buffer::new().format(port));
        }
        base.push_str(prefix);
        Self(base)
    }

    /// The same path on another node: scheme and prefix as forwarded, host and port of that node.
    pub(crate) fn of_node(headers: &HeaderMap, scheme: &'static str, address: &str) -> Self {
        let forwarded = Forwarded::of(headers);
        Self(format!("{}://{address}{}", forwarded.scheme.unwrap_or(scheme), forwarded.prefix))
    }

    /// Host and port.
    pub(crate) fn authority(&self) -> &str {
        let authority = self.0.split_once("://").map_or("", |(_, authority)| authority);
        authority.split('/').next().unwrap_or_default()
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The URI of a stream.
    pub(crate) fn stream(&self, stream: &str) -> String {
        const STREAMS: &str = "/streams/";
        let mut uri = String::with_capacity(self.0.len() + STREAMS.len() + stream.len() + Self::ROOM_BEHIND_STREAM);
        uri.push_str(&self.0);
        uri.push_str(STREAMS);
        uri.extend(utf8_percent_encode(stream, ENCODED));
        uri
    }

    /// The URI of an event.
    pub(crate) fn event(&self, stream: &str, number: u64) -> String {
        let mut uri = self.stream(stream);
        uri.push('/');
        uri.push_str(itoa::Buffer::new().format(number));
        uri
    }

    /// A slash and a number follow most often.
    const ROOM_BEHIND_STREAM: usize = 24;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(headers: &[(&'static str, &'static str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        Base::of_request(&map, "http", None, "127.0.0.1:2113").0
    }

    #[test]
    fn links_have_the_scheme_of_the_connection_unless_a_proxy_says_otherwise() {
        let mut headers = HeaderMap::new();
        headers.insert("host", http::HeaderValue::from_static("node:2113"));
        let of_request = |headers: &HeaderMap| Base::of_request(headers, "https", None, "x:1").0;
        assert_eq!(of_request(&headers), "https://node:2113");
        assert_eq!(Base::of_node(&headers, "https", "leader:1").0, "https://leader:1");
        headers.insert("x-forwarded-proto", http::HeaderValue::from_static("http"));
        assert_eq!(of_request(&headers), "http://node:2113");
        headers.insert("x-forwarded-proto", http::HeaderValue::from_static("gopher"));
        assert_eq!(of_request(&headers), "https://node:2113");
    }

    #[test]
    fn forwarded_headers_override_the_host() {
        let host = ("host", "node:2113");
        assert_eq!(base(&[]), "http://127.0.0.1:2113");
        assert_eq!(base(&[host]), "http://node:2113");
        assert_eq!(base(&[host, ("x-forwarded-port", "81")]), "http://node:81");
        assert_eq!(base(&[host, ("x-forwarded-port", "x")]), "http://node:2113");
        assert_eq!(base(&[host, ("x-forwarded-proto", "https")]), "https://node:2113");
        assert_eq!(base(&[host, ("x-forwarded-proto", "https"), ("x-forwarded-port", "443")]), "https://node");
        assert_eq!(base(&[host, ("x-forwarded-host", "foo.com, bar.com")]), "http://foo.com:2113");
        assert_eq!(
            base(&[host, ("x-forwarded-host", "foo.com:8080"), ("x-forwarded-port", "1")]),
            "http://foo.com:8080"
        );
        for prefix in ["pre", "/pre", "/pre/"] {
            assert_eq!(base(&[host, ("x-forwarded-prefix", prefix)]), "http://node:2113/pre");
        }
        assert_eq!(base(&[("host", "[::1]:2113")]), "http://[::1]:2113");
        assert_eq!(base(&[host, ("x-forwarded-host", "[::1]")]), "http://[::1]:2113");
    }

    #[test]
    fn a_forwarded_port_that_is_no_number_keeps_the_port() {
        let host = ("host", "node:2113");
        for forwarded in ["a:b", "a:", "a:-1", "a:99999"] {
            assert_eq!(base(&[host, ("x-forwarded-host", forwarded)]), "http://a:2113", "{forwarded}");
        }
        assert_eq!(base(&[host, ("x-forwarded-host", "a:b"), ("x-forwarded-port", "81")]), "http://a:81");
        assert_eq!(base(&[host, ("x-forwarded-host", ":81")]), "http://node:2113");
    }

    #[test]
    fn of_several_proxies_the_first_one_knows_the_scheme() {
        let host = ("host", "node:2113");
        assert_eq!(base(&[host, ("x-forwarded-proto", "https, http")]), "https://node:2113");
        assert_eq!(base(&[host, ("x-forwarded-proto", " HTTPS ,http")]), "https://node:2113");
    }

    #[test]
    fn the_authority_stands_between_scheme_and_prefix() {
        for (base, authority) in [("http://a:1", "a:1"), ("https://a/p/q", "a"), ("http://[::1]:1/p", "[::1]:1")] {
            assert_eq!(Base(base.to_owned()).authority(), authority);
        }
    }

    #[test]
    fn an_invalid_host_or_prefix_is_not_put_into_links() {
        assert_eq!(base(&[("host", "a/b\"c")]), "http://127.0.0.1:2113");
        assert_eq!(base(&[("host", "n"), ("x-forwarded-prefix", "a b<c>")]), "http://n");
    }

    #[test]
    fn a_forwarded_host_that_is_none_is_ignored() {
        let host = ("host", "node:2113");
        for forwarded in ["[::1", "[x]:1", "a]b", "[::1]x"] {
            assert_eq!(base(&[host, ("x-forwarded-host", forwarded)]), "http://node:2113", "{forwarded}");
        }
    }

    #[test]
    fn of_every_list_the_first_item_counts() {
        let host = ("host", "node:2113");
        assert_eq!(base(&[host, ("x-forwarded-port", "81, 82")]), "http://node:81");
        assert_eq!(base(&[host, ("x-forwarded-port", "x, 82")]), "http://node:2113");
        assert_eq!(base(&[host, ("x-forwarded-prefix", "/a/, /b")]), "http://node:2113/a");
        assert_eq!(base(&[host, ("x-forwarded-prefix", ",, /b")]), "http://node:2113/b");
        assert_eq!(base(&[host, ("x-forwarded-host", " , a:1")]), "http://a:1");
    }

    #[test]
    fn the_host_of_a_forwarded_header_has_the_port_that_its_client_asked_for() {
        let host = ("host", "node:2113");
        assert_eq!(base(&[host, ("forwarded", "host=a;proto=https")]), "https://a");
        assert_eq!(base(&[host, ("forwarded", "host=\"a:8080\"")]), "http://a:8080");
        assert_eq!(base(&[host, ("forwarded", "proto=https")]), "https://node:2113");
        assert_eq!(base(&[host, ("forwarded", "host=a"), ("x-forwarded-prefix", "p")]), "http://a/p");
        let headers = HeaderMap::from_iter([(header::FORWARDED, http::HeaderValue::from_static("proto=https;host=a"))]);
        assert_eq!(Base::of_node(&headers, "http", "leader:1").0, "https://leader:1");
    }

    #[test]
    fn names_are_encoded_except_unreserved_characters() {
        assert_eq!(encode("a-Z0._~").to_string(), "a-Z0._~");
        assert_eq!(encode("$x@y:z w/é").to_string(), "%24x%40y%3Az%20w%2F%C3%A9");
    }
}
