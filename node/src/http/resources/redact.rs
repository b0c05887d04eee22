//! The redaction of single events (contract/services 4.5).

use http::{HeaderValue, Response, StatusCode};

use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::{extract, response};

/// POST /admin/redact/{stream}/{number}
pub(crate) async fn event(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let stream = extract::stream(&request.params.stream)?;
    let number = extract::number(request.params.number.as_deref().unwrap_or_default())?;
    let redacted = request.state.rooms.streams.redact(request.client(), &stream, number).await;
    let redacted = redacted.map_err(|error| ApiError::of_write(error, request))?;
    let mut answer = response::json(StatusCode::OK, |object| object.number("position", redacted.position));
    answer.headers_mut().insert(response::ES_POSITION, HeaderValue::from(redacted.position));
    Ok(answer)
}
