//! Cache-Control, Vary, ETag and If-None-Match (contract/streams 8.7).

use http::{HeaderMap, HeaderValue, header};

use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::request::Request;
use crate::http::format::forwarded::Basis;
use crate::streams::{PageFacts, Version};

const NO_CACHE: HeaderValue = HeaderValue::from_static("max-age=0, no-cache, must-revalidate");

/// How long an answer stays right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// For ever: it shows only numbers below the head.
    Immutable,
    /// Until the next event; may be cached for `$cacheControl` seconds where that is set.
    Head {
        /// `$cacheControl`
        cache_control_s: Option<u64>,
    },
}

/// Which caches may keep an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Every cache: everybody may read it.
    Public,
    /// That of the client alone.
    Private,
}

impl Sharing {
    /// Of what everybody may read, or only some.
    pub(crate) fn of(is_public: bool) -> Self {
        if is_public { Self::Public } else { Self::Private }
    }
}

/// What the representations of one URI differ by. Headers that change its links are part of it:
/// otherwise a cache would hand everybody the links that anybody made up (contract/streams 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Varies {
    /// Pages and events: form, what is done with links to other events, and the links of the page.
    Page,
    /// Redirects and documents with links of which none leads to another event: form and links.
    Linked,
}

impl Varies {
    /// Vary in the answer to a request with these headers. Always one line, and without blanks but
    /// the first one: some caches read only the last line, and nginx keeps no answer with a Vary of
    /// more than 128 bytes. Headers that cannot count beside those that were sent are not named, so
    /// behind a proxy that sends X-Forwarded-Host with a port it is short enough. Host is named
    /// because a proxy may make the X-Forwarded headers of it and look at those of its client.
    fn header(self, headers: &HeaderMap) -> HeaderValue {
        match (self, Basis::of(headers)) {
            (Self::Page, Basis::Authority) => PAGE_BY_AUTHORITY,
            (Self::Page, Basis::XForwarded) => PAGE_BY_X_FORWARDED,
            (Self::Page, Basis::Any) => PAGE,
            (Self::Linked, Basis::Authority) => LINKED_BY_AUTHORITY,
            (Self::Linked, Basis::XForwarded) => LINKED_BY_X_FORWARDED,
            (Self::Linked, Basis::Any) => LINKED,
        }
    }
}

const FORM: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");
const PAGE_BY_AUTHORITY: HeaderValue = HeaderValue::from_static(
    "Accept, Accept-Encoding,ES-ResolveLinkTos,Kurrent-ResolveLinkTos,Host,\
     X-Forwarded-Host,X-Forwarded-Prefix,X-Forwarded-Proto",
);
const PAGE_BY_X_FORWARDED: HeaderValue = HeaderValue::from_static(
    "Accept, Accept-Encoding,ES-ResolveLinkTos,Kurrent-ResolveLinkTos,Host,\
     X-Forwarded-Host,X-Forwarded-Prefix,X-Forwarded-Proto,X-Forwarded-Port",
);
const PAGE: HeaderValue = HeaderValue::from_static(
    "Accept, Accept-Encoding,ES-ResolveLinkTos,Kurrent-ResolveLinkTos,Host,\
     X-Forwarded-Host,X-Forwarded-Prefix,X-Forwarded-Proto,X-Forwarded-Port,Forwarded",
);
const LINKED_BY_AUTHORITY: HeaderValue =
    HeaderValue::from_static("Accept, Accept-Encoding,Host,X-Forwarded-Host,X-Forwarded-Prefix,X-Forwarded-Proto");
const LINKED_BY_X_FORWARDED: HeaderValue = HeaderValue::from_static(
    "Accept, Accept-Encoding,Host,X-Forwarded-Host,X-Forwarded-Prefix,X-Forwarded-Proto,X-Forwarded-Port",
);
const LINKED: HeaderValue = HeaderValue::from_static(
    "Accept, Accept-Encoding,Host,X-Forwarded-Host,X-Forwarded-Prefix,X-Forwarded-Proto,X-Forwarded-Port,Forwarded",
);

/// Adds Vary where nothing else was said: the form alone depends on the request.
pub(crate) fn vary_by_form(headers: &mut HeaderMap) {
    headers.entry(header::VARY).or_insert(FORM);
}

/// Adds Vary to the answer to `request`.
pub(crate) fn add_vary(headers: &mut HeaderMap, varies: Varies, request: &Request<'_>) {
    headers.insert(header::VARY, varies.header(request.headers));
}

/// Adds what a page has beside its document, which a 304 repeats: caches take over what it says of
/// the stored page (RFC 9110 15.4.5).
pub(crate) fn add_page_headers(headers: &mut HeaderMap, page: &PageFacts, request: &Request<'_>) {
    let sharing = Sharing::of(page.is_public);
    if page.is_immutable {
        add_headers(headers, Freshness::Immutable, sharing, request);
        return;
    }
    add_headers(headers, Freshness::Head { cache_control_s: page.cache_control_s }, sharing, request);
    add_tag(headers, &tag(page.version, request.chosen.media_type));
}

/// Adds Cache-Control and Vary.
pub(crate) fn add_headers(headers: &mut HeaderMap, freshness: Freshness, sharing: Sharing, request: &Request<'_>) {
    let value = match (freshness, sharing) {
        _ if request.state.config.disable_http_caching => NO_CACHE,
        (Freshness::Immutable, Sharing::Public) => HeaderValue::from_static("max-age=31536000, public"),
        (Freshness::Immutable, Sharing::Private) => HeaderValue::from_static("max-age=31536000, private"),
        (Freshness::Head { cache_control_s: None }, _) => NO_CACHE,
        (Freshness::Head { cache_control_s: Some(seconds) }, Sharing::Public) => max_age(seconds, "public"),
        (Freshness::Head { cache_control_s: Some(seconds) }, Sharing::Private) => max_age(seconds, "private"),
    };
    headers.insert(header::CACHE_CONTROL, value);
    add_vary(headers, Varies::Page, request);
}

fn max_age(seconds: u64, scope: &str) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={seconds}, {scope}")).unwrap_or(NO_CACHE)
}

/// `{version};{hash}`, unquoted; version -1 for a stream without events. Where events were
/// redacted, how many follows.
pub(crate) fn tag(version: Version, media_type: MediaType) -> String {
    let Version { last, redactions } = version;
    match redactions {
        0 => format!("{last};{}", media_type.hash()),
        _ => format!("{last};{};{redactions}", media_type.hash()),
    }
}

/// Adds the ETag.
pub(crate) fn add_tag(headers: &mut HeaderMap, tag: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("\"{tag}\"")) {
        headers.insert(header::ETAG, value);
    }
}

/// The versions whose tags for this media type If-None-Match holds, quoted or not, weak or not,
/// alone or in a list.
pub(crate) fn known_versions(headers: &HeaderMap, media_type: MediaType) -> Vec<Version> {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let version = |item: &str| {
        let item = item.trim();
        let known = item.strip_prefix("W/").unwrap_or(item).trim_matches('"');
        let mut parts = known.splitn(3, ';');
        let last = parts.next()?.parse().ok()?;
        let redactions = parts.nth(1).map_or(Some(0), |count| count.parse().ok())?;
        let version = Version { last, redactions };
        // A number can be written in many ways, a tag in one.
        (tag(version, media_type) == known).then_some(version)
    };
    values.flat_map(|value| value.split(',')).filter_map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nginx takes of a Vary.
    const NGINX_BYTES: usize = 128;

    fn vary(varies: Varies, sent: &[(&'static str, &'static str)]) -> String {
        let sent =
            sent.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        varies.header(&sent.collect()).to_str().unwrap().to_owned()
    }

    fn names(vary: &str) -> Vec<&str> {
        vary.split(',').map(str::trim).collect()
    }

    #[test]
    fn every_header_that_can_count_is_named() {
        let form = ["Accept", "Accept-Encoding"];
        let links = ["ES-ResolveLinkTos", "Kurrent-ResolveLinkTos"];
        let address = ["Host", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto"];
        let host = ("x-forwarded-host", "a:1");
        for (sent, more) in [
            (&[][..], &["X-Forwarded-Port", "Forwarded"][..]),
            (&[("x-forwarded-for", "192.0.2.1")], &["X-Forwarded-Port", "Forwarded"]),
            (&[("forwarded", "host=a:1")], &["X-Forwarded-Port", "Forwarded"]),
            (&[("x-forwarded-prefix", "/p")], &["X-Forwarded-Port", "Forwarded"]),
            (&[("x-forwarded-host", "a")], &["X-Forwarded-Port"]),
            (&[("x-forwarded-host", "a:x")], &["X-Forwarded-Port"]),
            (&[("x-forwarded-host", "a, b:1")], &["X-Forwarded-Port"]),
            (&[("x-forwarded-port", "1")], &["X-Forwarded-Port"]),
            (&[("x-forwarded-proto", "gopher"), ("forwarded", "host=a")], &["X-Forwarded-Port"]),
            (&[host], &[]),
            (&[host, ("x-forwarded-port", "2"), ("forwarded", "host=b")], &[]),
            (&[("x-forwarded-host", " a:1 , b")], &[]),
        ] {
            let page = vary(Varies::Page, sent);
            assert_eq!(names(&page), [&form[..], &links, &address, more].concat(), "{sent:?}");
            let redirect = vary(Varies::Linked, sent);
            assert_eq!(names(&redirect), [&form[..], &address, more].concat(), "{sent:?}");
        }
    }

    #[test]
    fn the_form_is_named_where_no_more_is() {
        let mut headers = HeaderMap::new();
        vary_by_form(&mut headers);
        assert_eq!(headers[header::VARY], "Accept, Accept-Encoding");
        headers.insert(header::VARY, PAGE);
        vary_by_form(&mut headers);
        assert_eq!(headers.get_all(header::VARY).iter().collect::<Vec<_>>(), [&PAGE]);
    }

    #[test]
    fn nginx_keeps_pages_where_it_says_host_and_port() {
        assert!(
            vary(Varies::Page, &[("x-forwarded-host", "a:1"), ("x-forwarded-proto", "https")]).len() <= NGINX_BYTES
        );
    }

    #[test]
    fn versions_are_known_by_their_tags_quoted_and_unquoted() {
        let version = |last, redactions| Version { last, redactions };
        assert_eq!(tag(version(2, 0), MediaType::AtomJson), "2;-2060438500");
        assert_eq!(tag(version(2, 3), MediaType::AtomJson), "2;-2060438500;3");
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static("\"2;-2060438500;3\""))]);
        assert_eq!(known_versions(&headers, MediaType::AtomJson), [version(2, 3)]);
        for (value, expected) in [
            ("\"2;-2060438500\"", &[2][..]),
            ("2;-2060438500", &[2]),
            ("\"1;1\", W/\"2;-2060438500\",-1;-2060438500", &[2, -1]),
            ("\"2;-1359611486\"", &[]),
            ("02;-2060438500", &[]),
            ("+2;-2060438500", &[]),
            ("2;-2060438500;", &[]),
            ("2;-2060438500;0", &[]),
            ("2", &[]),
            ("*", &[]),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]);
            let known: Vec<i64> =
                known_versions(&headers, MediaType::AtomJson).iter().map(|known| known.last).collect();
            assert_eq!(known, expected, "{value}");
        }
    }
}
