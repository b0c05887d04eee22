//! Accepts connections and serves HTTP on them: HTTP/1.1 in the clear; with TLS HTTP/1.1 or HTTP/2, as the client chooses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::{http1 as http_1, http2 as http_2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::http::AppState;
use crate::http::connection::pacing::Requests;
use crate::http::connection::stall::StallGuard;
use crate::http::connection::{http1, http2};
use crate::http::exchange::request::Connection;
use crate::http::limits::{
    DRAIN_TIMEOUT, HEADER_TIMEOUT, MAX_CONNECTIONS, MAX_HANDSHAKES, MAX_HEADER_BYTES, MAX_HEADERS, MAX_HTTP2_REQUESTS,
    MAX_STREAMS, PING_INTERVAL, STALL_TIMEOUT,
};
use crate::tls::{HANDSHAKE_TIMEOUT, HandshakeError, HttpsAcceptor};

/// How long to wait after a failed accept: the process is out of file descriptors, and trying at once again would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often an HTTP/2 connection is looked at for silence and answers that nobody reads.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of one answer on an HTTP/2 connection that wait in it for the client to read them.
const MAX_STREAM_BUFFER_BYTES: usize = 64 * 1024;

/// What a client hears that speaks plain HTTP to a port for HTTPS.
const SPEAK_TLS: &[u8] =
    b"HTTP/1.1 400 This port speaks HTTPS\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 42\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS: send https://...\r\n";

/// Serves until `shutdown`, then lets open requests finish for at most [`DRAIN_TIMEOUT`]. With `https` every client has to speak TLS.
pub async fn serve(listener: TcpListener, https: Option<HttpsAcceptor>, state: AppState, shutdown: CancellationToken) {
    let state = Arc::new(state);
    let https = https.map(|acceptor| Arc::new(Https::new(acceptor, state.clone(), shutdown.clone())));
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The place is taken before accepting: beyond the limit, clients wait in the listen queue.
        let next = async {
            let place = connections.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = shutdown.cancelled() => break,
        };
        match (place, accepted) {
            (Ok(place), Ok((stream, peer))) => {
                // Answers are written in one piece; waiting for more to send would only add latency.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                match &https {
                    None => {
                        let connection = Connection { peer, is_tls: false };
                        tokio::spawn(serve_http_1(stream, connection, state.clone(), graceful.watcher(), place));
                    }
                    Some(https) => {
                        tokio::spawn(https.clone().serve(stream, peer, graceful.watcher(), place));
                    }
                }
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The semaphore is never closed.
            (Err(_), Ok(_)) => break,
        }
    }
    drop(listener);
    state.streams.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some HTTP requests did not finish before the node stopped");
    }
}

/// Serves HTTP/1.1 on one connection until it ends.
fn serve_http_1<S>(
    stream: S,
    connection: Connection,
    state: Arc<AppState>,
    watcher: Watcher,
    place: OwnedSemaphorePermit,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let state = state.clone();
        // Some kilobytes, which the connection would otherwise move from place to place.
        Box::pin(async move { Ok::<_, Infallible>(http1::answer(&state, connection, request).await) })
    });
    let served = http_1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(StallGuard::new(stream, STALL_TIMEOUT)), service);
    let served = watcher.watch(served);
    async move {
        if let Err(error) = served.await {
            tracing::debug!(%error, "an HTTP connection ended early");
        }
        drop(place);
    }
}

/// What connections with TLS share.
struct Https {
    acceptor: HttpsAcceptor,
    state: Arc<AppState>,
    shutdown: CancellationToken,
    /// Places for handshakes under way.
    handshakes: Semaphore,
    /// Places for requests on HTTP/2 connections.
    requests: Arc<Semaphore>,
}

impl Https {
    fn new(acceptor: HttpsAcceptor, state: Arc<AppState>, shutdown: CancellationToken) -> Self {
        let handshakes = Semaphore::new(MAX_HANDSHAKES);
        let requests = Arc::new(Semaphore::new(MAX_HTTP2_REQUESTS));
        Self { acceptor, state, shutdown, handshakes, requests }
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
        place: OwnedSemaphorePermit,
    ) {
        let connection = Connection { peer, is_tls: true };
        let handshake = tokio::select! {
            handshake = self.handshake(stream) => handshake,
            () = self.shutdown.cancelled() => return,
        };
        match handshake {
            Ok((secure, true)) => self.serve_http_2(secure, connection, watcher, place).await,
            Ok((secure, false)) => serve_http_1(secure, connection, self.state.clone(), watcher, place).await,
            Err(HandshakeError::Plaintext(stream)) => {
                // Nothing was asked, so nothing has to be finished when the node stops.
                drop(watcher);
                explain(stream).await;
            }
            Err(error) => tracing::debug!(%peer, %error, "no TLS connection with a client"),
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Result<(tokio_rustls::server::TlsStream<TcpStream>, bool), HandshakeError> {
        let turn = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.handshakes.acquire()).await;
        let _turn = turn.map_err(|_| HandshakeError::Timeout)?.map_err(|_| HandshakeError::NotLoaded)?;
        self.acceptor.accept(stream).await
    }

    /// Serves HTTP/2 on one connection until it ends, the node stops, nothing was asked for [`HEADER_TIMEOUT`], or the client does not
    /// read one of its answers for [`STALL_TIMEOUT`].
    async fn serve_http_2<S>(&self, stream: S, connection: Connection, watcher: Watcher, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (state, places) = (self.state.clone(), self.requests.clone());
        let requests = Arc::new(Requests::default());
        let counted = requests.clone();
        let service = service_fn(move |request| {
            let (state, places, underway) = (state.clone(), places.clone(), counted.begin());
            async move {
                // Never closed; waiting for a place is bounded by the deadlines of those who have one.
                let _place = places.acquire().await;
                let answer = http2::answer(&state, connection, request).await;
                Ok::<_, Infallible>(answer.map(|reply| underway.answer(reply)))
            }
        });
        let served = http_2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(MAX_STREAM_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .serve_connection(TokioIo::new(StallGuard::new(stream, STALL_TIMEOUT)), service);
        tokio::pin!(served);
        let mut is_leaving = false;
        let mut seen = (requests.begun(), Instant::now());
        let ended = loop {
            tokio::select! {
                ended = served.as_mut() => break ended,
                () = self.shutdown.cancelled(), if !is_leaving => {
                    is_leaving = true;
                    served.as_mut().graceful_shutdown();
                }
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    if requests.is_stalled(STALL_TIMEOUT) {
                        tracing::debug!(peer = %connection.peer, "an HTTP/2 client does not read its answers");
                        break Ok(());
                    }
                    if requests.begun() != seen.0 || !requests.is_idle() {
                        seen = (requests.begun(), Instant::now());
                    } else if !is_leaving && seen.1.elapsed() >= HEADER_TIMEOUT {
                        is_leaving = true;
                        served.as_mut().graceful_shutdown();
                        seen.1 = Instant::now();
                    } else if is_leaving && seen.1.elapsed() >= STALL_TIMEOUT {
                        // All answers were handed over, but not all of them were read.
                        break Ok(());
                    }
                }
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

/// Tells a client that speaks plain HTTP what this port speaks.
async fn explain(mut stream: TcpStream) {
    let said = async {
        stream.write_all(SPEAK_TLS).await?;
        stream.shutdown().await?;
        // What is left unread when a connection is closed makes the kernel take the answer back.
        tokio::io::copy(&mut (&mut stream).take(MAX_HEADER_BYTES as u64), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, said).await {
        tracing::debug!(%error, "a client that speaks no TLS left");
    }
}
