//! Pages of the log of all events (contract/streams 10).

use http::Response;

use crate::event::paging::PageStart;
use crate::event::stream_name::ALL;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::request::Request;
use crate::http::resources::page::{self, FeedFormat};
use crate::http::resources::{filter, live};
use crate::streams::{Filter, PageRequest};

/// GET /streams/$all: the newest page, or the log as server-sent events.
pub(crate) async fn head(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.is_live() { Box::pin(live::log(request, None)).await } else { backward(request).await }
}

/// GET /streams/$all/{number}/backward/{count}
pub(crate) async fn backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let page = parse(request, backward_start(request)?)?;
    answer(request, None, page).await
}

/// GET /streams/$all/{number}/forward/{count}
pub(crate) async fn forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let page = parse(request, forward_start(request)?)?;
    answer(request, None, page).await
}

pub(super) fn backward_start(request: &Request<'_>) -> Result<PageStart, ApiError> {
    match request.params.number.as_deref() {
        None | Some("head") => Ok(PageStart::Head),
        Some(text) => extract::position(text).map(PageStart::Backward),
    }
}

pub(super) fn forward_start(request: &Request<'_>) -> Result<PageStart, ApiError> {
    extract::position(request.params.number.as_deref().unwrap_or("head")).map(PageStart::Forward)
}

/// What a request for a page from `start` on says besides a filter.
pub(super) fn parse(request: &Request<'_>, start: PageStart) -> Result<PageRequest, ApiError> {
    let count = page::count(request, |text| format!("Invalid count argument: {text}"))?;
    page::request(request, count, start)
}

/// The page as a feed, of the whole log or of what a filter leaves of it.
pub(super) async fn answer(
    request: &Request<'_>,
    filter: Option<Filter>,
    page: PageRequest,
) -> Result<Response<Reply>, ApiError> {
    let format = FeedFormat { filter: filter.as_ref().map(filter::query), ..FeedFormat::of_request(request, ALL) };
    let links = extract::links_of_log(request.headers);
    let page = request.state.rooms.streams.read_all(&request.caller, filter, links, page, format).await;
    page::answer(request, page)
}
