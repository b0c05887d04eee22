//! What operators tell one node: to stop, to give leadership away, to load its files again, to
//! rewrite its tables (contract/services 4.4).

use http::{Response, StatusCode};

use crate::access::Operator;
use crate::cluster::view::HandOverError;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;

/// POST /admin/shutdown: 200, and then the node stops as after SIGTERM.
pub(crate) async fn shut_down(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let _operator = told(request, "this node was told to stop").await?;
    request.state.rooms.control.shut_down.cancel();
    Ok(done())
}

/// POST /admin/node/resign: another node leads when this is answered. A node that does not lead has
/// nothing to do.
pub(crate) async fn resign(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let _operator = told(request, "this node was told to hand over leadership").await?;
    match request.state.rooms.cluster.resign().await {
        Ok(()) => Ok(done()),
        Err(error @ HandOverError::NoSuccessor) => Err(ApiError::Conflict(error.to_string().into())),
        Err(HandOverError::NotTaken) => Err(ApiError::NotReady),
    }
}

/// POST /admin/node/priority/{number}
pub(crate) async fn set_priority(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let number = request.params.number.as_deref().unwrap_or_default();
    let priority: i32 = number.parse().map_err(|_| ApiError::BadRequest("nodePriority must be an integer.".into()))?;
    let _operator = told(request, "the priority of this node was changed").await?;
    request.state.rooms.cluster.set_priority(priority);
    Ok(done())
}

/// POST /admin/reloadconfig: does what SIGHUP does.
pub(crate) async fn reload(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let _operator = told(request, "this node was told to load its files again").await?;
    match (request.state.rooms.control.reload)().await {
        Ok(()) => Ok(done()),
        Err(reason) => Ok(response::text(StatusCode::INTERNAL_SERVER_ERROR, &reason)),
    }
}

/// POST /admin/mergeindexes: rewrites the tables of the index in the background.
pub(crate) async fn merge_indexes(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let operator = told(request, "the indexes of this node are merged").await?;
    let id = request.state.rooms.scavenger.merge_indexes(&operator);
    Ok(response::json(StatusCode::OK, |object| object.string("mergeIndexesId", &id.to_string())))
}

fn done() -> Response<Reply> {
    response::status_only(StatusCode::OK, "OK")
}

/// The proof that the caller may tell the node what to do; it is in the audit log that it does.
async fn told(request: &Request<'_>, what: &str) -> Result<Operator, ApiError> {
    let operator = request.operator().await?;
    let client = request.client();
    tracing::info!(target: "audit", who = ?client.login(), from = %client.address, "audit: {what}");
    Ok(operator)
}
