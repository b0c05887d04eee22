//! Login: turns a name and a password into a principal.

use std::net::IpAddr;
use std::sync::Arc;

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, KeyInit, Update};
use subtle::ConstantTimeEq;

use super::attempts::Attempts;
use super::error::LoginError;
use super::limits::MAX_LOGIN_BYTES;
use super::password::HashError;
use super::rules::Principal;
use super::user::User;
use super::users::StoredUser;
use super::{Access, audit};
use crate::store::ReadError;
use crate::store::slots::{SlotPlace, Slots};

/// Recent logins that are remembered; any other login is verified from scratch.
pub(crate) const KEPT_LOGINS: usize = 4_096;

/// Largest user, with its groups, that is kept in memory. For a larger one, each request reads the
/// user and hashes the password again. Only administrators can create such users.
pub(crate) const MAX_KEPT_BYTES: usize = 16 << 10;

/// A user can change while its password is being verified. Then it is verified again, at most this
/// often.
const MAX_TRIES: usize = 4;

/// Recent logins and attempts.
pub(super) struct Logins {
    /// Users that have logged in.
    verified: Slots<VerifiedLogin>,
    /// The current users; `None` for a name that is not a user, or that may not log in.
    accounts: Slots<Option<Arc<Principal>>>,
    attempts: Attempts,
    /// Random key of the hashes in `verified`: they are worthless outside this process.
    key: [u8; 32],
}

/// A user that has logged in.
#[derive(Clone)]
struct VerifiedLogin {
    principal: Arc<Principal>,
    /// Keyed hash of the name and the password that were verified.
    tag: [u8; 32],
}

impl Logins {
    /// # Errors
    /// The system provides no randomness.
    pub(super) fn new() -> Result<Self, HashError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| HashError::new(&error))?;
        let (verified, accounts) = (Slots::new(KEPT_LOGINS), Slots::new(KEPT_LOGINS));
        Ok(Self { verified, accounts, attempts: Attempts::default(), key })
    }

    /// Call it when a commit changed the user.
    pub(super) fn changed(&self, login: &str) {
        self.verified.changed(login);
        self.accounts.changed(login);
    }

    /// Call it when the state was replaced.
    pub(super) fn everything_changed(&self) {
        self.verified.everything_changed();
        self.accounts.everything_changed();
    }

    /// Keeps the current user, unless it takes too much memory.
    fn keep_account(&self, place: SlotPlace, login: &str, account: Option<&Arc<Principal>>) {
        let weight = account.map_or(0, |principal| principal.weight());
        if login.len() + weight <= MAX_KEPT_BYTES {
            self.accounts.put(place, login, account.cloned());
        }
    }

    /// Keeps the login, unless it takes too much memory. Returns whether the user is unchanged
    /// since `place` was taken.
    fn keep_login(&self, place: SlotPlace, login: &str, verified: VerifiedLogin) -> bool {
        if login.len() + verified.principal.weight() <= MAX_KEPT_BYTES {
            self.verified.put(place, login, verified)
        } else {
            self.verified.is_current(place)
        }
    }

    /// Represents a verified name and password in memory; reveals neither.
    fn tag(&self, login: &str, password: &str) -> [u8; 32] {
        let mut mac = Blake2sMac256::new(&self.key.into());
        mac.update(&(login.len() as u64).to_le_bytes());
        mac.update(login.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize_fixed().into()
    }
}

impl Access {
    /// The user that logs in with this name and password from this address. Once verified, a
    /// password costs one fast hash until the user changes. A refusal is in the audit log.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub(crate) async fn login(&self, login: &str, password: &str, from: IpAddr) -> Result<Arc<Principal>, LoginError> {
        let outcome = self.verify_login(login, password, from).await;
        outcome.inspect_err(|error| audit::refused_login(error, login, from))
    }

    async fn verify_login(&self, login: &str, password: &str, from: IpAddr) -> Result<Arc<Principal>, LoginError> {
        if !self.users_exist() || !self.inner.cluster.has_recovered() {
            return Err(LoginError::NotReady);
        }
        let logins = &self.inner.logins;
        let counter = logins.attempts.counter(login, from);
        // Before anything else: remembered logins must not reveal faster whether a guess was right.
        if logins.attempts.is_exhausted(counter) {
            return Err(LoginError::Exhausted);
        }
        let tag = logins.tag(login, password);
        for _ in 0..MAX_TRIES {
            let (place, known) = logins.verified.get(login);
            let (account_place, account) = logins.accounts.get(login);
            if let Some(known) = known.filter(|known| bool::from(known.tag.ct_eq(&tag))) {
                return Ok(known.principal);
            }
            let found = if login.len() <= MAX_LOGIN_BYTES { self.user(login).await? } else { None };
            let stored = found.as_ref().and_then(|found| found.user.password.clone());
            let verdict = self.inner.hashing.verify(stored, password).await?;
            if !logins.verified.is_current(place) {
                continue;
            }
            let Some(found) = found.filter(|found| verdict.is_right && !found.user.disabled) else {
                logins.attempts.failed(counter);
                return Err(LoginError::Wrong);
            };
            let now = found.user.principal();
            // Shared by all logins of this user, so that all of them learn of a renewed hash.
            let principal = account.flatten().filter(|account| account.is_alike(&now)).unwrap_or_else(|| Arc::new(now));
            logins.keep_account(account_place, login, Some(&principal));
            if !logins.keep_login(place, login, VerifiedLogin { principal: principal.clone(), tag }) {
                continue;
            }
            logins.attempts.succeeded(counter);
            if verdict.is_outdated {
                self.renew_hash(found, principal.clone(), password.to_owned());
            }
            return Ok(principal);
        }
        Err(LoginError::Busy)
    }

    /// The current user of this name; `None` when there is none, or when it may not log in.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn account(&self, login: &str) -> Result<Option<Arc<Principal>>, ReadError> {
        let logins = &self.inner.logins;
        let (place, known) = logins.accounts.get(login);
        if let Some(account) = known {
            return Ok(account);
        }
        let found = self.user(login).await?.filter(|found| !found.user.disabled);
        let account = found.map(|found| Arc::new(found.user.principal()));
        // Changed meanwhile or not: this was the state when it was read.
        logins.keep_account(place, login, account.as_ref());
        Ok(account)
    }

    /// Compares a password with that of a user, to change it. A wrong password counts like a wrong
    /// login.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub(super) async fn check_password(&self, user: &User, password: &str, from: IpAddr) -> Result<(), LoginError> {
        let logins = &self.inner.logins;
        let counter = logins.attempts.counter(&user.login, from);
        if logins.attempts.is_exhausted(counter) {
            return Err(LoginError::Exhausted);
        }
        if self.inner.hashing.verify(user.password.clone(), password).await?.is_right {
            return Ok(());
        }
        logins.attempts.failed(counter);
        Err(LoginError::Wrong)
    }

    /// Replaces a hash of the original server by a current one, in the background. If the user
    /// changes meanwhile, nothing happens.
    fn renew_hash(&self, found: StoredUser, principal: Arc<Principal>, password: String) {
        let access = self.clone();
        tokio::spawn(async move {
            let Ok(hash) = access.inner.hashing.hash(&password).await else { return };
            // Before it is stored: callers that logged in with the old hash stay logged in.
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

    /// As if wrong passwords had been tried until no more are compared.
    #[cfg(test)]
    pub(crate) fn exhaust_attempts(&self, login: &str, from: IpAddr) {
        let attempts = &self.inner.logins.attempts;
        let counter = attempts.counter(login, from);
        while !attempts.is_exhausted(counter) {
            attempts.failed(counter);
        }
    }
}
