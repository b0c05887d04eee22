//! Why a login fails, and why a user is not changed.

use super::password::HashError;
use super::user::NameError;
use crate::cluster::WriteError;
use crate::store::ReadError;

/// Why a login fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    /// No such user, a disabled user, or a wrong password. Callers must not learn which.
    #[error("wrong name or password")]
    Wrong,
    /// Too many wrong passwords before; this one was not compared.
    #[error("too many wrong passwords")]
    Exhausted,
    /// This node does not know the users yet.
    #[error("not ready")]
    NotReady,
    /// Too many passwords are waiting to be compared.
    #[error("too busy")]
    Busy,
    /// The password could not be compared.
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
pub(crate) enum ManageError {
    /// A new user cannot have this name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The change needs a password.
    #[error("a password is missing")]
    NoPassword,
    /// The password is longer than [`super::limits::MAX_PASSWORD_BYTES`].
    #[error("the password is too long")]
    PasswordTooLong,
    /// There is no such user.
    #[error("no such user")]
    NotFound,
    /// The user exists already, with another password.
    #[error("the user exists with another password")]
    Exists,
    /// The cluster would be left without an administrator.
    #[error("this is the last enabled member of $admins")]
    LastAdmin,
    /// The given password is not the current one.
    #[error("wrong password")]
    WrongPassword,
    /// The caller may not, or no longer.
    #[error("not allowed")]
    Denied,
    /// A stream that the change writes to was deleted for ever, most likely the user's own stream.
    #[error("the stream of the user was deleted for good")]
    StreamGone,
    /// Other callers kept changing the same user.
    #[error("changed by others at the same time")]
    TryAgain,
    /// Certainly not changed: there is no leader, or this node is not ready.
    #[error("not ready")]
    NotReady,
    /// Certainly not changed: queues are full.
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
            WriteError::NoLeader | WriteError::NotYet(_) => Self::NotReady,
            WriteError::Busy => Self::Busy,
            WriteError::Unknown => Self::Unknown,
            WriteError::Denied => Self::Denied,
        }
    }
}
