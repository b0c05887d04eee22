//! DELETE of a stream (contract/streams 7).

use http::{HeaderValue, Response, StatusCode};

use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::{extract, response};
use crate::streams::{Delete, Deleted};

/// DELETE /streams/{S}
pub(crate) async fn stream(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let stream = extract::stream(&request.params.stream)?;
    let expected_version = extract::expected_version(request.headers)?;
    let require_leader = extract::require_leader(request.headers)?;
    let kind = extract::delete_kind(request.headers)?;
    let delete = Delete { stream: &stream, expected_version, kind, require_leader };
    let deleted = request.state.rooms.streams.delete(request.client(), delete).await;
    let Deleted { position } = deleted.map_err(|error| ApiError::of_delete(error, request))?;
    let mut answer = response::text(StatusCode::NO_CONTENT, "Stream deleted");
    answer.headers_mut().insert(response::ES_POSITION, HeaderValue::from(position));
    Ok(answer)
}
