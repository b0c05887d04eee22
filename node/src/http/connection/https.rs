//! Connections with TLS, on which clients choose between HTTP/1.1 and HTTP/2.

use std::sync::Arc;

use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::http::AppState;
use crate::http::connection::http1::Http1Connection;
use crate::http::connection::http2::Http2Connection;
use crate::http::exchange::request::Connection;
use crate::http::limits::{MAX_HANDSHAKES, MAX_HEADER_BYTES};
use crate::listen::{Accepted, Handshakes};
use crate::tls::{HANDSHAKE_TIMEOUT, HandshakeError, HttpsAcceptor};

/// What a client hears that speaks plain HTTP to a port for HTTPS.
const SPEAK_TLS: &[u8] =
    b"HTTP/1.1 400 This port speaks HTTPS\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 42\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS: send https://...\r\n";

/// What all connections with TLS share.
pub(super) struct Https {
    /// Makes TLS of a connection.
    acceptor: HttpsAcceptor,
    /// What handlers work with.
    state: Arc<AppState>,
    /// The node stops.
    shutdown: CancellationToken,
    /// Handshakes under way. Clients may all come from one address, that of a balancer.
    handshakes: Handshakes,
}

impl Https {
    pub(super) fn new(acceptor: HttpsAcceptor, state: Arc<AppState>, shutdown: CancellationToken) -> Self {
        let handshakes = Handshakes::new(MAX_HANDSHAKES, None);
        Self { acceptor, state, shutdown, handshakes }
    }

    /// Serves a connection until it ends.
    pub(super) async fn serve(self: Arc<Self>, accepted: Accepted, watcher: Watcher) {
        let Accepted { stream, peer, place } = accepted;
        let connection = Arc::new(Connection::new(peer, true, &self.state.budgets));
        let state = self.state.clone();
        let handshake = tokio::select! {
            handshake = self.handshake(stream, peer.ip()) => handshake,
            () = self.shutdown.cancelled() => return,
        };
        match handshake {
            Ok((stream, true)) => {
                let shutdown = self.shutdown.clone();
                Http2Connection { stream, connection, state, shutdown, watcher, place }.run().await;
            }
            Ok((stream, false)) => Http1Connection { stream, connection, state, watcher, place }.run().await,
            Err(HandshakeError::Plaintext(stream)) => {
                // Nothing was asked, so nothing has to be finished when the node stops.
                drop(watcher);
                explain(stream).await;
            }
            Err(error) => tracing::debug!(%peer, %error, "no TLS connection with a client"),
        }
    }

    /// The connection with TLS, and whether the client chose HTTP/2.
    async fn handshake(
        &self,
        stream: TcpStream,
        peer: std::net::IpAddr,
    ) -> Result<(TlsStream<TcpStream>, bool), HandshakeError> {
        let _turn = self.handshakes.begin(peer, HANDSHAKE_TIMEOUT).await.map_err(|_| HandshakeError::Timeout)?;
        self.acceptor.accept(stream).await
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
