//! Runs that remove what nobody can see any more, and the redaction of single events
//! (contract/services 4.4).

use http::{HeaderValue, Response, StatusCode};
use uuid::Uuid;

use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::{extract, response};
use crate::http::format::json::Object;
use crate::scavenge::{Run, RunResult, ScavengeError};

/// POST /admin/scavenge. A run always goes through everything, and the leader alone works on it:
/// `startFromChunk` and `threads` are looked at and have no effect.
pub(crate) async fn start(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    whole_number(request, "startFromChunk", 0, "startFromChunk must be a positive integer")?;
    whole_number(request, "threads", 1, "threads must be a 1 or above")?;
    let id = request.state.scavenger.start().await.map_err(of_scavenge)?;
    tracing::info!(%id, who = ?request.client().login(), from = %request.client().address, "a scavenge was started");
    Ok(response::json(StatusCode::OK, |object| object.string("scavengeId", &id.to_string())))
}

/// DELETE /admin/scavenge/{guid}
pub(crate) async fn stop(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let id = request.params.guid.as_deref().and_then(|guid| Uuid::parse_str(guid).ok()).ok_or(ApiError::NotFound)?;
    request.state.scavenger.stop(id).await.map_err(of_scavenge)?;
    tracing::info!(%id, who = ?request.client().login(), from = %request.client().address, "a scavenge was stopped");
    Ok(response::json(StatusCode::OK, |object| object.string("scavengeId", &id.to_string())))
}

/// GET /admin/scavenge/current: the run that goes on, if one does.
pub(crate) async fn current(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let run = request.state.scavenger.newest().await.map_err(of_scavenge)?;
    Ok(describe(run.filter(Run::is_running)))
}

/// GET /admin/scavenge/last: the run that was started last.
pub(crate) async fn last(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    Ok(describe(request.state.scavenger.newest().await.map_err(of_scavenge)?))
}

/// POST /admin/redact/{stream}/{number}
pub(crate) async fn redact(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let stream = extract::stream(&request.params.stream)?;
    let number = extract::number(request.params.number.as_deref().unwrap_or_default())?;
    let redacted = request.state.streams.redact(request.client(), &stream, number).await;
    let redacted = redacted.map_err(|error| ApiError::of_redaction(error, request))?;
    let mut answer = response::json(StatusCode::OK, |object| object.number("position", redacted.position));
    answer.headers_mut().insert(response::ES_POSITION, HeaderValue::from(redacted.position));
    Ok(answer)
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

fn of_scavenge(error: ScavengeError) -> ApiError {
    match error {
        ScavengeError::Running | ScavengeError::TooOld => ApiError::BadRequest(sentence(&error).into()),
        ScavengeError::NotFound => ApiError::NotFound,
        ScavengeError::NotReady => ApiError::NotReady,
        ScavengeError::Unknown => ApiError::WriteTimeout,
        ScavengeError::Refused(_) => {
            tracing::error!("{error}");
            ApiError::Internal
        }
    }
}

/// With a capital letter and a full stop.
fn sentence(error: &ScavengeError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
