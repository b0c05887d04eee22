//! Why a user is not shown or not changed, and the document that says so (contract/services 2).

use http::{Response, StatusCode};

use crate::http::Reply;
use crate::http::exchange::response;
use crate::http::format::json::Object;

/// Why a user is not shown or not changed. The answer has a document, unlike most refusals of this
/// API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserRefusal {
    /// There is no such user.
    #[error("no such user")]
    NotFound,
    /// The caller may not do this.
    #[error("not allowed")]
    Unauthorized,
    /// The change contradicts what is there.
    #[error("conflict")]
    Conflict,
    /// An administrator has deleted the stream of this user for good.
    #[error("the stream of the user was deleted for good")]
    StreamGone,
    /// Others changed the same user all the time.
    #[error("changed by others at the same time")]
    TryAgain,
    /// The node failed.
    #[error("internal error")]
    Failed,
}

impl UserRefusal {
    /// The document repeats the login name unless that is empty.
    pub(crate) fn into_response(self, login: &str) -> Response<Reply> {
        let (status, word) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Conflict | Self::StreamGone => (StatusCode::CONFLICT, "Conflict"),
            Self::TryAgain => (StatusCode::REQUEST_TIMEOUT, "TryAgain"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "Error"),
        };
        response::json(status, |object| {
            login_name(object, login);
            object.bool("success", false);
            object.string("error", word);
            if self == Self::StreamGone {
                object.string("message", "The stream of this user was deleted for good. Choose another login name.");
            }
        })
    }
}

/// The user that a document is about, if it names one.
pub(crate) fn login_name(object: &mut Object<'_>, login: &str) {
    if !login.is_empty() {
        object.string("loginName", login);
    }
}
