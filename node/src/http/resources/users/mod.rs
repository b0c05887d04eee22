//! The users API (contract/services 2).

mod answer;
mod document;

pub(crate) use answer::UserRefusal;
use document::{UserDocument, required};
use http::{Response, StatusCode};
use hyper::body::Incoming;

use crate::access::ManageError;
use crate::access::user::check_name;
use crate::cluster::Requester;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::{audit, response};

/// Stands for the caller in `GET /users/$current`; no user has this name.
const CURRENT: &str = "$current";

/// GET /users
pub(crate) async fn list(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    wait_and_authorize_again(request).await?;
    let users = request.state.access.users().await?;
    Ok(answer::list(&users, &request.base()))
}

/// GET /users/{user}
pub(crate) async fn single(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    wait_and_authorize_again(request).await?;
    let found = request.state.access.user(&request.params.user).await?;
    let found = found.ok_or_else(|| nameless(UserRefusal::NotFound))?;
    Ok(answer::single(&found.user, &request.base()))
}

/// GET /users/$current
pub(crate) async fn current(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.caller.principal().is_none() {
        return Err(nameless(UserRefusal::Unauthorized));
    }
    request.users_barrier().await?;
    let Ok(caller) = request.present().await else { return Err(nameless(UserRefusal::Unauthorized)) };
    let found = request.state.access.user(caller.login().unwrap_or_default()).await?;
    let found = found.ok_or_else(|| nameless(UserRefusal::NotFound))?;
    Ok(answer::current(&found.user, found.time))
}

/// POST /users
pub(crate) async fn create(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let document = UserDocument::read(request, body).await?;
    let login = document.login_name.unwrap_or_default();
    let change = Change { request, name: "create", login: &login };
    change.require_admin()?;
    check_name(&login).map_err(|error| ApiError::BadRequest(error.to_string().into()))?;
    let password = required(document.password)?;
    let (access, requester) = (&request.state.access, change.requester());
    change.conclude(access.create_user(&requester, &login, document.full_name, document.groups, &password).await)?;
    let mut answer = answer::changed(StatusCode::CREATED, &login);
    response::set_location(&mut answer, &answer::uri(&request.base(), &login));
    Ok(answer)
}

/// PUT /users/{user}
pub(crate) async fn update(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let document = UserDocument::read(request, body).await?;
    let change = Change::of(request, "update");
    change.require_admin()?;
    change.require_name()?;
    let access = &request.state.access;
    change
        .conclude(access.update_user(&change.requester(), change.login, document.full_name, document.groups).await)?;
    Ok(answer::changed(StatusCode::OK, change.login))
}

/// DELETE /users/{user}
pub(crate) async fn delete(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let change = Change::of(request, "delete");
    change.require_admin()?;
    change.require_name()?;
    change.conclude(request.state.access.delete_user(&change.requester(), change.login).await)?;
    Ok(answer::changed(StatusCode::OK, change.login))
}

/// POST /users/{user}/command/enable
pub(crate) async fn enable(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let change = Change::of(request, "enable");
    change.require_admin()?;
    change.require_name()?;
    change.conclude(request.state.access.set_disabled(&change.requester(), change.login, false).await)?;
    Ok(answer::changed(StatusCode::OK, change.login))
}

/// POST /users/{user}/command/disable
pub(crate) async fn disable(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let change = Change::of(request, "disable");
    change.require_admin()?;
    change.require_name()?;
    change.conclude(request.state.access.set_disabled(&change.requester(), change.login, true).await)?;
    Ok(answer::changed(StatusCode::OK, change.login))
}

/// POST /users/{user}/command/reset-password
pub(crate) async fn reset_password(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let document = UserDocument::read(request, body).await?;
    let change = Change::of(request, "reset-password");
    change.require_admin()?;
    change.require_name()?;
    let password = required(document.new_password)?;
    change.conclude(request.state.access.reset_password(&change.requester(), change.login, &password).await)?;
    Ok(answer::changed(StatusCode::OK, change.login))
}

/// POST /users/{user}/command/change-password
pub(crate) async fn change_password(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let document = UserDocument::read(request, body).await?;
    let change = Change::of(request, "change-password");
    // The current password proves the right to change it, but only the user itself or an
    // administrator gets to try.
    if request.caller.login() != Some(change.login) {
        change.require_admin()?;
    }
    change.require_name()?;
    let password = required(document.new_password)?;
    let current = document.current_password.unwrap_or_default();
    let (access, from) = (&request.state.access, request.client_address());
    change.conclude(access.change_password(&change.requester(), change.login, &current, &password, from).await)?;
    Ok(answer::changed(StatusCode::OK, change.login))
}

/// Waits until this node sees what the request demands. Meanwhile the caller may have lost the
/// right to see users that a node demands which is not open to anonymous callers.
async fn wait_and_authorize_again(request: &Request<'_>) -> Result<(), ApiError> {
    request.users_barrier().await?;
    if request.present().await?.is_admin() || request.state.config.allow_anonymous_endpoint_access {
        return Ok(());
    }
    Err(ApiError::Unauthorized)
}

/// A refusal whose document repeats no login name.
fn nameless(refusal: UserRefusal) -> ApiError {
    ApiError::User { login: String::new(), refusal }
}

/// A change of a user that was asked for.
struct Change<'a> {
    request: &'a Request<'a>,
    /// What the audit log calls it.
    name: &'static str,
    /// Whom it is about.
    login: &'a str,
}

impl<'a> Change<'a> {
    /// Of the user in the path.
    fn of(request: &'a Request<'a>, name: &'static str) -> Self {
        Self { request, name, login: &request.params.user }
    }

    /// On whose behalf it is made.
    fn requester(&self) -> Requester {
        Requester::Caller(self.request.caller.clone())
    }

    fn refused(&self, refusal: UserRefusal) -> ApiError {
        ApiError::User { login: self.login.to_owned(), refusal }
    }

    fn require_admin(&self) -> Result<(), ApiError> {
        if self.request.caller.is_admin() {
            return Ok(());
        }
        audit::user(self.request, self.name, self.login, "Unauthorized");
        Err(self.refused(UserRefusal::Unauthorized))
    }

    fn require_name(&self) -> Result<(), ApiError> {
        if self.login == CURRENT { Err(self.refused(UserRefusal::NotFound)) } else { Ok(()) }
    }

    /// Tells the audit log what became of it.
    fn conclude(&self, outcome: Result<(), ManageError>) -> Result<(), ApiError> {
        match outcome {
            Ok(()) => {
                audit::user(self.request, self.name, self.login, "Success");
                Ok(())
            }
            Err(error) => {
                audit::user(self.request, self.name, self.login, &error.to_string());
                Err(ApiError::of_user_change(error, self.login))
            }
        }
    }
}
