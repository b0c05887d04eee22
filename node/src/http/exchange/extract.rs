//! Parts of a request: header values, path parts, the body.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::event::{EventNumber, ExpectedVersion, MAX_NUMBER, Position};
use crate::http::exchange::error::ApiError;
use crate::http::limits::{BODY_TIMEOUT, MAX_BODY_BYTES, MAX_LONG_POLL, SMALL_BODY_BYTES, is_too_long};

/// What later versions call the headers that begin with `ES-` (contract/streams 17).
const LATER_PREFIX: &str = "kurrent-";

/// What an intermediary vouches with has one name (contract/services 1.5): one that takes what clients send out of their requests knows no other.
const ONE_NAME_ONLY: &str = "es-trustedauth";

/// Adds the name with `ES-` for every request header with the later prefix, so that nothing else has to know of it. A header that
/// has both names keeps the values of the older one.
pub fn rename_later_headers(headers: &mut HeaderMap) {
    // Nearly no request has one, and looking costs one comparison per header.
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

/// A header of the API: its name as messages spell it, and ready to be looked for. Every request is asked for about ten of them.
pub struct Field {
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
pub static EVENT_TYPE: Field = Field::new("ES-EventType", "es-eventtype");
/// Where a client was cut off from server-sent events.
pub static LAST_EVENT_ID: Field = Field::new("Last-Event-ID", "last-event-id");
static EVENT_ID: Field = Field::new("ES-EventId", "es-eventid");
static EXPECTED_VERSION: Field = Field::new("ES-ExpectedVersion", "es-expectedversion");
static REQUIRE_MASTER: Field = Field::new("ES-RequireMaster", "es-requiremaster");
static REQUIRES_MASTER: Field = Field::new("ES-RequiresMaster", "es-requiresmaster");
static REQUIRE_LEADER: Field = Field::new("ES-RequireLeader", "es-requireleader");
static RESOLVE_LINK_TOS: Field = Field::new("ES-ResolveLinkTos", "es-resolvelinktos");
static HARD_DELETE: Field = Field::new("ES-HardDelete", "es-harddelete");
static LONG_POLL: Field = Field::new("ES-LongPoll", "es-longpoll");
static MIN_POSITION: Field = Field::new("ES-MinPosition", "es-minposition");

/// Headers of a request up to which comparing all their names takes less time than hashing the one that is looked for.
const FEW_HEADERS: usize = 8;

/// A header's text. Bytes that are no UTF-8 are read as Latin-1.
pub fn text(headers: &HeaderMap, field: &Field) -> Option<String> {
    // Most of what is looked for is not there.
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
pub fn event_id(headers: &HeaderMap) -> Result<Option<uuid::Uuid>, ApiError> {
    parsed(headers, &EVENT_ID, |text| crate::http::format::body::parse_guid(text).filter(|id| !id.is_nil()))
}

/// ES-ExpectedVersion; any when absent.
pub fn expected_version(headers: &HeaderMap) -> Result<ExpectedVersion, ApiError> {
    let parse = |text: &str| text.parse().ok().and_then(ExpectedVersion::from_number);
    Ok(parsed(headers, &EXPECTED_VERSION, parse)?.unwrap_or(ExpectedVersion::Any))
}

/// ES-RequireMaster or one of its aliases (contract/streams 17).
pub fn require_leader(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut required = false;
    for field in [&REQUIRE_MASTER, &REQUIRES_MASTER, &REQUIRE_LEADER] {
        required |= parsed(headers, field, flag)?.unwrap_or(false);
    }
    Ok(required)
}

/// ES-ResolveLinkTos; true when absent.
pub fn resolve_links(headers: &HeaderMap) -> Result<bool, ApiError> {
    Ok(parsed(headers, &RESOLVE_LINK_TOS, flag)?.unwrap_or(true))
}

/// ES-HardDelete; false when absent.
pub fn hard_delete(headers: &HeaderMap) -> Result<bool, ApiError> {
    Ok(parsed(headers, &HARD_DELETE, flag)?.unwrap_or(false))
}

/// ES-LongPoll, at most [`MAX_LONG_POLL`].
pub fn long_poll(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let parse =
        |text: &str| text.parse::<i32>().ok().and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0);
    Ok(parsed(headers, &LONG_POLL, parse)?.map(|seconds| Duration::from_secs(seconds).min(MAX_LONG_POLL)))
}

/// ES-MinPosition: the event at this position must have been applied.
pub fn min_position(headers: &HeaderMap) -> Result<Option<Position>, ApiError> {
    parsed(headers, &MIN_POSITION, |text| text.parse().ok().filter(|position| *position <= MAX_NUMBER))
}

/// A stream's name for reading and deleting.
pub fn stream(name: &str) -> Result<(), ApiError> {
    if name.is_empty() || name == "$$" {
        return Err(ApiError::BadRequest(format!("Invalid stream name '{name}'").into()));
    }
    if is_too_long(name) {
        return Err(ApiError::BadRequest("Stream name is too long".into()));
    }
    Ok(())
}

/// An event number.
pub fn number(text: &str) -> Result<EventNumber, ApiError> {
    let number = text.trim().parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| ApiError::BadRequest(format!("'{text}' is not valid event number").into()))
}

/// The size of a page, at least 1.
pub fn count(text: &str) -> Option<u64> {
    text.trim().parse::<i32>().ok().filter(|count| *count > 0).map(|count| count as u64)
}

/// A position in the log of all events: 32 hex digits, both halves not negative (contract/streams 10).
pub fn position(text: &str) -> Result<Position, ApiError> {
    let parse = || {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let half = |digits: Option<&str>| u64::from_str_radix(digits?, 16).ok().filter(|half| *half <= MAX_NUMBER);
        half(text.get(16..))?;
        half(text.get(..16))
    };
    parse().ok_or_else(|| ApiError::BadRequest(format!("Invalid position argument: {text}").into()))
}

/// The value of a query parameter, decoded.
pub fn query(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })?;
    Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// A request body, and the room in memory that it takes for as long as this value lives.
pub struct Body<'a> {
    /// The bytes.
    pub bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

/// Reads the whole body, within its limits of size and time. A large one first waits for room in `large_bodies` (KiB).
pub async fn body<B>(mut body: B, large_bodies: &Semaphore) -> Result<Body<'_>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let size = body.size_hint();
    if size.lower() > MAX_BODY_BYTES as u64 {
        return Err(ApiError::BodyTooLarge);
    }
    let most = size.upper().map(|most| usize::try_from(most).unwrap_or(usize::MAX).min(MAX_BODY_BYTES));
    let mut read = Collected::default();
    let room = match most {
        Some(most) if most <= SMALL_BODY_BYTES => None,
        Some(most) => Some(room(most, large_bodies).await?),
        // Most of those that do not tell their size are small. The others may become the largest.
        None => match read.up_to(SMALL_BODY_BYTES, &mut body).await? {
            true => return Ok(Body { bytes: read.bytes(), _room: None }),
            false => Some(room(MAX_BODY_BYTES, large_bodies).await?),
        },
    };
    match read.up_to(MAX_BODY_BYTES, &mut body).await? {
        true => Ok(Body { bytes: read.bytes(), _room: room }),
        false => Err(ApiError::BodyTooLarge),
    }
}

async fn room(bytes: usize, large_bodies: &Semaphore) -> Result<SemaphorePermit<'_>, ApiError> {
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    let room = tokio::time::timeout(BODY_TIMEOUT, large_bodies.acquire_many(kib)).await;
    room.ok().and_then(Result::ok).ok_or(ApiError::TooBusy)
}

/// What was read of a body.
#[derive(Default)]
struct Collected {
    /// A small body comes in one piece and is not copied.
    first: Bytes,
    all: BytesMut,
}

impl Collected {
    /// Reads on to the end of the body; false when it has more than so many bytes, of which it then holds a little more.
    async fn up_to<B>(&mut self, most: usize, body: &mut B) -> Result<bool, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let reading = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| ApiError::BadRequest("Write request body invalid.".into()))?;
                let Ok(data) = frame.into_data() else { continue };
                self.add(data);
                if self.first.len() + self.all.len() > most {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(ApiError::BodyTimeout))
    }

    fn add(&mut self, data: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    fn bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
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
            hard_delete(&headers("es-harddelete", "yes")).unwrap_err().to_string(),
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
        assert_eq!((require_leader(&headers), hard_delete(&headers)), (Ok(true), Ok(false)));
        assert!(!headers.contains_key(ONE_NAME_ONLY));
    }

    #[test]
    fn numbers_counts_and_positions() {
        assert_eq!(number(" +007"), Ok(7));
        assert_eq!(number("-1").unwrap_err().to_string(), "'-1' is not valid event number");
        assert_eq!((count("5"), count("0"), count("99999999999"), count("x")), (Some(5), None, None, None));
        assert_eq!(position("000000000000000A000000000000000a"), Ok(10));
        assert!(position("FFFFFFFFFFFFFFFF0000000000000000").is_err());
        assert!(position("0").is_err());
    }

    /// A body in pieces that does not tell its size.
    fn pieces(sizes: &[usize]) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Unpin + use<> {
        let frames: Vec<_> = sizes.iter().map(|size| Ok(http_body::Frame::data(vec![7; *size].into()))).collect();
        http_body_util::StreamBody::new(futures::stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_of_unknown_size_takes_room_only_when_it_turns_out_to_be_large() {
        const ROOM: usize = MAX_BODY_BYTES / 1024;
        let large_bodies = Semaphore::new(ROOM);
        let small = body(pieces(&[1, SMALL_BODY_BYTES - 1]), &large_bodies).await.unwrap();
        assert_eq!((small.bytes.len(), large_bodies.available_permits()), (SMALL_BODY_BYTES, ROOM));
        let large = body(pieces(&[1, SMALL_BODY_BYTES, 1]), &large_bodies).await.unwrap();
        assert_eq!((large.bytes.len(), large_bodies.available_permits()), (SMALL_BODY_BYTES + 2, 0));
        // There is no room for another one, and still some for those that need none.
        assert!(body(pieces(&[SMALL_BODY_BYTES]), &large_bodies).await.is_ok());
        let waiting = body(pieces(&[SMALL_BODY_BYTES + 1]), &large_bodies);
        assert!(futures::FutureExt::now_or_never(waiting).is_none());
        drop(large);
        let too_large = body(pieces(&[MAX_BODY_BYTES, 1]), &large_bodies).await;
        assert!(matches!(too_large, Err(ApiError::BodyTooLarge)));
        assert_eq!(large_bodies.available_permits(), ROOM);
    }
}
