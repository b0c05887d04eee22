//! Changes of users as clients ask for them: the right, what a user may be, then the change itself,
//! and a line in the audit log (contract/services 2).

use super::Access;
use super::error::ManageError;
use super::limits::MAX_PASSWORD_BYTES;
use super::profile::Profile;
use super::remote_caller::RemoteCaller;
use super::user::{CURRENT, check_name};
use crate::cluster::Requester;

/// A user that a client wants to change. Every door changes users through this alone.
pub(crate) struct UserChange<'a> {
    access: &'a Access,
    client: RemoteCaller<'a>,
    login: &'a str,
}

impl Access {
    /// A change of the user with this name, which need not exist.
    pub(crate) fn change_user<'a>(&'a self, client: RemoteCaller<'a>, login: &'a str) -> UserChange<'a> {
        UserChange { access: self, client, login }
    }
}

/// Each of these ends in a [`ManageError`] when nothing was changed, or perhaps nothing.
impl UserChange<'_> {
    /// Creates the user. Creating it again with the same password changes nothing and is no error.
    pub(crate) async fn create(&self, profile: Profile, password: Option<String>) -> Result<(), ManageError> {
        const CHANGE: &str = "create";
        self.require_admin(CHANGE)?;
        check_name(self.login)?;
        let password = required(password)?;
        let (full_name, groups) = profile.into_parts();
        let outcome = self.access.create_user(&self.requester(), self.login, full_name, groups, &password).await;
        self.audited(CHANGE, outcome)
    }

    /// Replaces the full name and the groups; what the profile does not have is erased.
    pub(crate) async fn update(&self, profile: Profile) -> Result<(), ManageError> {
        const CHANGE: &str = "update";
        self.require_admin(CHANGE)?;
        self.require_name()?;
        let (full_name, groups) = profile.into_parts();
        self.audited(CHANGE, self.access.update_user(&self.requester(), self.login, full_name, groups).await)
    }

    /// Deletes the user, which can be created again.
    pub(crate) async fn delete(&self) -> Result<(), ManageError> {
        const CHANGE: &str = "delete";
        self.require_admin(CHANGE)?;
        self.require_name()?;
        self.audited(CHANGE, self.access.delete_user(&self.requester(), self.login).await)
    }

    /// Lets the user log in again.
    pub(crate) async fn enable(&self) -> Result<(), ManageError> {
        const CHANGE: &str = "enable";
        self.require_admin(CHANGE)?;
        self.require_name()?;
        self.audited(CHANGE, self.access.set_disabled(&self.requester(), self.login, false).await)
    }

    /// Lets the user log in no longer.
    pub(crate) async fn disable(&self) -> Result<(), ManageError> {
        const CHANGE: &str = "disable";
        self.require_admin(CHANGE)?;
        self.require_name()?;
        self.audited(CHANGE, self.access.set_disabled(&self.requester(), self.login, true).await)
    }

    /// Gives the user another password.
    pub(crate) async fn reset_password(&self, password: Option<String>) -> Result<(), ManageError> {
        const CHANGE: &str = "reset-password";
        self.require_admin(CHANGE)?;
        self.require_name()?;
        let password = required(password)?;
        self.audited(CHANGE, self.access.reset_password(&self.requester(), self.login, &password).await)
    }

    /// Gives the user another password. The current one proves the right to it, but only the user
    /// itself or an administrator gets to try.
    pub(crate) async fn change_password(
        &self,
        current: Option<String>,
        password: Option<String>,
    ) -> Result<(), ManageError> {
        const CHANGE: &str = "change-password";
        if self.client.caller.login() != Some(self.login) {
            self.require_admin(CHANGE)?;
        }
        self.require_name()?;
        let (current, password) = (current.unwrap_or_default(), required(password)?);
        let (requester, from) = (self.requester(), self.client.address);
        self.audited(CHANGE, self.access.change_password(&requester, self.login, &current, &password, from).await)
    }

    /// On whose behalf the change is made.
    fn requester(&self) -> Requester {
        Requester::Caller(self.client.caller.clone())
    }

    fn require_admin(&self, change: &'static str) -> Result<(), ManageError> {
        if self.client.caller.is_admin() {
            return Ok(());
        }
        super::audit::user(self.client, change, self.login, "Unauthorized");
        Err(ManageError::Denied)
    }

    /// No user has the name that stands for the caller.
    fn require_name(&self) -> Result<(), ManageError> {
        if self.login == CURRENT { Err(ManageError::NotFound) } else { Ok(()) }
    }

    /// Tells the audit log what became of the change.
    fn audited(&self, change: &'static str, outcome: Result<(), ManageError>) -> Result<(), ManageError> {
        match &outcome {
            Ok(()) => super::audit::user(self.client, change, self.login, "Success"),
            Err(error) => super::audit::user(self.client, change, self.login, &error.to_string()),
        }
        outcome
    }
}

/// The password that a change has to contain.
fn required(password: Option<String>) -> Result<String, ManageError> {
    match password.filter(|password| !password.is_empty()) {
        Some(password) if password.len() > MAX_PASSWORD_BYTES => Err(ManageError::PasswordTooLong),
        Some(password) => Ok(password),
        None => Err(ManageError::NoPassword),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_neither_missing_nor_empty_nor_too_long() {
        assert_eq!(required(None), Err(ManageError::NoPassword));
        assert_eq!(required(Some(String::new())), Err(ManageError::NoPassword));
        let longest = "x".repeat(MAX_PASSWORD_BYTES);
        assert_eq!(required(Some(longest.clone())), Ok(longest.clone()));
        assert_eq!(required(Some(longest + "x")), Err(ManageError::PasswordTooLong));
    }
}
