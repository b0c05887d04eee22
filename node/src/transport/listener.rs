//! Connections from other nodes, with or without TLS, as gRPC accepts them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::traffic::{Counted, Ends, Traffic};
use crate::listen::{Accepted, Handshakes, NoTurn, Place, Port};
use crate::tls::{HANDSHAKE_TIMEOUT, NodeTls};

/// Open connections of other nodes, where the process may open enough files; the next one waits
/// until one ends. A node opens a few connections to each peer, and there are some dozens of nodes
/// at most.
pub(crate) const MAX_CONNECTIONS: usize = 1_024;

/// TLS handshakes of other nodes under way; the next one waits for its turn, within its time limit.
/// A cluster needs some dozens when it starts.
pub(crate) const MAX_HANDSHAKES: usize = 256;

/// Handshakes under way for one address: a stranger that opens connections and sends nothing must
/// not keep the other nodes out. A whole cluster on one machine, or behind one address, needs
/// fewer.
pub(crate) const MAX_HANDSHAKES_PER_ADDRESS: usize = 64;

/// How often a refused connection from the same address for the same reason is logged: nodes try
/// again and again.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);

/// Log lines about refused connections in [`REMIND_INTERVAL`]. Without a limit, a client that
/// reaches the port could fill the disk.
const MAX_LINES: usize = 64;

/// The purpose of the port, in log lines.
const PORT: &str = "other nodes";

/// The server that the other end of a connection has proven to be; `None` without TLS, where
/// nothing is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proven(pub(crate) Option<u16>);

/// A connection from another node.
pub(crate) struct NodeStream<S> {
    stream: Counted<S>,
    proven: Proven,
    /// Its place among the open connections.
    _place: Place,
}

/// At most `most` connections at a time without TLS, counted in `traffic`, until `stop`.
pub(crate) fn plain(
    socket: TcpListener,
    most: usize,
    traffic: Traffic,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<NodeStream<TcpStream>>> {
    connections(socket, most, stop, move |accepted, connections| {
        let Accepted { stream, place, .. } = accepted;
        let ends = Ends::of(&stream);
        let stream = traffic.incoming(stream, ends, None);
        let stream = NodeStream { stream, proven: Proven(None), _place: place };
        // This fails only when the node stops.
        tokio::spawn(async move { connections.send(Ok(stream)).await });
    })
}

/// At most `most` connections at a time with TLS, counted in `traffic`, until `stop`.
pub(crate) fn secure(
    socket: TcpListener,
    most: usize,
    tls: NodeTls,
    traffic: Traffic,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<NodeStream<TlsStream<TcpStream>>>> {
    let acceptor = Arc::new(SecureAcceptor {
        tls,
        traffic,
        handshakes: Handshakes::new(MAX_HANDSHAKES, Some(MAX_HANDSHAKES_PER_ADDRESS)),
        refusals: RefusalLog::default(),
    });
    connections(socket, most, stop, move |accepted, connections| {
        let acceptor = acceptor.clone();
        tokio::spawn(async move { acceptor.accept(accepted, connections).await });
    })
}

/// Accepts connections on `socket`; `take` passes them on to the returned stream.
fn connections<S: Send + 'static>(
    socket: TcpListener,
    most: usize,
    stop: CancellationToken,
    mut take: impl FnMut(Accepted, mpsc::Sender<S>) + Send + 'static,
) -> ReceiverStream<S> {
    let (sender, connections) = mpsc::channel(1);
    let port = Port::new(PORT, socket, most);
    tokio::spawn(async move { port.run(&stop, |accepted| take(accepted, sender.clone())).await });
    ReceiverStream::new(connections)
}

/// What all TLS connections share.
struct SecureAcceptor {
    /// Makes the TLS handshake, which proves the server at the other end.
    tls: NodeTls,
    /// Counts the bytes of all connections.
    traffic: Traffic,
    /// Handshakes under way.
    handshakes: Handshakes,
    /// Refused connections that were logged.
    refusals: RefusalLog,
}

impl SecureAcceptor {
    /// Makes the handshake of one connection and passes the connection on.
    async fn accept(
        &self,
        accepted: Accepted,
        connections: mpsc::Sender<io::Result<NodeStream<TlsStream<TcpStream>>>>,
    ) {
        let Accepted { stream, peer, place } = accepted;
        let _turn = match self.handshakes.begin(peer.ip(), HANDSHAKE_TIMEOUT).await {
            Ok(turn) => turn,
            Err(NoTurn::TooManyOfAddress) => {
                let reason = format!("{MAX_HANDSHAKES_PER_ADDRESS} handshakes of its address are under way");
                return self.refusals.log(peer, reason);
            }
            Err(NoTurn::TooLate) => {
                return tracing::debug!(address = %peer, "no TLS connection of another node: too many handshakes");
            }
        };
        let ends = Ends::of(&stream);
        match self.tls.accept(stream).await {
            Ok((stream, server)) => {
                let stream = self.traffic.incoming(stream, ends, Some(server));
                let stream = NodeStream { stream, proven: Proven(Some(server)), _place: place };
                // This fails only when the node stops.
                let _ = connections.send(Ok(stream)).await;
            }
            Err(error) if error.is_refusal() => self.refusals.log(peer, error.to_string()),
            Err(error) => tracing::debug!(address = %peer, %error, "no TLS connection of another node"),
        }
    }
}

/// Log lines about refused connections: each address and reason once in [`REMIND_INTERVAL`], and no
/// more than [`MAX_LINES`] of them.
#[derive(Default)]
struct RefusalLog(Mutex<LoggedRefusals>);

#[derive(Default)]
struct LoggedRefusals {
    lines: HashMap<(IpAddr, String), Instant>,
    /// Refusals since the last line that were not logged.
    not_logged: u64,
}

impl RefusalLog {
    fn log(&self, address: SocketAddr, reason: String) {
        let now = Instant::now();
        let mut logged = self.0.lock();
        logged.lines.retain(|_, at| now.duration_since(*at) < REMIND_INTERVAL);
        let line = (address.ip(), reason);
        if logged.lines.contains_key(&line) || logged.lines.len() >= MAX_LINES {
            logged.not_logged += 1;
            return;
        }
        let not_logged = std::mem::take(&mut logged.not_logged);
        logged.lines.insert(line.clone(), now);
        drop(logged);
        tracing::warn!(%address, reason = line.1, not_logged, "refused a connection to the port for other nodes");
    }
}

impl<S> Connected for NodeStream<S> {
    type ConnectInfo = Proven;

    fn connect_info(&self) -> Proven {
        self.proven
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NodeStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NodeStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const _: () = assert!(MAX_HANDSHAKES_PER_ADDRESS * 2 < MAX_HANDSHAKES, "one address must leave places for others");

    #[test]
    fn refusals_are_logged_once_and_within_a_limit() {
        let refusals = RefusalLog::default();
        let state = || {
            let logged = refusals.0.lock();
            (logged.lines.len(), logged.not_logged)
        };
        for port in 1..=5 {
            refusals.log(SocketAddr::from(([10, 0, 0, 1], port)), "a".to_owned());
        }
        assert_eq!(state(), (1, 4));
        refusals.log(SocketAddr::from(([10, 0, 0, 1], 1)), "b".to_owned());
        assert_eq!(state(), (2, 0), "the next line says how many were not logged");
        for host in 0..=255 {
            refusals.log(SocketAddr::from(([10, 0, 1, host], 1)), "a".to_owned());
        }
        assert_eq!(state(), (MAX_LINES, 256 - (MAX_LINES as u64 - 2)));
    }
}
