//! Pages of the log of all events (contract/streams 10).

use http::Response;

use crate::event::log_paging::LogStart;
use crate::event::stream_name::ALL;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::request::Request;
use crate::http::resources::live;
use crate::http::resources::page::{self, FeedFormat};
use crate::streams::ReadAll;

/// GET /streams/$all: the newest page, or the log as server-sent events.
pub(crate) async fn head(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.is_live() { Box::pin(live::log(request, None)).await } else { backward(request).await }
}

/// GET /streams/$all/{number}/backward/{count}
pub(crate) async fn backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let read = parse(request, backward_start(request)?)?;
    answer(request, read, FeedFormat::of_request(request, ALL)).await
}

/// GET /streams/$all/{number}/forward/{count}
pub(crate) async fn forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let read = parse(request, forward_start(request)?)?;
    answer(request, read, FeedFormat::of_request(request, ALL)).await
}

pub(super) fn backward_start(request: &Request<'_>) -> Result<LogStart, ApiError> {
    match request.params.number.as_deref() {
        None | Some("head") => Ok(LogStart::Head),
        Some(text) => extract::position(text).map(LogStart::Before),
    }
}

pub(super) fn forward_start(request: &Request<'_>) -> Result<LogStart, ApiError> {
    extract::position(request.params.number.as_deref().unwrap_or("head")).map(LogStart::From)
}

/// What a request for a page from `start` on says, without a filter.
pub(super) fn parse(request: &Request<'_>, start: LogStart) -> Result<ReadAll, ApiError> {
    let count = page::count(request, |text| format!("Invalid count argument: {text}"))?;
    Ok(ReadAll { start, filter: None, page: page::request(request, count, start.direction())? })
}

/// The page as a feed.
pub(super) async fn answer(
    request: &Request<'_>,
    read: ReadAll,
    format: FeedFormat,
) -> Result<Response<Reply>, ApiError> {
    let page = request.state.streams.read_all(&request.caller, read, format).await;
    Ok(page::answer(request, page.map_err(|error| ApiError::of_read_all(error, request))?))
}
