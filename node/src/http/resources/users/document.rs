//! What the bodies of requests say about users (contract/services 2).

use http_body::Body as _;
use hyper::body::Incoming;

use crate::access::Profile;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::request_body;
use crate::http::format::json::tree::{Members, Text};
use crate::http::limits::MAX_USER_DOCUMENT_BYTES;

/// What request bodies say; each route uses some of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct UserDocument {
    pub(in crate::http) login_name: Option<String>,
    pub(super) profile: Profile,
    pub(in crate::http) password: Option<String>,
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
        Self::parse(&body.bytes)
    }

    /// Names match in any case, unknown ones are ignored, null is as good as missing
    /// (contract/services 0.8).
    pub(in crate::http) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let invalid = || ApiError::BadRequest("The request body is no user document.".into());
        let Members(members) = serde_json::from_slice(body).map_err(|_| invalid())?;
        let mut document = Self::default();
        let (mut full_name, mut groups) = (None, None);
        for (name, value) in members {
            let field = match name.to_ascii_lowercase().as_str() {
                "groups" => {
                    groups = match value.get() {
                        "null" => None,
                        list => Some(serde_json::from_str(list).map_err(|_| invalid())?),
                    };
                    continue;
                }
                "loginname" => &mut document.login_name,
                "fullname" => &mut full_name,
                "password" => &mut document.password,
                "currentpassword" => &mut document.current_password,
                "newpassword" => &mut document.new_password,
                _ => continue,
            };
            *field = text(value.get()).ok_or_else(invalid)?;
        }
        document.profile = Profile::new(full_name, groups)?;
        Ok(document)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_with_names_in_any_case() {
        let body = br#"{"LOGINNAME":"x","fullname":"X","Password":5,"GROUPS":["g"],"other":{},"newPassword":null}"#;
        let expected = UserDocument {
            login_name: Some("x".into()),
            profile: Profile::new(Some("X".into()), Some(vec!["g".into()])).unwrap(),
            password: Some("5".into()),
            ..UserDocument::default()
        };
        assert_eq!(UserDocument::parse(body), Ok(expected));
        assert_eq!(UserDocument::parse(b"{}"), Ok(UserDocument::default()));
        for garbage in ["", "{", "[]", "5", "null", r#"{"groups":"a"}"#, r#"{"groups":[1]}"#, r#"{"loginName":{}}"#] {
            let refused = UserDocument::parse(garbage.as_bytes());
            assert_eq!(refused, Err(ApiError::BadRequest("The request body is no user document.".into())), "{garbage}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_document_makes_the_reader_fail(bytes: Vec<u8>) {
            let _ = UserDocument::parse(&bytes);
        }
    }
}
