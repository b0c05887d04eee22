//! Who asks, and what they proved.

use std::sync::{Arc, OnceLock};

/// Role that may do everything that is not denied to all.
pub const ADMINS: &str = "$admins";

/// Whether a name is kept for roles, streams and paths of the server.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with('$')
}

/// Stands for a password as it is stored: another password, or the same one hashed anew, has
/// another one. Nothing can be found from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credential(pub [u8; 16]);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// What stands behind a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Basis {
    /// Somebody else says so, and no user of this cluster stands behind it.
    Vouched,
    /// A password that was verified.
    Password {
        credential: Credential,
        /// The same password, hashed anew since.
        renewed: OnceLock<Credential>,
    },
}

/// Somebody who proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    login: String,
    groups: Vec<String>,
    basis: Basis,
}

impl Principal {
    /// A user, the groups it is in, and the password it was verified by.
    pub fn new(login: impl Into<String>, groups: Vec<String>, credential: Credential) -> Self {
        Self { login: login.into(), groups, basis: Basis::Password { credential, renewed: OnceLock::new() } }
    }

    /// Somebody a trusted intermediary vouches for.
    pub fn vouched_for(login: impl Into<String>, groups: Vec<String>) -> Self {
        Self { login: login.into(), groups, basis: Basis::Vouched }
    }

    /// Whether it is known only by the word of an intermediary.
    pub fn is_vouched_for(&self) -> bool {
        self.basis == Basis::Vouched
    }

    /// Its name.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// The groups it is in.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Bytes that it occupies in memory, about.
    pub fn weight(&self) -> usize {
        let groups: usize = self.groups.iter().map(|group| size_of::<String>() + group.len()).sum();
        size_of::<Self>() + self.login.len() + groups
    }

    /// The groups it is in and its own name are its roles (contract/services 1.4). The roles of the
    /// server are given by groups alone: nobody administers the cluster, or is everybody, because
    /// of a name.
    pub fn has_role(&self, role: &str) -> bool {
        (self.login == role && !is_reserved(role)) || self.groups.iter().any(|group| group == role)
    }

    /// What the verified password may be stored as by now; nothing for one who is vouched for.
    pub fn credentials(&self) -> impl Iterator<Item = Credential> {
        let (credential, renewed) = match &self.basis {
            Basis::Vouched => (None, None),
            Basis::Password { credential, renewed } => (Some(*credential), renewed.get().copied()),
        };
        credential.into_iter().chain(renewed)
    }

    /// Whether the verified password is the one that `now`, the user as the state has it, logs in
    /// with.
    pub fn is_still(&self, now: &Self) -> bool {
        self.login == now.login && now.credentials().next().is_some_and(|now| self.credentials().any(|own| own == now))
    }

    /// Whether both are the same user with the same groups and password.
    pub fn is_alike(&self, other: &Self) -> bool {
        let password = |principal: &Self| principal.credentials().next();
        self.login == other.login && self.groups == other.groups && password(self) == password(other)
    }

    /// The verified password is about to be stored like this. `false` when that was said before.
    pub fn renew(&self, hashed_anew: Credential) -> bool {
        match &self.basis {
            Basis::Vouched => false,
            Basis::Password { renewed, .. } => renewed.set(hashed_anew).is_ok(),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who did not say.
    Anonymous,
    /// A user.
    User(Arc<Principal>),
}

impl Caller {
    /// The user, if it is one.
    pub fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Anonymous => None,
            Self::User(principal) => Some(principal),
        }
    }

    /// The name of the user, if it is one.
    pub fn login(&self) -> Option<&str> {
        self.principal().map(Principal::login)
    }

    /// Whether the caller is a user with this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.principal().is_some_and(|principal| principal.has_role(role))
    }

    /// Whether nothing is forbidden to the caller but what is forbidden to all.
    pub fn is_admin(&self) -> bool {
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
