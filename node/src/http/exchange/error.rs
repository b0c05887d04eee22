//! Everything that goes wrong with a request, and the one mapping to HTTP.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::access::{LoginError, NoProof, ProfileTooLarge, ReadError};
use crate::budget::Exhausted;
use crate::http::Reply;
use crate::http::exchange::response;
use crate::http::exchange::user_refusal::UserRefusal;
use crate::http::format::body::BodyError;
use crate::streams::PatternError;
use crate::streams::events::EventError;

/// Value of Retry-After in a 503.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The same while this node does not know the users yet (contract/services 1.1).
const RETRY_AFTER_START: Duration = Duration::from_secs(5);

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// No route has this path.
    #[error("unknown path")]
    UnknownPath,
    /// Routes have this path, but none with this method.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// A browser sends this with credentials for a page that is not one of this node
    /// (contract/services 1.2).
    #[error("a write from a foreign page")]
    ForeignPage,
    /// The route takes no body of this media type.
    #[error("invalid or missing Content-Type")]
    UnsupportedMediaType,
    /// The body is compressed, or encoded in another way.
    #[error("unsupported Content-Encoding")]
    UnsupportedCoding,
    /// The body says of itself that it is not in UTF-8.
    #[error("unsupported charset")]
    UnsupportedCharset,
    /// The route has no answer of a media type that the request accepts.
    #[error("not available in the requested format")]
    NotAcceptable,
    /// The route is not for this caller, whatever else the request says (contract/services 1.3).
    #[error("not for this caller")]
    NotAdmitted,
    /// A part of the path or a header that cannot be read; the text is the reason phrase
    /// (contract/streams 2.5 and 5).
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    /// What was asked for is under way already; the text is the reason phrase.
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// The body did not arrive in time.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// More than the largest body.
    #[error("the request body is too large")]
    BodyTooLarge,
    /// Data and metadata of an event beyond 4 MiB.
    #[error("an event is too large")]
    EventTooLarge,
    /// The credentials of the request are not right: 401 before anything else is looked at
    /// (contract/streams 1.1).
    #[error("wrong credentials")]
    BadCredentials,
    /// Credentials were sent, but this node does not know the users yet.
    #[error("users are not known yet")]
    UsersNotReady,
    /// Denied, to everybody or to this user: always 401 (contract/streams 3.1).
    #[error("denied")]
    Unauthorized,
    /// No such stream or event.
    #[error("not found")]
    NotFound,
    /// Read of a hard-deleted stream.
    #[error("stream is deleted")]
    Deleted,
    /// Write to a deleted stream.
    #[error("stream is deleted")]
    StreamDeleted,
    /// The stream's last number, -1 for none, is not what was expected.
    #[error("wrong expected version")]
    WrongExpectedVersion(i64),
    /// If-None-Match holds the current version; what the page would have beside its document.
    #[error("not modified")]
    NotModified(Box<HeaderMap>),
    /// More events asked for than a page may have.
    #[error("page too large")]
    PageTooLarge,
    /// The leader has to answer this; where it does.
    #[error("another node leads")]
    RedirectToLeader(String),
    /// No leader, or this node is not up to date: try again.
    #[error("not ready")]
    NotReady,
    /// Queues are full, or no memory became free in time: try again.
    #[error("too busy")]
    TooBusy,
    /// An append without a known outcome.
    #[error("the outcome of the write is unknown")]
    WriteTimeout,
    /// A delete without a known outcome.
    #[error("the outcome of the delete is unknown")]
    DeleteTimeout,
    /// A user was not shown or not changed; the answer is a document (contract/services 2).
    #[error("{refusal}")]
    User {
        /// The login name that the document repeats; empty where it repeats none.
        login: String,
        /// Why.
        refusal: UserRefusal,
    },
    /// The store failed.
    #[error("internal error")]
    Internal,
}

impl ApiError {
    /// The answer.
    pub(crate) fn into_response(self) -> Response<Reply> {
        match self {
            Self::UnknownPath => response::status_only(StatusCode::NOT_FOUND, "Not Found"),
            Self::MethodNotAllowed => response::status_only(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
            // No challenge: it would make the browser ask its user for a password.
            Self::ForeignPage => response::text(StatusCode::FORBIDDEN, "Forbidden"),
            Self::UnsupportedMediaType => {
                response::status_only(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Invalid or missing Content-Type")
            }
            Self::UnsupportedCoding => {
                let mut answer =
                    response::status_only(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Content-Encoding");
                // What would be supported (RFC 9110 15.5.16).
                answer.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
                answer
            }
            Self::UnsupportedCharset => {
                response::status_only(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported charset")
            }
            Self::NotAcceptable => {
                let reason = "Requested URI is not available in requested format";
                response::status_only(StatusCode::NOT_ACCEPTABLE, reason)
            }
            Self::User { login, refusal } => refusal.into_response(&login),
            Self::BadRequest(reason) => response::status_only(StatusCode::BAD_REQUEST, &reason),
            Self::Conflict(reason) => response::text(StatusCode::CONFLICT, &reason),
            Self::BodyTimeout => response::closing(StatusCode::REQUEST_TIMEOUT, "Request body did not arrive in time"),
            Self::BodyTooLarge => response::closing(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large"),
            Self::EventTooLarge => {
                response::text(StatusCode::PAYLOAD_TOO_LARGE, "Too large events received. Limit is 4mb")
            }
            // Every 401 gets its challenge where all answers pass.
            Self::BadCredentials | Self::NotAdmitted => response::status_only(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::UsersNotReady => unavailable("Not yet ready.", RETRY_AFTER_START),
            Self::Unauthorized => response::text(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::NotFound => response::text(StatusCode::NOT_FOUND, "Not Found"),
            Self::Deleted => response::text(StatusCode::GONE, "Deleted"),
            Self::StreamDeleted => response::text(StatusCode::GONE, "Stream deleted"),
            Self::WrongExpectedVersion(current) => {
                let mut answer = response::text(StatusCode::BAD_REQUEST, "Wrong expected EventNumber");
                for name in [response::ES_CURRENT_VERSION, response::KURRENT_CURRENT_VERSION] {
                    answer.headers_mut().insert(name, HeaderValue::from(current));
                }
                answer
            }
            // No Content-Type: caches would take it over for the page that they have.
            Self::NotModified(headers) => {
                let mut answer = response::status_only(StatusCode::NOT_MODIFIED, "Not Modified");
                answer.headers_mut().extend(*headers);
                answer
            }
            Self::PageTooLarge => {
                response::text(StatusCode::INTERNAL_SERVER_ERROR, "Read size too big, should be less than 4096 items")
            }
            Self::RedirectToLeader(location) => {
                let mut answer = response::text(StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect");
                response::set_location(&mut answer, &location);
                answer
            }
            Self::NotReady => unavailable("Server Is Not Ready", RETRY_AFTER),
            Self::TooBusy => unavailable("Server Is Too Busy", RETRY_AFTER),
            Self::WriteTimeout => response::text(StatusCode::INTERNAL_SERVER_ERROR, "Write timeout"),
            Self::DeleteTimeout => response::text(StatusCode::INTERNAL_SERVER_ERROR, "Delete timeout"),
            Self::Internal => response::status_only(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        }
    }

    /// The answer to a single-event read that asked for JSON: `{}` as body where there would be
    /// none (contract/streams 1.3).
    pub(crate) fn into_json_response(self) -> Response<Reply> {
        // A request that cannot be understood and a node that failed answer without the form that
        // was asked for.
        if matches!(self, Self::BadRequest(_) | Self::Internal) {
            return self.into_response();
        }
        let mut answer = self.into_response();
        *answer.body_mut() = Reply::new(Bytes::from_static(b"{}"));
        answer
    }
}

fn unavailable(reason: &'static str, retry_after: Duration) -> Response<Reply> {
    let mut answer = response::text(StatusCode::SERVICE_UNAVAILABLE, reason);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after.as_secs()));
    answer
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Invalid => Self::BadRequest("Write request body invalid.".into()),
            BodyError::Charset => Self::UnsupportedCharset,
            BodyError::TooLarge => Self::BodyTooLarge,
            BodyError::Event(error) => error.into(),
        }
    }
}

/// The texts of contract/streams 6.1 and 6.3.
impl From<EventError> for ApiError {
    fn from(error: EventError) -> Self {
        let reason = match error {
            EventError::NoEvents => "Write request body invalid.",
            EventError::EmptyId => "Empty eventId provided.",
            EventError::EmptyType => "Empty eventType provided.",
            EventError::TypeTooLong => "The eventType is too long.",
            EventError::TooLarge => return Self::EventTooLarge,
            EventError::RecordTooLarge => "Record is too big",
            EventError::TooMany => "Too many events in one request.",
            EventError::AllTooLarge => return Self::BodyTooLarge,
        };
        Self::BadRequest(reason.into())
    }
}

impl From<PatternError> for ApiError {
    fn from(error: PatternError) -> Self {
        let reason = match error {
            PatternError::Empty => "A filter needs data",
            PatternError::TooLong => "The data of the filter is too long",
            PatternError::TooManyPrefixes => "The filter has too many prefixes",
            PatternError::RegexTooLarge => "The regular expression is too large",
            PatternError::InvalidRegex => "Invalid regular expression",
        };
        Self::BadRequest(reason.into())
    }
}

impl From<ProfileTooLarge> for ApiError {
    fn from(error: ProfileTooLarge) -> Self {
        Self::BadRequest(error.to_string().into())
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong | LoginError::Exhausted => Self::BadCredentials,
            LoginError::NotReady => Self::UsersNotReady,
            LoginError::Busy => Self::TooBusy,
            LoginError::Internal => Self::Internal,
        }
    }
}

impl From<Exhausted> for ApiError {
    fn from(_: Exhausted) -> Self {
        Self::TooBusy
    }
}

impl From<NoProof> for ApiError {
    fn from(error: NoProof) -> Self {
        match error {
            NoProof::NotReady => Self::NotReady,
            NoProof::Denied => Self::Unauthorized,
            NoProof::Store(error) => error.into(),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Busy => Self::TooBusy,
            // The store handles what is not in memory by itself, and ends the process when it is
            // damaged.
            ReadError::NotInMemory | ReadError::Damaged(_) => {
                tracing::error!(%error, "a read failed");
                Self::Internal
            }
        }
    }
}
