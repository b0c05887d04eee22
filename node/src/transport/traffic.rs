//! Counts the traffic between nodes, for statistics.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use uuid::Uuid;

/// The open connections with other nodes, and the bytes of all connections ever opened. Cheap to
/// clone; clones share their counts.
#[derive(Clone, Default)]
pub(crate) struct Traffic {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In the order of opening.
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

/// An open connection with another node.
#[derive(Debug)]
pub(crate) struct Connection {
    /// A random id.
    pub(crate) id: Uuid,
    /// The server at the other end: the server that was called, or the server that the caller has
    /// proven to be; `None` for a caller without TLS.
    pub(crate) server: Option<u16>,
    /// Whether this node has opened it.
    pub(crate) is_outgoing: bool,
    /// Whether it uses TLS. Its bytes are counted before encryption.
    pub(crate) is_tls: bool,
    /// Both addresses.
    pub(crate) ends: Ends,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl Connection {
    /// Bytes sent so far.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes received so far.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }
}

/// The addresses of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The address of this node.
    pub(crate) local: SocketAddr,
    /// The address of the other node.
    pub(crate) remote: SocketAddr,
}

impl Ends {
    /// The addresses of `stream`; unspecified ones when it is already broken.
    pub(crate) fn of(stream: &TcpStream) -> Self {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self { local: stream.local_addr().unwrap_or(unknown), remote: stream.peer_addr().unwrap_or(unknown) }
    }
}

impl Traffic {
    /// Counts the bytes of `stream`, a connection to `server` that this node has opened.
    pub(crate) fn outgoing<S>(&self, stream: S, ends: Ends, server: u16, is_tls: bool) -> Counted<S> {
        self.count(stream, ends, Some(server), true, is_tls)
    }

    /// Counts the bytes of an accepted connection; `server` is given when TLS has proven it.
    pub(crate) fn incoming<S>(&self, stream: S, ends: Ends, server: Option<u16>) -> Counted<S> {
        self.count(stream, ends, server, false, server.is_some())
    }

    fn count<S>(&self, stream: S, ends: Ends, server: Option<u16>, is_outgoing: bool, is_tls: bool) -> Counted<S> {
        let connection = Arc::new(Connection {
            id: Uuid::new_v4(),
            server,
            is_outgoing,
            is_tls,
            ends,
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
        });
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner.open.lock().insert(number, connection.clone());
        Counted { stream, number, connection, traffic: self.clone() }
    }

    /// The open connections, oldest first.
    pub(crate) fn open(&self) -> Vec<Arc<Connection>> {
        self.inner.open.lock().values().cloned().collect()
    }

    /// Bytes sent over all connections, including closed ones.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.inner.sent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes received over all connections, including closed ones.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.inner.received_bytes.load(Ordering::Relaxed)
    }
}

/// A stream whose bytes are counted. The connection counts as open until this is dropped.
pub(crate) struct Counted<S> {
    stream: S,
    number: u64,
    connection: Arc<Connection>,
    traffic: Traffic,
}

impl<S> Counted<S> {
    fn sent(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.connection.sent_bytes.fetch_add(*bytes as u64, Ordering::Relaxed);
            self.traffic.inner.sent_bytes.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.traffic.inner.open.lock().remove(&self.number);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = (buf.filled().len() - before) as u64;
        self.connection.received_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.traffic.inner.received_bytes.fetch_add(bytes, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.sent(&written);
        written
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_are_counted_both_ways_and_a_dropped_connection_is_no_longer_open() {
        let ends = Ends { local: ([127, 0, 0, 1], 1).into(), remote: ([127, 0, 0, 1], 2).into() };
        let traffic = Traffic::default();
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut counted = traffic.outgoing(ours, ends, 3, false);
        counted.write_all(b"question").await.unwrap();
        theirs.write_all(b"yes").await.unwrap();
        counted.read_exact(&mut [0; 3]).await.unwrap();
        let open = traffic.open();
        assert_eq!(open.len(), 1);
        assert_eq!((open[0].sent_bytes(), open[0].received_bytes(), open[0].server), (8, 3, Some(3)));
        drop(counted);
        assert!(traffic.open().is_empty());
        assert_eq!((traffic.sent_bytes(), traffic.received_bytes()), (8, 3), "past bytes stay counted");
    }
}
