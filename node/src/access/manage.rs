//! Changes of users (contract/services 2): each is one command that is stored as a whole or not at
//! all (docs/adr).

use bytes::Bytes;
use headwater_proto::stored::{Append, Command, NewEvent};
use prost::Message;
use std::collections::BTreeSet;
use std::net::IpAddr;
use uuid::Uuid;

use super::Access;
use super::login::{Found, LoginError};
use super::password::StoredPassword;
use super::rules::Caller;
use super::user::{
    CREATED_TYPE, NOTIFICATIONS, PASSWORD_CHANGED_TYPE, UPDATED_TYPE, USER_METADATA, USER_TYPE, USERS, User, stream_of,
};
use crate::cluster::{Requester, Write, WriteError};
use crate::event::metadata::SOFT_DELETE_DOCUMENT;
use crate::event::{EventNumber, ExpectedVersion, METADATA_EVENT_TYPE, StreamNameRef, WriteOutcome};
use crate::store::{ReadError, ReadView};

/// Somebody else may change the same user at the same moment; then the change is made on what they
/// left, but not for ever.
const MAX_TRIES: usize = 8;

/// Creations that are looked at for a list of users, the newest first. Beyond it the oldest users
/// are left out of lists.
pub(crate) const MAX_LISTED: u64 = 10_000;

/// Creations read in one step.
const LIST_STEP: u64 = 500;

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

impl Access {
    /// Creates a user on behalf of the requester, like every change here. Creating it again with
    /// the same password changes nothing and is no error.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub async fn create_user(
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
            if let Some(found) = self.user(login).await? {
                let is_same = self.verify(found.user.password, password).await?.is_right;
                return if is_same { Ok(()) } else { Err(ManageError::Exists) };
            }
            let hash = match &hash {
                Some(hash) => StoredPassword::clone(hash),
                None => hash.insert(self.hash(password).await?).clone(),
            };
            let user = User {
                login: login.to_owned(),
                full_name: full_name.clone(),
                groups: groups.clone(),
                password: Some(hash),
                disabled: false,
            };
            let expected = expecting(self.last_number(stream_of(login)).await?);
            let mut appends = creation(&user, expected);
            appends.push(append(USERS, ExpectedVersion::Any, vec![created(login)]));
            if self.store_all(requester, appends).await? {
                return Ok(());
            }
        }
        Err(ManageError::TryAgain)
    }

    /// Replaces the full name and the groups; what is `None` is erased.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub async fn update_user(
        &self,
        requester: &Requester,
        login: &str,
        full_name: Option<String>,
        groups: Option<Vec<String>>,
    ) -> Result<(), ManageError> {
        let change = |user: &mut User| (user.full_name, user.groups) = (full_name.clone(), groups.clone());
        self.edit(requester, login, change, false).await
    }

    /// Lets a user log in, or no longer.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub async fn set_disabled(&self, requester: &Requester, login: &str, disabled: bool) -> Result<(), ManageError> {
        self.edit(requester, login, |user| user.disabled = disabled, disabled).await
    }

    /// Gives a user another password.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub async fn reset_password(&self, requester: &Requester, login: &str, password: &str) -> Result<(), ManageError> {
        self.sync(requester, Caller::is_admin).await?;
        self.user(login).await?.ok_or(ManageError::NotFound)?;
        let hash = self.hash(password).await?;
        self.edit(requester, login, |user| user.password = Some(hash.clone()), true).await
    }

    /// Gives a user another password, if the current one is known.
    ///
    /// # Errors
    /// See [`ManageError`].
    pub async fn change_password(
        &self,
        requester: &Requester,
        login: &str,
        current: &str,
        password: &str,
        from: IpAddr,
    ) -> Result<(), ManageError> {
        let may = |caller: &Caller| caller.is_admin() || caller.login() == Some(login);
        self.sync(requester, may).await?;
        let hash = self.hash(password).await?;
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
    pub async fn delete_user(&self, requester: &Requester, login: &str) -> Result<(), ManageError> {
        self.sync(requester, Caller::is_admin).await?;
        for _ in 0..MAX_TRIES {
            let found = self.user(login).await?.ok_or(ManageError::NotFound)?;
            let stream = stream_of(login);
            let deletion = event(METADATA_EVENT_TYPE, true, SOFT_DELETE_DOCUMENT);
            let mut appends = vec![
                append(&metastream(&stream), ExpectedVersion::Any, vec![deletion]),
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
    pub async fn users(&self) -> Result<Vec<User>, ReadError> {
        self.inner.store().read(read_users).await
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

    /// Puts a renewed hash into the place of the one that was found, unless the user was changed
    /// since.
    pub(crate) async fn replace_hash(&self, found: Found, hash: StoredPassword) -> Result<(), ManageError> {
        if self.replace(&Requester::Node, found, |user| user.password = Some(hash.clone()), false).await? {
            Ok(())
        } else {
            Err(ManageError::TryAgain)
        }
    }

    /// Stores the user as changed, unless it is another by now: `false`.
    async fn replace(
        &self,
        requester: &Requester,
        found: Found,
        change: impl Fn(&mut User),
        notify: bool,
    ) -> Result<bool, ManageError> {
        let mut user = found.user.clone();
        change(&mut user);
        if user == found.user {
            return Ok(true);
        }
        let updated = event(UPDATED_TYPE, true, &user.to_data());
        let expected = ExpectedVersion::Exactly(found.number);
        let stream = stream_of(&user.login);
        // Deleting a user leaves the number of its last event as it is: without the second one this
        // could bring it back.
        let mut appends = vec![
            append(&stream, expected, vec![updated]),
            append(&metastream(&stream), expecting(found.metadata_number), Vec::new()),
        ];
        if notify {
            let data = serde_json::json!({"loginName": user.login}).to_string();
            let changed = event(PASSWORD_CHANGED_TYPE, true, data.as_bytes());
            appends.push(append(NOTIFICATIONS, ExpectedVersion::Any, vec![changed]));
        }
        if found.user.is_active_admin() && !user.is_active_admin() {
            appends.append(&mut self.another_admin(&user.login).await?);
        }
        self.store_all(requester, appends).await
    }

    /// Demands that an administrator other than this one stays what it is. Two administrators who
    /// remove each other at the same moment would both find the other one still there.
    async fn another_admin(&self, login: &str) -> Result<Vec<Append>, ManageError> {
        let users = self.users().await?;
        for other in users.iter().filter(|user| user.login != login && user.is_active_admin()) {
            let stream = stream_of(&other.login);
            let metastream = metastream(&stream);
            // Deleting a user writes to the second, everything else to the first.
            let (own, described) =
                (self.last_number(stream.clone()).await?, self.last_number(metastream.clone()).await?);
            let is_still = self.user(&other.login).await?.is_some_and(|found| found.user.is_active_admin());
            if is_still {
                return Ok(vec![
                    append(&stream, expecting(own), Vec::new()),
                    append(&metastream, expecting(described), Vec::new()),
                ]);
            }
        }
        Err(ManageError::LastAdmin)
    }

    async fn last_number(&self, stream: String) -> Result<Option<EventNumber>, ReadError> {
        self.inner.store().read(move |view| Ok(view.stream(&stream)?.last_number)).await
    }

    /// Returns once this node has applied everything that was decided before: what it says of users
    /// then is not out of date, whoever asks included. The command itself changes nothing and is
    /// refused.
    async fn sync(&self, requester: &Requester, may: impl Fn(&Caller) -> bool) -> Result<(), ManageError> {
        self.write(requester, Vec::new()).await?;
        let Requester::Caller(caller) = requester else { return Ok(()) };
        match self.present(caller).await? {
            Some(caller) if may(&caller) => Ok(()),
            _ => Err(ManageError::Denied),
        }
    }

    /// `false` when one of the streams has not the expected version.
    pub(crate) async fn store_all(&self, requester: &Requester, appends: Vec<Append>) -> Result<bool, ManageError> {
        match self.write(requester, appends).await? {
            WriteOutcome::Appended { .. } => Ok(true),
            WriteOutcome::WrongExpectedVersion { .. } => Ok(false),
            WriteOutcome::StreamDeleted => Err(ManageError::StreamGone),
            outcome => {
                tracing::error!(%outcome, "a change of users was refused");
                Err(ManageError::Internal)
            }
        }
    }

    async fn write(&self, requester: &Requester, appends: Vec<Append>) -> Result<WriteOutcome, ManageError> {
        let command = Command::of_users(appends).encode_to_vec().into();
        Ok(self.inner.cluster.write(Write { command, requester: requester.clone(), authorized_in: None }).await?)
    }
}

fn read_users(view: &ReadView<'_>) -> Result<Vec<User>, ReadError> {
    let info = view.stream(USERS)?;
    let (Some(id), Some(last)) = (info.id, info.last_number) else { return Ok(Vec::new()) };
    let mut logins = BTreeSet::new();
    let oldest = (last + 1).saturating_sub(MAX_LISTED);
    let mut end = Some(last);
    while let Some(to) = end.filter(|to| *to >= oldest) {
        let from = (to + 1).saturating_sub(LIST_STEP).max(oldest);
        for row in view.rows(&view.places(id, from..=to)?)? {
            logins.insert(String::from_utf8_lossy(row.event()?.data).into_owned());
        }
        end = from.checked_sub(1);
    }
    let mut users = Vec::with_capacity(logins.len());
    for login in logins {
        let event = view.last_visible_event(&stream_of(&login))?;
        users.extend(event.and_then(|event| User::from_data(&event.data)));
    }
    Ok(users)
}

/// The appends that create the streams of a user. The access list first: it also brings back the
/// stream of a deleted user, whose former events then stay out of sight.
pub(super) fn creation(user: &User, expected: ExpectedVersion) -> Vec<Append> {
    let stream = stream_of(&user.login);
    let metadata = event(METADATA_EVENT_TYPE, true, USER_METADATA.as_bytes());
    let created = event(CREATED_TYPE, true, &user.to_data());
    vec![append(&metastream(&stream), ExpectedVersion::Any, vec![metadata]), append(&stream, expected, vec![created])]
}

/// The event that lists a new user.
pub(super) fn created(login: &str) -> NewEvent {
    event(USER_TYPE, false, login.as_bytes())
}

pub(super) fn metastream(stream: &str) -> String {
    StreamNameRef::new(stream).metastream()
}

pub(crate) fn append(stream: &str, expected: ExpectedVersion, events: Vec<NewEvent>) -> Append {
    Append { stream: stream.to_owned(), expected_version: expected.to_number(), events, ..Append::default() }
}

/// An event with a new id. A command keeps its ids when it is sent again, and so is stored once.
pub(crate) fn event(event_type: &str, is_json: bool, data: &[u8]) -> NewEvent {
    NewEvent {
        event_id: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
        event_type: event_type.to_owned(),
        is_json,
        data: Bytes::copy_from_slice(data),
        metadata: Bytes::new(),
    }
}

fn expecting(last: Option<EventNumber>) -> ExpectedVersion {
    last.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exactly)
}
