//! Pages of the log of all events that have only what a filter wants (contract/streams 17).

use http::Response;

use crate::event::paging::PageStart;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::resources::{all, filter, live};

/// GET /streams/$all/filtered: the newest page, or the filtered log as server-sent events.
pub(crate) async fn head(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.is_live() {
        let filter = filter::parse(request.uri.query())?;
        return Box::pin(live::log(request, Some(filter))).await;
    }
    backward(request).await
}

/// GET /streams/$all/filtered/{number}/backward/{count}
pub(crate) async fn backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, all::backward_start(request)?).await
}

/// GET /streams/$all/filtered/{number}/forward/{count}
pub(crate) async fn forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, all::forward_start(request)?).await
}

async fn page(request: &Request<'_>, start: PageStart) -> Result<Response<Reply>, ApiError> {
    let page = all::parse(request, start)?;
    all::answer(request, Some(filter::parse(request.uri.query())?), page).await
}
