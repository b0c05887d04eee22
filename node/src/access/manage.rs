//! Changes of users (contract/services 2).

use std::net::IpAddr;

use super::Access;
use super::change::{append, created, creation_in, event, expecting};
use super::error::ManageError;
use super::password::StoredPassword;
use super::rules::Caller;
use super::user::{USER_METADATA, USERS, User, metastream_of, stream_of};
use crate::cluster::Requester;
use crate::event::metadata::soft_delete_document;
use crate::event::{ExpectedVersion, METADATA_EVENT_TYPE};
use crate::store::ReadError;

/// Another caller may change the same user at the same moment. Then the change is made on the new
/// state, at most this often.
const MAX_TRIES: usize = 8;

impl Access {
    /// Creates a user on behalf of the requester, like every change here. Creating it again with
    /// the same password changes nothing and is no error; of several callers that create it at
    /// once with other passwords, one succeeds.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub(crate) async fn create_user(
        &self,
        requester: &Requester,
        login: &str,
        full_name: Option<String>,
        groups: Option<Vec<String>>,
        password: &str,
    ) -> Result<(), ManageError> {
        self.sync(requester, Caller::is_admin).await?;
        let mut hash = None;
        for _ in 0..MAX_TRIES {
            let place = self.inner.users.place(login).await?;
            if let Some(found) = place.found {
                let is_same = self.inner.hashing.verify(found.user.password, password).await?.is_right;
                return if is_same { Ok(()) } else { Err(ManageError::Exists) };
            }
            let hash = match &hash {
                Some(hash) => StoredPassword::clone(hash),
                None => hash.insert(self.inner.hashing.hash(password).await?).clone(),
            };
            let user = User {
                login: login.to_owned(),
                full_name: full_name.clone(),
                groups: groups.clone(),
                password: Some(hash),
                disabled: false,
            };
            let mut appends = creation_in(&place, &user);
            appends.push(append(USERS, ExpectedVersion::Any, vec![created(login)]));
            if self.store_all(requester, appends).await? {
                return Ok(());
            }
        }
        Err(ManageError::TryAgain)
    }

    /// Replaces the full name and the groups; `None` erases the old value.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub(crate) async fn update_user(
        &self,
        requester: &Requester,
        login: &str,
        full_name: Option<String>,
        groups: Option<Vec<String>>,
    ) -> Result<(), ManageError> {
        let change = |user: &mut User| (user.full_name, user.groups) = (full_name.clone(), groups.clone());
        self.edit(requester, login, change, false).await
    }

    /// Enables or disables a user.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub(crate) async fn set_disabled(
        &self,
        requester: &Requester,
        login: &str,
        disabled: bool,
    ) -> Result<(), ManageError> {
        self.edit(requester, login, |user| user.disabled = disabled, disabled).await
    }

    /// Gives a user another password.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub(crate) async fn reset_password(
        &self,
        requester: &Requester,
        login: &str,
        password: &str,
    ) -> Result<(), ManageError> {
        self.sync(requester, Caller::is_admin).await?;
        self.user(login).await?.ok_or(ManageError::NotFound)?;
        let hash = self.inner.hashing.hash(password).await?;
        self.edit(requester, login, |user| user.password = Some(hash.clone()), true).await
    }

    /// Gives a user another password if the caller knows the current one.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub(crate) async fn change_password(
        &self,
        requester: &Requester,
        login: &str,
        current: &str,
        password: &str,
        from: IpAddr,
    ) -> Result<(), ManageError> {
        let may = |caller: &Caller| caller.is_admin() || caller.login() == Some(login);
        self.sync(requester, may).await?;
        let hash = self.inner.hashing.hash(password).await?;
        for _ in 0..MAX_TRIES {
            let found = self.user(login).await?.ok_or(ManageError::NotFound)?;
            self.check_password(&found.user, current, from).await?;
            if self.replace(requester, found, |user| user.password = Some(hash.clone()), true).await? {
                return Ok(());
            }
        }
        Err(ManageError::TryAgain)
    }

    /// Deletes a user. Its stream is deleted so that the user can be created again.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub(crate) async fn delete_user(&self, requester: &Requester, login: &str) -> Result<(), ManageError> {
        self.sync(requester, Caller::is_admin).await?;
        for _ in 0..MAX_TRIES {
            let found = self.user(login).await?.ok_or(ManageError::NotFound)?;
            let stream = stream_of(login);
            let deletion = event(METADATA_EVENT_TYPE, true, &soft_delete_document(USER_METADATA.as_bytes()));
            let mut appends = vec![
                // When two callers delete the user at once, the second one finds none.
                append(&metastream_of(&stream), expecting(found.metadata_number), vec![deletion]),
                append(&stream, ExpectedVersion::Exactly(found.number), Vec::new()),
            ];
            if found.user.is_active_admin() {
                appends.append(&mut self.another_admin(login).await?);
            }
            if self.store_all(requester, appends).await? {
                return Ok(());
            }
        }
        Err(ManageError::TryAgain)
    }

    /// All users, sorted by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn users(&self) -> Result<Vec<User>, ReadError> {
        self.inner.users.list().await
    }

    async fn edit(
        &self,
        requester: &Requester,
        login: &str,
        change: impl Fn(&mut User),
        notify: bool,
    ) -> Result<(), ManageError> {
        self.sync(requester, Caller::is_admin).await?;
        for _ in 0..MAX_TRIES {
            let found = self.user(login).await?.ok_or(ManageError::NotFound)?;
            if self.replace(requester, found, &change, notify).await? {
                return Ok(());
            }
        }
        Err(ManageError::TryAgain)
    }

    /// Returns once this node has applied everything decided before: its users, the requester
    /// included, are then up to date. The command itself is refused and changes nothing.
    async fn sync(&self, requester: &Requester, may: impl Fn(&Caller) -> bool) -> Result<(), ManageError> {
        self.write(requester, Vec::new()).await?;
        let Requester::Caller(caller) = requester else { return Ok(()) };
        match self.caller_now(caller).await? {
            Some(caller) if may(&caller) => Ok(()),
            _ => Err(ManageError::Denied),
        }
    }
}
