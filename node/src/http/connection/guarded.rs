//! Bodies of answers that hold something until they are sent: the use of a connection, a request
//! under way.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::exchange::reply::GivenUp;

/// The body of an answer, and a guard that ends with it: the connection drops both when it has
/// taken the last of the body.
pub(super) struct Guarded<B, G> {
    reply: B,
    _guard: G,
}

impl<B, G> Guarded<B, G> {
    pub(super) fn new(reply: B, guard: G) -> Self {
        Self { reply, _guard: guard }
    }
}

impl<B: Body<Data = Bytes, Error = GivenUp> + Unpin, G: Unpin> Body for Guarded<B, G> {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        Pin::new(&mut self.get_mut().reply).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.size_hint()
    }
}
