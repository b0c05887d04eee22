//! Users as callers may see them: on every node alike, and never from before a change that was
//! answered anywhere (contract/services 2 and 5).

use super::Access;
use super::rules::Caller;
use super::user::User;
use super::users::StoredUser;
use crate::cluster::BarrierError;
use crate::event::Position;
use crate::store::ReadError;

/// Why users are not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadUsersError {
    /// This node is not as far as it has to be.
    #[error("this node is not ready")]
    NotReady,
    /// The caller may not see them, or not any more.
    #[error("not allowed")]
    Denied,
    /// There is no such user.
    #[error("no such user")]
    NotFound,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] ReadError),
}

impl Access {
    /// All users, sorted by name, once the event at `min_position` is applied.
    ///
    /// # Errors
    /// See [`ReadUsersError`].
    pub(crate) async fn list_users(
        &self,
        caller: &Caller,
        min_position: Option<Position>,
    ) -> Result<Vec<User>, ReadUsersError> {
        self.wait_to_show_users(caller, min_position).await?;
        Ok(self.users().await?)
    }

    /// The user of this name, once the event at `min_position` is applied.
    ///
    /// # Errors
    /// See [`ReadUsersError`].
    pub(crate) async fn show_user(
        &self,
        caller: &Caller,
        login: &str,
        min_position: Option<Position>,
    ) -> Result<StoredUser, ReadUsersError> {
        self.wait_to_show_users(caller, min_position).await?;
        self.user(login).await?.ok_or(ReadUsersError::NotFound)
    }

    /// The calling user, once the event at `min_position` is applied.
    ///
    /// # Errors
    /// See [`ReadUsersError`].
    pub(crate) async fn show_caller(
        &self,
        caller: &Caller,
        min_position: Option<Position>,
    ) -> Result<StoredUser, ReadUsersError> {
        self.users_barrier(min_position).await?;
        let caller = self.caller_now(caller).await?.ok_or(ReadUsersError::Denied)?;
        let login = caller.login().ok_or(ReadUsersError::Denied)?;
        self.user(login).await?.ok_or(ReadUsersError::NotFound)
    }

    /// Meanwhile the caller may have lost the right to see users that a node demands which is not
    /// open to anonymous callers.
    async fn wait_to_show_users(&self, caller: &Caller, min_position: Option<Position>) -> Result<(), ReadUsersError> {
        self.users_barrier(min_position).await?;
        let caller = self.caller_now(caller).await?.ok_or(ReadUsersError::Denied)?;
        if self.admission().to_users(&caller) { Ok(()) } else { Err(ReadUsersError::Denied) }
    }

    /// Waits until this node sees every change of users that was answered anywhere before, as if
    /// the leader itself was asked: nobody is sent to the leader for users. Where no leader is
    /// known, the node answers from its own copy (contract/services 5.2 and 5.4), but never from
    /// before its last start.
    async fn users_barrier(&self, min_position: Option<Position>) -> Result<(), ReadUsersError> {
        let cluster = &self.inner.cluster;
        if !cluster.has_recovered() {
            return Err(ReadUsersError::NotReady);
        }
        if let Some(position) = min_position {
            cluster.wait_for_position(position).await.map_err(|_| ReadUsersError::NotReady)?;
        }
        match cluster.catch_up().await {
            Ok(()) | Err(BarrierError::NoLeader | BarrierError::NotLeader(_)) => Ok(()),
            Err(BarrierError::Behind) => Err(ReadUsersError::NotReady),
        }
    }
}
