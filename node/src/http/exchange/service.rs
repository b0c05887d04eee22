//! One request from its head to its answer, in the order of contract/streams 1.1.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::http::exchange::authentication;
use crate::http::exchange::compress::{Compression, compress};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::negotiate::{self, Chosen, MediaType};
use crate::http::exchange::request::{Connection, Request};
use crate::http::exchange::response::{add_challenge, add_common_headers, status_only};
use crate::http::exchange::router::{self, Found, Route};
use crate::http::{AppState, Reply};

/// Answers a request. Always answers, never panics.
pub(crate) async fn answer(
    state: &AppState,
    connection: &Connection,
    mut request: http::Request<Incoming>,
) -> Response<Reply> {
    extract::rename_later_headers(request.headers_mut());
    let (head, body) = request.into_parts();
    let compression = Compression::of_request(&head.headers, head.version);
    let found = router::find(method(state, &head), head.uri.path());
    let route = found.as_ref().and_then(Found::name).unwrap_or("none");
    let mut answer = exchange(state, connection, &head, found, body).await;
    if answer.status() == StatusCode::UNAUTHORIZED {
        add_challenge(&mut answer, state.config.challenge);
    }
    let answer = compress(answer, compression).await;
    state.http_metrics.answered(route, answer.status().as_u16());
    answer
}

/// The method whose route serves the request.
fn method<'head>(state: &AppState, head: &'head Parts) -> &'head Method {
    // HEAD is answered like GET; the connection leaves the body out and says how long it would have
    // been.
    if head.method == Method::HEAD && state.config.head_requests { &Method::GET } else { &head.method }
}

/// In answers of steps before the methods of a path count (contract/streams 1.2).
const NO_METHODS: HeaderValue = HeaderValue::from_static("");

/// The steps of an exchange, each of which may end it.
async fn exchange(
    state: &AppState,
    connection: &Connection,
    head: &Parts,
    found: Option<Found<'_>>,
    body: Incoming,
) -> Response<Reply> {
    let caller = match authentication::identify(state, &head.headers, connection.peer.ip()).await {
        Ok(caller) => caller,
        Err(error) => return refused(error, NO_METHODS),
    };
    let Some(Found { allowed, served_by }) = found else { return refused(ApiError::UnknownPath, NO_METHODS) };
    if head.method == Method::OPTIONS {
        return with_methods(status_only(StatusCode::OK, "OK"), allowed);
    }
    let Some((route, params)) = served_by else { return refused(ApiError::MethodNotAllowed, allowed) };
    let body_type = match body_type(route, &head.headers) {
        Ok(body_type) => body_type,
        Err(error) => return refused(error, NO_METHODS),
    };
    let Some(chosen) = choose(route, head) else { return refused(ApiError::NotAcceptable, NO_METHODS) };
    if !route.audience.admits(&caller, &state.config) {
        return refused(ApiError::NotAdmitted, allowed);
    }
    let (headers, uri, params) = (&head.headers, &head.uri, &params);
    let request = Request { state, connection, caller, headers, uri, params, body_type, chosen };
    let answer = (route.handler)(&request, body).await.unwrap_or_else(ApiError::into_response);
    with_methods(answer, allowed)
}

fn refused(error: ApiError, allowed: HeaderValue) -> Response<Reply> {
    with_methods(error.into_response(), allowed)
}

fn with_methods(mut answer: Response<Reply>, allowed: HeaderValue) -> Response<Reply> {
    add_common_headers(&mut answer, allowed);
    answer
}

/// The media type of the body. Where the route looks at none, any body is bytes.
fn body_type(route: &Route, headers: &HeaderMap) -> Result<MediaType, ApiError> {
    let Some(accepted) = route.accepts else { return Ok(MediaType::OctetStream) };
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let body_type = negotiate::request_type(accepted, content_type).ok_or(ApiError::UnsupportedMediaType)?;
    if negotiate::is_uncoded(headers) { Ok(body_type) } else { Err(ApiError::UnsupportedCoding) }
}

/// The media type of the answer; `None` is 406.
fn choose(route: &Route, head: &Parts) -> Option<Chosen> {
    let Some(produced) = route.produces else { return Some(Chosen::by_default(MediaType::Json)) };
    let format = extract::query(head.uri.query(), "format");
    negotiate::choose(produced, format.as_deref(), accept(&head.headers).as_deref())
}

/// The list that all Accept headers make together (RFC 9110 5.3).
fn accept(headers: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    let mut lines = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes);
    let mut list = Cow::Borrowed(lines.next()?);
    for line in lines {
        list.to_mut().push(b',');
        list.to_mut().extend_from_slice(line);
    }
    Some(list)
}
