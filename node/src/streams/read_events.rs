//! Several events of one stream by their numbers, or of the log by their positions, as consumers of
//! a group get them.

use std::sync::Arc;

use super::Streams;
use super::barrier::ReadBarrier;
use super::limits::SMALL_PAGE_BYTES;
use super::links::LinkResolver;
use super::refusal::Refusal;
use super::source::{Source, SourceState};
use crate::access::{Caller, Policy};
use crate::budget::Reservation;
use crate::event::visibility::VisibleEvents;
use crate::event::{RecordedEvent, ResolvedEvent, Ticks, Visibility};
use crate::store::{ReadError, ReadView};

/// A read of some events of one stream, or of the log.
#[derive(Debug, Clone)]
pub(crate) struct ReadEvents {
    /// Where they are. A filter does not count. [`Links::Followed`](super::Links::Followed) is not
    /// for them, where one event would withhold the others.
    pub(crate) source: Source,
    /// Which events: numbers in the stream, or positions in the log.
    pub(crate) numbers: Vec<u64>,
    /// Whether the stream is the server's own, and its reader may see it all the same: then the
    /// rights of the caller count for what links lead to alone.
    pub(crate) is_own: bool,
    /// Bytes beyond which no further event is read; the first one may have more.
    pub(crate) most_bytes: u64,
    /// What the read demands of the node.
    pub(crate) barrier: ReadBarrier,
}

/// Events that were read.
pub(crate) struct EventsRead {
    /// In the order of the numbers asked for; those that are not there, or not visible, are
    /// missing.
    pub(crate) events: Vec<ResolvedEvent>,
    /// How many of the numbers were looked at: all of them, unless the events are large.
    pub(crate) looked_at: usize,
    /// The memory for them, if they are large: to be kept until they are sent.
    pub(crate) memory: Option<Reservation>,
}

impl Streams {
    /// Reads events of a stream, or of the log.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub(crate) async fn read_events(&self, caller: &Caller, read: ReadEvents) -> Result<EventsRead, Refusal> {
        let ReadEvents { source, numbers, is_own, most_bytes, barrier } = read;
        self.read_barrier(barrier).await?;
        let policy = self.policy(caller).await?;
        let look = Look { source: Arc::new(source), numbers: numbers.into(), is_own, policy, now: super::now() };
        let store = self.cluster.store();
        let small = look.clone();
        let small_bytes = most_bytes.min(SMALL_PAGE_BYTES);
        let (events, looked_at) = store.read(move |view| small.events(view, small_bytes, false)).await??;
        if looked_at == look.numbers.len() {
            return Ok(EventsRead { events, looked_at, memory: None });
        }
        drop(events);
        let memory = self.answer_memory().await?;
        // The read may have waited: the caller is looked at as it is now.
        let look = Look { policy: self.policy(caller).await?, ..look };
        let (events, looked_at) = store.read_apart(move |view| look.events(view, most_bytes, true)).await??;
        Ok(EventsRead { events, looked_at, memory: Some(memory) })
    }
}

/// All that a look at the store needs.
#[derive(Clone)]
struct Look {
    source: Arc<Source>,
    numbers: Arc<[u64]>,
    is_own: bool,
    policy: Policy,
    now: Ticks,
}

/// The events, and how many of the numbers were looked at for them.
type Found = Result<(Vec<ResolvedEvent>, usize), Refusal>;

impl Look {
    /// The events as far as they have so many bytes; the first one also if it has more, where
    /// `takes_first` says so.
    fn events(&self, view: &ReadView<'_>, most_bytes: u64, takes_first: bool) -> Result<Found, ReadError> {
        let state = self.source.state(view)?;
        if !self.is_own
            && let Err(refusal) = self.source.readable(&state, &self.policy)
        {
            return Ok(Err(refusal));
        }
        let visible = match self.source.visibility(&state, self.now) {
            Visibility::Readable(visible) => visible,
            Visibility::NotFound | Visibility::Deleted => return Ok(Ok((Vec::new(), self.numbers.len()))),
        };
        let mut resolver = LinkResolver::new(view, self.source.links(), self.now, &self.policy);
        let (mut events, mut bytes) = (Vec::with_capacity(self.numbers.len()), 0);
        for (looked_at, number) in self.numbers.iter().enumerate() {
            let is_first = takes_first && events.is_empty();
            let room = if is_first { u64::MAX } else { most_bytes.saturating_sub(bytes) };
            let original = match self.stored(view, &state, visible, *number, room)? {
                Stored::Event(original, size) => {
                    bytes += size;
                    original
                }
                Stored::Nothing => continue,
                Stored::TooLarge => return Ok(Ok((events, looked_at))),
            };
            bytes += resolver.target_bytes(original.borrowed())?;
            if bytes > most_bytes && !is_first {
                return Ok(Ok((events, looked_at)));
            }
            events.push(resolver.resolve(original)?);
        }
        Ok(Ok((events, self.numbers.len())))
    }

    /// The event with this number, or at this position, if its row has not more than `room` bytes.
    fn stored(
        &self,
        view: &ReadView<'_>,
        state: &SourceState,
        visible: VisibleEvents,
        number: u64,
        room: u64,
    ) -> Result<Stored, ReadError> {
        let position = match (&*self.source, state.info.id) {
            (Source::Log { .. }, _) => number,
            (Source::Stream { .. }, Some(id)) if visible.bounds.contains(number) => match view.place(id, number)? {
                Some(place) if u64::from(place.bytes) > room => return Ok(Stored::TooLarge),
                Some(place) => place.position,
                None => return Ok(Stored::Nothing),
            },
            (Source::Stream { .. }, _) => return Ok(Stored::Nothing),
        };
        let Some(row) = view.row_at(position)? else { return Ok(Stored::Nothing) };
        let bytes = row.bytes() as u64;
        let event = row.event()?;
        Ok(match () {
            () if !visible.shows(event.number, event.time) => Stored::Nothing,
            () if bytes > room => Stored::TooLarge,
            () => Stored::Event(event.to_recorded(), bytes),
        })
    }
}

/// What is found for one number.
enum Stored {
    /// The event, and the bytes of its row.
    Event(RecordedEvent, u64),
    /// There is none, or it is not visible.
    Nothing,
    /// There is no room for it.
    TooLarge,
}
