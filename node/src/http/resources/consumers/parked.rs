//! The parked messages of a group: pages of the stream that holds them (contract/services 3.1).

use http::Response;

use crate::event::paging::PageStart;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::request::Request;
use crate::http::resources::feed;

/// GET /subscriptions/viewparkedmessages/{stream}/{group}: the newest ones.
pub(crate) async fn parked_head(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, PageStart::Head).await
}

/// GET /subscriptions/viewparkedmessages/{stream}/{group}/{number}/backward/{count}
pub(crate) async fn parked_backward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, feed::backward_start(request)?).await
}

/// GET /subscriptions/viewparkedmessages/{stream}/{group}/{number}/forward/{count}
pub(crate) async fn parked_forward(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    page(request, feed::forward_start(request)?).await
}

async fn page(request: &Request<'_>, start: PageStart) -> Result<Response<Reply>, ApiError> {
    let parked = super::group(request)?.parked_stream();
    feed::page(request, extract::stream(&parked)?, start).await
}
