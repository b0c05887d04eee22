//! Connections of other nodes, in the clear or with TLS, as gRPC takes them in.

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
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::traffic::{Counted, Ends, Traffic};
use crate::tls::NodeTls;

/// TLS handshakes of other nodes under way; the next one waits in the listen queue. A cluster needs some dozens when it starts.
pub const MAX_HANDSHAKES: usize = 256;

/// Of these, for one address: who opens connections and says nothing must not keep the other nodes out. A whole cluster on one machine,
/// or behind one address, needs less.
pub const MAX_HANDSHAKES_PER_ADDRESS: usize = 64;

/// Pause after a failed accept: the process is out of file descriptors, and trying at once again would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A refused connection from the same address for the same reason is worth a line this often: nodes try again and again.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);

/// Lines about refused connections in [`REMIND_INTERVAL`]: whoever can reach the port could fill the disk otherwise.
const MAX_TOLD: usize = 64;

/// The server that the other end of a connection has proven to be; `None` in the clear, where nobody proves anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven(pub Option<u16>);

/// A connection of another node.
pub struct NodeStream<S> {
    stream: Counted<S>,
    proven: Proven,
}

/// Connections without TLS, counted in `traffic`, until `listener` fails for good.
pub fn plain(listener: TcpListener, traffic: Traffic) -> impl Stream<Item = io::Result<NodeStream<TcpStream>>> {
    futures::stream::unfold((listener, traffic), |(listener, traffic)| async {
        let (stream, _) = accept(&listener).await;
        let ends = Ends::of(&stream);
        let stream = traffic.incoming(stream, ends, None);
        Some((Ok(NodeStream { stream, proven: Proven(None) }), (listener, traffic)))
    })
}

/// Connections with TLS, counted in `traffic`, until `stop`. Handshakes run beside each other: one that takes its time holds up no other.
pub fn secure(
    listener: TcpListener,
    tls: NodeTls,
    traffic: Traffic,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<NodeStream<TlsStream<TcpStream>>>> {
    let (connections, accepted) = mpsc::channel(1);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let callers = Arc::new(Callers::default());
        let refusals = Arc::new(Refusals::default());
        loop {
            let next = async {
                // The place is taken before accepting: beyond the limit, connections wait in the listen queue.
                let place = places.clone().acquire_owned().await;
                (place, accept(&listener).await)
            };
            let (place, (stream, address)) = tokio::select! {
                (place, accepted) = next => match place {
                    Ok(place) => (place, accepted),
                    // The semaphore is never closed.
                    Err(_) => return,
                },
                () = stop.cancelled() => return,
            };
            let Some(turn) = callers.begin(address.ip()) else {
                refusals.tell(address, format!("{MAX_HANDSHAKES_PER_ADDRESS} handshakes of its address are under way"));
                continue;
            };
            let (tls, traffic) = (tls.clone(), traffic.clone());
            let (connections, refusals) = (connections.clone(), refusals.clone());
            tokio::spawn(async move {
                let ends = Ends::of(&stream);
                match tls.accept(stream).await {
                    Ok((stream, server)) => {
                        let stream = traffic.incoming(stream, ends, Some(server));
                        let stream = NodeStream { stream, proven: Proven(Some(server)) };
                        // It fails only when the node stops.
                        let _ = connections.send(Ok(stream)).await;
                    }
                    Err(error) if error.is_refusal() => refusals.tell(address, error.to_string()),
                    Err(error) => tracing::debug!(%address, %error, "no TLS connection of another node"),
                }
                drop((place, turn));
            });
        }
    });
    ReceiverStream::new(accepted)
}

/// The next connection, ready for small messages.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Without it every hundredth small answer waits 40 ms for the peer's delayed acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return (stream, address);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of another node");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Handshakes under way by where they come from.
#[derive(Default)]
struct Callers(Mutex<HashMap<IpAddr, usize>>);

/// One handshake under way; it is over when this is dropped.
struct Turn {
    callers: Arc<Callers>,
    origin: IpAddr,
}

impl Callers {
    /// `None` when as many as may be from there are under way.
    fn begin(self: &Arc<Self>, address: IpAddr) -> Option<Turn> {
        let origin = origin(address);
        let mut underway = self.0.lock();
        let count = underway.entry(origin).or_default();
        if *count >= MAX_HANDSHAKES_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Turn { callers: self.clone(), origin })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut underway = self.callers.0.lock();
        if let Some(count) = underway.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                underway.remove(&self.origin);
            }
        }
    }
}

/// What counts as one address: of IPv6 the network of 64 bits, because a single host has all of its addresses.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

/// Lines about refused connections: each address and reason once in [`REMIND_INTERVAL`], and not more than [`MAX_TOLD`] of them.
#[derive(Default)]
struct Refusals(Mutex<Told>);

#[derive(Default)]
struct Told {
    lines: HashMap<(IpAddr, String), Instant>,
    /// Refusals since the last line that got none.
    untold: u64,
}

impl Refusals {
    fn tell(&self, address: SocketAddr, reason: String) {
        let now = Instant::now();
        let mut told = self.0.lock();
        told.lines.retain(|_, at| now.duration_since(*at) < REMIND_INTERVAL);
        let line = (address.ip(), reason);
        if told.lines.contains_key(&line) || told.lines.len() >= MAX_TOLD {
            told.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut told.untold);
        told.lines.insert(line.clone(), now);
        drop(told);
        tracing::warn!(%address, reason = line.1, untold, "refused a connection to the port for other nodes");
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

    #[test]
    fn one_address_does_not_get_all_places_for_handshakes() {
        const { assert!(MAX_HANDSHAKES_PER_ADDRESS * 2 < MAX_HANDSHAKES) };
        let callers = Arc::new(Callers::default());
        let begin = |address: &str| callers.begin(address.parse().unwrap());
        let mut turns: Vec<Turn> = (0..MAX_HANDSHAKES_PER_ADDRESS).map(|_| begin("10.0.0.1").unwrap()).collect();
        assert!(begin("10.0.0.1").is_none() && begin("::ffff:10.0.0.1").is_none());
        assert!(begin("10.0.0.2").is_some());
        turns.pop();
        assert!(begin("10.0.0.1").is_some(), "the place was given back");
        turns.extend((0..MAX_HANDSHAKES_PER_ADDRESS).map(|host| begin(&format!("2001:db8::{host:x}")).unwrap()));
        assert!(begin("2001:db8::ffff").is_none());
        assert!(begin("2001:db8:0:1::1").is_some());
        drop(turns);
        assert!(callers.0.lock().is_empty());
    }

    #[test]
    fn refusals_are_told_once_and_within_a_limit() {
        let refusals = Refusals::default();
        let state = || {
            let told = refusals.0.lock();
            (told.lines.len(), told.untold)
        };
        for port in 1..=5 {
            refusals.tell(SocketAddr::from(([10, 0, 0, 1], port)), "a".to_owned());
        }
        assert_eq!(state(), (1, 4));
        refusals.tell(SocketAddr::from(([10, 0, 0, 1], 1)), "b".to_owned());
        assert_eq!(state(), (2, 0), "the next line says how many got none");
        for host in 0..=255 {
            refusals.tell(SocketAddr::from(([10, 0, 1, host], 1)), "a".to_owned());
        }
        assert_eq!(state(), (MAX_TOLD, 256 - (MAX_TOLD as u64 - 2)));
    }
}
