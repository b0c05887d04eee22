//! The body of an answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

/// Either known as a whole, as nearly all are, or made piece by piece whenever the connection has room for the next one.
pub enum Reply {
    /// Known as a whole.
    Whole(Full<Bytes>),
    /// Made piece by piece.
    Live(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Reply {
    /// A body known as a whole.
    pub fn new(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }

    /// A body made of the pieces of `stream`, which is asked for one only when the connection can take it.
    pub fn live(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Live(Box::pin(stream))
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self::new(Bytes::new())
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Live(pieces) => {
                pieces.as_mut().poll_next(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Live(_) => SizeHint::default(),
        }
    }
}
