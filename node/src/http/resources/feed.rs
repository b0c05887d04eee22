//! Pages of a stream and of its metadata (contract/streams 8).

use http::Response;

use crate::event::StreamName;
use crate::event::paging::PageStart;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::request::Request;
use crate::http::resources::kept_pages::Kept;
use crate::http::resources::page::{self, FeedFormat};
use crate::http::resources::{description, live};

/// GET /streams/{stream}: the newest page, or the stream as server-sent events.
pub(crate) async fn head(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.is_live() {
        // Rare, and larger than a page.
        return Box::pin(live::stream(request)).await;
    }
    backward(request).await
}

/// GET /streams/{stream}/{number}/backward/{count}
pub(crate) async fn backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if description::is_wanted(request) {
        // Rare, and it asks other rooms.
        return Box::pin(description::answer(request)).await;
    }
    let stream = extract::stream(&request.params.stream)?;
    page(request, stream, backward_start(request)?).await
}

/// GET /streams/{stream}/{number}/forward/{count}
pub(crate) async fn forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let stream = extract::stream(&request.params.stream)?;
    page(request, stream, forward_start(request)?).await
}

/// GET /streams/{stream}/metadata/{number}/backward/{count}
pub(crate) async fn metadata_backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let stream = metastream(request)?;
    page(request, stream, backward_start(request)?).await
}

/// GET /streams/{stream}/metadata/{number}/forward/{count}
pub(crate) async fn metadata_forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let stream = metastream(request)?;
    page(request, stream, forward_start(request)?).await
}

fn metastream(request: &Request<'_>) -> Result<StreamName, ApiError> {
    let name = &request.params.stream;
    extract::metastream(name, || ApiError::BadRequest(format!("Invalid stream name '{name}'").into()))
}

/// Where a page begins that goes backward.
pub(super) fn backward_start(request: &Request<'_>) -> Result<PageStart, ApiError> {
    match request.params.number.as_deref() {
        None | Some("head") => Ok(PageStart::Head),
        Some(text) => extract::number(text).map(PageStart::Backward),
    }
}

/// Where a page begins that goes forward.
pub(super) fn forward_start(request: &Request<'_>) -> Result<PageStart, ApiError> {
    extract::number(request.params.number.as_deref().unwrap_or("head")).map(PageStart::Forward)
}

/// A page of a stream.
pub(super) async fn page(
    request: &Request<'_>,
    stream: StreamName,
    start: PageStart,
) -> Result<Response<Reply>, ApiError> {
    let count = page::count(request, |text| format!("'{text}' is not valid count. Should be positive integer"))?;
    let format = FeedFormat::of_request(request, stream.as_str());
    let links = extract::links(request.headers)?;
    let page = page::request(request, count, start)?;
    let format = Kept::new(format, &request.state.kept_pages);
    let page = request.state.rooms.streams.read_stream(&request.caller, stream, links, page, format).await;
    page::answer(request, page)
}
