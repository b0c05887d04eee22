//! Single events (contract/streams 9 and 12.2).

use std::sync::Arc;

use super::Streams;
use super::barrier::ReadBarrier;
use super::document::LargeAnswer;
use super::limits::SMALL_PAGE_BYTES;
use super::links::{LinkAccess, LinkResolver, Links};
use super::refusal::Refusal;
use super::source::{Source, SourceState};
use super::still_readable::{Shown, StillReadable};
use crate::access::{Caller, Policy};
use crate::event::{EventNumber, LinkTarget, ResolvedEvent, StreamName, StreamNameRef, Ticks, Visibility};
use crate::store::{ReadError, ReadView, StreamInfo};
use crate::timing::{self, Phase};

/// A read of one event.
#[derive(Debug, Clone)]
pub(crate) struct ReadEvent {
    /// Its stream; metadata is in the metastream.
    pub(crate) stream: StreamName,
    /// Its number; the last event without one.
    pub(crate) number: Option<EventNumber>,
    /// What is done with it if it is a link.
    pub(crate) links: Links,
    /// What the read demands of the node.
    pub(crate) barrier: ReadBarrier,
}

/// An event that was read.
pub(crate) struct EventRead {
    /// It, and what it leads to.
    pub(crate) event: ResolvedEvent,
    /// How many events of its stream were redacted.
    pub(crate) redactions: u32,
    /// How long the last event of its stream may be cached as such, where the stream says so.
    pub(crate) cache_control_s: Option<u64>,
    /// Whether everybody may read it.
    pub(crate) is_public: bool,
    /// What an answer with it has until it is sent, if it is large.
    pub(crate) large: Option<LargeAnswer>,
}

/// Why an event is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadEventError {
    /// What any operation can be refused for. A link to what the caller may not read is denied,
    /// too.
    #[error(transparent)]
    Refused(Refusal),
    /// The stream is hard-deleted.
    #[error("the stream is deleted")]
    Deleted,
    /// The last metadata of a stream was asked for, which has events, but never had metadata.
    #[error("the stream has no metadata")]
    NoMetadata {
        /// Whether everybody may know that.
        is_public: bool,
    },
    /// There is no such event, it is not visible, or it is a link that leads to no visible event.
    #[error("there is no such event")]
    NotFound,
}

impl<E: Into<Refusal>> From<E> for ReadEventError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl Streams {
    /// Reads one event.
    ///
    /// # Errors
    /// See [`ReadEventError`]. A denial comes before anything else that is known of the stream.
    pub(crate) async fn read_event(&self, caller: &Caller, read: ReadEvent) -> Result<EventRead, ReadEventError> {
        self.read_barrier(read.barrier).await?;
        let _phase = timing::phase(Phase::Read);
        let ReadEvent { stream, number, links, .. } = read;
        let source = Arc::new(Source::Stream { name: stream, links });
        let store = self.cluster.store();
        let reader = self.event_reader(caller, &source, number).await?;
        let (state, place) = source.known(store);
        let look = move |view: &ReadView<'_>| {
            let state = match &state {
                Some(state) => state.clone(),
                None => reader.source.state(view)?,
            };
            reader.look(view, state, SMALL_PAGE_BYTES)
        };
        let (found, memory) = match store.read(look).await?? {
            Some(found) => (found, None),
            // It is large.
            None => {
                let memory = self.answer_memory().await?;
                // The read may have waited: caller and stream are looked at as they are now.
                let reader = self.event_reader(caller, &source, number).await?;
                let look = move |view: &ReadView<'_>| reader.look(view, reader.source.state(view)?, u64::MAX);
                (store.read_apart(look).await??.ok_or(ReadEventError::NotFound)?, Some(memory))
            }
        };
        let FoundEvent { event, info, redactions, is_public } = found;
        if let Some(place) = place {
            store.remember_stream(place, source.stream(), &info);
        }
        let large = memory.map(|memory| {
            let shown = shown(&source, &event);
            LargeAnswer { memory, reader: StillReadable::new(self, caller, shown, super::now()) }
        });
        let cache_control_s = info.metadata.cache_control_s;
        Ok(EventRead { event, redactions, cache_control_s, is_public, large })
    }

    async fn event_reader(
        &self,
        caller: &Caller,
        source: &Arc<Source>,
        number: Option<EventNumber>,
    ) -> Result<EventReader, Refusal> {
        Ok(EventReader { source: source.clone(), number, policy: self.policy(caller).await?, now: super::now() })
    }
}

/// What an answer with the event shows: it and, of a link, what it leads to.
fn shown(source: &Source, event: &ResolvedEvent) -> Vec<Shown> {
    let mut shown = vec![Shown::event_of(source.clone(), event.original.number)];
    match &event.target {
        LinkTarget::Event(target) => shown.extend(Shown::target(&target.stream, Some(target.number))),
        LinkTarget::NotFollowed | LinkTarget::Dangling { .. } => {}
    }
    shown
}

struct FoundEvent {
    event: ResolvedEvent,
    info: Arc<StreamInfo>,
    redactions: u32,
    is_public: bool,
}

/// All that a look at the store needs.
struct EventReader {
    source: Arc<Source>,
    number: Option<EventNumber>,
    policy: Policy,
    now: Ticks,
}

impl EventReader {
    /// The event, or why there is none; nothing if that, or what it leads to, takes more than
    /// `most_bytes`.
    fn look(
        &self,
        view: &ReadView<'_>,
        state: SourceState,
        most_bytes: u64,
    ) -> Result<Result<Option<FoundEvent>, ReadEventError>, ReadError> {
        let readable = match self.source.readable(&state, &self.policy) {
            Ok(readable) => readable,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        let is_public = readable.is_public();
        let visible = match readable.visibility(self.now) {
            Visibility::Readable(visible) => visible,
            Visibility::Deleted => return Ok(Err(ReadEventError::Deleted)),
            Visibility::NotFound if self.number.is_none() && self.describes_events(view)? => {
                return Ok(Err(ReadEventError::NoMetadata { is_public }));
            }
            Visibility::NotFound => return Ok(Err(ReadEventError::NotFound)),
        };
        let number = self.number.unwrap_or(visible.bounds.last);
        let place = match state.info.id {
            Some(id) if visible.bounds.contains(number) => view.place(id, number)?,
            _ => None,
        };
        let Some(place) = place else { return Ok(Err(ReadEventError::NotFound)) };
        if u64::from(place.bytes) > most_bytes {
            return Ok(Ok(None));
        }
        let Some(original) = view.event_at(place)? else { return Ok(Err(ReadEventError::NotFound)) };
        if !visible.shows(number, original.time) {
            return Ok(Err(ReadEventError::NotFound));
        }
        let mut resolver = LinkResolver::new(view, self.source.links(), self.now, &self.policy);
        if resolver.target_bytes(original.borrowed())? > most_bytes {
            return Ok(Ok(None));
        }
        let event = resolver.resolve(original)?;
        if resolver.access() == LinkAccess::Denied {
            return Ok(Err(Refusal::Denied.into()));
        }
        if matches!(event.target, LinkTarget::Dangling { .. }) {
            return Ok(Err(ReadEventError::NotFound));
        }
        let is_public = is_public && resolver.access() == LinkAccess::Public;
        let redactions = state.redactions();
        Ok(Ok(Some(FoundEvent { event, info: state.info, redactions, is_public })))
    }

    /// Whether the stream holds the metadata of one that has events.
    fn describes_events(&self, view: &ReadView<'_>) -> Result<bool, ReadError> {
        match StreamNameRef::new(self.source.stream()).described() {
            Some(described) => Ok(view.stream(described.as_str())?.last_number.is_some()),
            None => Ok(false),
        }
    }
}
