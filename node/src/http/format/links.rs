//! The base of generated links, and URIs of streams, pages and events (contract/streams 14).

use http::{HeaderMap, HeaderName, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything is encoded except letters, digits and `-._~` (contract/streams 2.1).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How the names of all headers begin by which a proxy says what its client asked for.
const FORWARDED: &str = "x-forwarded-";
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

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
        let text = |name: &HeaderName| {
            headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).map(str::trim)
        };
        let own = advertised.or_else(|| text(&header::HOST)).filter(|host| is_authority(host)).unwrap_or(local);
        let (mut host, mut port) = split_port(own);
        // One look at all names instead of a search for each: most requests have none of these.
        if !headers.keys().any(|name| name.as_str().starts_with(FORWARDED)) {
            return Self::new(scheme, host, port, "");
        }
        if let Some(forwarded) = text(&FORWARDED_PORT).and_then(|port| port.parse::<u16>().ok()) {
            port = Some(forwarded);
        }
        let first = text(&FORWARDED_HOST).and_then(|hosts| hosts.split(',').next()).map(str::trim);
        if let Some(forwarded) = first.filter(|host| is_authority(host)) {
            let (forwarded_host, forwarded_port) = split_port(forwarded);
            host = forwarded_host;
            port = forwarded_port.or(port);
        }
        Self::new(forwarded_scheme(headers, scheme), host, port, &forwarded_prefix(headers))
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

    /// The address of the request as the client sent it, for redirects on this node: no X-Forwarded
    /// headers.
    pub(crate) fn of_raw_request(headers: &HeaderMap, scheme: &str, local: &str) -> Self {
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).filter(|host| is_authority(host));
        Self(format!("{scheme}://{}", host.unwrap_or(local)))
    }

    /// The same path on another node: scheme and prefix as forwarded, host and port of that node.
    pub(crate) fn of_node(headers: &HeaderMap, scheme: &'static str, address: &str) -> Self {
        Self(format!("{}://{address}{}", forwarded_scheme(headers, scheme), forwarded_prefix(headers)))
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

/// The scheme that the client used: what a proxy says, else that of the connection.
fn forwarded_scheme(headers: &HeaderMap, own: &'static str) -> &'static str {
    let Some(value) = headers.get(&FORWARDED_PROTO) else { return own };
    // Proxies in a row make a list; the first one spoke with the client.
    let first = value.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    match () {
        () if first.eq_ignore_ascii_case(b"https") => "https",
        () if first.eq_ignore_ascii_case(b"http") => "http",
        () => own,
    }
}

/// Empty, or the prefix with a slash before it and none behind it. A prefix that is no plain path
/// is ignored.
fn forwarded_prefix(headers: &HeaderMap) -> String {
    let prefix = headers.get(&FORWARDED_PREFIX).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let prefix = prefix.trim().trim_matches('/');
    if prefix.is_empty() || !consists_of(prefix, &OF_PREFIX) { String::new() } else { format!("/{prefix}") }
}

/// Letters, digits and `others`: which bytes a text may have, at the price of one look-up for each.
const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte as usize] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

static OF_AUTHORITY: [bool; 256] = alphanumeric_and(b"-._~:[]%");
static OF_NAME: [bool; 256] = alphanumeric_and(b"-._~%!$&'()*+,;=");
static OF_PREFIX: [bool; 256] = alphanumeric_and(b"-._~/%!$&'()*+,;=:@");

fn consists_of(text: &str, allowed: &[bool; 256]) -> bool {
    text.bytes().all(|byte| allowed[usize::from(byte)])
}

fn is_authority(text: &str) -> bool {
    consists_of(text, &OF_AUTHORITY) && !text.is_empty() && !text.starts_with(':') && split_address(text).is_some()
}

/// Whether a Host header may have this value: a name or an address, and perhaps a port (RFC 9110
/// 7.2). An empty one stands for a target without a host.
pub(crate) fn is_host(text: &str) -> bool {
    let Some((address, rest)) = split_address(text) else { return false };
    let (name, port) = match rest.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (rest, None),
    };
    let is_port =
        |port: &str| port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let has_host = if address.is_empty() { !name.is_empty() || port.is_none() } else { name.is_empty() };
    has_host && consists_of(name, &OF_NAME) && port.is_none_or(is_port)
}

/// Splits an IPv6 address in brackets off, if there is one. `None` for brackets around or beside
/// anything else.
fn split_address(text: &str) -> Option<(&str, &str)> {
    let Some(inner) = text.strip_prefix('[') else {
        let has_bracket = memchr::memchr2(b'[', b']', text.as_bytes()).is_some();
        return (!has_bracket).then_some(("", text));
    };
    let (address, rest) = inner.split_once(']')?;
    let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
    (is_address && (rest.is_empty() || rest.starts_with(':'))).then_some((address, rest))
}

/// Host and port of an authority. A port that is no number counts as none. Of so few bytes each is
/// looked at: a search that is made for many takes longer.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    // The colons of an IPv6 address stand in brackets.
    let host_end = authority.bytes().position(|byte| byte == b']').map_or(0, |bracket| bracket + 1);
    match authority.bytes().skip(host_end).position(|byte| byte == b':') {
        Some(colon) => {
            let (host, ports) = authority.split_at(host_end + colon);
            let port = ports.bytes().rposition(|byte| byte == b':').map_or(ports, |colon| &ports[colon + 1..]);
            (host, port.parse().ok())
        }
        None => (authority, None),
    }
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
        assert_eq!(Base::of_raw_request(&headers, "https", "x:1").0, "https://node:2113");
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
    fn an_invalid_host_or_prefix_is_not_put_into_links() {
        assert_eq!(base(&[("host", "a/b\"c")]), "http://127.0.0.1:2113");
        assert_eq!(base(&[("host", "n"), ("x-forwarded-prefix", "a b<c>")]), "http://n");
    }

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        for host in ["", "node", "node:2113", "node:", "127.0.0.1:80", "[::1]", "[::1]:2113", "a_b.c-d:1", "n%61"] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "[::1", "::1]", "[::1]x", "[x]", "[]:1", "x:abc", "x:70000", "x:-1", ":80", "a:b:c", "::1", "a/b", "a b",
            "u@h",
        ] {
            assert!(!is_host(host), "{host}");
        }
        // Where a proxy says something else than a host, it says nothing.
        let host = ("host", "node:2113");
        for forwarded in ["[::1", "[x]:1", "a]b", "[::1]x"] {
            assert_eq!(base(&[host, ("x-forwarded-host", forwarded)]), "http://node:2113", "{forwarded}");
        }
    }

    #[test]
    fn names_are_encoded_except_unreserved_characters() {
        assert_eq!(encode("a-Z0._~").to_string(), "a-Z0._~");
        assert_eq!(encode("$x@y:z w/é").to_string(), "%24x%40y%3Az%20w%2F%C3%A9");
    }
}
