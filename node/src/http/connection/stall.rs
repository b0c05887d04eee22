//! Connections whose client takes nothing of what it has asked for are closed; slow ones are not.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use crate::http::exchange::request::Connection;
use crate::http::limits::{STALL_TIMEOUT, STALL_TIMEOUT_UNDER_PRESSURE};

/// How often a connection that cannot be written to is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A connection that knows how much of what was written to it its client has not taken.
pub(crate) trait Unsent {
    /// Bytes that the system keeps because the client has not confirmed them; `None` if it does not
    /// tell.
    fn unsent(&self) -> Option<usize>;
}

impl Unsent for TcpStream {
    fn unsent(&self) -> Option<usize> {
        bytes_in_send_queue(self.as_raw_fd())
    }
}

impl Unsent for TlsStream<TcpStream> {
    fn unsent(&self) -> Option<usize> {
        self.get_ref().0.unsent()
    }
}

fn bytes_in_send_queue(socket: RawFd) -> Option<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int to where it is told to, and `bytes` lives until it returns.
    let answer = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    if answer == 0 { usize::try_from(bytes).ok() } else { None }
}

/// A connection that fails when its client takes nothing for some time of what there is to write.
/// Without this, a client that never reads its answer would keep it in memory for ever.
///
/// The system lets no more be written until a third of its buffer is free, megabytes perhaps: a
/// slow client takes longer for these than any patience. So it is looked whether the client takes
/// bytes, not whether more can be written.
pub(crate) struct StallGuard<S> {
    stream: S,
    connection: Arc<Connection>,
    /// From the first write that had to wait until a write goes on.
    stalled: Option<Box<Stalled>>,
}

struct Stalled {
    next_look: Pin<Box<Sleep>>,
    /// Since when the client has taken nothing.
    since: Instant,
    unsent: Option<usize>,
}

impl Stalled {
    fn new(unsent: Option<usize>) -> Box<Self> {
        let next_look = Box::pin(tokio::time::sleep(LOOK_INTERVAL));
        Box::new(Self { next_look, since: Instant::now(), unsent })
    }

    /// Whether the client has taken nothing for longer than `patience`.
    fn look(&mut self, unsent: Option<usize>, patience: Duration) -> bool {
        if unsent < self.unsent {
            self.since = Instant::now();
        }
        self.unsent = unsent;
        self.next_look.as_mut().reset(tokio::time::Instant::now() + LOOK_INTERVAL);
        self.since.elapsed() >= patience
    }
}

impl<S: Unsent> StallGuard<S> {
    /// Looks after `stream`, which carries `connection`.
    pub(crate) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection, stalled: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let Self { stream, connection, stalled } = self;
        let stalled = stalled.get_or_insert_with(|| Stalled::new(stream.unsent()));
        loop {
            ready!(stalled.next_look.as_mut().poll(context));
            if stalled.look(stream.unsent(), patience(connection)) {
                let reason = "the client does not read its answer";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)));
            }
        }
    }
}

/// How long a client may take nothing.
pub(crate) fn patience(connection: &Connection) -> Duration {
    if connection.is_in_the_way() { STALL_TIMEOUT_UNDER_PRESSURE } else { STALL_TIMEOUT }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unsent + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let written = Pin::new(&mut guard.stream).poll_write(context, bytes);
        guard.watch(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let written = Pin::new(&mut guard.stream).poll_write_vectored(context, pieces);
        guard.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let flushed = Pin::new(&mut guard.stream).poll_flush(context);
        guard.watch(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let shut_down = Pin::new(&mut guard.stream).poll_shutdown(context);
        guard.watch(context, shut_down)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::budgets::Budgets;

    impl Unsent for DuplexStream {
        fn unsent(&self) -> Option<usize> {
            None
        }
    }

    fn connection() -> Arc<Connection> {
        Arc::new(Connection::new(([127, 0, 0, 1], 1).into(), false, &Budgets::default()))
    }

    #[tokio::test]
    async fn only_a_client_that_takes_nothing_is_given_up() {
        let mut stalled = Stalled::new(Some(10));
        let none = Duration::ZERO;
        assert!(stalled.look(Some(10), none), "nothing was taken");
        let patience = Duration::from_secs(3600);
        stalled.since -= patience;
        assert!(!stalled.look(Some(9), patience), "a byte was taken");
        stalled.since -= patience;
        assert!(stalled.look(Some(9), patience), "and then no other");
    }

    #[tokio::test]
    async fn a_reader_that_stops_is_given_up() {
        let (stream, _client) = tokio::io::duplex(8);
        let mut guard = StallGuard::new(stream, connection());
        let mut stalled = Stalled::new(None);
        stalled.since -= STALL_TIMEOUT;
        guard.stalled = Some(stalled);
        assert_eq!(guard.write(&[0; 8]).await.unwrap(), 8);
        assert!(guard.stalled.is_none(), "a write went on");
        assert!(guard.write(&[0]).now_or_never().is_none());
        guard.stalled.as_mut().unwrap().since -= STALL_TIMEOUT;
        let error = guard.write_all(&[0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_reader_gets_everything() {
        let (stream, mut client) = tokio::io::duplex(8);
        let mut guard = StallGuard::new(stream, connection());
        let writing = tokio::spawn(async move { guard.write_all(&[7; 1000]).await });
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap().unwrap();
        assert_eq!(received, [7; 1000]);
    }

    #[tokio::test]
    async fn the_system_tells_what_the_client_has_not_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut client, stream) = (client.unwrap(), accepted.unwrap().0);
        assert_eq!(stream.unsent(), Some(0));
        // More than both systems keep.
        let chunk = vec![7; 1 << 20];
        while stream.writable().now_or_never().is_some() && stream.try_write(&chunk).is_ok() {}
        let full = stream.unsent().unwrap();
        assert!(full > 0);
        let mut taken = vec![0; 1 << 16];
        while stream.unsent().unwrap() >= full {
            client.read_exact(&mut taken).await.unwrap();
        }
    }
}
