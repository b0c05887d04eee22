//! Whether a node lives, may be asked, and leads, for balancers and orchestrators
//! (contract/services 5.2).

use http::{Response, StatusCode};

use crate::cluster::view::Leader;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;

/// GET /health/live: 204, or the code of a final answer that the caller wants for a node that
/// lives.
pub(crate) async fn live(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let wanted = request.query("liveCode").and_then(|code| code.parse::<u16>().ok()).filter(|code| *code >= 200);
    let status = wanted.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::NO_CONTENT);
    Ok(response::status_only(status, status.canonical_reason().unwrap_or_default()))
}

/// GET /health/ready
pub(crate) async fn ready(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let status = request.state.rooms.cluster.status();
    Ok(if status.ready { well() } else { unwell(status.not_ready_reason.unwrap_or_default()) })
}

/// GET /health/leader
pub(crate) async fn leader(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let leads = request.state.rooms.cluster.leader() == Leader::Local;
    Ok(if leads { well() } else { unwell("not the leader".to_owned()) })
}

fn well() -> Response<Reply> {
    response::status_only(StatusCode::NO_CONTENT, "No Content")
}

fn unwell(reason: String) -> Response<Reply> {
    let mut answer = response::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    *answer.body_mut() = Reply::new(reason.into());
    answer
}
