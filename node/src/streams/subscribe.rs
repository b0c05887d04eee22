//! Subscriptions: a stream, or the log of all events, from a place on: what is there already, then
//! what comes.
//!
//! A subscription is asked for one piece after the other, each when the subscriber has taken the
//! one before it. So a slow subscriber slows down itself and nobody else, and holds one piece in
//! memory.

use std::sync::Arc;
use std::time::Duration;

use super::Streams;
use super::barrier::ReadBarrier;
use super::filter::Filter;
use super::limits::{CHECKPOINT_EVENTS, LARGE_PIECE_BYTES, LIVE_PIECE_BYTES, LIVE_PIECE_EVENTS};
use super::links::{LinkResolver, Links};
use super::refusal::Refusal;
use super::walk::{self, Step, StepLimits};
use crate::access::{Caller, Policy};
use crate::budget::{MemoryBudget, Reservation};
use crate::event::paging::Direction;
use crate::event::stream_name::ALL;
use crate::event::{EventNumber, Position, ResolvedEvent, StreamName, Ticks, Visibility};
use crate::store::{ReadError, ReadView};
use crate::subscribe::{ChangeWatch, Watched, Woken};

/// A wish to follow events.
#[derive(Debug, Clone)]
pub(crate) struct Subscribe {
    /// Which.
    pub(crate) source: Source,
    /// From where on.
    pub(crate) start: SubscriptionStart,
    /// What it demands of the node.
    pub(crate) barrier: ReadBarrier,
    /// How long the subscriber waits for a word at most.
    pub(crate) longest_silence: Duration,
}

/// What a subscription follows.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The visible events of a stream, which may not exist yet.
    Stream {
        /// Its name.
        name: StreamName,
        /// What is done with links.
        links: Links,
    },
    /// The log of all events, or what a filter leaves of it.
    Log {
        /// Without one, all events.
        filter: Option<Arc<Filter>>,
    },
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubscriptionStart {
    /// At this number or position.
    At(u64),
    /// With what comes next.
    Head,
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscribeError {
    /// What any operation can be refused for.
    #[error(transparent)]
    Refused(Refusal),
    /// The node has as many subscriptions as it can.
    #[error("there are too many subscriptions")]
    TooMany,
    /// The stream is hard-deleted.
    #[error("the stream is deleted")]
    Deleted,
}

impl<E: Into<Refusal>> From<E> for SubscribeError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl Streams {
    /// Begins to follow a stream or the log.
    ///
    /// # Errors
    /// See [`SubscribeError`]; what comes first there is looked at first.
    pub(crate) async fn subscribe(
        &self,
        caller: &Caller,
        subscribe: Subscribe,
    ) -> Result<Subscription, SubscribeError> {
        let Subscribe { source, start, barrier, longest_silence } = subscribe;
        self.read_barrier(barrier).await?;
        self.authorize_read(caller, source.stream()).await?;
        let store = self.cluster.store();
        // Before the first look, so that nothing falls between that and the first wait.
        let watch = self.waiters.follow(store, source.watched()).ok_or(SubscribeError::TooMany)?;
        let head = match &source {
            Source::Stream { name, .. } => {
                let name = name.clone();
                let info = store.read(move |view| view.stream(name.as_str())).await?;
                if info.tombstoned {
                    return Err(SubscribeError::Deleted);
                }
                info.last_number.map_or(0, |last| last + 1)
            }
            Source::Log { .. } => store.read(|view| view.next_position()).await?,
        };
        let next = match start {
            SubscriptionStart::At(place) => place,
            SubscriptionStart::Head => head,
        };
        Ok(Subscription {
            streams: self.clone(),
            caller: caller.clone(),
            watch,
            source,
            next,
            passed: 0,
            longest_silence,
            large_pieces: self.large_pieces.with_patience(longest_silence),
            memory: None,
        })
    }
}

impl Source {
    /// The stream that says who may read the source.
    fn stream(&self) -> &str {
        match self {
            Self::Stream { name, .. } => name.as_str(),
            Self::Log { .. } => ALL,
        }
    }

    fn watched(&self) -> Watched<'_> {
        match self {
            Self::Stream { name, .. } => Watched::Stream(name.as_str()),
            Self::Log { .. } => Watched::Log,
        }
    }
}

/// A subscription at work.
pub(crate) struct Subscription {
    streams: Streams,
    /// The subscriber; asked for again at each look, because users and access lists change.
    caller: Caller,
    watch: ChangeWatch,
    source: Source,
    /// Number or position where the next look begins.
    next: u64,
    /// Numbers or positions passed since the subscriber heard of one.
    passed: u64,
    longest_silence: Duration,
    large_pieces: MemoryBudget,
    /// Kept while a piece beyond [`LIVE_PIECE_BYTES`] is on its way.
    memory: Option<Reservation>,
}

/// What a subscriber is told.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The next events, the oldest first; at least one.
    Events(Vec<ResolvedEvent>),
    /// Nothing up to this number or position, which is behind that of the last event, was of
    /// interest.
    Checkpoint(u64),
    /// Nothing has happened.
    Silence,
}

/// Why a subscription is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscriptionEnd {
    /// What any operation can be refused for.
    #[error(transparent)]
    Refused(Refusal),
    /// The stream was hard-deleted.
    #[error("the stream is deleted")]
    Deleted,
    /// The node shuts down.
    #[error("the node shuts down")]
    ShuttingDown,
}

impl<E: Into<Refusal>> From<E> for SubscriptionEnd {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl Subscription {
    /// The next piece, within the longest silence. Whoever asks for it has taken the one before.
    ///
    /// # Errors
    /// Nothing more will come.
    pub(crate) async fn next(&mut self) -> Result<Piece, SubscriptionEnd> {
        self.memory = None;
        while !self.watch.is_closed() {
            let Some(step) = self.look().await? else {
                match self.watch.changed(self.longest_silence).await {
                    Woken::Changed => continue,
                    Woken::Idle => return Ok(self.sign_of_life()),
                    Woken::Closed => break,
                }
            };
            if self.memory.is_none() && step.payload_bytes > LIVE_PIECE_BYTES {
                // Not kept while others have their turn.
                drop(step);
                match self.large_pieces.reserve(LARGE_PIECE_BYTES).await {
                    Ok(memory) => self.memory = Some(memory),
                    Err(_) => return Ok(self.sign_of_life()),
                }
                continue;
            }
            self.passed += step.reached.saturating_sub(self.next);
            self.next = step.reached;
            if !step.events.is_empty() {
                self.passed = 0;
                return Ok(Piece::Events(step.events));
            }
            if self.passed >= CHECKPOINT_EVENTS {
                return Ok(self.sign_of_life());
            }
            // A long way without events must not keep a worker from its other work.
            tokio::task::yield_now().await;
        }
        Err(SubscriptionEnd::ShuttingDown)
    }

    /// After a way without events, says how far that led, so that it is not gone again.
    fn sign_of_life(&mut self) -> Piece {
        match self.next.checked_sub(1) {
            Some(last) if std::mem::take(&mut self.passed) > 0 => Piece::Checkpoint(last),
            _ => Piece::Silence,
        }
    }

    /// Looks for the next events; `None` when there are none yet.
    async fn look(&self) -> Result<Option<Step>, SubscriptionEnd> {
        let policy = self.streams.policy(&self.caller).await?;
        let (source, next, now) = (self.source.clone(), self.next, super::now());
        let look = move |view: &ReadView<'_>| match &source {
            Source::Stream { name, links } => look_at_stream(view, &policy, name.as_str(), *links, next, now),
            Source::Log { filter } => look_at_log(view, &policy, filter.as_deref(), next, now),
        };
        self.streams.cluster.store().read(look).await?
    }
}

/// Of a look that fills a piece.
const LIMITS: StepLimits = StepLimits {
    examined: LIVE_PIECE_EVENTS,
    examined_bytes: LIVE_PIECE_BYTES,
    taken: u64::MAX,
    enough_bytes: usize::MAX,
    most_bytes: LIVE_PIECE_BYTES,
};

fn look_at_stream(
    view: &ReadView<'_>,
    policy: &Policy,
    name: &str,
    links: Links,
    next: EventNumber,
    now: Ticks,
) -> Result<Result<Option<Step>, SubscriptionEnd>, ReadError> {
    let info = view.stream(name)?;
    if !policy.may_read(name, &info) {
        return Ok(Err(Refusal::Denied.into()));
    }
    let visible = match info.visibility(now) {
        Visibility::Readable(visible) => visible,
        Visibility::NotFound => return Ok(Ok(None)),
        Visibility::Deleted => return Ok(Err(SubscriptionEnd::Deleted)),
    };
    let Some(id) = info.id else { return Ok(Ok(None)) };
    let mut resolver = LinkResolver::new(view, links, now, policy);
    Ok(Ok(walk::along_stream(view, &mut resolver, id, visible, next, LIMITS)?))
}

fn look_at_log(
    view: &ReadView<'_>,
    policy: &Policy,
    filter: Option<&Filter>,
    next: Position,
    now: Ticks,
) -> Result<Result<Option<Step>, SubscriptionEnd>, ReadError> {
    if !policy.may_read(ALL, &view.stream(ALL)?) {
        return Ok(Err(Refusal::Denied.into()));
    }
    let mut resolver = LinkResolver::new(view, Links::Followed, now, policy);
    let step = walk::along_log(view, &mut resolver, Direction::Forward, next, filter, LIMITS)?;
    let has_come_on = step.reached > next;
    Ok(Ok(has_come_on.then_some(step)))
}
