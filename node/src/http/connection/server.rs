//! Serves HTTP on one port: HTTP/1.1 in the clear; with TLS HTTP/1.1 or HTTP/2, as the client
//! chooses.

use std::sync::Arc;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::AppState;
use crate::http::connection::http1::Http1Connection;
use crate::http::connection::https::Https;
use crate::http::exchange::request::Connection;
use crate::http::limits::DRAIN_TIMEOUT;
use crate::listen::{Accepted, Port};
use crate::tls::HttpsAcceptor;

/// Serves at most `most` connections at a time until `shutdown`, then lets open requests finish for
/// at most [`DRAIN_TIMEOUT`]. With `https` every client has to speak TLS.
pub(crate) async fn serve(
    listener: TcpListener,
    most: usize,
    https: Option<HttpsAcceptor>,
    state: AppState,
    shutdown: CancellationToken,
) {
    let state = Arc::new(state);
    let https = https.map(|acceptor| Arc::new(Https::new(acceptor, state.clone(), shutdown.clone())));
    let graceful = GracefulShutdown::new();
    let port = Port::new("clients", listener, most);
    port.run(&shutdown, |accepted| {
        let watcher = graceful.watcher();
        match &https {
            Some(https) => drop(tokio::spawn(https.clone().serve(accepted, watcher))),
            None => {
                let Accepted { stream, peer, place } = accepted;
                let connection = Arc::new(Connection::new(peer, false, &state.budgets));
                let state = state.clone();
                tokio::spawn(Http1Connection { stream, connection, state, watcher, place }.run());
            }
        }
    })
    .await;
    state.rooms.streams.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some HTTP requests did not finish before the node stopped");
    }
}
