//! The body of an answer: in memory as a whole, handed over piece by piece while it is made, or
//! made piece by piece when the connection asks for the next.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::budget::Held;
use crate::http::exchange::compress::Encoder;

/// A longer body carries its memory with it: slices of it wait in the connection after the answer
/// is handed over. Shorter ones are gone soon, and worth no allocation.
const OWNED_FROM_BYTES: usize = 16 * 1024;

/// The body of an answer.
#[derive(Default)]
pub(crate) struct Reply {
    kind: Kind,
    /// The memory of a body that is handed over as one piece.
    held: Option<Held>,
}

enum Kind {
    /// `None` when it is empty or was taken.
    Whole(Option<Bytes>),
    Pieces(Box<Pieces>),
    /// Without a foreseeable end.
    Live(Pin<Box<dyn Stream<Item = Result<Bytes, GivenUp>> + Send>>),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Whole(None)
    }
}

#[derive(Debug)]
struct Pieces {
    /// `None` in it is the end of the body. The channel closes without it when the maker gives up.
    receiver: mpsc::Receiver<Option<Bytes>>,
    /// Bytes that are still to come, if their number is known.
    left: Option<u64>,
    /// Compresses the pieces on their way.
    encoder: Option<Encoder>,
    is_at_end: bool,
}

/// The body ended before it was complete: its maker gave up. The connection is closed, so that the
/// client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was given up before its end")]
pub(crate) struct GivenUp;

/// Makes a body piece by piece.
pub(crate) struct PieceSender(mpsc::Sender<Option<Bytes>>);

impl Reply {
    /// A body in memory.
    pub(crate) fn new(body: Bytes) -> Self {
        Self { kind: Kind::Whole(Some(body).filter(|body| !body.is_empty())), held: None }
    }

    /// A body that is still being made; `length` if it is known.
    pub(crate) fn in_pieces(length: Option<u64>) -> (Self, PieceSender) {
        // One piece waits while the one before it is written to the connection.
        let (sender, receiver) = mpsc::channel(1);
        let pieces = Pieces { receiver, left: length, encoder: None, is_at_end: false };
        (Self { kind: Kind::Pieces(Box::new(pieces)), held: None }, PieceSender(sender))
    }

    /// A body made of the pieces of `stream`, each of which is made only when the connection can
    /// take it.
    pub(crate) fn live(stream: impl Stream<Item = Result<Bytes, GivenUp>> + Send + 'static) -> Self {
        Self { kind: Kind::Live(Box::pin(stream)), held: None }
    }

    /// Whether it has no foreseeable end.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.kind, Kind::Live(_))
    }

    /// The body if it is in memory, otherwise this value again.
    pub(crate) fn into_whole(self) -> Result<Bytes, Self> {
        match self.kind {
            Kind::Whole(body) => Ok(body.unwrap_or_default()),
            kind => Err(Self { kind, held: self.held }),
        }
    }

    /// Length of a body that is in memory; zero for others.
    pub(crate) fn whole_bytes(&self) -> usize {
        match &self.kind {
            Kind::Whole(Some(body)) => body.len(),
            Kind::Whole(None) | Kind::Pieces(_) | Kind::Live(_) => 0,
        }
    }

    /// Keeps the memory of a body that is in memory until the last of it is sent.
    pub(crate) fn keep(&mut self, mut held: Held) {
        let Kind::Whole(Some(body)) = &mut self.kind else { return };
        held.shrink_to(body.len());
        if body.len() > OWNED_FROM_BYTES {
            *body = held.own(std::mem::take(body));
        } else {
            self.held = Some(held);
        }
    }

    /// The body with its pieces compressed on their way.
    pub(crate) fn encoded(mut self, encoder: Encoder) -> Self {
        if let Kind::Pieces(pieces) = &mut self.kind {
            pieces.left = None;
            pieces.encoder = Some(encoder);
        }
        self
    }
}

impl PieceSender {
    /// Waits until the connection can take a piece; false when it is gone.
    pub(crate) async fn send(&self, piece: Bytes) -> bool {
        self.0.send(Some(piece)).await.is_ok()
    }

    /// Returns once the connection is gone.
    pub(crate) async fn unwanted(&self) {
        self.0.closed().await;
    }

    /// The body is complete.
    pub(crate) async fn end(self) {
        // A connection that is gone does not miss the end.
        let _ = self.0.send(None).await;
    }
}

impl Pieces {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, GivenUp>>> {
        while !self.is_at_end {
            let piece = match ready!(self.receiver.poll_recv(context)) {
                Some(Some(piece)) => {
                    self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                    match &mut self.encoder {
                        Some(encoder) => encoder.push(&piece),
                        None => Ok(piece),
                    }
                }
                Some(None) => {
                    self.is_at_end = true;
                    self.encoder.take().map_or(Ok(Bytes::new()), Encoder::finish)
                }
                None => {
                    self.is_at_end = true;
                    return Poll::Ready(Some(Err(GivenUp)));
                }
            };
            match piece {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Poll::Ready(Some(Ok(piece))),
                Err(error) => {
                    tracing::error!(%error, "an answer cannot be compressed");
                    self.is_at_end = true;
                    return Poll::Ready(Some(Err(GivenUp)));
                }
            }
        }
        Poll::Ready(None)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        match &mut self.get_mut().kind {
            Kind::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Kind::Pieces(pieces) => pieces.poll(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
            Kind::Live(pieces) => {
                pieces.as_mut().poll_next(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(body) => body.is_none(),
            Kind::Pieces(pieces) => pieces.is_at_end,
            Kind::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Kind::Pieces(pieces) => pieces.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Live(_) => SizeHint::default(),
        }
    }
}
