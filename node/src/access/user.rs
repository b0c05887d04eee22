//! Users as they are stored: the last event of the stream `$user-{login}` (contract/services 1.7).

use serde::{Deserialize, Serialize};

use super::limits::MAX_LOGIN_BYTES;
use super::password::StoredPassword;
use super::rules::{ADMINS, Principal, is_reserved};
use crate::event::{Credential, StreamNameRef};

/// The stream that lists the users: one event per creation.
pub(crate) const USERS: &str = "$users";
/// Type of its events; their data is the name as plain text.
pub(crate) const USER_TYPE: &str = "$User";
/// Prefix of the stream of one user.
pub(crate) use crate::event::stream_name::USER_PREFIX;
/// Type of the first event of a user.
pub(crate) const CREATED_TYPE: &str = "$UserCreated";
/// Type of every later event of a user.
pub(crate) const UPDATED_TYPE: &str = "$UserUpdated";
/// The stream that notifies tools of new passwords. The server itself does not need it.
pub(crate) const NOTIFICATIONS: &str = "$users-password-notifications";
/// Type of its events.
pub(crate) const PASSWORD_CHANGED_TYPE: &str = "$PasswordChanged";
/// Metadata of the stream of a user.
pub(crate) const USER_METADATA: &str = r#"{"$acl":{"$w":"$admins","$d":"$admins","$mw":"$admins"}}"#;
/// Metadata of [`NOTIFICATIONS`]; an hour is enough.
pub(crate) const NOTIFICATIONS_METADATA: &str = r#"{"$maxAge":3600}"#;

/// Stands for the caller where a user is named; no user has this name.
pub(crate) const CURRENT: &str = "$current";

/// Nobody logs in without a password.
const NO_PASSWORD: Credential = Credential([0; 16]);

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The login name; part of the name of its stream.
    pub(crate) login: String,
    /// The name for people.
    pub(crate) full_name: Option<String>,
    /// Roles besides its own name; `None` when it was created without any.
    pub(crate) groups: Option<Vec<String>>,
    /// `None` when the stored form is not known to this server.
    pub(crate) password: Option<StoredPassword>,
    /// Whether the user may not log in.
    pub(crate) disabled: bool,
}

/// The document in its stored form; members that have their default are left out.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredDocument {
    login_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    full_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
}

/// Why a name is refused. A sentence for the caller that chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// There is none, or it is longer than [`MAX_LOGIN_BYTES`].
    #[error("The login name is missing or too long.")]
    Length,
    /// It would look like a role of the server in access lists, or like `/users/$current` in paths.
    #[error("The login name must not begin with '$'.")]
    Reserved,
    /// Basic authentication ends the name at the first colon (RFC 7617).
    #[error("The login name must not contain ':'.")]
    Colon,
    /// Basic authentication cannot carry them (RFC 7617), and in logs they would be misleading.
    #[error("The login name must not contain control characters.")]
    Control,
    /// Clients and proxies take such a segment out of the path of the user.
    #[error("The login name must not be '.' or '..'.")]
    Dots,
}

/// Whether a new user may have this name.
///
/// # Errors
/// It could not be used to log in, or would grant rights by itself.
pub(crate) fn check_name(login: &str) -> Result<(), NameError> {
    match login {
        _ if login.is_empty() || login.len() > MAX_LOGIN_BYTES => Err(NameError::Length),
        _ if is_reserved(login) => Err(NameError::Reserved),
        _ if login.contains(':') => Err(NameError::Colon),
        _ if login.contains(char::is_control) => Err(NameError::Control),
        "." | ".." => Err(NameError::Dots),
        _ => Ok(()),
    }
}

/// The stream of a user.
pub(crate) fn stream_of(login: &str) -> String {
    format!("{USER_PREFIX}{login}")
}

/// The metastream of a stream that belongs to users.
pub(super) fn metastream_of(stream: &str) -> String {
    StreamNameRef::new(stream).metastream()
}

impl User {
    /// Reads the data of an event; `None` if it is not a user document.
    pub(crate) fn from_data(data: &[u8]) -> Option<Self> {
        let document: StoredDocument = serde_json::from_slice(data).ok()?;
        let hash = document.hash.as_deref();
        let password = hash.and_then(|hash| StoredPassword::from_document(hash, document.salt.as_deref()));
        Some(Self {
            login: document.login_name,
            full_name: document.full_name,
            groups: document.groups,
            password,
            disabled: document.disabled,
        })
    }

    /// The data of an event.
    pub(crate) fn to_data(&self) -> Vec<u8> {
        let (hash, salt) = self.password.as_ref().map(StoredPassword::to_document).unzip();
        let document = StoredDocument {
            login_name: self.login.clone(),
            full_name: self.full_name.clone(),
            salt: salt.flatten(),
            hash,
            groups: self.groups.clone(),
            disabled: self.disabled,
        };
        // Strings, lists of strings and a bool: encoding cannot fail. Indented as the original
        // server stores it.
        serde_json::to_vec_pretty(&document).unwrap_or_default()
    }

    /// The principal for a login of this user.
    pub(crate) fn principal(&self) -> Principal {
        let credential = self.password.as_ref().map_or(NO_PASSWORD, StoredPassword::credential);
        Principal::new(self.login.clone(), self.groups.clone().unwrap_or_default(), credential)
    }

    /// Whether the user can administer the cluster.
    pub(crate) fn is_active_admin(&self) -> bool {
        !self.disabled && self.principal().has_role(ADMINS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_the_original_server_are_read() {
        let data = br#"{"loginName":"ann","fullName":"Ann","salt":"f1li35iz2v+RETNDRy560Q==","hash":"vuKqAzuZKPqxnH/QoOLZAMY2EPE=","groups":["a"],"disabled":true}"#;
        let user = User::from_data(data).unwrap();
        assert_eq!(
            (user.login.as_str(), user.disabled, user.groups.as_deref()),
            ("ann", true, Some(&["a".to_owned()][..]))
        );
        assert!(user.password.is_some());
        let compact: serde_json::Value = serde_json::from_slice(&user.to_data()).unwrap();
        assert_eq!(compact.to_string().as_bytes(), data);
    }

    #[test]
    fn a_name_that_cannot_log_in_or_that_grants_by_itself_is_refused() {
        for good in ["ann", "...", ".a", "a/b", "ann / \u{e9}", "a$", "ops", "a;b, c", &"x".repeat(MAX_LOGIN_BYTES)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for (bad, error) in [
            ("", NameError::Length),
            (&*"x".repeat(MAX_LOGIN_BYTES + 1), NameError::Length),
            ("$admins", NameError::Reserved),
            ("$all", NameError::Reserved),
            ("$current", NameError::Reserved),
            ("a:b", NameError::Colon),
            (".", NameError::Dots),
            ("..", NameError::Dots),
            ("a\nb", NameError::Control),
            ("a\u{7f}", NameError::Control),
            ("a\u{85}", NameError::Control),
        ] {
            assert_eq!(check_name(bad), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn members_at_their_default_are_left_out() {
        let user = User { login: "ann".into(), full_name: None, groups: None, password: None, disabled: false };
        assert_eq!(user.to_data(), b"{\n  \"loginName\": \"ann\"\n}");
        assert_eq!(User::from_data(&user.to_data()), Some(user));
        for nothing in ["", "[]", "{}", r#"{"loginName":5}"#] {
            assert_eq!(User::from_data(nothing.as_bytes()), None, "{nothing}");
        }
    }
}
