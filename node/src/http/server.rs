//! Accepts connections and serves HTTP/1.1 on them.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::limits::{DRAIN_TIMEOUT, HEADER_TIMEOUT, MAX_CONNECTIONS, MAX_HEADER_BYTES, MAX_HEADERS};
use super::{AppState, service};

/// How long to wait after a failed accept: the process is out of file descriptors, and trying at once again would spin.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Serves until `shutdown`, then lets open requests finish for at most [`DRAIN_TIMEOUT`].
pub async fn serve(listener: TcpListener, state: AppState, shutdown: CancellationToken) {
    let state = Arc::new(state);
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
            (Ok(place), Ok((stream, _))) => spawn(stream, place, state.clone(), &graceful),
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The semaphore is never closed.
            (Err(_), Ok(_)) => break,
        }
    }
    drop(listener);
    state.waiters.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some HTTP requests did not finish before the node stopped");
    }
}

fn spawn(stream: TcpStream, place: OwnedSemaphorePermit, state: Arc<AppState>, graceful: &GracefulShutdown) {
    // Answers are written in one piece; waiting for more to send would only add latency.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(service::answer(&state, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP connection ended early");
        }
        drop(place);
    });
}
