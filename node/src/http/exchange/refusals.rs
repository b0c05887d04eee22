//! What the operations of the rooms below are refused for, as errors of this API: one full match
//! for each operation.

use http::HeaderMap;

use crate::access::{ManageError, ReadUsersError};
use crate::cluster::view::ChangeMembersError;
use crate::consumers::ConsumeError;
use crate::http::exchange::caching;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::user_refusal::UserRefusal;
use crate::scavenge::ScavengeError;
use crate::streams::{AppendError, CommitError, PageFacts, ReadEventError, ReadPageError, Refusal, SubscribeError};

impl ApiError {
    /// Why this node does not do what it was asked for, whatever that is (contract/streams 3.1 and
    /// 16).
    pub(crate) fn of_refusal(refusal: Refusal, request: &Request<'_>) -> Self {
        match refusal {
            Refusal::NotLeader(leader) => request.to_leader(&leader),
            Refusal::NotReady => Self::NotReady,
            Refusal::Busy => Self::TooBusy,
            Refusal::Denied => Self::Unauthorized,
            Refusal::Store(error) => error.into(),
        }
    }

    /// Why nothing was appended (contract/streams 6.8).
    pub(crate) fn of_append(error: AppendError, request: &Request<'_>) -> Self {
        match error {
            AppendError::AccessList(error) => Self::BadRequest(error.to_string().into()),
            AppendError::Setting(error) => Self::BadRequest(error.to_string().into()),
            AppendError::TooLarge => Self::BodyTooLarge,
            AppendError::Commit(error) => Self::of_commit(error, Self::WriteTimeout, request),
        }
    }

    /// Why nothing was deleted (contract/streams 7).
    pub(crate) fn of_delete(error: CommitError, request: &Request<'_>) -> Self {
        Self::of_commit(error, Self::DeleteTimeout, request)
    }

    /// Why nothing was imported or blanked (contract/services 4.5).
    pub(crate) fn of_write(error: CommitError, request: &Request<'_>) -> Self {
        Self::of_commit(error, Self::WriteTimeout, request)
    }

    /// Why nothing was written; `unknown` if nobody knows.
    fn of_commit(error: CommitError, unknown: Self, request: &Request<'_>) -> Self {
        match error {
            CommitError::Refused(refusal) => Self::of_refusal(refusal, request),
            CommitError::Unknown => unknown,
            CommitError::WrongExpectedVersion { current } => Self::WrongExpectedVersion(current),
            CommitError::StreamDeleted => Self::StreamDeleted,
            CommitError::Rejected { reason } => Self::BadRequest(reason.into()),
            CommitError::Answer(_) => {
                tracing::error!(%error, "the state machine answered a write with the outcome of another operation");
                Self::Internal
            }
        }
    }

    /// Why a run of removal was not started or stopped (contract/services 4.4).
    pub(crate) fn of_scavenge(error: ScavengeError) -> Self {
        match error {
            ScavengeError::Running | ScavengeError::TooOld => Self::BadRequest(sentence(&error).into()),
            ScavengeError::NotFound => Self::NotFound,
            ScavengeError::NotReady => Self::NotReady,
            ScavengeError::Unknown => Self::WriteTimeout,
            ScavengeError::Refused(_) => {
                tracing::error!(%error, "the record of a scavenge could not be written");
                Self::Internal
            }
        }
    }

    /// Why the members were not changed (contract/services 4.7).
    pub(crate) fn of_member_change(error: ChangeMembersError) -> Self {
        match error {
            ChangeMembersError::Refused(reason) => Self::Conflict(reason.into()),
            ChangeMembersError::Denied => Self::Unauthorized,
            ChangeMembersError::NoLeader => Self::NotReady,
            ChangeMembersError::Unknown => Self::WriteTimeout,
        }
    }

    /// Why the user `login` was not changed.
    pub(crate) fn of_user_change(error: ManageError, login: &str) -> Self {
        let refusal = match error {
            ManageError::Name(error) => return Self::BadRequest(error.to_string().into()),
            ManageError::NoPassword => return Self::BadRequest("A password is missing.".into()),
            ManageError::PasswordTooLong => return Self::BadRequest("The password is too long.".into()),
            ManageError::NotFound => UserRefusal::NotFound,
            // The last administrator is a conflict with what has to stay possible.
            ManageError::Exists | ManageError::LastAdmin => UserRefusal::Conflict,
            ManageError::StreamGone => UserRefusal::StreamGone,
            ManageError::WrongPassword | ManageError::Denied => UserRefusal::Unauthorized,
            ManageError::TryAgain => UserRefusal::TryAgain,
            ManageError::Internal => UserRefusal::Failed,
            ManageError::NotReady => return Self::NotReady,
            ManageError::Busy => return Self::TooBusy,
            ManageError::Unknown => return Self::WriteTimeout,
        };
        Self::User { login: login.to_owned(), refusal }
    }

    /// Why users are not shown (contract/services 2).
    pub(crate) fn of_read_users(error: ReadUsersError) -> Self {
        match error {
            ReadUsersError::NotReady => Self::NotReady,
            ReadUsersError::Denied => Self::Unauthorized,
            ReadUsersError::NotFound => Self::User { login: String::new(), refusal: UserRefusal::NotFound },
            ReadUsersError::Store(error) => error.into(),
        }
    }

    /// Why the calling user is not shown: only here a denial is answered with a document.
    pub(crate) fn of_read_caller(error: ReadUsersError) -> Self {
        match error {
            ReadUsersError::Denied => Self::User { login: String::new(), refusal: UserRefusal::Unauthorized },
            ReadUsersError::NotReady | ReadUsersError::NotFound | ReadUsersError::Store(_) => {
                Self::of_read_users(error)
            }
        }
    }

    /// Why no page is shown (contract/streams 8 and 10).
    pub(crate) fn of_read_page(error: ReadPageError, request: &Request<'_>) -> Self {
        match error {
            ReadPageError::Refused(refusal) => Self::of_refusal(refusal, request),
            ReadPageError::Unchanged(page) => Self::not_modified(&page, request),
            ReadPageError::NotFound => Self::NotFound,
            ReadPageError::Deleted => Self::Deleted,
        }
    }

    fn not_modified(page: &PageFacts, request: &Request<'_>) -> Self {
        let mut headers = HeaderMap::new();
        caching::add_page_headers(&mut headers, page, request);
        Self::NotModified(Box::new(headers))
    }

    /// Why no event is shown (contract/streams 9.1).
    pub(crate) fn of_read_event(error: ReadEventError, request: &Request<'_>) -> Self {
        match error {
            ReadEventError::Refused(refusal) => Self::of_refusal(refusal, request),
            ReadEventError::NotFound | ReadEventError::NoMetadata { .. } => Self::NotFound,
            ReadEventError::Deleted => Self::Deleted,
        }
    }

    /// Why no message of a group is handed out, or none is settled (contract/services 3.1).
    pub(crate) fn of_consume(error: ConsumeError, request: &Request<'_>) -> Self {
        match error {
            ConsumeError::Refused(refusal) => Self::of_refusal(refusal, request),
            ConsumeError::DoesNotExist => Self::NotFound,
            ConsumeError::TooManyConsumers => Self::Conflict("The group has as many consumers as it may have.".into()),
        }
    }

    /// Why a subscription does not begin (contract/streams 17).
    pub(crate) fn of_subscribe(error: SubscribeError, request: &Request<'_>) -> Self {
        match error {
            SubscribeError::Refused(refusal) => Self::of_refusal(refusal, request),
            SubscribeError::TooMany => Self::TooBusy,
            SubscribeError::Deleted => Self::Deleted,
        }
    }
}

/// The text of an error with a capital letter and a full stop.
fn sentence(error: &ScavengeError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
