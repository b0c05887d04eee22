//! Connections over which clients speak HTTP/1.1.

use std::convert::Infallible;
use std::sync::Arc;

use futures::future::{self, Either};
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::http::connection::guarded::Guarded;
use crate::http::connection::half_close::{HalfClose, Progress};
use crate::http::connection::head;
use crate::http::connection::head_memory::HeadMemory;
use crate::http::connection::stall::{StallGuard, Unsent};
use crate::http::exchange::request::Connection;
use crate::http::exchange::service;
use crate::http::limits::{HEADER_TIMEOUT, MAX_HEADER_BYTES, MAX_HEADERS};
use crate::http::{AppState, Reply};
use crate::listen::Place;

/// A connection over which a client speaks HTTP/1.1.
pub(super) struct Http1Connection<S> {
    /// Carries the bytes.
    pub(super) stream: S,
    /// What its requests have to know of it.
    pub(super) connection: Arc<Connection>,
    /// What handlers work with.
    pub(super) state: Arc<AppState>,
    /// Ends the connection after its current request when the node stops, which waits until this is
    /// dropped.
    pub(super) watcher: Watcher,
    /// Its place among the open connections.
    pub(super) place: Place,
}

impl<S> Http1Connection<S>
where
    S: AsyncRead + AsyncWrite + Unsent + Unpin + 'static,
{
    /// Serves requests until the connection ends. Not an async function, whose future would hold
    /// the stream twice.
    pub(super) fn run(self) -> impl Future<Output = ()> {
        let Self { stream, connection, state, watcher, place } = self;
        let usage = place.usage();
        let progress = Progress::new(connection.closed.clone());
        let head = HeadMemory::new(&connection.heads);
        let guarded = HalfClose::new(StallGuard::new(stream, connection.clone()), progress.clone(), head);
        let peer = connection.peer;
        let turns = progress.clone();
        let service = service_fn(move |request| {
            let (state, connection, in_use) = (state.clone(), connection.clone(), usage.begin());
            let (answering, turns) = (progress.begin(), progress.clone());
            // On the heap, because the connection would otherwise keep room for it while nothing is
            // asked.
            Box::pin(async move {
                turns.turn().await;
                let mut answer = answer(&state, &connection, request).await;
                if state.rooms.control.leaving.is_cancelled() || state.rooms.cluster.is_removed() {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer.map(|reply| Guarded::new(reply, (answering, in_use))))
            })
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(guarded), service);
        // On the heap, because the task would otherwise keep room for it twice.
        let mut served = Box::pin(watcher.watch(served));
        let served = future::poll_fn(move |context| {
            turns.next_turn();
            served.as_mut().poll(context)
        });
        async move {
            tokio::select! {
                biased;
                ended = served => if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP connection ended early");
                },
                () = place.recalled() => tracing::debug!(%peer, "an idle connection made room"),
            }
            drop(place);
        }
    }
}

fn answer(
    state: &AppState,
    connection: &Connection,
    mut request: Request<Incoming>,
) -> impl Future<Output = Response<Reply>> {
    if let Some(refusal) = head::refusal(&request) {
        return Either::Left(future::ready(refusal));
    }
    if request.uri().authority().is_some() {
        head::into_origin_form(&mut request);
    }
    Either::Right(service::answer(state, connection, request))
}
