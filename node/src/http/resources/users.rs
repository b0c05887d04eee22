//! The users API (contract/services 2).

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::access::MAX_PASSWORD_BYTES;
use crate::access::manage::ManageError;
use crate::access::user::{User, check_name};
use crate::cluster::Asker;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::negotiate::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::router::Endpoint;
use crate::http::exchange::{audit, request_body, response};
use crate::http::format::json::Object;
use crate::http::format::json::tree::{Members, Text};
use crate::http::format::json::write::push_string;
use crate::http::format::links::{Base, encode};
use crate::http::limits::MAX_USER_DOCUMENT_BYTES;

/// Characters of a user's full name and of each group, and number of groups.
const MAX_NAME_BYTES: usize = 1024;
const MAX_GROUPS: usize = 256;

/// What a request did not get.
enum Failure {
    /// An answer without a document.
    Api(ApiError),
    /// A document with this word for it.
    Document(StatusCode, &'static str),
    /// The same with a sentence for people.
    Explained(StatusCode, &'static str, &'static str),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// Why a user cannot be created again whose stream an administrator has deleted for good.
const STREAM_GONE: &str = "The stream of this user was deleted for good. Choose another login name.";

/// Stands for whoever asks, where a user is read; nobody is called so.
const CURRENT: &str = "$current";

const UNAUTHORIZED: Failure = Failure::Document(StatusCode::UNAUTHORIZED, "Unauthorized");
const NOT_FOUND: Failure = Failure::Document(StatusCode::NOT_FOUND, "NotFound");

fn failure(error: ManageError) -> Failure {
    match error {
        ManageError::NotFound => NOT_FOUND,
        // The last administrator is a conflict as well: with what has to stay possible.
        ManageError::Exists | ManageError::LastAdmin => Failure::Document(StatusCode::CONFLICT, "Conflict"),
        ManageError::StreamGone => Failure::Explained(StatusCode::CONFLICT, "Conflict", STREAM_GONE),
        ManageError::WrongPassword | ManageError::Denied => UNAUTHORIZED,
        ManageError::TryAgain => Failure::Document(StatusCode::REQUEST_TIMEOUT, "TryAgain"),
        ManageError::NotReady => ApiError::NotReady.into(),
        ManageError::Busy => ApiError::TooBusy.into(),
        ManageError::Unknown => ApiError::WriteTimeout.into(),
        ManageError::Internal => Failure::Document(StatusCode::INTERNAL_SERVER_ERROR, "Error"),
    }
}

/// Serves every route of users.
pub async fn serve<B>(request: &Request<'_>, endpoint: Endpoint, body: B) -> Result<Response<Reply>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    match endpoint {
        Endpoint::Users => list(request).await,
        Endpoint::User => single(request, &request.params.stream).await,
        Endpoint::CurrentUser => current(request).await,
        Endpoint::UserCreate => create(request, body).await,
        Endpoint::UserDelete | Endpoint::UserEnable | Endpoint::UserDisable => {
            let login = request.params.stream.as_str();
            let (access, name, by) = (&request.state.access, change_of(endpoint), by(request));
            let change = async {
                match endpoint {
                    Endpoint::UserDelete => access.delete_user(&by, login).await,
                    _ => access.set_disabled(&by, login, endpoint == Endpoint::UserDisable).await,
                }
            };
            administer(request, name, login, change).await
        }
        _ => with_document(request, endpoint, body).await,
    }
}

/// In whose name users are changed.
fn by(request: &Request<'_>) -> Asker {
    Asker::Caller(request.caller.clone())
}

fn change_of(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::UserCreate => "create",
        Endpoint::UserUpdate => "update",
        Endpoint::UserDelete => "delete",
        Endpoint::UserEnable => "enable",
        Endpoint::UserDisable => "disable",
        Endpoint::UserResetPassword => "reset-password",
        Endpoint::UserChangePassword => "change-password",
        _ => "read",
    }
}

/// What request bodies say; each route uses some of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Document {
    login_name: Option<String>,
    full_name: Option<String>,
    groups: Option<Vec<String>>,
    password: Option<String>,
    current_password: Option<String>,
    new_password: Option<String>,
}

impl Document {
    /// Names match in any case, unknown ones are ignored, null is as good as missing (contract/services 0.8).
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

async fn document<B>(request: &Request<'_>, body: B) -> Result<Document, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > MAX_USER_DOCUMENT_BYTES as u64 {
        return Err(ApiError::BodyTooLarge);
    }
    let body = request_body::read(body, &request.state.budgets.bodies).await?;
    if body.bytes.len() > MAX_USER_DOCUMENT_BYTES {
        return Err(ApiError::BodyTooLarge);
    }
    let document = Document::parse(&body.bytes).ok_or_else(|| bad("The request body is no user document."))?;
    let is_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > MAX_NAME_BYTES);
    let groups = document.groups.as_deref().unwrap_or_default();
    if is_long(&document.full_name) || groups.len() > MAX_GROUPS || groups.iter().any(|g| g.len() > MAX_NAME_BYTES) {
        return Err(bad("The full name or a group is too long, or there are too many groups."));
    }
    Ok(document)
}

fn required(password: Option<String>) -> Result<String, ApiError> {
    match password.filter(|password| !password.is_empty()) {
        Some(password) if password.len() > MAX_PASSWORD_BYTES => Err(bad("The password is too long.")),
        Some(password) => Ok(password),
        None => Err(bad("A password is missing.")),
    }
}

async fn create<B>(request: &Request<'_>, body: B) -> Result<Response<Reply>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let document = document(request, body).await?;
    let login = document.login_name.unwrap_or_default();
    if !request.caller.is_admin() {
        audit::user(request, "create", &login, "Unauthorized");
        return answer(Err(UNAUTHORIZED), &login);
    }
    check_name(&login).map_err(|error| ApiError::BadRequest(error.to_string().into()))?;
    let password = required(document.password)?;
    let created =
        request.state.access.create_user(&by(request), &login, document.full_name, document.groups, &password).await;
    let created = outcome(request, "create", &login, created);
    let is_created = created.is_ok();
    let mut answer = answer(created, &login)?;
    if is_created {
        *answer.status_mut() = StatusCode::CREATED;
        response::set_location(&mut answer, &uri(&request.base(), &login));
    }
    Ok(answer)
}

async fn with_document<B>(request: &Request<'_>, endpoint: Endpoint, body: B) -> Result<Response<Reply>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let document = document(request, body).await?;
    let login = request.params.stream.as_str();
    let (access, change) = (&request.state.access, change_of(endpoint));
    if endpoint == Endpoint::UserUpdate {
        return administer(
            request,
            change,
            login,
            access.update_user(&by(request), login, document.full_name, document.groups),
        )
        .await;
    }
    let caller = &request.caller;
    // Who knows the current password may change it, but only the user itself or an administrator gets to try.
    let may_change = endpoint == Endpoint::UserChangePassword && caller.login() == Some(login);
    if !may_change && !caller.is_admin() {
        audit::user(request, change, login, "Unauthorized");
        return answer(Err(UNAUTHORIZED), login);
    }
    if login == CURRENT {
        return answer(Err(NOT_FOUND), login);
    }
    let password = required(document.new_password)?;
    let changed = if endpoint == Endpoint::UserResetPassword {
        access.reset_password(&by(request), login, &password).await
    } else {
        let current = document.current_password.unwrap_or_default();
        access.change_password(&by(request), login, &current, &password, request.client_address()).await
    };
    answer(outcome(request, change, login, changed), login)
}

/// Lets administrators, and nobody else, make a change.
async fn administer(
    request: &Request<'_>,
    change: &'static str,
    login: &str,
    work: impl Future<Output = Result<(), ManageError>>,
) -> Result<Response<Reply>, ApiError> {
    if !request.caller.is_admin() {
        audit::user(request, change, login, "Unauthorized");
        return answer(Err(UNAUTHORIZED), login);
    }
    if login == CURRENT {
        return answer(Err(NOT_FOUND), login);
    }
    let changed = work.await;
    answer(outcome(request, change, login, changed), login)
}

fn outcome(
    request: &Request<'_>,
    change: &'static str,
    login: &str,
    changed: Result<(), ManageError>,
) -> Result<(), Failure> {
    match &changed {
        Ok(()) => audit::user(request, change, login, "Success"),
        Err(error) => audit::user(request, change, login, &error.to_string()),
    }
    changed.map_err(failure)
}

/// The document that says whether a change was made.
fn answer(changed: Result<(), Failure>, login: &str) -> Result<Response<Reply>, ApiError> {
    let (status, word, sentence) = match changed {
        Ok(()) => (StatusCode::OK, "Success", None),
        Err(Failure::Document(status, word)) => (status, word, None),
        Err(Failure::Explained(status, word, sentence)) => (status, word, Some(sentence)),
        Err(Failure::Api(error)) => return Err(error),
    };
    Ok(json(status, |object| {
        if !login.is_empty() {
            object.string("loginName", login);
        }
        object.bool("success", status == StatusCode::OK);
        object.string("error", word);
        if let Some(sentence) = sentence {
            object.string("message", sentence);
        }
    }))
}

/// Waits for what the request wants to see. The sender may have lost the right meanwhile that a node which is locked down demands.
async fn wait_and_look_again(request: &Request<'_>) -> Result<(), ApiError> {
    request.users_barrier().await?;
    match request.present().await?.is_admin() || request.state.config.allow_anonymous_endpoint_access {
        true => Ok(()),
        false => Err(ApiError::Unauthorized),
    }
}

async fn list(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    wait_and_look_again(request).await?;
    let users = request.state.access.users().await?;
    let base = request.base();
    Ok(json(StatusCode::OK, |object| {
        object.objects("data", &users, |object, user| {
            members(object, user, None);
            links(object, user, &base);
        });
        succeeded(object);
    }))
}

async fn single(request: &Request<'_>, login: &str) -> Result<Response<Reply>, ApiError> {
    wait_and_look_again(request).await?;
    let Some(found) = request.state.access.user(login).await? else { return answer(Err(NOT_FOUND), "") };
    let base = request.base();
    Ok(json(StatusCode::OK, |object| {
        object.object("data", |object| {
            members(object, &found.user, None);
            links(object, &found.user, &base);
        });
        succeeded(object);
    }))
}

async fn current(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.caller.principal().is_none() {
        return answer(Err(UNAUTHORIZED), "");
    }
    request.users_barrier().await?;
    let Ok(caller) = request.present().await else { return answer(Err(UNAUTHORIZED), "") };
    let login = caller.login().unwrap_or_default();
    let Some(found) = request.state.access.user(login).await? else { return answer(Err(NOT_FOUND), "") };
    Ok(json(StatusCode::OK, |object| {
        object.object("data", |object| {
            // The offset is written out here, unlike everywhere else.
            let updated = found.time.to_string().replace('Z', "+00:00");
            members(object, &found.user, Some(&updated));
        });
        succeeded(object);
    }))
}

fn members(object: &mut Object<'_>, user: &User, updated: Option<&str>) {
    object.string("loginName", &user.login);
    if let Some(full_name) = &user.full_name {
        object.string("fullName", full_name);
    }
    if let Some(groups) = &user.groups {
        let out = object.key("groups");
        out.push(b'[');
        for (at, group) in groups.iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(b", ");
            }
            push_string(out, group);
        }
        out.push(b']');
    }
    if let Some(updated) = updated {
        object.string("dateLastUpdated", updated);
    }
    object.bool("disabled", user.disabled);
}

fn links(object: &mut Object<'_>, user: &User, base: &Base) {
    let own = uri(base, &user.login);
    let switch = if user.disabled { "enable" } else { "disable" };
    let command = |name: &str| format!("{own}/command/{name}");
    let links = [
        (command("reset-password"), "reset-password"),
        (command("change-password"), "change-password"),
        (own.clone(), "edit"),
        (own.clone(), "delete"),
        (command(switch), switch),
    ];
    object.objects("links", &links, |object, (href, relation)| {
        object.string("href", href);
        object.string("rel", relation);
    });
}

fn uri(base: &Base, login: &str) -> String {
    format!("{}/users/{}", base.as_str(), encode(login))
}

fn succeeded(object: &mut Object<'_>) {
    object.bool("success", true);
    object.string("error", "Success");
}

fn json(status: StatusCode, members: impl FnOnce(&mut Object<'_>)) -> Response<Reply> {
    let mut out = Vec::with_capacity(512);
    let mut object = Object::open(&mut out, 0);
    members(&mut object);
    object.close();
    response::with_body(status, MediaType::Json.header(), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_with_names_in_any_case() {
        let body = br#"{"LOGINNAME":"x","fullname":"X","Password":5,"GROUPS":["g"],"other":{},"newPassword":null}"#;
        let expected = Document {
            login_name: Some("x".into()),
            full_name: Some("X".into()),
            groups: Some(vec!["g".into()]),
            password: Some("5".into()),
            ..Document::default()
        };
        assert_eq!(Document::parse(body), Some(expected));
        assert_eq!(Document::parse(b"{}"), Some(Document::default()));
        for garbage in ["", "{", "[]", "5", "null", r#"{"groups":"a"}"#, r#"{"groups":[1]}"#, r#"{"loginName":{}}"#] {
            assert_eq!(Document::parse(garbage.as_bytes()), None, "{garbage}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_document_makes_the_reader_fail(bytes: Vec<u8>) {
            let _ = Document::parse(&bytes);
        }
    }
}
