//! Hashes passwords on the blocking pool, few at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::LoginError;
use super::limits::MAX_PASSWORD_BYTES;
use super::password::{HashError, Passwords, StoredPassword, Verdict};

/// Passwords that are hashed at the same time: each takes a core for some 20 ms and 19 MiB.
pub(crate) const HASHING_AT_ONCE: usize = 2;

/// How long a password waits for its turn to be hashed.
pub(crate) const HASHING_DEADLINE: Duration = Duration::from_secs(5);

/// Hashes and compares passwords, each in its turn.
pub(super) struct Hashing {
    passwords: Arc<Passwords>,
    turns: Semaphore,
}

impl Hashing {
    /// # Errors
    /// The system provides no randomness, or no memory to hash a password.
    pub(super) fn new() -> Result<Self, HashError> {
        Ok(Self { passwords: Arc::new(Passwords::new()?), turns: Semaphore::new(HASHING_AT_ONCE) })
    }

    /// Compares a password with that of a user; `None` stands for a user that does not exist.
    pub(super) async fn verify(&self, stored: Option<StoredPassword>, password: &str) -> Result<Verdict, LoginError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(Verdict { is_right: false, is_outdated: false });
        }
        let password = password.to_owned();
        self.in_turn(move |passwords| passwords.verify(stored.as_ref(), &password)).await
    }

    /// Hashes a new password.
    pub(super) async fn hash(&self, password: &str) -> Result<StoredPassword, LoginError> {
        let password = password.to_owned();
        Ok(self.in_turn(move |passwords| passwords.hash(&password)).await??)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Passwords) -> T + Send + 'static,
    ) -> Result<T, LoginError> {
        let turn = tokio::time::timeout(HASHING_DEADLINE, self.turns.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or(LoginError::Busy)?;
        let passwords = self.passwords.clone();
        tokio::task::spawn_blocking(move || work(&passwords)).await.map_err(|error| {
            tracing::debug!(%error, "the node is stopping while a password is hashed");
            LoginError::NotReady
        })
    }

    /// Number of hashes computed so far by the current rules.
    #[cfg(test)]
    pub(super) fn computed(&self) -> u64 {
        self.passwords.computed()
    }
}
