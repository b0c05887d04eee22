//! What browsers find that look for the web interface of the reference.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::http::Reply;
use crate::http::exchange::caching::{self, Varies};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;

const INDEX: &[u8] = include_bytes!("web_index.html");

/// GET / and GET /web: the page is one level below.
pub(crate) async fn redirect(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let mut answer = response::text(StatusCode::FOUND, "Found");
    response::set_location(&mut answer, &format!("{}/web/index.html", request.base().as_str()));
    caching::add_vary(answer.headers_mut(), Varies::Linked, request);
    *answer.body_mut() = Reply::new(Bytes::from_static(b"Moved"));
    Ok(answer)
}

/// GET /web/index.html
pub(crate) async fn index(_request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    Ok(response::with_body(StatusCode::OK, MediaType::Html.header(), INDEX.to_vec()))
}
