//! Answers that tell that their connection is in use until they are sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::exchange::reply::GivenUp;
use crate::listen::InUse;

/// The body of an answer. The connection drops it when the last of it was taken.
pub(super) struct ReplyInUse<B> {
    reply: B,
    _in_use: InUse,
}

impl<B> ReplyInUse<B> {
    pub(super) fn new(reply: B, in_use: InUse) -> Self {
        Self { reply, _in_use: in_use }
    }
}

impl<B: Body<Data = Bytes, Error = GivenUp> + Unpin> Body for ReplyInUse<B> {
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
