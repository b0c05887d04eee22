//! Headers of intermediaries, and the links that come of them.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::http::exchange::authentication::client_address;
use crate::http::format::authority::is_authority;
use crate::http::format::forwarded::Basis;
use crate::http::format::links::Base;

/// The headers that links depend on, and the one that says where a client is.
const NAMES: [&str; 7] = [
    "host",
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-prefix",
    "x-forwarded-for",
];

/// Lines of the form `name: value`.
pub(crate) fn forwarded(input: &[u8]) -> Option<()> {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (line[..colon].trim_ascii().to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        let name = NAMES.iter().find(|known| known.as_bytes() == name)?;
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?);
    }
    let base = Base::of_request(&headers, "http", None, "localhost:2113");
    check(&base);
    check(&Base::of_node(&headers, "https", "node:2113"));
    check(&Base::of_request(&headers, "https", Some("advertised:1"), "localhost:2113"));
    only_what_counts_changes_links(&headers, &base);
    the_peer_counts_where_it_is_not_trusted(&headers);
    Some(())
}

/// A URI with nothing behind its path.
pub(super) fn check(base: &Base) {
    let written = base.as_str();
    let rest = written.strip_prefix("https://").or_else(|| written.strip_prefix("http://"));
    assert!(rest.is_some_and(|rest| is_authority(rest.split('/').next().unwrap_or_default())), "{written}");
    assert!(!written.contains(['?', '#', '"', '<', '>', ' ', '\\']) && written.is_ascii(), "{written}");
    let event = base.event("a/b ?", 7);
    let Some(path) = event.strip_prefix(written) else { panic!("{event}") };
    assert_eq!(path, "/streams/a%2Fb%20%3F/7");
    if let Ok(uri) = event.parse::<Uri>() {
        assert!(uri.query().is_none() && uri.path().ends_with(path), "{event}");
        assert_eq!(uri.authority().map(|authority| authority.as_str()), Some(base.authority()), "{event}");
    }
}

/// What `Vary` promises: without the headers that do not count the links are the same.
fn only_what_counts_changes_links(headers: &HeaderMap, base: &Base) {
    let not_counted: &[&str] = match Basis::of(headers) {
        Basis::Authority => &["x-forwarded-port", "forwarded"],
        Basis::XForwarded => &["forwarded"],
        Basis::Any => &[],
    };
    let mut fewer = headers.clone();
    for name in not_counted.iter().chain(&["x-forwarded-for"]) {
        fewer.remove(*name);
    }
    assert_eq!(&Base::of_request(&fewer, "http", None, "localhost:2113"), base);
}

fn the_peer_counts_where_it_is_not_trusted(headers: &HeaderMap) {
    let peer = [10, 0, 0, 1].into();
    assert_eq!(client_address(headers, peer, &[]), peer);
    let trusted = [ipnet::IpNet::from(peer)];
    // Nothing to check but that it is found.
    let _ = client_address(headers, peer, &trusted);
}
