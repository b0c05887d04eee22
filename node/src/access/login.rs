//! Logging in: a name and a password to a principal.

use std::net::IpAddr;
use std::sync::Arc;

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, KeyInit, Update};
use subtle::ConstantTimeEq;

use super::manage::metastream;
use super::password::{HashError, StoredPassword, Verdict};
use super::rules::Principal;
use super::user::{User, stream_of};
use super::{Access, HASHING_DEADLINE, MAX_LOGIN_BYTES, MAX_PASSWORD_BYTES};
use crate::event::{EventNumber, Ticks};
use crate::store::{ReadError, ReadView};

/// A user as the state has it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The user.
    pub user: User,
    /// Number of the event that says so.
    pub number: EventNumber,
    /// Last number of the metadata of its stream, which is written when the user is deleted.
    pub metadata_number: Option<EventNumber>,
    /// When it was written.
    pub time: Ticks,
}

/// A user who logged in.
#[derive(Clone)]
pub(super) struct Known {
    principal: Arc<Principal>,
    /// Keyed hash of the name and the password that were verified.
    tag: [u8; 32],
}

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

/// A user can change while its password is being verified; then it is verified again, but not for
/// ever.
const MAX_TRIES: usize = 4;

impl Access {
    /// Who logs in with this name and password from this address. Once verified, a password costs
    /// one fast hash until the user changes.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn login(&self, login: &str, password: &str, from: IpAddr) -> Result<Arc<Principal>, LoginError> {
        if !self.users_exist() || !self.inner.cluster.has_recovered() {
            return Err(LoginError::NotReady);
        }
        let counter = self.inner.attempts.counter(login, from);
        // Before anything else: what is in memory must not tell a guesser more quickly whether the
        // guess was right.
        if self.inner.attempts.is_exhausted(counter) {
            return Err(LoginError::Exhausted);
        }
        let tag = self.tag(login, password);
        for _ in 0..MAX_TRIES {
            let (place, known) = self.inner.logins.get(login);
            let (account_place, account) = self.inner.accounts.get(login);
            if let Some(known) = known.filter(|known| bool::from(known.tag.ct_eq(&tag))) {
                return Ok(known.principal);
            }
            let found = if login.len() <= MAX_LOGIN_BYTES { self.user(login).await? } else { None };
            let stored = found.as_ref().and_then(|found| found.user.password.clone());
            let verdict = self.verify(stored, password).await?;
            if !self.inner.logins.is_current(place) {
                continue;
            }
            let Some(found) = found.filter(|found| verdict.is_right && !found.user.disabled) else {
                self.inner.attempts.failed(counter);
                return Err(LoginError::Wrong);
            };
            let now = found.user.principal();
            // One for all who log in as this user, so that all hear of a renewed hash.
            let principal = account.flatten().filter(|account| account.is_alike(&now)).unwrap_or_else(|| Arc::new(now));
            self.inner.accounts.put(account_place, login, Some(principal.clone()));
            if !self.inner.logins.put(place, login, Known { principal: principal.clone(), tag }) {
                continue;
            }
            self.inner.attempts.succeeded(counter);
            if verdict.is_outdated {
                self.hash_anew(found, principal.clone(), password.to_owned());
            }
            return Ok(principal);
        }
        Err(LoginError::Busy)
    }

    /// What the user of this name is now; `None` when it is none, or may not log in.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn account(&self, login: &str) -> Result<Option<Arc<Principal>>, ReadError> {
        let (place, known) = self.inner.accounts.get(login);
        if let Some(account) = known {
            return Ok(account);
        }
        let found = self.user(login).await?.filter(|found| !found.user.disabled);
        let account = found.map(|found| Arc::new(found.user.principal()));
        // Changed meanwhile or not: this is what the state said when it was asked.
        self.inner.accounts.put(place, login, account.clone());
        Ok(account)
    }

    /// Compares a password with that of a user for a change of it; counts a wrong one like a wrong
    /// login.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub(super) async fn check_password(&self, user: &User, password: &str, from: IpAddr) -> Result<(), LoginError> {
        let counter = self.inner.attempts.counter(&user.login, from);
        if self.inner.attempts.is_exhausted(counter) {
            return Err(LoginError::Exhausted);
        }
        if self.verify(user.password.clone(), password).await?.is_right {
            return Ok(());
        }
        self.inner.attempts.failed(counter);
        Err(LoginError::Wrong)
    }

    /// The user of this name, unless there is none or it was deleted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn user(&self, login: &str) -> Result<Option<Found>, ReadError> {
        let stream = stream_of(login);
        let read = move |view: &ReadView<'_>| {
            Ok((view.last_visible_event(&stream)?, view.stream(&metastream(&stream))?.last_number))
        };
        let (event, metadata_number) = self.inner.store().read(read).await?;
        Ok(event.and_then(|event| {
            let user = User::from_data(&event.data).filter(|user| user.login == login)?;
            Some(Found { user, number: event.number, metadata_number, time: event.time })
        }))
    }

    /// Compares a password on the blocking pool, when it is its turn.
    pub(super) async fn verify(&self, stored: Option<StoredPassword>, password: &str) -> Result<Verdict, LoginError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(Verdict { is_right: false, is_outdated: false });
        }
        let password = password.to_owned();
        self.hashing(move |access| access.inner.passwords.verify(stored.as_ref(), &password)).await
    }

    /// Hashes a new password on the blocking pool, when it is its turn.
    pub(super) async fn hash(&self, password: &str) -> Result<StoredPassword, LoginError> {
        let password = password.to_owned();
        Ok(self.hashing(move |access| access.inner.passwords.hash(&password)).await??)
    }

    async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, LoginError> {
        let turn = tokio::time::timeout(HASHING_DEADLINE, self.inner.hashing.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or(LoginError::Busy)?;
        let access = self.clone();
        tokio::task::spawn_blocking(move || work(&access)).await.map_err(|error| {
            tracing::debug!(%error, "the node is stopping while a password is hashed");
            LoginError::NotReady
        })
    }

    /// What stands for a verified name and password in memory. From it neither can be found.
    fn tag(&self, login: &str, password: &str) -> [u8; 32] {
        let mut mac = Blake2sMac256::new(&self.inner.key.into());
        mac.update(&(login.len() as u64).to_le_bytes());
        mac.update(login.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize_fixed().into()
    }

    /// Replaces a hash of the original server by one of today, in the background. If the user
    /// changes meanwhile nothing happens.
    fn hash_anew(&self, found: Found, principal: Arc<Principal>, password: String) {
        let access = self.clone();
        tokio::spawn(async move {
            let Ok(hash) = access.hash(&password).await else { return };
            // Before it is stored: whoever logged in with the old hash stays logged in.
            if !principal.renew(hash.credential()) {
                return;
            }
            let login = found.user.login.clone();
            match access.replace_hash(found, hash).await {
                Ok(()) => tracing::info!(target: "audit", user = ?login, "audit: the hash of a password was renewed"),
                // The next login tries again.
                Err(error) => tracing::debug!(%error, "the hash of a password was not renewed"),
            }
        });
    }

    /// Hashes by today's rules computed so far, for tests that compare work.
    #[cfg(test)]
    pub(crate) fn computed_hashes(&self) -> u64 {
        self.inner.passwords.computed()
    }

    /// As if wrong passwords had been tried until no more are looked at.
    #[cfg(test)]
    pub(crate) fn exhaust_attempts(&self, login: &str, from: IpAddr) {
        let counter = self.inner.attempts.counter(login, from);
        while !self.inner.attempts.is_exhausted(counter) {
            self.inner.attempts.failed(counter);
        }
    }
}
