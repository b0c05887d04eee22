//! Redirects of paths with a slash at the end (contract/streams 2.4).

use http::{HeaderValue, Response, StatusCode, header};

use crate::http::Reply;
use crate::http::exchange::caching::{self, Varies};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;

/// Redirects to the same URI without the slash at the end of its path.
pub(crate) async fn remove(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let base = request.base();
    let path = request.uri.path().trim_end_matches('/');
    let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut answer = response::text(StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect");
    response::set_location(&mut answer, &format!("{}{path}{query}", base.as_str()));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, public"));
    caching::add_vary(answer.headers_mut(), Varies::Linked, request);
    *answer.body_mut() = Reply::new(bytes::Bytes::from_static(b"Moved Permanently"));
    Ok(answer)
}
