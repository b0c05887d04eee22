//! Who is calling and what they may do: users, passwords, access lists.
//!
//! Users and lists are ordinary streams. This room keeps what requests need of them in memory and
//! throws it away in the step that applies a change, so that no node which has applied a change
//! decides by what was before.

pub(crate) mod attempts;
mod authorizer;
pub(crate) mod defaults;
mod login;
pub(crate) mod manage;
pub(crate) mod password;
pub(crate) mod rules;
#[cfg(test)]
mod tests;
pub(crate) mod user;

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

pub(crate) use login::LoginError;
pub(crate) use rules::{Caller, Policy, Principal, Right};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::event::metadata::{Acl, DefaultAcls};
use crate::event::{StreamNameRef, stream_name};
use crate::store::slots::Slots;
use crate::store::{ChangedStream, Changes, ReadError, Store};
use attempts::Attempts;
use login::Known;
use password::{HashError, Passwords};
use user::{USER_PREFIX, USERS};

/// Streams whose access lists are kept in memory, at about 100 bytes each for short names. A write
/// to another one reads one row more.
pub(crate) const KEPT_LISTS: usize = 16_384;

/// Users who logged in lately; another one is verified from scratch.
pub(crate) const KEPT_LOGINS: usize = 4_096;

/// Passwords that are hashed at the same time: each takes a core for some 20 ms and 19 MiB.
pub(crate) const HASHING_AT_ONCE: usize = 2;

/// How long a password waits for its turn to be hashed.
pub(crate) const HASHING_DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of a user's name. It is a part of stream names.
pub(crate) const MAX_LOGIN_BYTES: usize = 256;

/// Bytes of a password: hashing looks at all of them.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1024;

/// Handle on this room. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    /// The list that a stream itself has.
    lists: Slots<Option<Arc<Acl>>>,
    /// Users who logged in.
    logins: Slots<Known>,
    /// What users are now; `None` for who is none, or may not log in.
    accounts: Slots<Option<Arc<Principal>>>,
    /// `$settings` as of the newest commit.
    defaults: ArcSwap<DefaultAcls>,
    /// Held while `defaults` is read and replaced, so that the newest one stays.
    refreshing: Mutex<()>,
    /// Whether there are users at all; before, nobody can log in.
    users_exist: watch::Sender<bool>,
    passwords: Passwords,
    hashing: Semaphore,
    attempts: Attempts,
    /// Random key of the hashes in `logins`: they are worth nothing outside of this process.
    key: [u8; 32],
    anonymous_allowed: bool,
}

impl Access {
    /// Of the node behind `cluster`. From here on it is told of every change.
    ///
    /// # Errors
    /// The system gives no randomness, or no memory to hash a password.
    pub fn new(cluster: Cluster, config: &Config) -> Result<Self, HashError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| HashError::new(&error))?;
        let inner = Arc::new(Inner {
            lists: Slots::new(KEPT_LISTS),
            logins: Slots::new(KEPT_LOGINS),
            accounts: Slots::new(KEPT_LOGINS),
            defaults: ArcSwap::default(),
            refreshing: Mutex::new(()),
            users_exist: watch::Sender::new(false),
            passwords: Passwords::new()?,
            hashing: Semaphore::new(HASHING_AT_ONCE),
            attempts: Attempts::default(),
            key,
            anonymous_allowed: config.allow_anonymous_stream_access,
            cluster,
        });
        // Not the other way round: the store must end with the node.
        let told: Weak<Inner> = Arc::downgrade(&inner);
        inner.store().on_change(Box::new(move |changes| {
            if let Some(inner) = told.upgrade() {
                inner.changed(changes);
            }
        }));
        inner.changed(Changes::Everything);
        let access = Self { inner };
        access.inner.cluster.authorize_with(Box::new(access.authorizer()));
        Ok(access)
    }

    /// What a read decides with.
    pub fn policy(&self, caller: &Caller) -> Policy {
        Policy {
            caller: caller.clone(),
            defaults: self.inner.defaults.load_full(),
            anonymous_allowed: self.inner.anonymous_allowed,
        }
    }

    /// The caller as it is now, with the roles of now; `None` for a user who would not be let in
    /// any more, or not with the password that was verified. Who waited, for a body, an event or
    /// another node, asks this again before going on.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn present(&self, caller: &Caller) -> Result<Option<Caller>, ReadError> {
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
    pub async fn allows(&self, caller: &Caller, stream: &str, right: Right) -> Result<bool, ReadError> {
        match self.present(caller).await? {
            Some(caller) => self.has_right(&caller, stream, right).await,
            None => Ok(false),
        }
    }

    /// Whether a node with newer lists and groups might allow what [`Self::allows`] denies by those
    /// of this one: not to a user who would not be let in any more, and not what no list can allow.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn may_be_allowed_elsewhere(
        &self,
        caller: &Caller,
        stream: &str,
        right: Right,
    ) -> Result<bool, ReadError> {
        Ok(rules::subject(stream, right).is_some() && self.present(caller).await?.is_some())
    }

    async fn has_right(&self, caller: &Caller, stream: &str, right: Right) -> Result<bool, ReadError> {
        if *caller == Caller::Anonymous && !self.inner.anonymous_allowed {
            return Ok(false);
        }
        let Some((owner, right)) = rules::subject(stream, right) else { return Ok(false) };
        let own = self.list_of(owner).await?;
        Ok(rules::allows(caller, owner, right, own.as_deref(), &self.inner.defaults.load()))
    }

    /// The list that a stream itself has.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list_of(&self, stream: &str) -> Result<Option<Arc<Acl>>, ReadError> {
        let (place, known) = self.inner.lists.get(stream);
        if let Some(list) = known {
            return Ok(list);
        }
        let name = stream.to_owned();
        let list = self.inner.store().read(move |view| view.acl(&name)).await?.map(Arc::new);
        // Changed meanwhile or not: this is what the state said when it was asked.
        self.inner.lists.put(place, stream, list.clone());
        Ok(list)
    }

    /// Whether anybody can log in: the first users were created.
    pub fn users_exist(&self) -> bool {
        *self.inner.users_exist.borrow()
    }
}

/// Whether decisions about access may rest on it: access lists are metadata, users and `$settings`
/// are in streams of the server.
fn concerns_access(changed: &ChangedStream<'_>) -> bool {
    let name = StreamNameRef::new(changed.name);
    changed.is_described_anew || (name.is_system() && !name.is_metastream())
}

impl Inner {
    fn store(&self) -> &Store {
        self.cluster.store()
    }

    /// On the apply thread, when a commit is visible and nobody was told of it yet.
    fn changed(&self, changes: Changes<'_>) {
        let streams = match changes {
            Changes::Streams(streams) => streams,
            Changes::Everything => {
                self.lists.everything_changed();
                self.logins.everything_changed();
                self.accounts.everything_changed();
                self.read_settings();
                self.look_for_users();
                return;
            }
        };
        for ChangedStream { name, .. } in streams.iter().filter(concerns_access) {
            self.lists.changed(name);
            if let Some(login) = name.strip_prefix(USER_PREFIX) {
                self.logins.changed(login);
                self.accounts.changed(login);
            } else if name == stream_name::SETTINGS {
                self.read_settings();
            } else if name == USERS {
                self.look_for_users();
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "runs at the start and on the apply thread")]
    fn read_settings(&self) {
        let _refreshing = self.refreshing.lock();
        let event = self.store().read_blocking(|view| view.last_visible_event(stream_name::SETTINGS));
        let defaults = match event.as_ref().map(|event| DefaultAcls::parse(&event.data)) {
            None => DefaultAcls::default(),
            Some(Ok(defaults)) => defaults,
            Some(Err(error)) => {
                // From another server or an earlier version: nobody can write such a document now
                // (contract/services 1.6).
                tracing::warn!(
                    "the last event of $settings has no effect, the built-in access rules are in force: {error}"
                );
                DefaultAcls::default()
            }
        };
        self.defaults.store(Arc::new(defaults));
    }

    #[expect(clippy::disallowed_methods, reason = "runs at the start and on the apply thread")]
    fn look_for_users(&self) {
        let exist = self.store().read_blocking(|view| Ok(view.stream(USERS)?.last_number.is_some()));
        if exist {
            self.cluster.set_users_exist();
            self.users_exist.send_replace(true);
        }
    }
}
