//! Cache-Control, ETag and If-None-Match (contract/streams 8.7).

use http::{HeaderMap, HeaderValue, Response, header};

use super::Reply;
use super::negotiate::MediaType;
use crate::event::stream_id;
use crate::store::StreamInfo;

const NO_CACHE: HeaderValue = HeaderValue::from_static("max-age=0, no-cache, must-revalidate");

/// How long an answer stays right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// For ever: it shows only numbers below the head.
    Immutable,
    /// Until the next event; may be cached for `$cacheControl` seconds where that is set.
    Head {
        /// `$cacheControl`
        cache_control_s: Option<u64>,
    },
}

/// Whether everybody may read the stream, so that shared caches may keep its pages. For a metastream the right `$mr` of
/// the stream it describes decides (contract/streams 13).
pub fn is_public(stream: &str, info: &StreamInfo) -> bool {
    let (owner, roles) = match (stream_id::described_by(stream), &info.described) {
        (Some(owner), Some(described)) => (owner, described.acl.as_ref().and_then(|acl| acl.meta_read.as_ref())),
        _ => (stream, info.metadata.acl.as_ref().and_then(|acl| acl.read.as_ref())),
    };
    match roles {
        Some(roles) => roles.iter().any(|role| role == "$all"),
        None => !owner.starts_with('$'),
    }
}

/// Adds Cache-Control and Vary.
pub fn add_headers(answer: &mut Response<Reply>, freshness: Freshness, is_public: bool, disabled: bool) {
    let scope = if is_public { "public" } else { "private" };
    let value = match freshness {
        _ if disabled => NO_CACHE,
        Freshness::Immutable if is_public => HeaderValue::from_static("max-age=31536000, public"),
        Freshness::Immutable => HeaderValue::from_static("max-age=31536000, private"),
        Freshness::Head { cache_control_s: None } => NO_CACHE,
        Freshness::Head { cache_control_s: Some(seconds) } => {
            HeaderValue::try_from(format!("max-age={seconds}, {scope}")).unwrap_or(NO_CACHE)
        }
    };
    answer.headers_mut().insert(header::CACHE_CONTROL, value);
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
}

/// `{version};{hash}`, unquoted; version -1 for a stream without events.
pub fn tag(version: i64, media_type: MediaType) -> String {
    format!("{version};{}", media_type.hash())
}

/// Adds the ETag.
pub fn add_tag(answer: &mut Response<Reply>, tag: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("\"{tag}\"")) {
        answer.headers_mut().insert(header::ETAG, value);
    }
}

/// Whether If-None-Match holds this tag, quoted or not, weak or not, alone or in a list.
pub fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let item = item.trim();
        item.strip_prefix("W/").unwrap_or(item).trim_matches('"') == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamMetadata;
    use crate::event::metadata::Acl;

    #[test]
    fn tags_match_quoted_and_unquoted() {
        let tag = tag(2, MediaType::AtomJson);
        assert_eq!(tag, "2;-2060438500");
        for (value, expected) in [
            ("\"2;-2060438500\"", true),
            ("2;-2060438500", true),
            ("\"1;1\", \"2;-2060438500\"", true),
            ("\"2;-1359611486\"", false),
            ("2", false),
            ("*", false),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]);
            assert_eq!(matches(&headers, &tag), expected, "{value}");
        }
    }

    #[test]
    fn pages_of_system_streams_are_private_unless_opened() {
        assert!(is_public("s", &info(None, None)));
        assert!(!is_public("$s", &info(None, None)));
        let open = Acl { read: Some(vec!["$all".into()]), ..Acl::default() };
        assert!(is_public("$s", &info(Some(open), None)));
    }

    #[test]
    fn pages_of_metadata_are_as_public_as_the_metadata_of_the_stream() {
        assert!(is_public("$$s", &info(None, Some(Acl::default()))));
        assert!(!is_public("$$$s", &info(None, Some(Acl::default()))));
        let closed = Acl { meta_read: Some(vec!["ops".into()]), ..Acl::default() };
        assert!(!is_public("$$s", &info(None, Some(closed))));
    }

    fn info(own: Option<Acl>, described: Option<Acl>) -> StreamInfo {
        let metadata = |acl| StreamMetadata { acl, ..StreamMetadata::default() };
        let described = described.map(|acl| metadata(Some(acl)));
        StreamInfo { id: Some(1), tombstoned: false, last_number: Some(0), metadata: metadata(own), described }
    }
}
