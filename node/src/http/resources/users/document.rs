//! What the bodies of requests say about users (contract/services 2).

use http_body::Body as _;
use hyper::body::Incoming;

use crate::access::MAX_PASSWORD_BYTES;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::request_body;
use crate::http::format::json::tree::{Members, Text};
use crate::http::limits::MAX_USER_DOCUMENT_BYTES;

/// Bytes of a user's full name and of the name of each group.
const MAX_NAME_BYTES: usize = 1024;

/// Groups of a user.
const MAX_GROUPS: usize = 256;

/// What request bodies say; each route uses some of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UserDocument {
    pub(super) login_name: Option<String>,
    pub(super) full_name: Option<String>,
    pub(super) groups: Option<Vec<String>>,
    pub(super) password: Option<String>,
    pub(super) current_password: Option<String>,
    pub(super) new_password: Option<String>,
}

impl UserDocument {
    /// Reads the body of a request.
    pub(super) async fn read(request: &Request<'_>, body: Incoming) -> Result<Self, ApiError> {
        if body.size_hint().lower() > MAX_USER_DOCUMENT_BYTES as u64 {
            return Err(ApiError::BodyTooLarge);
        }
        let body = request_body::read(body, &request.state.budgets, request.connection).await?;
        if body.bytes.len() > MAX_USER_DOCUMENT_BYTES {
            return Err(ApiError::BodyTooLarge);
        }
        let document = Self::parse(&body.bytes).ok_or_else(|| bad("The request body is no user document."))?;
        if document.is_too_long() {
            return Err(bad("The full name or a group is too long, or there are too many groups."));
        }
        Ok(document)
    }

    fn is_too_long(&self) -> bool {
        let is_long = |name: &String| name.len() > MAX_NAME_BYTES;
        let groups = self.groups.as_deref().unwrap_or_default();
        self.full_name.as_ref().is_some_and(is_long) || groups.len() > MAX_GROUPS || groups.iter().any(is_long)
    }

    /// Names match in any case, unknown ones are ignored, null is as good as missing
    /// (contract/services 0.8).
    fn parse(body: &[u8]) -> Option<Self> {
        let Members(members) = serde_json::from_slice(body).ok()?;
        let mut document = Self::default();
        for (name, value) in members {
            let field = match name.to_ascii_lowercase().as_str() {
                "groups" => {
                    document.groups = match value.get() {
                        "null" => None,
                        list => Some(serde_json::from_str(list).ok()?),
                    };
                    continue;
                }
                "loginname" => &mut document.login_name,
                "fullname" => &mut document.full_name,
                "password" => &mut document.password,
                "currentpassword" => &mut document.current_password,
                "newpassword" => &mut document.new_password,
                _ => continue,
            };
            *field = text(value.get())?;
        }
        Some(document)
    }
}

/// The password that a request has to contain.
pub(super) fn required(password: Option<String>) -> Result<String, ApiError> {
    match password.filter(|password| !password.is_empty()) {
        Some(password) if password.len() > MAX_PASSWORD_BYTES => Err(bad("The password is too long.")),
        Some(password) => Ok(password),
        None => Err(bad("A password is missing.")),
    }
}

/// The text of a value; numbers and booleans count as their text, null as none.
fn text(value: &str) -> Option<Option<String>> {
    Some(match value.as_bytes().first()? {
        b'n' => None,
        b'"' => Some(serde_json::from_str::<Text<'_>>(value).ok()?.0.into_owned()),
        b'{' | b'[' => return None,
        b't' => Some("True".to_owned()),
        b'f' => Some("False".to_owned()),
        _ => Some(value.to_owned()),
    })
}

fn bad(reason: &'static str) -> ApiError {
    ApiError::BadRequest(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_with_names_in_any_case() {
        let body = br#"{"LOGINNAME":"x","fullname":"X","Password":5,"GROUPS":["g"],"other":{},"newPassword":null}"#;
        let expected = UserDocument {
            login_name: Some("x".into()),
            full_name: Some("X".into()),
            groups: Some(vec!["g".into()]),
            password: Some("5".into()),
            ..UserDocument::default()
        };
        assert_eq!(UserDocument::parse(body), Some(expected));
        assert_eq!(UserDocument::parse(b"{}"), Some(UserDocument::default()));
        for garbage in ["", "{", "[]", "5", "null", r#"{"groups":"a"}"#, r#"{"groups":[1]}"#, r#"{"loginName":{}}"#] {
            assert_eq!(UserDocument::parse(garbage.as_bytes()), None, "{garbage}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_document_makes_the_reader_fail(bytes: Vec<u8>) {
            let _ = UserDocument::parse(&bytes);
        }
    }
}
