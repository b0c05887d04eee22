//! The span of a request: what the client asked for and what came of it, in the names of
//! OpenTelemetry's conventions for HTTP.

use http::request::Parts;

use crate::http::AppState;
use crate::http::exchange::router::Found;
use crate::http::exchange::slow::{logged_path, request_id};
use crate::trace::Span;

/// Begins the span of a request, if it is traced.
pub(super) fn begin(state: &AppState, head: &Parts, route: &'static str, found: Option<&Found<'_>>) -> Option<Span> {
    let traceparent = || head.headers.get("traceparent")?.to_str().ok();
    let mut span = state.rooms.traces.begin(route, traceparent)?;
    span.set("http.request.method", head.method.to_string());
    span.set("url.path", logged_path(&head.uri).to_owned());
    if let Some((route, params)) = found.and_then(|found| found.served_by.as_ref()) {
        span.set("http.route", route.path);
        if !params.stream.is_empty() {
            span.set("headwater.stream", params.stream.to_string());
        }
    }
    if let Some(id) = request_id(&head.headers) {
        span.set("headwater.request_id", id.to_owned());
    }
    Some(span)
}

/// Ends the span with the status of the answer. The answer may still be on its way.
pub(super) fn end(span: Option<Span>, status: u16) {
    let Some(mut span) = span else { return };
    span.set("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.fail("");
    }
}
