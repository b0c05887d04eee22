//! Connections over which clients speak HTTP/2, in front of a service that thinks in HTTP/1.1:
//! names of the host, and texts without reason phrases.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::budget::Held;
use crate::http::connection::guarded::Guarded;
use crate::http::connection::head::into_origin_form;
use crate::http::connection::pacing::Requests;
use crate::http::connection::stall::{self, StallGuard, Unsent};
use crate::http::exchange::request::Connection;
use crate::http::exchange::{response, service};
use crate::http::limits::{
    CONNECTION_ANSWERS_BYTES, HEADER_FIELD_BYTES, HEADER_TIMEOUT, HTTP2_WINDOW_BYTES, MAX_HEADER_BYTES, MAX_HEADERS,
    MAX_STREAMS, MAX_STREAMS_UNDER_PRESSURE, PING_INTERVAL, PING_TIMEOUT, REQUEST_BYTES, STALL_TIMEOUT,
};
use crate::http::{AppState, Reply};
use crate::listen::Place;

/// How often a connection is looked at for silence and for answers that nobody reads.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of one answer that wait in the connection for the client to read them.
const MAX_STREAM_BUFFER_BYTES: usize = 64 * 1024;

/// A connection over which a client speaks HTTP/2.
pub(super) struct Http2Connection<S> {
    /// Carries the bytes.
    pub(super) stream: S,
    /// What its requests have to know of it.
    pub(super) connection: Arc<Connection>,
    /// What handlers work with.
    pub(super) state: Arc<AppState>,
    /// The node stops: no more requests are taken.
    pub(super) shutdown: CancellationToken,
    /// The node waits with its end until this is dropped.
    pub(super) watcher: Watcher,
    /// Its place among the open connections.
    pub(super) place: Place,
}

impl<S> Http2Connection<S>
where
    S: AsyncRead + AsyncWrite + Unsent + Unpin + Send + 'static,
{
    /// Serves requests until the connection ends, the node stops, nothing was asked for
    /// [`HEADER_TIMEOUT`], or the client does not read one of its answers for [`STALL_TIMEOUT`].
    pub(super) async fn run(self) {
        let Self { stream, connection, state, shutdown, watcher, place } = self;
        let (requests, peer) = (Arc::new(Requests::default()), connection.peer);
        let mut activity = Activity::new(requests.clone(), connection.clone());
        let usage = place.usage();
        let is_tight = connection.heads.is_wanted();
        let leave = Leave::of(&state, shutdown);
        let most_streams = if is_tight { MAX_STREAMS_UNDER_PRESSURE } else { MAX_STREAMS };
        let guarded = StallGuard::new(stream, connection.clone());
        let service = service_fn(move |request| {
            let (state, connection, underway) = (state.clone(), connection.clone(), requests.begin());
            let in_use = usage.begin();
            // At once: what is refused is gone before the next request is taken from the wire.
            let admitted = admit(&connection, request);
            async move {
                let (answer, held) = match admitted {
                    Ok((request, mut held)) => {
                        if matches!(*request.method(), Method::GET | Method::HEAD) {
                            // A client that takes nothing of what it has asked for makes the node
                            // work no more.
                            connection.answers.holds_less_than(CONNECTION_ANSWERS_BYTES).await;
                        }
                        // On the heap, because hyper keeps room for all of this future, also while
                        // it waits, for requests that are refused, and until an answer is read.
                        let answer = Box::pin(answer(&state, &connection, request)).await;
                        held.shrink_to(REQUEST_BYTES);
                        (answer, Some(held))
                    }
                    Err(refusal) => (finished(*refusal, false), None),
                };
                Ok::<_, Infallible>(answer.map(|reply| Guarded::new(underway.answer(reply), (in_use, held))))
            }
        });
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .max_concurrent_streams(most_streams)
            .initial_stream_window_size(HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES)
            .max_send_buf_size(MAX_STREAM_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(guarded), service);
        tokio::pin!(served);
        let ended = loop {
            tokio::select! {
                ended = served.as_mut() => break ended,
                () = leave.told(), if !activity.is_leaving => {
                    activity.is_leaving = true;
                    served.as_mut().graceful_shutdown();
                }
                () = place.recalled() => {
                    tracing::debug!(peer = %peer, "an idle HTTP/2 connection made room");
                    break Ok(());
                }
                () = tokio::time::sleep(LOOK_INTERVAL) => match activity.look() {
                    Verdict::GoOn => {}
                    Verdict::Leave => served.as_mut().graceful_shutdown(),
                    Verdict::Cut(reason) => {
                        tracing::debug!(%peer, reason, "an HTTP/2 connection was cut");
                        break Ok(());
                    }
                },
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an HTTP/2 connection ended early");
        }
        // The drain at shutdown waits for all watchers to be gone.
        drop(watcher);
        drop(place);
    }
}

/// When the client has to be told that no more requests are taken.
struct Leave {
    /// The node is about to stop, and clients should go elsewhere.
    leaving: CancellationToken,
    /// The node stops.
    shutdown: CancellationToken,
}

impl Leave {
    /// For a connection that begins now. A client that comes although the node is leaving already
    /// has nowhere else to go.
    fn of(state: &AppState, shutdown: CancellationToken) -> Self {
        let leaving = &state.rooms.control.leaving;
        let leaving = if leaving.is_cancelled() { shutdown.clone() } else { leaving.clone() };
        Self { leaving, shutdown }
    }

    async fn told(&self) {
        tokio::select! {
            () = self.leaving.cancelled() => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

/// What shows whether a connection is still of use, as it was at the last look.
struct Activity {
    connection: Arc<Connection>,
    /// Its requests.
    requests: Arc<Requests>,
    /// How many had begun.
    begun: u64,
    /// Since when nothing was asked or answered, or the client was told to leave.
    quiet_since: Instant,
    /// The client was told that no more requests are taken.
    is_leaving: bool,
}

/// What is to be done with a connection.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing.
    GoOn,
    /// No more requests are taken.
    Leave,
    /// It ends at once.
    Cut(&'static str),
}

impl Activity {
    fn new(requests: Arc<Requests>, connection: Arc<Connection>) -> Self {
        let begun = requests.begun();
        Self { connection, requests, begun, quiet_since: Instant::now(), is_leaving: false }
    }

    fn look(&mut self) -> Verdict {
        if self.requests.is_stalled(stall::patience(&self.connection), self.connection.is_in_the_way()) {
            return Verdict::Cut("the client does not read an answer");
        }
        let begun = self.requests.begun();
        if begun != self.begun || !self.requests.is_idle() {
            self.begun = begun;
            self.quiet_since = Instant::now();
            return Verdict::GoOn;
        }
        let quiet = self.quiet_since.elapsed();
        if self.is_leaving && quiet >= STALL_TIMEOUT {
            return Verdict::Cut("the client has not read all answers to their end");
        }
        if !self.is_leaving && quiet >= HEADER_TIMEOUT {
            self.is_leaving = true;
            self.quiet_since = Instant::now();
            return Verdict::Leave;
        }
        Verdict::GoOn
    }
}

/// The request, and the memory that it takes; or why the node does not take it.
fn admit<B>(connection: &Connection, request: Request<B>) -> Result<(Request<B>, Held), Box<Response<Reply>>> {
    if request.headers().len() > MAX_HEADERS {
        let reason = "Request Header Fields Too Large";
        let mut refusal = response::status_only(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason);
        response::add_common_headers(&mut refusal, response::NO_METHODS);
        return Err(Box::new(refusal));
    }
    match connection.heads.try_hold(weight(&request)) {
        Some(held) => Ok((request, held)),
        None => Err(Box::new(service::too_busy(None))),
    }
}

/// Bytes that a request takes: h2 and hyper each have its head.
fn weight<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    REQUEST_BYTES + 2 * (target + fields) + request.headers().len() * HEADER_FIELD_BYTES
}

async fn answer(state: &AppState, connection: &Connection, mut request: Request<Incoming>) -> Response<Reply> {
    let is_head = request.method() == Method::HEAD;
    into_origin_form(&mut request);
    finished(service::answer(state, connection, request).await, is_head)
}

/// The answer as HTTP/2 has it.
fn finished(mut answer: Response<Reply>, is_head: bool) -> Response<Reply> {
    if is_head {
        leave_out_body(&mut answer);
    } else {
        say_reason(&mut answer);
    }
    // Of one connection, and so malformed here (RFC 9113 8.2.2); the stream ends by itself.
    answer.headers_mut().remove(header::CONNECTION);
    answer
}

/// What HTTP/1.1 connections do for answers to HEAD: the length is told, the body not sent.
fn leave_out_body(answer: &mut Response<Reply>) {
    let length = http_body::Body::size_hint(answer.body()).exact().filter(|length| *length > 0);
    if let Some(length) = length {
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *answer.body_mut() = Reply::default();
}

/// HTTP/2 has no reason phrase: where it is all that an answer says, the same text is its body
/// (contract/services 0.1).
fn say_reason(answer: &mut Response<Reply>) {
    let status = answer.status();
    let may_have_body =
        !(status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED));
    if !may_have_body || !is_empty(answer.body()) {
        return;
    }
    let phrase = answer.extensions().get::<ReasonPhrase>().map(|phrase| Bytes::copy_from_slice(phrase.as_bytes()));
    // Ordinary words are worth a body where something went wrong, and noise where nothing did.
    let usual = || if status.as_u16() >= 400 { status.canonical_reason() } else { None };
    let Some(text) = phrase.or_else(|| usual().map(|text| Bytes::from_static(text.as_bytes()))) else { return };
    *answer.body_mut() = Reply::new(text);
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
}

fn is_empty(body: &Reply) -> bool {
    http_body::Body::size_hint(body).exact() == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Pool;
    use crate::http::budgets::Budgets;

    fn with_reason(status: u16, reason: &str, body: &'static str) -> Response<Reply> {
        let mut answer = response::status_only(StatusCode::from_u16(status).unwrap(), reason);
        *answer.body_mut() = Reply::new(body.into());
        answer
    }

    #[tokio::test]
    async fn the_reason_is_the_body_where_there_is_none() {
        use http_body_util::BodyExt;
        for (status, reason, body, expected) in [
            (400, "Wrong expected EventNumber", "", "Wrong expected EventNumber"),
            (404, "Not Found", "", "Not Found"),
            (400, "Bad", "{}", "{}"),
            (204, "Stream deleted", "", ""),
            (304, "Not Modified", "", ""),
            (201, "Created", "", ""),
            (200, "OK", "", ""),
        ] {
            let mut answer = with_reason(status, reason, body);
            say_reason(&mut answer);
            let is_text = answer
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
            assert_eq!(is_text, body.is_empty() && !expected.is_empty(), "{status} {reason}");
            let said = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(said, expected.as_bytes(), "{status} {reason}");
        }
    }

    #[test]
    fn a_head_is_taken_only_with_room_for_it() {
        let budgets = Budgets { requests: Pool::new(0), ..Budgets::default() };
        let connection = Connection::new(([127, 0, 0, 1], 1).into(), true, &budgets);
        let request = || Request::get("https://node/ping").header("x-long", "x".repeat(10_000)).body(()).unwrap();
        let (taken, held) = admit(&connection, request()).ok().unwrap();
        assert_eq!(connection.heads.held(), weight(&taken));
        assert!(weight(&taken) > REQUEST_BYTES + 20_000);
        let refusal = admit(&connection, request()).err().unwrap();
        assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refusal.headers().contains_key(header::RETRY_AFTER));
        drop(held);
        assert!(admit(&connection, request()).is_ok());
        let many = (0..=MAX_HEADERS).fold(Request::get("/ping"), |request, n| request.header(format!("x-{n}"), "x"));
        let refusal = admit(&connection, many.body(()).unwrap()).err().unwrap();
        assert_eq!(refusal.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
}
