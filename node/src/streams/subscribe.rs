//! Subscriptions: a stream, or the log of all events, from a place on: what is there already, then
//! what comes.
//!
//! A subscription is asked for one piece after the other, each when the subscriber has taken the
//! one before it. So a slow subscriber slows down itself and nobody else, and holds one piece in
//! memory.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Streams;
use super::barrier::ReadBarrier;
use super::limits::{LARGE_PIECE_BYTES, LIVE_PIECE_BYTES, LIVE_PIECE_EVENTS};
use super::links::LinkResolver;
use super::refusal::Refusal;
use super::source::Source;
use super::still_readable::{Shown, StillReadable};
use super::walk::{self, Step, StepLimits};
use crate::access::Caller;
use crate::budget::{MemoryBudget, Reservation};
use crate::event::{LinkTarget, ResolvedEvent, Visibility};
use crate::store::ReadView;
use crate::subscribe::{ChangeWatch, Woken};

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
    /// After so many numbers or positions without an event it is told how far that has led.
    pub(crate) checkpoint_after: u64,
    /// The subscriber has closed its sending side: it gets what is stored, and waits for nothing.
    pub(crate) closed: CancellationToken,
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
        let Subscribe { source, start, barrier, longest_silence, checkpoint_after, closed } = subscribe;
        self.read_barrier(barrier).await?;
        self.authorize_read(caller, source.stream()).await?;
        let filter_memory = self.filters.hold(source.filter()).await?;
        let store = self.cluster.store();
        // Before the first look, so that nothing falls between that and the first wait.
        let watch = self.waiters.follow(store, source.watched(), closed).ok_or(SubscribeError::TooMany)?;
        let state = {
            let source = source.clone();
            store.read(move |view| source.state(view)).await?
        };
        if state.info.tombstoned {
            return Err(SubscribeError::Deleted);
        }
        let next = match start {
            SubscriptionStart::At(place) => place,
            SubscriptionStart::Head => state.end,
        };
        Ok(Subscription {
            streams: self.clone(),
            caller: caller.clone(),
            watch,
            source,
            next,
            passed: 0,
            looked: Instant::now(),
            longest_silence,
            checkpoint_after,
            large_pieces: self.large_pieces.with_patience(longest_silence),
            memory: None,
            _filter_memory: filter_memory,
        })
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
    /// When the last look began.
    looked: Instant,
    longest_silence: Duration,
    /// See [`Subscribe::checkpoint_after`].
    checkpoint_after: u64,
    large_pieces: MemoryBudget,
    /// Kept while a piece beyond [`LIVE_PIECE_BYTES`] is on its way.
    memory: Option<Reservation>,
    /// Kept for as long as the filter is.
    _filter_memory: Option<Reservation>,
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
    /// The node shuts down, or the subscriber waits for nothing more.
    #[error("the node shuts down, or the subscriber waits for nothing more")]
    Closed,
}

impl<E: Into<Refusal>> From<E> for SubscriptionEnd {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl SubscriptionEnd {
    /// Whether the stream is gone for ever.
    pub(crate) fn is_deletion(&self) -> bool {
        matches!(self, Self::Deleted)
    }
}

impl Subscription {
    /// The next piece, within the longest silence. A caller that asks for it has taken the one
    /// before.
    ///
    /// # Errors
    /// Nothing more will come.
    pub(crate) async fn next(&mut self) -> Result<Piece, SubscriptionEnd> {
        self.memory = None;
        while !self.watch.is_closed() {
            self.looked = Instant::now();
            let Some(step) = self.look().await? else {
                match self.watch.changed(self.longest_silence).await {
                    Woken::Changed => continue,
                    Woken::Idle => return Ok(self.sign_of_life()),
                    Woken::Closed => break,
                }
            };
            if self.memory.is_none() && step.shown_bytes > LIVE_PIECE_BYTES {
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
            if self.passed >= self.checkpoint_after {
                return Ok(self.sign_of_life());
            }
            // A long way without events must not keep a worker from its other work.
            tokio::task::yield_now().await;
        }
        Err(SubscriptionEnd::Closed)
    }

    /// The reader of a piece with these events, to be asked while the piece is sent.
    pub(crate) fn reader_of(&self, events: &[ResolvedEvent]) -> StillReadable {
        let shown = vec![Shown::page_of(self.source.clone())];
        let mut reader = StillReadable::new(&self.streams, &self.caller, shown, super::now());
        let followed = events.iter().filter_map(|event| match &event.target {
            LinkTarget::Event(target) => Some(target.stream.as_str()),
            LinkTarget::NotFollowed | LinkTarget::Dangling { .. } => None,
        });
        reader.follow(followed, self.looked);
        reader
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
        let look = move |view: &ReadView<'_>| {
            let state = source.state(view)?;
            let visibility = match source.readable(&state, &policy) {
                Ok(readable) => readable.visibility(now),
                Err(refusal) => return Ok(Err(refusal.into())),
            };
            let visible = match visibility {
                Visibility::Readable(visible) => visible,
                Visibility::NotFound => return Ok(Ok(None)),
                Visibility::Deleted => return Ok(Err(SubscriptionEnd::Deleted)),
            };
            let mut resolver = LinkResolver::new(view, source.links(), now, &policy);
            let step = walk::forward(view, &mut resolver, &source, &state, visible, next, LIMITS)?;
            let has_come_on = step.reached > next;
            Ok(Ok(has_come_on.then_some(step)))
        };
        self.streams.filters.read(self.source.filter(), self.streams.cluster.store(), look).await?
    }
}

/// The limits of a look that fills a piece.
const LIMITS: StepLimits = StepLimits {
    examined: LIVE_PIECE_EVENTS,
    examined_bytes: LIVE_PIECE_BYTES,
    taken: u64::MAX,
    enough_bytes: usize::MAX,
    most_bytes: LIVE_PIECE_BYTES,
};
