//! Headers of requests that the API gives a meaning (contract/streams 5).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::event::{ExpectedVersion, MAX_NUMBER, Position};
use crate::http::exchange::error::ApiError;
use crate::http::format::body::parse_guid;
use crate::http::limits::MAX_LONG_POLL;
use crate::streams::{DeleteKind, Links, ReadBarrier};

/// Prefix of the aliases of headers that begin with `ES-` (contract/streams 17).
const LATER_PREFIX: &str = "kurrent-";

/// The header by which an intermediary vouches for a user has no alias (contract/services 1.5): an
/// intermediary that removes it from requests of clients would not know the alias.
const ONE_NAME_ONLY: &str = "es-trustedauth";

/// Adds the header with `ES-` for every alias in a request, so that nothing else has to know
/// aliases. Where a request has both, the values of the older name count.
pub(crate) fn rename_later_headers(headers: &mut HeaderMap) {
    // Hardly any request has an alias, and looking for one costs one comparison per header.
    if !headers.keys().any(|name| name.as_str().starts_with(LATER_PREFIX)) {
        return;
    }
    let later: Vec<(HeaderName, HeaderValue)> = headers
        .iter()
        .filter_map(|(name, value)| {
            let older = format!("es-{}", name.as_str().strip_prefix(LATER_PREFIX)?);
            let older = HeaderName::try_from(older).ok().filter(|older| older != ONE_NAME_ONLY)?;
            Some((older, value.clone()))
        })
        .collect();
    for (name, value) in later {
        headers.entry(name).or_insert(value);
    }
}

/// A header of the API: its name as messages spell it, and ready to be looked up. About ten of them
/// are looked up in every request.
pub(crate) struct Field {
    spelled: &'static str,
    name: HeaderName,
}

impl Field {
    /// `name` is `spelled` in lower case.
    const fn new(spelled: &'static str, name: &'static str) -> Self {
        Self { spelled, name: HeaderName::from_static(name) }
    }

    fn wrong(&self) -> ApiError {
        ApiError::BadRequest(format!("{} header in wrong format.", self.spelled).into())
    }
}

/// The type of an event that comes without one in its body.
pub(crate) static EVENT_TYPE: Field = Field::new("ES-EventType", "es-eventtype");
/// The last of the server-sent events that a client received before it was cut off.
pub(crate) static LAST_EVENT_ID: Field = Field::new("Last-Event-ID", "last-event-id");
static EVENT_ID: Field = Field::new("ES-EventId", "es-eventid");
static EXPECTED_VERSION: Field = Field::new("ES-ExpectedVersion", "es-expectedversion");
static REQUIRE_MASTER: Field = Field::new("ES-RequireMaster", "es-requiremaster");
static REQUIRES_MASTER: Field = Field::new("ES-RequiresMaster", "es-requiresmaster");
static REQUIRE_LEADER: Field = Field::new("ES-RequireLeader", "es-requireleader");
static RESOLVE_LINK_TOS: Field = Field::new("ES-ResolveLinkTos", "es-resolvelinktos");
static HARD_DELETE: Field = Field::new("ES-HardDelete", "es-harddelete");
static LONG_POLL: Field = Field::new("ES-LongPoll", "es-longpoll");
static MIN_POSITION: Field = Field::new("ES-MinPosition", "es-minposition");

/// Up to this many headers, comparing all their names takes less time than hashing the name that is
/// looked up.
const FEW_HEADERS: usize = 8;

/// The text of a header. Bytes that are not UTF-8 are read as Latin-1.
pub(crate) fn text(headers: &HeaderMap, field: &Field) -> Option<String> {
    // Most headers that are looked up are not there.
    if headers.keys_len() <= FEW_HEADERS && !headers.keys().any(|name| *name == field.name) {
        return None;
    }
    let bytes = headers.get(&field.name)?.as_bytes();
    Some(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    })
}

fn parsed<T>(headers: &HeaderMap, field: &Field, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ApiError> {
    match text(headers, field) {
        Some(text) => parse(text.trim()).map(Some).ok_or_else(|| field.wrong()),
        None => Ok(None),
    }
}

fn flag(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// ES-EventId, not the zero id.
pub(crate) fn event_id(headers: &HeaderMap) -> Result<Option<uuid::Uuid>, ApiError> {
    parsed(headers, &EVENT_ID, |text| parse_guid(text).filter(|id| !id.is_nil()))
}

/// ES-ExpectedVersion; any when absent.
pub(crate) fn expected_version(headers: &HeaderMap) -> Result<ExpectedVersion, ApiError> {
    let parse = |text: &str| text.parse().ok().and_then(ExpectedVersion::from_number);
    Ok(parsed(headers, &EXPECTED_VERSION, parse)?.unwrap_or(ExpectedVersion::Any))
}

/// ES-RequireMaster or one of its aliases (contract/streams 17).
pub(crate) fn require_leader(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut required = false;
    for field in [&REQUIRE_MASTER, &REQUIRES_MASTER, &REQUIRE_LEADER] {
        required |= parsed(headers, field, flag)?.unwrap_or(false);
    }
    Ok(required)
}

/// ES-ResolveLinkTos; links are followed when it is absent.
pub(crate) fn links(headers: &HeaderMap) -> Result<Links, ApiError> {
    let are_followed = parsed(headers, &RESOLVE_LINK_TOS, flag)?.unwrap_or(true);
    Ok(if are_followed { Links::Followed } else { Links::AsStored })
}

/// ES-ResolveLinkTos for the log of all events, where every other value than `false` is as good as
/// none (contract/streams 10).
pub(crate) fn links_of_log(headers: &HeaderMap) -> Links {
    match text(headers, &RESOLVE_LINK_TOS).and_then(|text| flag(text.trim())) {
        Some(false) => Links::AsStored,
        Some(true) | None => Links::FollowedWhereAllowed,
    }
}

/// What a read demands of the node that answers it.
pub(crate) fn read_barrier(headers: &HeaderMap) -> Result<ReadBarrier, ApiError> {
    Ok(ReadBarrier { require_leader: require_leader(headers)?, min_position: min_position(headers)? })
}

/// ES-HardDelete; soft when absent.
pub(crate) fn delete_kind(headers: &HeaderMap) -> Result<DeleteKind, ApiError> {
    let is_hard = parsed(headers, &HARD_DELETE, flag)?.unwrap_or(false);
    Ok(if is_hard { DeleteKind::Hard } else { DeleteKind::Soft })
}

/// ES-LongPoll, at most [`MAX_LONG_POLL`].
pub(crate) fn long_poll(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let parse =
        |text: &str| text.parse::<i32>().ok().and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0);
    Ok(parsed(headers, &LONG_POLL, parse)?.map(|seconds| Duration::from_secs(seconds).min(MAX_LONG_POLL)))
}

/// ES-MinPosition: the event at this position must have been applied.
pub(super) fn min_position(headers: &HeaderMap) -> Result<Option<Position>, ApiError> {
    parsed(headers, &MIN_POSITION, |text| text.parse().ok().filter(|position| *position <= MAX_NUMBER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))])
    }

    #[test]
    fn expected_versions_are_integers_from_minus_four() {
        for (text, expected) in [
            ("-4", Some(ExpectedVersion::Exists)),
            ("-2", Some(ExpectedVersion::Any)),
            ("-1", Some(ExpectedVersion::NoStream)),
            (" +7 ", Some(ExpectedVersion::Exactly(7))),
            ("-3", None),
            ("-5", None),
            ("abc", None),
            ("", None),
            ("1.0", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(expected_version(&headers("es-expectedversion", text)).ok(), expected, "{text}");
        }
        assert_eq!(expected_version(&HeaderMap::new()), Ok(ExpectedVersion::Any));
    }

    #[test]
    fn wrong_values_are_named_in_the_answer() {
        let error = long_poll(&headers("es-longpoll", "0")).unwrap_err();
        assert_eq!(error.to_string(), "ES-LongPoll header in wrong format.");
        assert_eq!(
            delete_kind(&headers("es-harddelete", "yes")).unwrap_err().to_string(),
            "ES-HardDelete header in wrong format."
        );
        assert_eq!(require_leader(&headers("es-requiresmaster", "TRUE")), Ok(true));
        assert!(require_leader(&headers("es-requiremaster", "bogus")).is_err());
    }

    #[test]
    fn later_names_of_headers_are_read_unless_the_older_one_is_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("kurrent-longpoll", "5"),
            ("kurrent-requireleader", "true"),
            ("kurrent-harddelete", "true"),
            ("kurrent-trustedauth", "admin; $admins"),
            ("es-harddelete", "false"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        rename_later_headers(&mut headers);
        assert_eq!(long_poll(&headers), Ok(Some(Duration::from_secs(5))));
        assert_eq!((require_leader(&headers), delete_kind(&headers)), (Ok(true), Ok(DeleteKind::Soft)));
        assert!(!headers.contains_key(ONE_NAME_ONLY));
    }
}
