//! Making, changing and deleting groups, and handing out again what was parked (contract/services
//! 3.3).

use http::{Response, StatusCode};
use hyper::body::Incoming;
use uuid::Uuid;

use super::answer;
use super::settings::Wanted;
use crate::consumers::{ChangeError, GroupName};
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::{extract, response};
use crate::http::format::competing::GroupUris;
use crate::streams::Refusal;

/// What is done with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Create,
    Update,
    Delete,
    ReplayParked,
    Restart,
}

impl Change {
    /// What the answer says to a caller who has no right to it.
    fn denial(self) -> &'static str {
        match self {
            Self::Create => "You do not have permissions to create streams",
            Self::Update => "You do not have permissions to update the subscription",
            Self::Delete => "You do not have permissions to delete streams",
            Self::ReplayParked => "You do not have permissions to replay messages",
            Self::Restart => "You do not have permissions to restart the persistent subscriptions",
        }
    }

    /// The status when it is done.
    fn success(self) -> StatusCode {
        match self {
            Self::Create => StatusCode::CREATED,
            Self::Update | Self::Delete | Self::ReplayParked | Self::Restart => StatusCode::OK,
        }
    }
}

/// PUT /subscriptions/{stream}/{group}
pub(crate) async fn create(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let name = super::group(request)?;
    let outcome = match Wanted::read(request, body).await? {
        Wanted::Settings(settings) => request.state.rooms.consumers.create(request.client(), &name, &settings).await,
        Wanted::UnknownStrategy(strategy) => match may_change(request, &name).await {
            Err(ChangeError::DoesNotExist) => Err(unknown_strategy(&strategy)),
            Ok(()) => Err(ChangeError::AlreadyExists),
            Err(error) => Err(error),
        },
    };
    with_location(request, &name, told(request, Change::Create, &name, outcome)?)
}

/// POST /subscriptions/{stream}/{group}
pub(crate) async fn update(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let name = super::group(request)?;
    let outcome = match Wanted::read(request, body).await? {
        Wanted::Settings(settings) => request.state.rooms.consumers.update(request.client(), &name, &settings).await,
        Wanted::UnknownStrategy(strategy) => {
            may_change(request, &name).await.and_then(|()| Err(unknown_strategy(&strategy)))
        }
    };
    with_location(request, &name, told(request, Change::Update, &name, outcome)?)
}

/// DELETE /subscriptions/{stream}/{group}
pub(crate) async fn delete(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let name = super::group(request)?;
    let outcome = request.state.rooms.consumers.delete(request.client(), &name).await;
    told(request, Change::Delete, &name, outcome)
}

/// POST /subscriptions/{stream}/{group}/replayParked
pub(crate) async fn replay_parked(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let name = super::group(request)?;
    let refused = |_| ApiError::BadRequest("stopAt must be the number of an event".into());
    let stop_at = request.query("stopAt").map(|text| extract::number(&text)).transpose().map_err(refused)?;
    let outcome = request.state.rooms.consumers.replay_parked(request.client(), &name, stop_at).await;
    told(request, Change::ReplayParked, &name, outcome)
}

/// POST /subscriptions/restart
pub(crate) async fn restart(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    match request.state.rooms.consumers.restart(request.client()).await {
        Ok(()) => Ok(response::status_only(StatusCode::OK, "OK")),
        Err(error) => refusal(request, Change::Restart, error, ""),
    }
}

/// What would be said of a change with settings that are right: rights come first, then whether the
/// group exists, then its strategy (contract/services 3.3).
async fn may_change(request: &Request<'_>, name: &GroupName) -> Result<(), ChangeError> {
    let consumers = &request.state.rooms.consumers;
    let operator = request.state.rooms.access.operator(&request.caller).await;
    operator.map_err(|error| ChangeError::Refused(error.into()))?;
    match consumers.describe(request.client(), name).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(ChangeError::DoesNotExist),
        Err(refusal) => Err(ChangeError::Refused(refusal)),
    }
}

fn unknown_strategy(name: &str) -> ChangeError {
    ChangeError::Failed(format!("Consumer strategy {name} does not exist."))
}

/// The answer to a change of one group.
fn told(
    request: &Request<'_>,
    change: Change,
    name: &GroupName,
    outcome: Result<(), ChangeError>,
) -> Result<Response<Reply>, ApiError> {
    match outcome {
        Ok(()) => Ok(document(request, change.success(), "Success", "")),
        Err(error @ ChangeError::DoesNotExist) if change == Change::ReplayParked => {
            let reason = format!("Unable to locate '{}'", name.key());
            let mut answer = refusal(request, change, error, &reason)?;
            response::set_reason(&mut answer, &reason);
            Ok(answer)
        }
        Err(error @ ChangeError::AlreadyExists) => {
            refusal(request, change, error, &format!("Group '{}' already exists.", name.group))
        }
        Err(error) => refusal(request, change, error, &format!("Group '{}' does not exist.", name.group)),
    }
}

/// The answer to a change that was not made. `reason` is what it says where something exists or
/// does not.
fn refusal(
    request: &Request<'_>,
    change: Change,
    error: ChangeError,
    reason: &str,
) -> Result<Response<Reply>, ApiError> {
    let said = |status, result, reason: &str| Ok(document(request, status, result, reason));
    match error {
        ChangeError::Refused(Refusal::Denied) => said(StatusCode::UNAUTHORIZED, "AccessDenied", change.denial()),
        ChangeError::Refused(refusal) => Err(ApiError::of_refusal(refusal, request)),
        ChangeError::Settings(error) => Err(ApiError::BadRequest(error.to_string().into())),
        ChangeError::AlreadyExists => said(StatusCode::CONFLICT, "AlreadyExists", reason),
        ChangeError::DoesNotExist => said(StatusCode::NOT_FOUND, "DoesNotExist", reason),
        ChangeError::Failed(why) => said(StatusCode::INTERNAL_SERVER_ERROR, "Fail", &why),
        ChangeError::Unknown => Err(ApiError::WriteTimeout),
    }
}

fn document(request: &Request<'_>, status: StatusCode, result: &str, reason: &str) -> Response<Reply> {
    answer::document(request, status, "subscriptionResult", |object| {
        object.string("correlationId", &Uuid::new_v4().to_string());
        object.string("reason", reason);
        object.string("result", result);
    })
}

/// Location stands in every outcome of these two changes, also where nothing was changed.
fn with_location(
    request: &Request<'_>,
    name: &GroupName,
    mut answer: Response<Reply>,
) -> Result<Response<Reply>, ApiError> {
    response::set_location(&mut answer, GroupUris::new(&request.base(), name).own());
    Ok(answer)
}
