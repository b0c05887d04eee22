//! The caller, and the proof of its identity.

use std::sync::{Arc, OnceLock};

/// Role that may do everything that is not denied to all callers.
pub(crate) const ADMINS: &str = "$admins";

/// Whether a name is reserved for roles, streams and paths of the server.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with('$')
}

/// Represents a stored password. Another password, or the same one hashed again, has a different
/// credential. It reveals nothing about the password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credential(pub(crate) [u8; 16]);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// The proof behind a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Basis {
    /// An intermediary vouches for the caller; no user of this cluster stands behind it.
    Vouched,
    /// A password that was verified.
    Password {
        credential: Credential,
        /// The same password, hashed again since.
        renewed: OnceLock<Credential>,
    },
}

/// A caller with a proven identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    login: String,
    groups: Vec<String>,
    basis: Basis,
}

impl Principal {
    /// A user with its groups and the password that was verified.
    pub(crate) fn new(login: impl Into<String>, groups: Vec<String>, credential: Credential) -> Self {
        Self { login: login.into(), groups, basis: Basis::Password { credential, renewed: OnceLock::new() } }
    }

    /// A caller for whom a trusted intermediary vouches.
    pub(crate) fn vouched_for(login: impl Into<String>, groups: Vec<String>) -> Self {
        Self { login: login.into(), groups, basis: Basis::Vouched }
    }

    /// Whether only an intermediary vouches for it.
    pub(crate) fn is_vouched_for(&self) -> bool {
        self.basis == Basis::Vouched
    }

    /// Its login name.
    pub(crate) fn login(&self) -> &str {
        &self.login
    }

    /// Its groups.
    pub(crate) fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Its approximate size in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let groups: usize = self.groups.iter().map(|group| size_of::<String>() + group.len()).sum();
        size_of::<Self>() + self.login.len() + groups
    }

    /// Its roles are its groups and its own name (contract/services 1.4). Only groups give the
    /// roles of the server: no name makes a caller an administrator or gives it `$all`.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        (self.login == role && !is_reserved(role)) || self.groups.iter().any(|group| group == role)
    }

    /// The credentials that the verified password may have by now; none for a caller that is
    /// vouched for.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = Credential> {
        let (credential, renewed) = match &self.basis {
            Basis::Vouched => (None, None),
            Basis::Password { credential, renewed } => (Some(*credential), renewed.get().copied()),
        };
        credential.into_iter().chain(renewed)
    }

    /// Whether the verified password is still that of `now`, the user in the current state.
    pub(crate) fn is_still(&self, now: &Self) -> bool {
        self.login == now.login && now.credentials().next().is_some_and(|now| self.credentials().any(|own| own == now))
    }

    /// Whether both are the same user with the same groups and password.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let password = |principal: &Self| principal.credentials().next();
        self.login == other.login && self.groups == other.groups && password(self) == password(other)
    }

    /// Records that the verified password is about to be stored under another hash. `false` if
    /// another hash was recorded before.
    pub(crate) fn renew(&self, new_credential: Credential) -> bool {
        match &self.basis {
            Basis::Vouched => false,
            Basis::Password { renewed, .. } => renewed.set(new_credential).is_ok(),
        }
    }
}

/// The sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A caller that did not identify itself.
    Anonymous,
    /// A user.
    User(Arc<Principal>),
}

impl Caller {
    /// The principal, unless the caller is anonymous.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Anonymous => None,
            Self::User(principal) => Some(principal),
        }
    }

    /// The login name, unless the caller is anonymous.
    pub(crate) fn login(&self) -> Option<&str> {
        self.principal().map(Principal::login)
    }

    /// Whether the caller is a user with this role.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.principal().is_some_and(|principal| principal.has_role(role))
    }

    /// Whether only what is forbidden to all callers is forbidden to this one.
    pub(crate) fn is_admin(&self) -> bool {
        self.has_role(ADMINS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_counts_for_the_password_it_was_made_with_and_for_its_renewed_hash() {
        let (first, second, third) = (Credential([1; 16]), Credential([2; 16]), Credential([3; 16]));
        let user = |credential| Principal::new("ann", vec!["g".into()], credential);
        let ann = user(first);
        assert!(ann.is_still(&user(first)) && !ann.is_still(&user(second)));
        assert!(!ann.is_still(&Principal::new("bob", Vec::new(), first)));
        assert!(ann.renew(second) && !ann.renew(third));
        assert!(ann.is_still(&user(first)) && ann.is_still(&user(second)) && !ann.is_still(&user(third)));
        let vouched = Principal::vouched_for("ann", Vec::new());
        assert!(vouched.is_vouched_for() && !vouched.is_still(&vouched) && !ann.is_still(&vouched));
    }
}
