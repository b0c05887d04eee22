//! The body of a request, and the events of an append in it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::{Arriving, Exhausted, Held, MemoryBudget, Reservation, Room};
use crate::http::budgets::Budgets;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::{Connection, Request};
use crate::http::format::body::EventsFormat;
use crate::http::limits::{
    BODY_LOOK_INTERVAL, BODY_TIMEOUT, MAX_BODY_BYTES, MAX_BODY_STEP_BYTES, MIN_BODY_BYTES_PER_LOOK,
    PARSED_AT_ONCE_BYTES, SMALL_BODY_BYTES,
};
use crate::streams::events::CheckedEvents;
use crate::timing::{self, Phase};

/// A request body, and the memory that it takes for as long as this value lives.
pub(crate) struct Body {
    /// The bytes.
    pub(crate) bytes: Bytes,
    memory: BodyMemory,
}

/// The memory of a body, given back when dropped.
struct BodyMemory {
    /// Of its connection: the body as far as it is small.
    _small: Held,
    /// Of all large bodies.
    _large: Option<Room>,
}

/// Reads the whole body, within its limits of size, time and memory. Nothing is taken for bytes
/// that are only announced: what does not come holds no room.
///
/// # Errors
/// The body is too large, comes too slowly, or not as a whole; or there was no room for it in time.
pub(crate) async fn read<B>(body: B, budgets: &Budgets, connection: &Connection) -> Result<Body, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let _phase = timing::phase(Phase::Body);
    let size = body.size_hint();
    if size.lower() > MAX_BODY_BYTES as u64 {
        return Err(ApiError::BodyTooLarge);
    }
    let mut arriving = ArrivingBody {
        body,
        connection,
        announced: size.upper().and_then(|most| usize::try_from(most).ok()),
        read: Collected::default(),
        small: connection.bodies.holds_nothing(),
        arriving: &budgets.arriving,
        large: None,
        pace: Pace::new(),
    };
    while let Some(data) = arriving.next().await? {
        arriving.add(data).await?;
    }
    Ok(arriving.complete())
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
    let Body { bytes, memory: of_body } = read(body, budgets, request.connection).await?;
    let body_bytes = bytes.len();
    let events = parse_events(&budgets.lists, format, bytes).await?;
    let of_growth = memory_of_growth(&budgets.grown_events, body_bytes, events.payload_bytes()).await?;
    Ok((events, EventsMemory { _of_body: of_body, _of_growth: of_growth }))
}

/// The memory of events, given back when dropped.
pub(crate) struct EventsMemory {
    _of_body: BodyMemory,
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

/// A body on its way.
struct ArrivingBody<'a, B> {
    body: B,
    connection: &'a Connection,
    /// Its bytes, if the client has said how many.
    announced: Option<usize>,
    read: Collected,
    small: Held,
    arriving: &'a Arriving,
    /// The room of a body that is large already.
    large: Option<Room>,
    pace: Pace,
}

impl<B> ArrivingBody<'_, B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// The next piece; `None` behind the last one.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = next_frame(&mut self.body, &self.connection.closed);
            match tokio::time::timeout_at(self.pace.next_look, frame).await {
                Ok(None) => return Ok(None),
                Ok(Some(None)) => return Err(ApiError::BadRequest("Write request body invalid.".into())),
                Ok(Some(Some(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.pace.received += data.len();
                        return Ok(Some(data));
                    }
                }
                Err(_) if self.pace.is_over(self.is_in_the_way()) => return Err(ApiError::BodyTimeout),
                Err(_) => {}
            }
        }
    }

    /// Whether others wait for the room that this body has.
    fn is_in_the_way(&self) -> bool {
        self.large.as_ref().is_some_and(Room::is_wanted) || self.connection.bodies.is_in_the_way()
    }

    async fn add(&mut self, data: Bytes) -> Result<(), ApiError> {
        let bytes = self.read.len() + data.len();
        if bytes > MAX_BODY_BYTES {
            return Err(ApiError::BodyTooLarge);
        }
        // Where small ones have no room left, it has that of large ones.
        let is_small = bytes <= SMALL_BODY_BYTES && self.small.try_grow(data.len());
        if !is_small {
            let small_bytes = self.small.bytes();
            let large = self.large.get_or_insert_with(|| {
                let goal = self.announced.map_or(0, |announced| announced.saturating_sub(small_bytes));
                self.arriving.begin(self.connection.network, goal)
            });
            let of_large = bytes - small_bytes;
            if !large.is_enough_for(of_large) {
                let began = Instant::now();
                let (least, wished) = step(large.bytes(), of_large, self.announced.unwrap_or(MAX_BODY_BYTES));
                large.grow(least, wished, BODY_TIMEOUT).await?;
                self.pace.pause(began.elapsed());
            }
        }
        self.read.add(data);
        Ok(())
    }

    fn complete(self) -> Body {
        let Self { read, small, mut large, .. } = self;
        let bytes = read.bytes();
        if let Some(large) = &mut large {
            large.settle(bytes.len() - small.bytes());
        }
        Body { bytes, memory: BodyMemory { _small: small, _large: large } }
    }
}

/// How much room a body needs next for `bytes` beside the `room` that it has, and how much it had
/// better take: as much again as it has, within bounds, and not more than it can still need.
fn step(room: usize, bytes: usize, announced: usize) -> (usize, usize) {
    let least = bytes - room;
    let to_come = announced.min(MAX_BODY_BYTES).saturating_sub(room);
    (least, least.max(bytes.min(MAX_BODY_STEP_BYTES).min(to_come)))
}

/// How fast a body has to come.
struct Pace {
    deadline: Instant,
    next_look: Instant,
    /// Bytes since the last look.
    received: usize,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self { deadline: now + BODY_TIMEOUT, next_look: now + BODY_LOOK_INTERVAL, received: 0 }
    }

    /// The body did not come for so long, because this node did not read it.
    fn pause(&mut self, paused: Duration) {
        self.deadline += paused;
        self.next_look += paused;
    }

    /// Whether the time of the body is over. One that is in the way of others has to come fast.
    fn is_over(&mut self, is_in_the_way: bool) -> bool {
        let now = Instant::now();
        let is_slow = std::mem::take(&mut self.received) < MIN_BODY_BYTES_PER_LOOK;
        self.next_look = self.deadline.min(now + BODY_LOOK_INTERVAL);
        now >= self.deadline || (is_slow && is_in_the_way)
    }
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
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
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
    use std::convert::Infallible;

    use futures::StreamExt;
    use proptest::prelude::*;

    use super::*;
    use crate::budget::{FLOOR_BYTES, Pool};

    /// Budgets with so much room for large bodies, besides that for one.
    fn budgets(room: usize) -> Budgets {
        Budgets { arriving: Arriving::new(room), ..Budgets::default() }
    }

    fn connection(budgets: &Budgets) -> Connection {
        Connection::new(([127, 0, 0, 1], 1).into(), false, budgets)
    }

    type Piece = Result<Frame<Bytes>, Infallible>;

    /// A body in pieces that does not tell its size.
    fn pieces(sizes: &[usize]) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
        let frames: Vec<Piece> = sizes.iter().map(|size| Ok(Frame::data(vec![7; *size].into()))).collect();
        http_body_util::StreamBody::new(futures::stream::iter(frames))
    }

    /// The beginning of a body of which nothing more comes.
    fn beginning(bytes: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
        let first: Piece = Ok(Frame::data(vec![7; bytes].into()));
        http_body_util::StreamBody::new(futures::stream::iter([first]).chain(futures::stream::pending()))
    }

    #[tokio::test]
    async fn only_what_is_large_takes_room_and_gives_it_back_with_the_body() {
        let budgets = budgets(MAX_BODY_BYTES);
        let connection = connection(&budgets);
        let small = read(pieces(&[1, SMALL_BODY_BYTES - 1]), &budgets, &connection).await.unwrap();
        assert_eq!(small.bytes.len(), SMALL_BODY_BYTES);
        assert!(small.memory._large.is_none() && connection.bodies.held() == SMALL_BODY_BYTES);
        drop(small);
        let large = read(pieces(&[1, SMALL_BODY_BYTES, 1]), &budgets, &connection).await.unwrap();
        assert_eq!(large.bytes.len(), SMALL_BODY_BYTES + 2);
        assert!(large.memory._large.as_ref().is_some_and(|room| room.bytes() >= SMALL_BODY_BYTES));
        drop(large);
        assert_eq!(connection.bodies.held(), 0);
        let too_large = read(pieces(&[MAX_BODY_BYTES, 1]), &budgets, &connection).await;
        assert!(matches!(too_large, Err(ApiError::BodyTooLarge)));
    }

    #[tokio::test]
    async fn bodies_that_do_not_come_make_way_for_those_that_do() {
        const PIECES: usize = 8;
        let budgets = budgets(4 * SMALL_BODY_BYTES);
        let connection = connection(&budgets);
        // Each needs all of the room, and the room for one whole body in the end.
        let idle = || read(beginning(PIECES * SMALL_BODY_BYTES), &budgets, &connection);
        let honest = async {
            tokio::task::yield_now().await;
            read(pieces(&[SMALL_BODY_BYTES; PIECES]), &budgets, &connection).await
        };
        let began = Instant::now();
        let (first, second, honest) = tokio::join!(idle(), idle(), honest);
        assert_eq!(honest.unwrap().bytes.len(), PIECES * SMALL_BODY_BYTES);
        assert!(began.elapsed() < BODY_TIMEOUT / 2, "{:?}", began.elapsed());
        assert!(matches!((first.err(), second.err()), (Some(ApiError::BodyTimeout), Some(ApiError::BodyTimeout))));
    }

    #[test]
    fn a_body_has_to_come_fast_only_when_it_is_in_the_way() {
        let mut pace = Pace::new();
        assert!(!pace.is_over(false), "a slow one that is in nobody's way");
        pace.received = MIN_BODY_BYTES_PER_LOOK;
        assert!(!pace.is_over(true), "a fast one");
        assert!(pace.is_over(true), "nothing more has come");
        pace.deadline = Instant::now();
        assert!(pace.is_over(false), "the time of every body is over some time");
    }

    #[tokio::test]
    async fn half_a_body_ends_with_the_connection_and_a_whole_one_is_read() {
        let budgets = Budgets::default();
        let connection = connection(&budgets);
        connection.closed.cancel();
        let whole = read(pieces(&[3, 4]), &budgets, &connection).await.unwrap();
        assert_eq!(whole.bytes.len(), 7);
        let refused = read(beginning(2), &budgets, &connection).now_or_never();
        assert!(matches!(refused, Some(Err(ApiError::BadRequest(_)))));
    }

    #[tokio::test]
    async fn a_small_body_takes_room_of_large_ones_where_its_connection_has_none() {
        let budgets = Budgets { requests: Pool::new(0), ..Budgets::default() };
        let connection = connection(&budgets);
        let others = connection.bodies.try_hold(FLOOR_BYTES).unwrap();
        let large = read(pieces(&[1]), &budgets, &connection).await.unwrap();
        assert!(large.memory._large.is_some_and(|room| room.bytes() == 1));
        drop(others);
        let small = read(pieces(&[1]), &budgets, &connection).await.unwrap();
        assert!(small.memory._large.is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever bodies come together, and in whatever pieces, each is read in the end.
        #[test]
        fn bodies_never_wait_for_each_other_for_ever(
            bodies in prop::collection::vec(prop::collection::vec(1_usize..3 * SMALL_BODY_BYTES, 1..12), 1..12),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let read_all = async {
                let budgets = budgets(4 * SMALL_BODY_BYTES);
                let each = bodies.iter().map(|sizes| {
                    let budgets = &budgets;
                    async move {
                        let connection = connection(budgets);
                        let frames: Vec<Piece> = sizes.iter().map(|size| Ok(Frame::data(vec![7; *size].into()))).collect();
                        // Each piece comes after the pieces of others.
                        let frames = futures::stream::iter(frames).then(|frame| async {
                            tokio::task::yield_now().await;
                            frame
                        });
                        let body = read(http_body_util::StreamBody::new(Box::pin(frames)), budgets, &connection).await;
                        body.map(|body| body.bytes.len()).ok()
                    }
                });
                futures::future::join_all(each).await
            };
            let expected: Vec<Option<usize>> = bodies.iter().map(|sizes| Some(sizes.iter().sum())).collect();
            prop_assert_eq!(runtime.block_on(read_all), expected);
        }
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
}
