//! Runs that remove what nobody can see any more (contract/services 4.4).

use http::{Response, StatusCode};
use uuid::Uuid;

use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
use crate::http::format::json::Object;
use crate::scavenge::{Run, RunResult};

/// POST /admin/scavenge. A run always goes through everything, and the leader alone works on it:
/// `startFromChunk` and `threads` are looked at and have no effect.
pub(crate) async fn start(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    whole_number(request, "startFromChunk", 0, "startFromChunk must be a positive integer")?;
    whole_number(request, "threads", 1, "threads must be a 1 or above")?;
    let operator = request.operator().await?;
    let id = request.state.rooms.scavenger.start(&operator).await.map_err(ApiError::of_scavenge)?;
    let client = request.client();
    tracing::info!(target: "audit", %id, who = ?client.login(), from = %client.address, "audit: a scavenge was started");
    Ok(response::json(StatusCode::OK, |object| object.string("scavengeId", &id.to_string())))
}

/// DELETE /admin/scavenge/{guid}
pub(crate) async fn stop(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let id = request.params.guid.as_deref().and_then(|guid| Uuid::parse_str(guid).ok()).ok_or(ApiError::NotFound)?;
    let operator = request.operator().await?;
    request.state.rooms.scavenger.stop(id, &operator).await.map_err(ApiError::of_scavenge)?;
    let client = request.client();
    tracing::info!(target: "audit", %id, who = ?client.login(), from = %client.address, "audit: a scavenge was stopped");
    Ok(response::json(StatusCode::OK, |object| object.string("scavengeId", &id.to_string())))
}

/// GET /admin/scavenge/current: the run that goes on, if one does.
pub(crate) async fn current(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let run = newest(request).await?;
    Ok(describe(run.filter(Run::is_running)))
}

/// GET /admin/scavenge/last: the run that was started last.
pub(crate) async fn last(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    Ok(describe(newest(request).await?))
}

async fn newest(request: &Request<'_>) -> Result<Option<Run>, ApiError> {
    let operator = request.operator().await?;
    request.state.rooms.scavenger.newest(&operator).await.map_err(ApiError::of_scavenge)
}

fn whole_number(request: &Request<'_>, name: &str, least: u64, otherwise: &'static str) -> Result<(), ApiError> {
    match request.query(name) {
        Some(text) if text.parse::<u64>().ok().is_none_or(|number| number < least) => {
            Err(ApiError::BadRequest(otherwise.into()))
        }
        _ => Ok(()),
    }
}

/// The id is a dash where there is none, as later versions of the original have it.
fn describe(run: Option<Run>) -> Response<Reply> {
    response::json(StatusCode::OK, |object: &mut Object<'_>| match run {
        None => object.string("scavengeId", "-"),
        Some(run) => {
            object.string("scavengeId", &run.id.to_string());
            object.string("started", &run.started.to_string());
            object.string(
                "state",
                match run.result {
                    None => "Running",
                    Some(RunResult::Success) => "Success",
                    Some(RunResult::Failed) => "Failed",
                    Some(RunResult::Stopped) => "Stopped",
                },
            );
            object.number("eventsRemoved", run.events);
            object.number("spaceSaved", run.bytes);
        }
    })
}
