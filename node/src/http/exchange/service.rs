//! One request from its head to its answer, in the order of contract/streams 1.1.

use std::borrow::Cow;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::budget::{Exhausted, Held};
use crate::http::budgets::Budgets;
use crate::http::exchange::authentication;
use crate::http::exchange::caching;
use crate::http::exchange::compress::{Coding, compress};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::negotiate::{self, Chosen};
use crate::http::exchange::origin;
use crate::http::exchange::request::{Connection, Request};
use crate::http::exchange::response::{
    NO_METHODS, add_challenge, add_common_headers, add_preflight_headers, status_only,
};
use crate::http::exchange::router::{Found, Route};
use crate::http::exchange::span;
use crate::http::limits::{ANSWER_WAIT, MAX_COUNTED_ANSWER_BYTES, UNCOUNTED_ANSWER_BYTES};
use crate::http::{AppState, Reply};
use crate::timing::{self, Phase, Spent};
use crate::trace::Span;

/// Answers a request. Always answers, never panics.
pub(crate) async fn answer(
    state: &AppState,
    connection: &Connection,
    mut request: http::Request<Incoming>,
) -> Response<Reply> {
    let began = Instant::now();
    extract::rename_later_headers(request.headers_mut());
    let (head, body) = request.into_parts();
    let coding = Coding::choose(&head.headers);
    let found = state.router.find(method(state, &head), head.uri.path());
    let route = found.as_ref().and_then(Found::name).unwrap_or("none");
    let mut noted = Noted { spent: Spent::default(), span: span::begin(state, &head, route, found.as_ref()) };
    let mut answer = exchange(state, connection, &head, found, body, &mut noted).await;
    if answer.status() == StatusCode::UNAUTHORIZED {
        add_challenge(&mut answer, state.config.challenge);
    }
    // Caches may keep these without being told to (RFC 9110 15.1).
    let may_be_kept = matches!(answer.status(), StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::GONE);
    if may_be_kept && !answer.body().is_end_stream() {
        caching::vary_by_form(answer.headers_mut());
    }
    let answer_began = Instant::now();
    let answer = match hold(counted_bytes(&answer, &head.method), &state.budgets, connection).await {
        Ok(held) => {
            let mut answer = compress(answer, coding).await;
            if let Some(held) = held {
                answer.body_mut().keep(held);
            }
            answer
        }
        Err(Exhausted) => too_busy(answer.headers().get(header::ACCESS_CONTROL_ALLOW_METHODS).cloned()),
    };
    let status = answer.status().as_u16();
    state.http_metrics.answered(route, status);
    timing::note(&mut noted.spent, noted.span.as_ref(), Phase::Answer, answer_began);
    span::end(noted.span, status);
    let spent = noted.spent;
    let taken = began.elapsed().saturating_sub(spent.in_phase(Phase::News));
    state.http_metrics.took(origin::may_write(&head.method), taken);
    state.slow_requests.ended(&head, route, status, taken, &spent);
    answer
}

/// What is noted of a request.
struct Noted {
    spent: Spent,
    /// Its span, if it is traced.
    span: Option<Span>,
}

/// Bytes of an answer that count among those that its connection holds: it can be given up and
/// asked for again, as the answer to a write cannot. Zero for others.
fn counted_bytes(answer: &Response<Reply>, method: &Method) -> usize {
    let bytes = answer.body().whole_bytes();
    let is_read = method == Method::GET || method == Method::HEAD;
    if is_read && bytes > UNCOUNTED_ANSWER_BYTES { bytes.min(MAX_COUNTED_ANSWER_BYTES) } else { 0 }
}

/// Counts so many bytes of an answer, before it is compressed: that may wait for a thread. Where
/// there is no room it waits, as few others do, or is given up.
async fn hold(bytes: usize, budgets: &Budgets, connection: &Connection) -> Result<Option<Held>, Exhausted> {
    if bytes == 0 {
        return Ok(None);
    }
    if let Some(held) = connection.answers.try_hold(bytes) {
        return Ok(Some(held));
    }
    let _place = budgets.waiting_answers.try_acquire().map_err(|_| Exhausted)?;
    connection.answers.hold(bytes, ANSWER_WAIT).await.map(Some)
}

/// What is said instead of an answer for which there is no memory; `allowed` if it is known.
pub(crate) fn too_busy(allowed: Option<HeaderValue>) -> Response<Reply> {
    refused(ApiError::TooBusy, allowed.unwrap_or(NO_METHODS))
}

/// The method whose route serves the request.
fn method<'head>(state: &AppState, head: &'head Parts) -> &'head Method {
    // HEAD is answered like GET; the connection leaves the body out and says how long it would have
    // been.
    if head.method == Method::HEAD && state.config.head_requests { &Method::GET } else { &head.method }
}

/// The steps of an exchange, each of which may end it.
async fn exchange(
    state: &AppState,
    connection: &Connection,
    head: &Parts,
    found: Option<Found<'_>>,
    body: Incoming,
    noted: &mut Noted,
) -> Response<Reply> {
    let began = Instant::now();
    let identified = authentication::identify(state, &head.headers, connection.peer.ip()).await;
    timing::note(&mut noted.spent, noted.span.as_ref(), Phase::Login, began);
    let caller = match identified {
        Ok(caller) => caller,
        Err(error) => return refused(error, NO_METHODS),
    };
    let Some(Found { allowed, served_by }) = found else { return refused(ApiError::UnknownPath, NO_METHODS) };
    if head.method == Method::OPTIONS {
        let mut answer = with_methods(status_only(StatusCode::OK, "OK"), allowed);
        add_preflight_headers(&mut answer, &head.headers);
        return answer;
    }
    let Some((route, params)) = served_by else { return refused(ApiError::MethodNotAllowed, allowed) };
    // Nobody would get the messages.
    if head.method == Method::HEAD && route.hands_out_messages() {
        return refused(ApiError::MethodNotAllowed, allowed);
    }
    if (origin::may_write(&head.method) || route.hands_out_messages())
        && caller.principal().is_some()
        && origin::is_foreign(state, connection, &head.headers)
    {
        origin::log_refusal(state, connection, &head.headers, &caller);
        return refused(ApiError::ForeignPage, allowed);
    }
    let body_type = match body_type(route, &head.headers) {
        Ok(body_type) => body_type,
        Err(error) => return refused(error, NO_METHODS),
    };
    let Some(chosen) = choose(route, head) else { return refused(ApiError::NotAcceptable, NO_METHODS) };
    if !route.audience.includes(&caller, state.rooms.access.admission()) {
        return refused(ApiError::NotAdmitted, allowed);
    }
    let (headers, uri, params) = (&head.headers, &head.uri, &params);
    let request = Request { state, connection, caller, headers, uri, params, body_type, chosen };
    let (answer, in_rooms) = timing::collect(noted.span.as_ref(), (route.handler)(&request, body)).await;
    noted.spent.merge(&in_rooms);
    let answer = answer.unwrap_or_else(ApiError::into_response);
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
    let body_type = match route.accepts {
        None => MediaType::OctetStream,
        Some(accepted) => {
            let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            negotiate::request_type(accepted, content_type).ok_or(ApiError::UnsupportedMediaType)?
        }
    };
    let is_looked_at = route.reads_body || route.accepts.is_some();
    if is_looked_at && !negotiate::is_uncoded(headers) {
        return Err(ApiError::UnsupportedCoding);
    }
    Ok(body_type)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::budget::{FLOOR_BYTES, Pool};

    fn answer(bytes: usize) -> Response<Reply> {
        Response::new(Reply::new(Bytes::from(vec![7; bytes])))
    }

    #[tokio::test]
    async fn an_answer_to_a_read_waits_for_room_or_is_given_up() {
        let waiting_answers = Arc::new(Semaphore::new(1));
        let budgets = Budgets { answers: Pool::new(0), waiting_answers, ..Budgets::default() };
        let connection = Connection::new(([127, 0, 0, 1], 1).into(), true, &budgets);
        assert_eq!(counted_bytes(&answer(2 * MAX_COUNTED_ANSWER_BYTES), &Method::GET), MAX_COUNTED_ANSWER_BYTES);
        let mut first = answer(FLOOR_BYTES);
        let held = hold(counted_bytes(&first, &Method::GET), &budgets, &connection).await.unwrap().unwrap();
        first.body_mut().keep(held);
        for (bytes, method) in [(UNCOUNTED_ANSWER_BYTES, Method::GET), (FLOOR_BYTES, Method::POST)] {
            assert_eq!(counted_bytes(&answer(bytes), &method), 0, "{method}");
        }
        let mut waiting = Box::pin(hold(FLOOR_BYTES, &budgets, &connection));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        let third = hold(counted_bytes(&answer(FLOOR_BYTES), &Method::HEAD), &budgets, &connection).await;
        assert_eq!(third.err(), Some(Exhausted), "no place to wait is left");
        drop(first);
        assert!(waiting.await.unwrap().is_some());
        assert_eq!(connection.answers.held(), 0);
    }
}
