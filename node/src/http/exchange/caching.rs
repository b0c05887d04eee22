//! Cache-Control, ETag and If-None-Match (contract/streams 8.7).

use http::{HeaderMap, HeaderValue, Response, header};

use crate::config::Config;
use crate::http::Reply;
use crate::http::exchange::media_type::MediaType;

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

impl Freshness {
    /// As far as the node is configured to let answers be cached at all.
    pub(crate) fn allowed_by(self, config: &Config) -> Self {
        if config.disable_http_caching { Self::Head { cache_control_s: None } } else { self }
    }
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

/// Adds Cache-Control and Vary.
pub(crate) fn add_headers(answer: &mut Response<Reply>, freshness: Freshness, sharing: Sharing) {
    let value = match (freshness, sharing) {
        (Freshness::Immutable, Sharing::Public) => HeaderValue::from_static("max-age=31536000, public"),
        (Freshness::Immutable, Sharing::Private) => HeaderValue::from_static("max-age=31536000, private"),
        (Freshness::Head { cache_control_s: None }, _) => NO_CACHE,
        (Freshness::Head { cache_control_s: Some(seconds) }, Sharing::Public) => max_age(seconds, "public"),
        (Freshness::Head { cache_control_s: Some(seconds) }, Sharing::Private) => max_age(seconds, "private"),
    };
    answer.headers_mut().insert(header::CACHE_CONTROL, value);
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
}

fn max_age(seconds: u64, scope: &str) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={seconds}, {scope}")).unwrap_or(NO_CACHE)
}

/// `{version};{hash}`, unquoted; version -1 for a stream without events.
pub(crate) fn tag(version: i64, media_type: MediaType) -> String {
    format!("{version};{}", media_type.hash())
}

/// Adds the ETag.
pub(crate) fn add_tag(answer: &mut Response<Reply>, tag: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("\"{tag}\"")) {
        answer.headers_mut().insert(header::ETAG, value);
    }
}

/// The versions whose tags for this media type If-None-Match holds, quoted or not, weak or not,
/// alone or in a list.
pub(crate) fn known_versions(headers: &HeaderMap, media_type: MediaType) -> Vec<i64> {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let version = |item: &str| {
        let item = item.trim();
        let known = item.strip_prefix("W/").unwrap_or(item).trim_matches('"');
        let version = known.split_once(';')?.0.parse().ok()?;
        // A number can be written in many ways, a tag in one.
        (tag(version, media_type) == known).then_some(version)
    };
    values.flat_map(|value| value.split(',')).filter_map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_known_by_their_tags_quoted_and_unquoted() {
        assert_eq!(tag(2, MediaType::AtomJson), "2;-2060438500");
        for (value, expected) in [
            ("\"2;-2060438500\"", &[2][..]),
            ("2;-2060438500", &[2]),
            ("\"1;1\", W/\"2;-2060438500\",-1;-2060438500", &[2, -1]),
            ("\"2;-1359611486\"", &[]),
            ("02;-2060438500", &[]),
            ("+2;-2060438500", &[]),
            ("2;-2060438500;", &[]),
            ("2", &[]),
            ("*", &[]),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]);
            assert_eq!(known_versions(&headers, MediaType::AtomJson), expected, "{value}");
        }
    }
}
