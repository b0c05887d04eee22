//! Asks again, while a large answer is under way, whether its reader may still have it. A slow
//! client takes minutes for an answer; users, access lists and streams change meanwhile.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Streams;
use super::limits::TARGETS_ASKED_EVERY;
use super::links::Links;
use super::refusal::Refusal;
use super::source::{Source, SourceState};
use crate::access::{Caller, Policy};
use crate::event::visibility::VisibleEvents;
use crate::event::{EventNumber, EventRef, StreamName, Ticks, Visibility};
use crate::store::{ReadError, ReadView};

/// Why an answer is not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutShort {
    /// What any operation can be refused for: the reader may not read any more what is sent, the
    /// memory for the next part did not become free in time, or the store did not answer.
    #[error(transparent)]
    Refused(Refusal),
    /// The stream was soft-deleted, or the event truncated.
    #[error("what was read is not visible any more")]
    NotFound,
    /// The stream was hard-deleted.
    #[error("the stream is deleted")]
    Deleted,
}

impl<E: Into<Refusal>> From<E> for CutShort {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// What a reader may see of a source at one moment.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// The reader, and what its rights allow.
    pub(super) policy: Policy,
    /// What of the source is visible: other events are not shown.
    pub(super) visible: VisibleEvents,
}

impl Sight {
    /// Whether a stored event of the source is shown.
    pub(super) fn shows(&self, event: EventRef<'_>) -> bool {
        self.visible.shows(event.number, event.time)
    }
}

/// What an answer shows of a source.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    source: Source,
    /// The event, if it is only this one.
    number: Option<EventNumber>,
}

impl Shown {
    /// A page.
    pub(super) fn page_of(source: Source) -> Self {
        Self { source, number: None }
    }

    /// One event of a stream.
    pub(super) fn event_of(source: Source, number: EventNumber) -> Self {
        Self { source, number: Some(number) }
    }

    /// What links lead to in a stream; one event, or some. `None` for a name that is stored and
    /// could not be sent, which is one of older data.
    pub(super) fn target(stream: &str, number: Option<EventNumber>) -> Option<Self> {
        let name = StreamName::parse(stream).ok()?;
        Some(Self { source: Source::Stream { name, links: Links::AsStored }, number })
    }

    /// What the reader may see of it by the state under `view`. `now` is the time by which the age
    /// of events is judged.
    pub(super) fn sight(
        &self,
        view: &ReadView<'_>,
        policy: Policy,
        now: Ticks,
    ) -> Result<Result<Sight, CutShort>, ReadError> {
        let visible = self.visible(&self.source.state(view)?, &policy, now);
        Ok(visible.map(|visible| Sight { policy, visible }))
    }

    fn visible(&self, state: &SourceState, policy: &Policy, now: Ticks) -> Result<VisibleEvents, CutShort> {
        let visible = match self.source.readable(state, policy)?.visibility(now) {
            Visibility::Readable(visible) => visible,
            Visibility::NotFound => return Err(CutShort::NotFound),
            Visibility::Deleted => return Err(CutShort::Deleted),
        };
        match self.number {
            Some(number) if !visible.bounds.contains(number) => Err(CutShort::NotFound),
            Some(_) | None => Ok(visible),
        }
    }
}

/// What gives the right to a large answer.
enum Basis {
    /// The right to read all of this.
    Read(Vec<Shown>),
    /// The right to what passes by the access lists.
    Maintenance,
}

/// The reader of a large answer, and what the answer shows.
pub(crate) struct StillReadable {
    streams: Streams,
    caller: Caller,
    basis: Basis,
    targets: Targets,
    /// When the answer was asked for: the age of events is judged by it.
    now: Ticks,
}

/// What the links in the part under way lead to: hundreds of streams perhaps.
struct Targets {
    shown: Vec<Shown>,
    /// When they were asked about.
    asked: Instant,
}

impl StillReadable {
    /// The reader of an answer that the caller may have by a look of this moment.
    pub(super) fn new(streams: &Streams, caller: &Caller, shown: Vec<Shown>, now: Ticks) -> Self {
        Self::on(streams, caller, Basis::Read(shown), now)
    }

    /// The same of an answer that only administrators may have.
    pub(super) fn of_maintenance(streams: &Streams, caller: &Caller) -> Self {
        Self::on(streams, caller, Basis::Maintenance, super::now())
    }

    fn on(streams: &Streams, caller: &Caller, basis: Basis, now: Ticks) -> Self {
        let targets = Targets { shown: Vec::new(), asked: Instant::now() };
        Self { streams: streams.clone(), caller: caller.clone(), basis, targets, now }
    }

    /// From here on the answer shows what links lead to in these streams, by a look that began at
    /// this moment, and nothing any more of what they led to before.
    pub(super) fn follow<'a>(&mut self, streams: impl Iterator<Item = &'a str>, looked: Instant) {
        let streams: BTreeSet<&str> = streams.collect();
        let shown = streams.into_iter().filter_map(|stream| Shown::target(stream, None)).collect();
        self.targets = Targets { shown, asked: looked };
    }

    /// The reader as it is now, for a look of its own.
    pub(super) async fn policy(&self) -> Result<Policy, Refusal> {
        self.streams.policy(&self.caller).await
    }

    /// Asks before each piece of an answer that is in memory. Nearly always the answer is in
    /// memory, too, and costs less than copying the piece.
    ///
    /// # Errors
    /// Nothing more of it may be sent.
    pub(crate) async fn ask(&mut self) -> Result<(), CutShort> {
        let shown = match &self.basis {
            Basis::Read(shown) => shown,
            Basis::Maintenance => return Ok(self.streams.authorize_maintenance(&self.caller).await?),
        };
        let policy = self.policy().await?;
        self.ask_about(shown, &policy).await?;
        if self.targets.asked.elapsed() >= TARGETS_ASKED_EVERY {
            let asked = Instant::now();
            self.ask_about(&self.targets.shown, &policy).await?;
            self.targets.asked = asked;
        }
        Ok(())
    }

    async fn ask_about(&self, shown: &[Shown], policy: &Policy) -> Result<(), CutShort> {
        for shown in shown {
            // Hundreds of targets would keep a worker from its other work.
            tokio::task::consume_budget().await;
            shown.visible(&self.state(&shown.source).await?, policy, self.now)?;
        }
        Ok(())
    }

    async fn state(&self, source: &Source) -> Result<SourceState, ReadError> {
        let store = self.streams.cluster.store();
        match source.known(store) {
            (Some(state), _) => Ok(state),
            (None, _) => {
                let source = source.clone();
                store.read(move |view: &ReadView<'_>| source.state(view)).await
            }
        }
    }
}
