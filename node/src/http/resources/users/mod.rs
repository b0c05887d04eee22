//! The users API (contract/services 2).

mod answer;
pub(in crate::http) mod document;

use document::UserDocument;
use http::{Response, StatusCode};
use hyper::body::Incoming;

use crate::access::{ManageError, ReadUsersError, UserChange};
use crate::event::Position;
use crate::http::Reply;
use crate::http::exchange::caching::{self, Varies};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::{extract, response};

/// GET /users
pub(crate) async fn list(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let users = request.state.rooms.access.list_users(&request.caller, min_position(request)?).await;
    Ok(with_links(request, answer::list(&users.map_err(ApiError::of_read_users)?, &request.base())))
}

/// GET /users/{user}
pub(crate) async fn single(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let (access, min_position) = (&request.state.rooms.access, min_position(request)?);
    let found = access.show_user(&request.caller, &request.params.user, min_position).await;
    Ok(with_links(request, answer::single(&found.map_err(ApiError::of_read_users)?.user, &request.base())))
}

/// A cache must not hand everybody the links that one client made up.
fn with_links(request: &Request<'_>, mut answer: Response<Reply>) -> Response<Reply> {
    caching::add_vary(answer.headers_mut(), Varies::Linked, request);
    answer
}

/// GET /users/$current
pub(crate) async fn current(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    // Before a header that cannot be read is refused.
    if request.caller.principal().is_none() {
        return Err(ApiError::of_read_caller(ReadUsersError::Denied));
    }
    let found = request.state.rooms.access.show_caller(&request.caller, min_position(request)?).await;
    let found = found.map_err(ApiError::of_read_caller)?;
    Ok(answer::current(&found.user, found.time))
}

/// POST /users
pub(crate) async fn create(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let document = UserDocument::read(request, body).await?;
    let login = document.login_name.unwrap_or_default();
    let change = request.state.rooms.access.change_user(request.client(), &login);
    let created = change.create(document.profile, document.password).await;
    let mut answer = changed(StatusCode::CREATED, &login, created)?;
    response::set_location(&mut answer, &answer::uri(&request.base(), &login));
    Ok(answer)
}

/// PUT /users/{user}
pub(crate) async fn update(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let document = UserDocument::read(request, body).await?;
    let updated = change(request).update(document.profile).await;
    changed(StatusCode::OK, &request.params.user, updated)
}

/// DELETE /users/{user}
pub(crate) async fn delete(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    changed(StatusCode::OK, &request.params.user, change(request).delete().await)
}

/// POST /users/{user}/command/enable
pub(crate) async fn enable(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    changed(StatusCode::OK, &request.params.user, change(request).enable().await)
}

/// POST /users/{user}/command/disable
pub(crate) async fn disable(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    changed(StatusCode::OK, &request.params.user, change(request).disable().await)
}

/// POST /users/{user}/command/reset-password
pub(crate) async fn reset_password(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let document = UserDocument::read(request, body).await?;
    let reset = change(request).reset_password(document.new_password).await;
    changed(StatusCode::OK, &request.params.user, reset)
}

/// POST /users/{user}/command/change-password
pub(crate) async fn change_password(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let document = UserDocument::read(request, body).await?;
    let outcome = change(request).change_password(document.current_password, document.new_password).await;
    changed(StatusCode::OK, &request.params.user, outcome)
}

/// The change of the user in the path.
fn change<'a>(request: &'a Request<'_>) -> UserChange<'a> {
    request.state.rooms.access.change_user(request.client(), &request.params.user)
}

/// What became of a change of the user `login`.
fn changed(status: StatusCode, login: &str, outcome: Result<(), ManageError>) -> Result<Response<Reply>, ApiError> {
    outcome.map_err(|error| ApiError::of_user_change(error, login))?;
    Ok(answer::changed(status, login))
}

/// How new the users have to be. Every node shows them alike: ES-RequireMaster asks for nothing
/// more (contract/services 5.3), but has to be readable.
fn min_position(request: &Request<'_>) -> Result<Option<Position>, ApiError> {
    Ok(extract::read_barrier(request.headers)?.min_position)
}
