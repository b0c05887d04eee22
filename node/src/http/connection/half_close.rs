//! Connections whose client closes its sending side behind a whole request, and then waits for the
//! answer, as `printf .. | nc` does.
//!
//! hyper takes the end of what is sent for the end of the client and drops the request, which may
//! be stored already. Its own `half_close` makes it blind instead: it reads nothing while a request
//! is under way, so that those who wait for an event would keep their places although their client
//! is gone. Here the end is hidden from hyper until the answer is written, and told to those who
//! wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::http::connection::head_memory::HeadMemory;

/// Nothing is asked.
const IDLE: u8 = 0;
/// A request has come whose answer is not written yet.
const UNDERWAY: u8 = 1;
/// hyper has all of the answer, some of which may wait to be sent.
const WRITTEN: u8 = 2;

/// How far the current request of a connection has come. Clones are of the same connection.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    phase: Arc<AtomicU8>,
    /// A request was begun since the task of the connection was polled last.
    has_had_turn: Arc<AtomicBool>,
    /// The client has closed its sending side.
    closed: CancellationToken,
}

impl Progress {
    /// Of a new connection; `closed` is cancelled when its client closes its sending side.
    pub(super) fn new(closed: CancellationToken) -> Self {
        Self { phase: Arc::new(AtomicU8::new(IDLE)), has_had_turn: Arc::default(), closed }
    }

    /// The task of the connection is polled.
    pub(super) fn next_turn(&self) {
        self.has_had_turn.store(false, Ordering::Relaxed);
    }

    /// Waits until it is the turn of this connection again, if one of its requests was begun in
    /// this one. hyper answers up to 16 at once that were sent one behind the other: a thousand
    /// clients who do that would keep the node from others, and a leader from its followers, for
    /// longer than an election takes.
    pub(super) async fn turn(&self) {
        if self.has_had_turn.swap(true, Ordering::Relaxed) {
            tokio::task::yield_now().await;
            self.has_had_turn.store(true, Ordering::Relaxed);
        }
    }

    /// A request has come.
    pub(super) fn begin(&self) -> Answering {
        self.phase.store(UNDERWAY, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// Whether no request is under way.
    fn is_idle(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == IDLE
    }

    /// Everything was sent that hyper had; whether that has ended a request.
    fn flushed(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == WRITTEN
            && self.phase.compare_exchange(WRITTEN, IDLE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A request under way, until this is dropped with the body of its answer.
#[derive(Debug)]
pub(super) struct Answering(Progress);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.phase.store(WRITTEN, Ordering::Relaxed);
    }
}

/// A connection that does not show its end while a request is under way, and counts the memory of
/// the next head while none is.
pub(super) struct HalfClose<S> {
    connection: S,
    progress: Progress,
    has_ended: bool,
    head: HeadMemory,
    /// Waits to be told of the end.
    reader: Option<Waker>,
}

impl<S> HalfClose<S> {
    pub(super) fn new(connection: S, progress: Progress, head: HeadMemory) -> Self {
        Self { connection, progress, has_ended: false, head, reader: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HalfClose<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.has_ended {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.connection).poll_read(context, buffer))?;
            let bytes = buffer.filled().len() - before;
            if bytes > 0 && this.progress.is_idle() {
                this.head.read(bytes)?;
            }
            if bytes > 0 || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            this.has_ended = true;
            this.progress.closed.cancel();
        }
        if this.progress.is_idle() {
            return Poll::Ready(Ok(()));
        }
        this.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HalfClose<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    /// hyper asks for this when it has nothing more to write.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.connection).poll_flush(context))?;
        if this.progress.flushed() {
            this.head.clear();
            if let Some(reader) = this.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::budget::{Account, Pool};

    fn head() -> HeadMemory {
        HeadMemory::new(&Account::new(&Pool::new(0), [127, 0, 0, 1].into()))
    }

    struct Ends {
        closed: CancellationToken,
        progress: Progress,
        node: HalfClose<tokio::io::DuplexStream>,
        client: tokio::io::DuplexStream,
    }

    fn connect() -> Ends {
        let (node, client) = tokio::io::duplex(64);
        let closed = CancellationToken::new();
        let progress = Progress::new(closed.clone());
        Ends { closed, progress: progress.clone(), node: HalfClose::new(node, progress, head()), client }
    }

    #[tokio::test]
    async fn one_request_of_a_connection_has_its_turn_at_a_time() {
        let progress = Progress::new(CancellationToken::new());
        assert!(progress.turn().now_or_never().is_some());
        let mut second = Box::pin(progress.turn());
        assert!(second.as_mut().now_or_never().is_none());
        progress.next_turn();
        assert!(second.now_or_never().is_some());
        assert!(progress.turn().now_or_never().is_none(), "the second one has had it");
    }

    #[tokio::test]
    async fn the_end_is_told_at_once_and_shown_when_the_answer_is_sent() {
        let Ends { closed, progress, mut node, mut client } = connect();
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let mut read = [0; 8];
        assert_eq!(node.read(&mut read).await.unwrap(), 3);
        let request = progress.begin();
        assert!(!closed.is_cancelled());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(node);
            let end = tokio::spawn(async move { reader.read(&mut [0; 8]).await.unwrap() });
            receiver.await.unwrap();
            writer.flush().await.unwrap();
            end.await.unwrap()
        });
        closed.cancelled().await;
        drop(request);
        sender.send(()).unwrap();
        assert_eq!(serving.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_end_of_an_idle_connection_is_shown() {
        let Ends { closed, mut node, client, .. } = connect();
        drop(client);
        assert_eq!(node.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(closed.is_cancelled());
    }

    #[tokio::test]
    async fn what_is_not_flushed_is_not_answered() {
        let Ends { progress, mut node, mut client, .. } = connect();
        client.shutdown().await.unwrap();
        drop(progress.begin());
        let mut read = [0; 8];
        assert!(node.read(&mut read).now_or_never().is_none(), "the answer is not sent");
        // The next request begins before hyper has sent the answer to the one before.
        let request = progress.begin();
        node.flush().await.unwrap();
        assert!(node.read(&mut read).now_or_never().is_none(), "the next request is under way");
        drop(request);
        node.flush().await.unwrap();
        assert_eq!(node.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_error_is_no_end() {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        let closed = CancellationToken::new();
        let progress = Progress::new(closed.clone());
        let _request = progress.begin();
        let error = HalfClose::new(Broken, progress, head()).read(&mut [0; 8]).await.unwrap_err();
        assert_eq!((error.kind(), closed.is_cancelled()), (io::ErrorKind::ConnectionReset, false));
    }
}
