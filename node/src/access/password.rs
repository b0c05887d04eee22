//! Passwords as they are stored: hashing new ones, verifying those of this server and of the
//! original server.

use std::sync::atomic::{AtomicU64, Ordering};

use argon2::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2s256, Digest};
use subtle::ConstantTimeEq;

use crate::event::Credential;

/// Memory for one hash in KiB, passes over it and lanes: the least that OWASP recommends for
/// argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Bytes of the random salt of a new hash.
const SALT_BYTES: usize = 16;

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// Stored hashes with higher costs are not computed: a writer of user streams must not be able to
/// stop nodes with them.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 8;

/// PBKDF2-HMAC-SHA1 as the original server uses it (contract/services 1.7).
const ORIGINAL_ROUNDS: u32 = 1000;
const ORIGINAL_HASH_BYTES: usize = 20;

/// The stored form of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum StoredPassword {
    /// `$argon2id$v=19$m=..,t=..,p=..$salt$hash`: the algorithm and its cost are part of the text.
    Argon2(String),
    /// Written by the original server.
    Original {
        /// Random, 16 bytes.
        salt: Vec<u8>,
        /// 20 bytes.
        hash: Vec<u8>,
    },
}

impl std::fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Argon2(_) => "Argon2(..)",
            Self::Original { .. } => "Original(..)",
        })
    }
}

impl StoredPassword {
    /// From the members `hash` and `salt` of a user document; `None` for a form that this server
    /// cannot verify.
    pub(crate) fn from_document(hash: &str, salt: Option<&str>) -> Option<Self> {
        if hash.starts_with('$') {
            return usable(hash).then(|| Self::Argon2(hash.to_owned()));
        }
        let decoded = |text: &str| STANDARD.decode(text).ok();
        let (salt, hash) = (decoded(salt?)?, decoded(hash)?);
        (hash.len() == ORIGINAL_HASH_BYTES).then_some(Self::Original { salt, hash })
    }

    /// Stands for the stored password between nodes and in memory.
    pub(crate) fn credential(&self) -> Credential {
        let (hash, salt) = self.to_document();
        let mut digest = Blake2s256::new();
        for part in [hash, salt.unwrap_or_default()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let mut credential = [0; 16];
        credential.copy_from_slice(&digest.finalize()[..16]);
        Credential(credential)
    }

    /// The members `hash` and `salt` of a user document.
    pub(crate) fn to_document(&self) -> (String, Option<String>) {
        match self {
            Self::Argon2(text) => (text.clone(), None),
            Self::Original { salt, hash } => (STANDARD.encode(hash), Some(STANDARD.encode(salt))),
        }
    }
}

/// Why a password could not be hashed: the system provides no randomness or no memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a password cannot be hashed: {0}")]
pub(crate) struct HashError(String);

impl HashError {
    /// From an error of a library.
    pub(super) fn new(reason: &dyn std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// The result of comparing a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The password is right.
    pub(crate) is_right: bool,
    /// Its hash should be renewed, by the current rules.
    pub(crate) is_outdated: bool,
}

/// Hashes passwords and compares them. Slow on purpose: not for async threads.
#[derive(Debug)]
pub(crate) struct Passwords {
    /// Computed for a user that does not exist, so that the answer takes as long as for an existing
    /// user.
    absent_user: String,
    /// Number of hashes computed by the current rules. Tests compare the work for different
    /// answers.
    computed: AtomicU64,
}

impl Passwords {
    /// Ready to hash and compare.
    ///
    /// # Errors
    /// See [`HashError`].
    pub(crate) fn new() -> Result<Self, HashError> {
        let passwords = Self { absent_user: String::new(), computed: AtomicU64::new(0) };
        let absent_user = passwords.hash_text("no user has this password")?;
        Ok(Self { absent_user, computed: AtomicU64::new(0) })
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// See [`HashError`].
    pub(crate) fn hash(&self, password: &str) -> Result<StoredPassword, HashError> {
        self.hash_text(password).map(StoredPassword::Argon2)
    }

    fn hash_text(&self, password: &str) -> Result<String, HashError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| HashError::new(&error))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params(MEMORY_KIB, PASSES, LANES)?);
        self.computed.fetch_add(1, Ordering::Relaxed);
        argon2
            .hash_password_with_salt(password.as_bytes(), &salt)
            .map(|hash: PasswordHash| hash.to_string())
            .map_err(|error| HashError::new(&error))
    }

    /// Compares a password with the stored one; `None` stands for a user that does not exist. Every
    /// wrong login takes the same work.
    pub(crate) fn verify(&self, stored: Option<&StoredPassword>, password: &str) -> Verdict {
        match stored {
            Some(StoredPassword::Argon2(text)) => {
                Verdict { is_right: self.is_argon2_of(text, password), is_outdated: !is_current(text) }
            }
            Some(StoredPassword::Original { salt, hash }) => {
                let mut computed = [0; ORIGINAL_HASH_BYTES];
                pbkdf2::pbkdf2_hmac::<sha1::Sha1>(password.as_bytes(), salt, ORIGINAL_ROUNDS, &mut computed);
                let is_right = bool::from(computed[..].ct_eq(hash));
                if !is_right {
                    self.is_argon2_of(&self.absent_user, password);
                }
                Verdict { is_right, is_outdated: true }
            }
            None => {
                self.is_argon2_of(&self.absent_user, password);
                Verdict { is_right: false, is_outdated: false }
            }
        }
    }

    fn is_argon2_of(&self, text: &str, password: &str) -> bool {
        self.computed.fetch_add(1, Ordering::Relaxed);
        let Ok(stored) = PasswordHash::new(text) else { return false };
        let (Ok(params), Some(salt), Some(hash)) = (Params::try_from(&stored), stored.salt, stored.hash) else {
            return false;
        };
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut computed = vec![0; hash.len()];
        argon2.hash_password_into(password.as_bytes(), salt.as_ref(), &mut computed).is_ok()
            && bool::from(computed[..].ct_eq(hash.as_bytes()))
    }

    /// Number of hashes computed so far by the current rules.
    #[cfg(test)]
    pub(crate) fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }
}

fn params(memory_kib: u32, passes: u32, lanes: u32) -> Result<Params, HashError> {
    Params::new(memory_kib, passes, lanes, Some(HASH_BYTES)).map_err(|error| HashError::new(&error))
}

fn cost(text: &str) -> Option<(u32, u32, u32)> {
    let stored = PasswordHash::new(text).ok()?;
    let is_known = stored.algorithm == argon2::ARGON2ID_IDENT && stored.version == Some(u32::from(Version::V0x13));
    let params = Params::try_from(&stored).ok()?;
    (is_known && stored.salt.is_some() && stored.hash.is_some()).then_some((
        params.m_cost(),
        params.t_cost(),
        params.p_cost(),
    ))
}

fn usable(text: &str) -> bool {
    cost(text)
        .is_some_and(|(memory, passes, lanes)| memory <= MAX_MEMORY_KIB && passes <= MAX_PASSES && lanes <= MAX_LANES)
}

fn is_current(text: &str) -> bool {
    cost(text) == Some((MEMORY_KIB, PASSES, LANES))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken from a user stream of the original server.
    fn original() -> StoredPassword {
        StoredPassword::from_document("vuKqAzuZKPqxnH/QoOLZAMY2EPE=", Some("f1li35iz2v+RETNDRy560Q==")).unwrap()
    }

    #[test]
    fn a_new_password_verifies_and_no_other_does() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash("søster").unwrap();
        assert_eq!(passwords.verify(Some(&stored), "søster"), Verdict { is_right: true, is_outdated: false });
        assert!(!passwords.verify(Some(&stored), "soster").is_right);
        let (hash, salt) = stored.to_document();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && salt.is_none());
        assert_eq!(StoredPassword::from_document(&hash, None), Some(stored.clone()));
        assert_ne!(passwords.hash("søster").unwrap(), stored, "the salt is the same");
    }

    #[test]
    fn hashes_of_the_original_server_verify_and_are_outdated() {
        let passwords = Passwords::new().unwrap();
        assert_eq!(passwords.verify(Some(&original()), "pw1"), Verdict { is_right: true, is_outdated: true });
        assert!(!passwords.verify(Some(&original()), "pw2").is_right);
        let (hash, salt) = original().to_document();
        assert_eq!(StoredPassword::from_document(&hash, salt.as_deref()), Some(original()));
    }

    #[test]
    fn every_wrong_login_takes_the_same_work() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash("right").unwrap();
        for stored in [None, Some(&stored), Some(&original())] {
            let before = passwords.computed();
            assert!(!passwords.verify(stored, "wrong").is_right);
            assert_eq!(passwords.computed(), before + 1, "{stored:?}");
        }
    }

    #[test]
    fn hashes_that_cost_too_much_or_are_malformed_are_not_computed() {
        let text = |m: u32, t: u32, p: u32| {
            format!("$argon2id$v=19$m={m},t={t},p={p}$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAA")
        };
        assert!(StoredPassword::from_document(&text(64 * 1024, 3, 4), None).is_some());
        for bad in [
            text(4 << 20, 2, 1),
            text(19456, 17, 1),
            text(19456, 2, 9),
            text(19456, 2, 1).replace("argon2id", "argon2i"),
            text(19456, 2, 1).replace("v=19", "v=16"),
            "$argon2id$v=19$m=19456,t=2,p=1".to_owned(),
            "$".to_owned(),
            "not base64!".to_owned(),
            "AAAA".to_owned(),
            String::new(),
        ] {
            assert_eq!(StoredPassword::from_document(&bad, Some("AAAA")), None, "{bad}");
        }
    }
}
