//! The body of a request, and the events of an append in it.

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;

use crate::budget::{Exhausted, MemoryBudget, Reservation};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::format::body::EventsFormat;
use crate::http::limits::{BODY_TIMEOUT, MAX_BODY_BYTES, PARSED_AT_ONCE_BYTES, SMALL_BODY_BYTES};
use crate::streams::events::CheckedEvents;

/// A request body, and the memory that it takes for as long as this value lives.
pub(crate) struct Body {
    /// The bytes.
    pub bytes: Bytes,
    _memory: Option<Reservation>,
}

/// Reads the whole body, within its limits of size and time. A large one first waits for memory in
/// `budget`.
pub(crate) async fn read<B>(mut body: B, budget: &MemoryBudget, closed: &CancellationToken) -> Result<Body, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let size = body.size_hint();
    if size.lower() > MAX_BODY_BYTES as u64 {
        return Err(ApiError::BodyTooLarge);
    }
    let most = size.upper().map(|most| usize::try_from(most).unwrap_or(usize::MAX).min(MAX_BODY_BYTES));
    let mut read = Collected::default();
    let memory = match most {
        Some(most) if most <= SMALL_BODY_BYTES => None,
        Some(most) => Some(budget.reserve(most).await?),
        // Most of those that do not tell their size are small. The others may become the largest.
        None if read.up_to(SMALL_BODY_BYTES, &mut body, closed).await? => {
            return Ok(Body { bytes: read.bytes(), _memory: None });
        }
        None => Some(budget.reserve(MAX_BODY_BYTES).await?),
    };
    if read.up_to(MAX_BODY_BYTES, &mut body, closed).await? {
        Ok(Body { bytes: read.bytes(), _memory: memory })
    } else {
        Err(ApiError::BodyTooLarge)
    }
}

/// Reads the events of an append, and the memory that they take until the append is decided.
pub(crate) async fn read_events<B>(
    request: &Request<'_>,
    body: B,
    format: EventsFormat,
) -> Result<(CheckedEvents, EventsMemory), ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let budgets = &request.state.budgets;
    let Body { bytes, _memory: of_body } = read(body, &budgets.bodies, &request.connection.closed).await?;
    let body_bytes = bytes.len();
    let events = parse_events(&budgets.lists, format, bytes).await?;
    let of_growth = memory_of_growth(&budgets.grown_events, body_bytes, events.payload_bytes()).await?;
    Ok((events, EventsMemory { _of_body: of_body, _of_growth: of_growth }))
}

/// The memory of events, given back when dropped.
pub(crate) struct EventsMemory {
    _of_body: Option<Reservation>,
    _of_growth: Option<Reservation>,
}

/// A large list takes up to a second to parse, and a multiple of its length in memory, so that is
/// done apart from the workers, which also run consensus, and for few at a time.
async fn parse_events(lists: &MemoryBudget, format: EventsFormat, body: Bytes) -> Result<CheckedEvents, ApiError> {
    if body.len() <= PARSED_AT_ONCE_BYTES || matches!(format, EventsFormat::One { .. }) {
        return Ok(format.parse(body)?);
    }
    let memory = lists.reserve(MAX_BODY_BYTES).await?;
    let parsing = tokio::task::spawn_blocking(move || {
        let events = format.parse(body);
        drop(memory);
        events
    });
    match parsing.await {
        Ok(events) => Ok(events?),
        Err(error) => {
            tracing::error!(%error, "reading a request body failed");
            Err(ApiError::Internal)
        }
    }
}

/// Memory for events that are much longer than their body was, because they are stored indented.
async fn memory_of_growth(
    grown_events: &MemoryBudget,
    body_bytes: usize,
    payload_bytes: usize,
) -> Result<Option<Reservation>, Exhausted> {
    if payload_bytes <= SMALL_BODY_BYTES.max(2 * body_bytes) {
        return Ok(None);
    }
    grown_events.reserve(payload_bytes).await.map(Some)
}

/// The next frame, `None` in it where there should be one; `None` at the end of the body.
async fn next_frame<B>(body: &mut B, closed: &CancellationToken) -> Option<Option<Frame<Bytes>>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let frame = tokio::select! {
        biased;
        frame = body.frame() => frame,
        // Whatever was sent before that is there already, also the end of the body.
        () = closed.cancelled() => match body.frame().now_or_never() {
            Some(frame) => frame,
            None => return Some(None),
        },
    };
    frame.map(Result::ok)
}

/// What was read of a body.
#[derive(Default)]
struct Collected {
    /// A small body comes in one piece and is not copied.
    first: Bytes,
    all: BytesMut,
}

impl Collected {
    /// Reads on to the end of the body; false when it has more than so many bytes, of which it then
    /// holds a little more.
    async fn up_to<B>(&mut self, most: usize, body: &mut B, closed: &CancellationToken) -> Result<bool, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let reading = async {
            while let Some(frame) = next_frame(body, closed).await {
                let frame = frame.ok_or_else(|| ApiError::BadRequest("Write request body invalid.".into()))?;
                let Ok(data) = frame.into_data() else { continue };
                self.add(data);
                if self.first.len() + self.all.len() > most {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(ApiError::BodyTimeout))
    }

    fn add(&mut self, data: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    fn bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A body in pieces that does not tell its size.
    fn pieces(sizes: &[usize]) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Unpin + use<> {
        let frames: Vec<_> = sizes.iter().map(|size| Ok(http_body::Frame::data(vec![7; *size].into()))).collect();
        http_body_util::StreamBody::new(futures::stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_of_unknown_size_reserves_memory_only_when_it_turns_out_to_be_large() {
        let budget = MemoryBudget::new(MAX_BODY_BYTES, BODY_TIMEOUT);
        let is_free = |bytes| budget.reserve(bytes).now_or_never().is_some_and(|reserved| reserved.is_ok());
        let open = CancellationToken::new();
        let small = read(pieces(&[1, SMALL_BODY_BYTES - 1]), &budget, &open).await.unwrap();
        assert_eq!((small.bytes.len(), is_free(MAX_BODY_BYTES)), (SMALL_BODY_BYTES, true));
        let large = read(pieces(&[1, SMALL_BODY_BYTES, 1]), &budget, &open).await.unwrap();
        assert_eq!((large.bytes.len(), is_free(1)), (SMALL_BODY_BYTES + 2, false));
        // There is no memory for another one, and still some for those that reserve none.
        assert!(read(pieces(&[SMALL_BODY_BYTES]), &budget, &open).await.is_ok());
        let waiting = read(pieces(&[SMALL_BODY_BYTES + 1]), &budget, &open);
        assert!(waiting.now_or_never().is_none());
        drop(large);
        let too_large = read(pieces(&[MAX_BODY_BYTES, 1]), &budget, &open).await;
        assert!(matches!(too_large, Err(ApiError::BodyTooLarge)));
        assert!(is_free(MAX_BODY_BYTES));
    }

    #[tokio::test]
    async fn events_that_have_grown_reserve_memory_of_their_own() {
        let budget = MemoryBudget::new(1 << 20, Duration::ZERO);
        for (body_bytes, payload_bytes) in [(100, SMALL_BODY_BYTES), (1 << 20, 2 << 20), (1 << 25, 1 << 24)] {
            assert!(matches!(memory_of_growth(&budget, body_bytes, payload_bytes).await, Ok(None)));
        }
        let reserved = memory_of_growth(&budget, 10_000, 1 << 20).await.unwrap();
        assert!(reserved.is_some());
        let refused = memory_of_growth(&budget, 10_000, 100_000).await.map(drop);
        assert_eq!(refused, Err(Exhausted));
        drop(reserved);
        assert!(memory_of_growth(&budget, 10_000, 1 << 20).await.is_ok());
    }

    #[tokio::test]
    async fn half_a_body_ends_with_the_connection_and_a_whole_one_is_read() {
        let closed = CancellationToken::new();
        closed.cancel();
        let budget = MemoryBudget::new(MAX_BODY_BYTES, BODY_TIMEOUT);
        let whole = read(pieces(&[3, 4]), &budget, &closed).await.unwrap();
        assert_eq!(whole.bytes.len(), 7);
        let half = futures::stream::iter([Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"ha")))]);
        let half = futures::StreamExt::chain(half, futures::stream::pending());
        let refused = read(http_body_util::StreamBody::new(half), &budget, &closed).now_or_never();
        assert!(matches!(refused, Some(Err(ApiError::BadRequest(_)))));
    }
}
