//! A change of users as one command: its appends, which are stored together or not at all
//! (docs/adr).

use bytes::Bytes;
use headwater_proto::stored::{Append, Command, NewEvent};
use uuid::Uuid;

use super::Access;
use super::error::ManageError;
use super::password::StoredPassword;
use super::user::{
    CREATED_TYPE, NOTIFICATIONS, PASSWORD_CHANGED_TYPE, UPDATED_TYPE, USER_METADATA, USER_TYPE, User, metastream_of,
    stream_of,
};
use super::users::{StoredUser, UserPlace};
use crate::cluster::{EncodedCommand, Requester, Write};
use crate::event::{EventNumber, ExpectedVersion, METADATA_EVENT_TYPE, WriteOutcome};

impl Access {
    /// Replaces the hash that was found by a renewed one, unless the user has changed since.
    pub(crate) async fn replace_hash(&self, found: StoredUser, hash: StoredPassword) -> Result<(), ManageError> {
        if self.replace(&Requester::Node, found, |user| user.password = Some(hash.clone()), false).await? {
            Ok(())
        } else {
            Err(ManageError::TryAgain)
        }
    }

    /// Stores the changed user, unless another change came first: `false`.
    pub(super) async fn replace(
        &self,
        requester: &Requester,
        found: StoredUser,
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
        // Deleting a user leaves the number of its last event unchanged. Without the second append,
        // this one could bring the user back.
        let mut appends = vec![
            append(&stream, expected, vec![updated]),
            append(&metastream_of(&stream), expecting(found.metadata_number), Vec::new()),
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

    /// Requires that some other administrator stays one. Otherwise, when two administrators
    /// remove each other at the same moment, each would find the other still there.
    pub(super) async fn another_admin(&self, login: &str) -> Result<Vec<Append>, ManageError> {
        let users = self.users().await?;
        for other in users.iter().filter(|user| user.login != login && user.is_active_admin()) {
            let stream = stream_of(&other.login);
            let metastream = metastream_of(&stream);
            // Deleting a user writes to the second stream, any other change to the first.
            let (own, described) = (
                self.inner.users.last_number(stream.clone()).await?,
                self.inner.users.last_number(metastream.clone()).await?,
            );
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

    /// `false` when one of the streams does not have its expected version.
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

    pub(super) async fn write(&self, requester: &Requester, appends: Vec<Append>) -> Result<WriteOutcome, ManageError> {
        let command = EncodedCommand::of(&Command::of_users(appends));
        Ok(self.inner.cluster.write(Write { command, requester: requester.clone(), authorized_in: None }).await?)
    }
}

/// The appends that create the streams of a user, where the state is still as in `place`. The
/// access list first: it also brings back the stream of a deleted user, whose former events then
/// stay out of sight.
pub(crate) fn creation_in(place: &UserPlace, user: &User) -> Vec<Append> {
    creation(user, expecting(place.last), expecting(place.metadata_last))
}

/// The appends that create the streams of one of the first users, before which there are none.
pub(super) fn first_creation(user: &User) -> Vec<Append> {
    creation(user, ExpectedVersion::NoStream, ExpectedVersion::Any)
}

fn creation(user: &User, expected: ExpectedVersion, expected_of_metadata: ExpectedVersion) -> Vec<Append> {
    let stream = stream_of(&user.login);
    let metadata = event(METADATA_EVENT_TYPE, true, USER_METADATA.as_bytes());
    let created = event(CREATED_TYPE, true, &user.to_data());
    vec![
        append(&metastream_of(&stream), expected_of_metadata, vec![metadata]),
        append(&stream, expected, vec![created]),
    ]
}

/// The event that lists a new user.
pub(super) fn created(login: &str) -> NewEvent {
    event(USER_TYPE, false, login.as_bytes())
}

pub(crate) fn append(stream: &str, expected: ExpectedVersion, events: Vec<NewEvent>) -> Append {
    Append { stream: stream.to_owned(), expected_version: expected.to_number(), events, ..Append::default() }
}

/// An event with a new id. A command keeps its ids when it is repeated, and so is stored once.
pub(crate) fn event(event_type: &str, is_json: bool, data: &[u8]) -> NewEvent {
    NewEvent {
        event_id: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
        event_type: event_type.to_owned(),
        is_json,
        data: Bytes::copy_from_slice(data),
        metadata: Bytes::new(),
    }
}

pub(super) fn expecting(last: Option<EventNumber>) -> ExpectedVersion {
    last.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exactly)
}
