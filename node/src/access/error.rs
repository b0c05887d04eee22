//! Why somebody is not let in, and why a user is not changed.

use super::password::HashError;
use crate::cluster::WriteError;
use crate::store::ReadError;

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// No such user, a disabled one, or another password. Callers must not learn which.
    #[error("wrong name or password")]
    Wrong,
    /// Too many wrong passwords before; this one was not looked at.
    #[error("too many wrong passwords")]
    Exhausted,
    /// This node does not know the users yet.
    #[error("not ready")]
    NotReady,
    /// Too many passwords are waiting to be looked at.
    #[error("too busy")]
    Busy,
    /// The password could not be looked at.
    #[error("internal error")]
    Internal,
}

impl From<ReadError> for LoginError {
    fn from(error: ReadError) -> Self {
        if matches!(error, ReadError::Busy) {
            return Self::Busy;
        }
        tracing::error!(%error, "a user cannot be read");
        Self::Internal
    }
}

impl From<HashError> for LoginError {
    fn from(error: HashError) -> Self {
        tracing::error!(%error, "no password can be verified");
        Self::Internal
    }
}

/// Why a user was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManageError {
    /// There is no such user.
    #[error("no such user")]
    NotFound,
    /// There is one already, with another password.
    #[error("the user exists with another password")]
    Exists,
    /// Nobody could administer the cluster any more.
    #[error("this is the last enabled member of $admins")]
    LastAdmin,
    /// The current password is not the one given.
    #[error("wrong password")]
    WrongPassword,
    /// Whoever asks may not, or no longer.
    #[error("not allowed")]
    Denied,
    /// A stream that the change writes to was deleted for good, most likely that of the user.
    #[error("the stream of the user was deleted for good")]
    StreamGone,
    /// Others changed the same user all the time.
    #[error("changed by others at the same time")]
    TryAgain,
    /// Surely not changed: no leader, or this node is not ready.
    #[error("not ready")]
    NotReady,
    /// Surely not changed: queues are full.
    #[error("too busy")]
    Busy,
    /// Perhaps changed.
    #[error("the outcome is unknown")]
    Unknown,
    /// The store or the hashing failed.
    #[error("internal error")]
    Internal,
}

impl From<ReadError> for ManageError {
    fn from(error: ReadError) -> Self {
        LoginError::from(error).into()
    }
}

impl From<LoginError> for ManageError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong | LoginError::Exhausted => Self::WrongPassword,
            LoginError::NotReady => Self::NotReady,
            LoginError::Busy => Self::Busy,
            LoginError::Internal => Self::Internal,
        }
    }
}

impl From<WriteError> for ManageError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoLeader => Self::NotReady,
            WriteError::Busy => Self::Busy,
            WriteError::Unknown => Self::Unknown,
            WriteError::Denied => Self::Denied,
        }
    }
}
