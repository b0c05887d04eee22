//! Callers and their rights: users, passwords, access lists.
//!
//! Users and lists are ordinary streams. This room keeps in memory what requests need of them, and
//! discards it in the step that applies a change. So a node that has applied a change never decides
//! by older data.

mod admission;
mod attempts;
mod audit;
mod authorizer;
pub(crate) mod change;
mod defaults;
mod error;
mod hashing;
pub(crate) mod limits;
mod lists;
mod login;
mod maintenance;
mod manage;
mod password;
mod profile;
mod read_users;
mod remote_caller;
pub(crate) mod rules;
#[cfg(test)]
mod tests;
pub(crate) mod user;
mod user_change;
mod users;

use std::sync::{Arc, Weak};

pub(crate) use admission::Admission;
pub(crate) use error::{LoginError, ManageError};
pub(crate) use maintenance::{Administrator, NoProof, Operator};
pub(crate) use profile::{Profile, ProfileTooLarge};
pub(crate) use read_users::ReadUsersError;
pub(crate) use remote_caller::RemoteCaller;
pub(crate) use rules::{Caller, Policy, Principal, Right};
pub(crate) use user_change::UserChange;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::deliberate::{self, Fault};
use crate::event::metadata::Acl;
use crate::event::{StreamNameRef, stream_name};
pub(crate) use crate::store::ReadError;
use crate::store::{ChangedStream, Changes};
use hashing::Hashing;
use lists::Lists;
use login::Logins;
use password::HashError;
use user::{USER_PREFIX, USERS};
#[cfg(test)]
use users::UserPlace;
use users::{StoredUser, Users};

/// Handle on this room. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    admission: Admission,
    lists: Lists,
    users: Users,
    logins: Logins,
    hashing: Hashing,
}

impl Access {
    /// For the node behind `cluster`. From here on it is notified of every change.
    ///
    /// # Errors
    /// The system provides no randomness, or no memory to hash a password.
    pub(crate) fn new(cluster: Cluster, config: &Config) -> Result<Self, HashError> {
        let store = cluster.store().clone();
        let admission = Admission::new(config);
        let inner = Arc::new(Inner {
            admission,
            lists: Lists::new(store.clone(), admission),
            users: Users::new(store.clone()),
            logins: Logins::new()?,
            hashing: Hashing::new()?,
            cluster,
        });
        // A weak reference: the store must end with the node.
        let observer: Weak<Inner> = Arc::downgrade(&inner);
        store.on_change(Box::new(move |changes| {
            if let Some(inner) = observer.upgrade() {
                inner.changed(changes);
            }
        }));
        inner.changed(Changes::Everything);
        let access = Self { inner };
        access.inner.cluster.authorize_with(Box::new(access.authorizer()));
        Ok(access)
    }

    /// Which callers may use which resources at all.
    pub(crate) fn admission(&self) -> Admission {
        self.inner.admission
    }

    /// What a read decides with.
    pub(crate) fn policy(&self, caller: &Caller) -> Policy {
        self.inner.lists.policy(caller)
    }

    /// The caller with its current roles; `None` for a user that could no longer log in, or not
    /// with the password that was verified. A request that waited, for a body, an event or another
    /// node, calls this again before it continues.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn caller_now(&self, caller: &Caller) -> Result<Option<Caller>, ReadError> {
        let Caller::User(principal) = caller else { return Ok(Some(Caller::Anonymous)) };
        if principal.is_vouched_for() {
            return Ok(Some(caller.clone()));
        }
        let now = self.account(principal.login()).await?;
        Ok(now.filter(|now| principal.is_still(now)).map(Caller::User))
    }

    /// Whether the caller may do this with the stream, by the newest state of this node.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn allows(&self, caller: &Caller, stream: &str, right: Right) -> Result<bool, ReadError> {
        match self.caller_now(caller).await? {
            Some(caller) => self.inner.lists.allow(&caller, stream, right).await,
            None => Ok(false),
        }
    }

    /// Whether a node with newer lists and groups might allow what [`Self::allows`] denies by those
    /// of this node. It cannot allow a user that could no longer log in, nor what no list can
    /// allow.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn may_be_allowed_elsewhere(
        &self,
        caller: &Caller,
        stream: &str,
        right: Right,
    ) -> Result<bool, ReadError> {
        Ok(rules::subject(stream, right).is_some() && self.caller_now(caller).await?.is_some())
    }

    /// The list of the stream itself.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn list_of(&self, stream: &str) -> Result<Option<Arc<Acl>>, ReadError> {
        self.inner.lists.of_stream(stream).await
    }

    /// The user of this name, unless there is none or it was deleted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn user(&self, login: &str) -> Result<Option<StoredUser>, ReadError> {
        self.inner.users.find(login).await
    }

    /// The streams of this name, for tests of what is decided on them.
    #[cfg(test)]
    pub(crate) async fn place(&self, login: &str) -> Result<UserPlace, ReadError> {
        self.inner.users.place(login).await
    }

    /// Whether anybody can log in: the first users were created.
    pub(crate) fn users_exist(&self) -> bool {
        self.inner.users.exist()
    }

    /// Number of hashes computed so far by the current rules, for tests that compare work.
    #[cfg(test)]
    pub(crate) fn computed_hashes(&self) -> u64 {
        self.inner.hashing.computed()
    }
}

/// Whether decisions about access may depend on the stream: access lists are metadata; users and
/// `$settings` are in streams of the server.
fn concerns_access(changed: &ChangedStream<'_>) -> bool {
    let name = StreamNameRef::new(changed.name);
    changed.has_new_metadata || (name.is_system() && !name.is_metastream())
}

impl Inner {
    /// Runs on the apply thread, when a commit is visible but no waiting caller has continued.
    fn changed(&self, changes: Changes<'_>) {
        let streams = match changes {
            Changes::Streams(streams) => streams,
            Changes::Everything => {
                self.lists.everything_changed();
                self.logins.everything_changed();
                self.lists.read_settings();
                self.check_for_users();
                return;
            }
        };
        if deliberate::is(Fault::StaleAccess) && self.users.exist() {
            return;
        }
        for ChangedStream { name, .. } in streams.iter().filter(concerns_access) {
            self.lists.changed(name);
            if let Some(login) = name.strip_prefix(USER_PREFIX) {
                self.logins.changed(login);
            } else if name == stream_name::SETTINGS {
                self.lists.read_settings();
            } else if name == USERS {
                self.check_for_users();
            }
        }
    }

    fn check_for_users(&self) {
        if self.users.are_stored() {
            self.cluster.set_users_exist();
            self.users.set_exist();
        }
    }
}
