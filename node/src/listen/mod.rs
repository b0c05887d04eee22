//! Accepting connections on every port of the node: within limits, patiently when the process is
//! out of file descriptors, and with handshakes that do not delay other connections.

mod handshakes;
mod places;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
pub(crate) use handshakes::{Handshakes, NoTurn, network};
pub(crate) use places::Place;
use places::Places;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long to wait after a failed accept: the process is out of file descriptors, and an immediate
/// retry would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel takes for a port before they are accepted, at most.
const MOST_WAITING: usize = 1_024;

/// A port that accepts connections.
pub(crate) struct Port {
    /// The purpose of the port, in log lines.
    name: &'static str,
    socket: TcpListener,
    /// One place for each open connection.
    places: Arc<Places>,
}

/// An accepted connection.
pub(crate) struct Accepted {
    /// The connection.
    pub(crate) stream: TcpStream,
    /// The address of the other end.
    pub(crate) peer: SocketAddr,
    /// Its place among the open connections, to be held for as long as it is open.
    pub(crate) place: Place,
}

impl Port {
    /// Takes connections in on `socket`, which listens already. At most `most` are served at a
    /// time; the next one waits until one ends, which an idle one does for it, and those behind it
    /// wait in the listen queue.
    pub(crate) fn new(name: &'static str, socket: TcpListener, most: usize) -> Self {
        Self { name, socket, places: Places::new(most) }
    }

    /// Passes every connection to `serve` until `stop`, also those that the kernel has taken by
    /// then. Tasks that `serve` has started continue.
    pub(crate) async fn run(self, stop: &CancellationToken, mut serve: impl FnMut(Accepted)) {
        loop {
            tokio::select! {
                accepted = self.accept() => match accepted {
                    Some(accepted) => serve(accepted),
                    None => return,
                },
                () = stop.cancelled() => break,
            }
        }
        // To their clients they are made, and may carry a request already.
        for _ in 0..MOST_WAITING {
            match self.accept().now_or_never() {
                Some(Some(accepted)) => serve(accepted),
                _ => return,
            }
        }
    }

    /// The next connection, ready for small messages. `None` is impossible: the semaphore is never
    /// closed.
    async fn accept(&self) -> Option<Accepted> {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Messages are written in one piece. Waiting for more to send would only add
                    // latency: every hundredth small message would wait 40 ms for the delayed
                    // acknowledgement of the other end.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "cannot set TCP_NODELAY");
                    }
                    // It has a descriptor already, the only one without a place.
                    let place = self.places.take(peer.ip()).await?;
                    return Some(Accepted { stream, peer, place });
                }
                Err(error) => {
                    tracing::warn!(%error, port = self.name, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn connections_that_the_kernel_has_taken_are_served_although_the_port_is_closed() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..16 {
            clients.push(TcpStream::connect(socket.local_addr().unwrap()).await.unwrap());
        }
        let (stop, mut served) = (CancellationToken::new(), Vec::new());
        let serve = |accepted: Accepted| {
            stop.cancel();
            served.push(accepted);
        };
        Port::new("test", socket, 100).run(&stop, serve).await;
        assert_eq!(served.len(), clients.len());
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_until_another_one_ends() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (taken, mut connections) = tokio::sync::mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let port = Port::new("test", socket, 1);
        let (stopped, served) = (stop.clone(), taken.clone());
        let running = tokio::spawn(async move { port.run(&stopped, |accepted| served.send(accepted).unwrap()).await });

        let mut first = TcpStream::connect(address).await.unwrap();
        let second = TcpStream::connect(address).await.unwrap();
        let accepted = connections.recv().await.unwrap();
        assert_eq!(accepted.peer, first.local_addr().unwrap());
        tokio::task::yield_now().await;
        assert!(connections.try_recv().is_err(), "there is only one place");

        drop(accepted);
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(connections.recv().await.unwrap().peer, second.local_addr().unwrap());
        stop.cancel();
        running.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    }
}
