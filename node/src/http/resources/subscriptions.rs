//! Persistent subscriptions, of which there are none yet (contract/services 3.1).

use http::{Response, StatusCode};

use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;

/// GET /subscriptions
pub(crate) async fn list(_request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    Ok(response::empty_list(StatusCode::OK))
}

/// GET /subscriptions/{stream}: a stream without any is not found.
pub(crate) async fn of_stream(_request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    Ok(response::empty_list(StatusCode::NOT_FOUND))
}
