//! Pages of the log of all events that have only what a filter wants (contract/streams 17).

use std::sync::Arc;

use http::Response;

use crate::event::log_paging::LogStart;
use crate::event::stream_name::ALL;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::resources::page::FeedFormat;
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

async fn page(request: &Request<'_>, start: LogStart) -> Result<Response<Reply>, ApiError> {
    let mut read = all::parse(request, start)?;
    let filter = filter::parse(request.uri.query())?;
    let format = FeedFormat { filter: Some(filter::query(&filter)), ..FeedFormat::of_request(request, ALL) };
    read.filter = Some(Arc::new(filter));
    all::answer(request, read, format).await
}
