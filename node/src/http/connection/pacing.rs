//! Which answers of an HTTP/2 connection its client does not read.
//!
//! One connection carries many answers, and a client takes each at its own pace. An answer that is
//! stuck shows neither in the connection, which may be busy with others, nor in the time since the
//! last request.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use crate::http::Reply;
use crate::http::exchange::reply::GivenUp;
use crate::http::limits::{MAX_UNREAD_BYTES, SLOWEST_READ_BYTES};

/// Bytes of an answer that are handed to the connection at a time, as many as one frame holds. What
/// becomes of them then cannot be seen here.
const PIECE_BYTES: usize = 16 * 1024;

/// The requests of one connection, from their arrival until their answers are handed over.
#[derive(Default)]
pub(crate) struct Requests {
    begun: AtomicU64,
    /// By number: how the answer waits for its client to take more of it; `None` while it waits for
    /// this node.
    underway: Mutex<HashMap<u64, Option<Waiting>>>,
}

impl Requests {
    /// How many have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether none is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.underway.lock().is_empty()
    }

    /// Whether an answer waits for its client for longer than `patience`, and than a slow client
    /// takes for what it was given; for that nobody waits who is `pressed`.
    pub(crate) fn is_stalled(&self, patience: Duration, pressed: bool) -> bool {
        let is_longer = |waiting: &Waiting| {
            let slow = if pressed { Duration::ZERO } else { waiting.slow() };
            waiting.since.elapsed() > patience + slow
        };
        self.underway.lock().values().flatten().any(is_longer)
    }

    /// A request has arrived.
    pub(crate) fn begin(self: &Arc<Self>) -> Underway {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        self.underway.lock().insert(number, None);
        Underway { requests: self.clone(), number }
    }
}

/// A wait for a client.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    /// Bytes that it was given, and may still have to read before it makes room for more.
    given: usize,
}

impl Waiting {
    /// How long a slow client takes for what it was given.
    fn slow(self) -> Duration {
        Duration::from_secs((self.given.min(MAX_UNREAD_BYTES) / SLOWEST_READ_BYTES) as u64)
    }
}

/// One request; it ends when this is dropped.
pub(crate) struct Underway {
    requests: Arc<Requests>,
    number: u64,
}

impl Underway {
    /// The body of its answer.
    pub(crate) fn answer(self, reply: Reply) -> PacedReply {
        self.wait(Some(Waiting { since: Instant::now(), given: 0 }));
        PacedReply { reply, rest: Bytes::new(), given: 0, underway: self }
    }

    fn wait(&self, waiting: Option<Waiting>) {
        self.requests.underway.lock().insert(self.number, waiting);
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.requests.underway.lock().remove(&self.number);
    }
}

/// An answer in pieces of [`PIECE_BYTES`]; the connection asks for each when its client has room
/// for it.
pub(crate) struct PacedReply {
    reply: Reply,
    /// What is left of the last frame of `reply`.
    rest: Bytes,
    /// Bytes handed over.
    given: usize,
    underway: Underway,
}

impl Body for PacedReply {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let paced = self.get_mut();
        // The client can take more: from here on the answer waits for this node to make a piece.
        paced.underway.wait(None);
        if paced.rest.is_empty() {
            match ready!(Pin::new(&mut paced.reply).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => paced.rest = bytes,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = paced.rest.split_to(paced.rest.len().min(PIECE_BYTES));
        paced.given += piece.len();
        paced.underway.wait(Some(Waiting { since: Instant::now(), given: paced.given }));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.reply.size_hint().exact() {
            Some(bytes) => SizeHint::with_exact(bytes + self.rest.len() as u64),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_handed_over_in_pieces_and_whole() {
        let requests = Arc::new(Requests::default());
        let text = Bytes::from((0..50_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<u8>>());
        let mut body = requests.begin().answer(Reply::new(text.clone()));
        assert_eq!(body.size_hint().exact(), Some(200_000));
        let mut received = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
            received.extend_from_slice(&piece);
            assert_eq!(body.size_hint().exact(), Some(200_000 - received.len() as u64));
            assert_eq!(body.is_end_stream(), received.len() == 200_000);
        }
        assert_eq!(received, text);
        assert!(!requests.is_idle());
        drop(body);
        assert!(requests.is_idle() && requests.begun() == 1);
    }

    #[tokio::test]
    async fn only_an_answer_that_its_client_makes_no_room_for_is_stalled() {
        let (none, requests) = (Duration::ZERO, Arc::new(Requests::default()));
        let stalled = || {
            // Time passes between two looks at the clock.
            let started = Instant::now();
            while started.elapsed().is_zero() {}
            requests.is_stalled(none, false)
        };
        let underway = requests.begin();
        assert!(!stalled(), "the node is at work");
        let (pieces, receiver) = tokio::sync::mpsc::channel(1);
        let live = Reply::live(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let mut body = underway.answer(live);
        assert!(stalled(), "an answer is there, and nobody has asked for it");
        assert!(futures::poll!(std::pin::pin!(body.frame())).is_pending());
        assert!(!stalled(), "the client has room, but nothing has happened yet");
        pieces.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
        body.frame().await.unwrap().unwrap();
        assert!(stalled(), "a piece was handed over, and no room was made for the next");
        drop(body);
        assert!(!stalled());
    }

    #[tokio::test]
    async fn a_client_may_be_slow_with_what_it_was_given() {
        let requests = Arc::new(Requests::default());
        let mut body = requests.begin().answer(Reply::new(vec![7; 1 << 20].into()));
        for _ in 0..3 * SLOWEST_READ_BYTES / PIECE_BYTES {
            body.frame().await.unwrap().unwrap();
        }
        let waits_for = |seconds| {
            let since = Instant::now() - Duration::from_secs(seconds);
            for waiting in requests.underway.lock().values_mut().flatten() {
                waiting.since = since;
            }
        };
        let patience = Duration::from_secs(10);
        waits_for(12);
        assert!(!requests.is_stalled(patience, false) && requests.is_stalled(patience, true));
        waits_for(14);
        assert!(requests.is_stalled(patience, false));
    }
}
