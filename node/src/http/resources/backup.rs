//! Backups: the archive of all that a node has, and hashes to compare a copy with it.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::backup::manifest::Manifest;
use crate::backup::take::Pieces;
use crate::backup::{BackupError, BackupRequest};
use crate::budget::Account;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::reply::PieceSender;
use crate::http::exchange::request::Request;
use crate::http::exchange::{delivery, request_body, response};
use crate::streams::StillReadable;

const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");

/// What the body of a request says, if it has one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BackupDocument<'a> {
    bytes_per_second: Option<u64>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
}

/// POST /admin/backup
pub(crate) async fn take(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let body = request_body::read(body, &request.state.budgets, request.connection).await?;
    let wanted = wanted(&body.bytes)?;
    let is_incremental = wanted.since.is_some();
    let administrator = request.administrator().await?;
    let pieces = request.state.rooms.backups.begin(wanted, &administrator).await.map_err(|error| match error {
        BackupError::Busy => ApiError::Conflict(error.to_string().into()),
        BackupError::NotReady => ApiError::NotReady,
        BackupError::Io(_) | BackupError::Open(_) | BackupError::Read(_) => {
            tracing::error!(%error, "a backup was not begun");
            ApiError::Internal
        }
    })?;
    let client = request.client();
    tracing::info!(target: "audit", is_incremental, who = ?client.login(), from = %client.address, "audit: backup");
    let (reply, sender) = Reply::in_pieces(None);
    let reader = request.state.rooms.streams.reader_for_maintenance(&request.caller);
    tokio::spawn(send(pieces, sender, request.connection.answers.clone(), reader));
    Ok(response::with_reply(StatusCode::OK, TAR, reply))
}

fn wanted(body: &[u8]) -> Result<BackupRequest, ApiError> {
    let refused = |reason: String| ApiError::BadRequest(reason.into());
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(BackupRequest::default());
    }
    let document: BackupDocument<'_> = serde_json::from_slice(body).map_err(|error| refused(error.to_string()))?;
    if document.bytes_per_second == Some(0) {
        return Err(refused("bytesPerSecond must be 1 or above: at 0 the backup would never end".to_owned()));
    }
    let since = document.since.map(|text| Manifest::decode(text.get().as_bytes())).transpose();
    let since = since.map_err(|error| refused(error.to_string()))?;
    Ok(BackupRequest { since, bytes_per_second: document.bytes_per_second })
}

/// The body ends before its end when the backup fails, or its client may not have it any more; the
/// backup ends when its client leaves, or is cut off because it reads nothing.
async fn send(mut pieces: Pieces, sender: PieceSender, answers: Arc<Account>, mut reader: StillReadable) {
    loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            () = sender.unwanted() => return,
        };
        match piece {
            Some(Ok(piece)) => {
                if !delivery::send(&sender, &answers, &piece, &mut reader).await {
                    return;
                }
            }
            Some(Err(_)) => return,
            None => return sender.end().await,
        }
    }
}

/// GET /admin/hashes/{number}/{count}
pub(crate) async fn hash(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let number = |text: &Option<Cow<'_, str>>| {
        let number = text.as_deref().and_then(|text| text.parse::<u64>().ok());
        number.ok_or_else(|| ApiError::BadRequest("A position and a count are needed".into()))
    };
    let (from, count) = (number(&request.params.number)?, number(&request.params.count)?);
    let administrator = request.administrator().await?;
    let hash = request.state.rooms.backups.hash(from, from.saturating_add(count), &administrator).await?;
    let body = serde_json::to_vec(&hash).unwrap_or_default();
    Ok(response::with_body(StatusCode::OK, MediaType::Json.header(), body))
}
