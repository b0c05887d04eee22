//! Events as they are stored, for exports: with everything that a reader of pages does not see, and
//! nothing of what pages add.

use std::sync::Arc;

use super::filter::Filter;
use super::limits::{
    EXPORT_PAGE_BYTES, EXPORT_SCANNED_EVENTS, EXPORT_SCANNED_STREAMS, EXPORT_STEP_EVENTS, EXPORT_STEP_STREAMS,
    PART_MEMORY_BYTES,
};
use super::refusal::Refusal;
use super::{Client, Streams};
use crate::budget::Reservation;
use crate::event::{EventNumber, RecordedEvent, StreamName, Visibility};
use crate::store::{EmptiedStreams, ReadError, ReadView};

/// What is exported.
#[derive(Debug, Clone)]
pub(crate) enum Exported {
    /// The log of all events, or what a filter leaves of it.
    Log(Option<Arc<Filter>>),
    /// What readers may see of a stream.
    Stream(StreamName),
}

/// The next events of an export.
#[derive(Debug)]
pub(crate) struct ExportPage {
    /// In the order of the log, or of the stream.
    pub(crate) events: Vec<RecordedEvent>,
    /// Position, or number in the stream, at which the next page begins.
    pub(crate) next: u64,
    /// The one after the last event.
    pub(crate) end: u64,
    /// Of the events.
    _memory: Reservation,
}

/// Streams whose last event is gone: an import of the events alone would use its number again.
#[derive(Debug)]
pub(crate) struct ExportedEnds {
    /// The streams, and the numbers of their next events, in the order of the names.
    pub(crate) streams: Vec<(String, EventNumber)>,
    /// The last stream that was looked at; `None` when there are no more behind it.
    pub(crate) reached: Option<String>,
    /// Of the names.
    _memory: Reservation,
}

/// What one read of the store found.
struct Step {
    events: Vec<RecordedEvent>,
    next: u64,
    end: u64,
}

impl Streams {
    /// Reads the next events from a position, or number, on. A page may be empty although more
    /// follows: a filter looks at a bounded number of events. A page that says that nothing more
    /// follows has everything that was acknowledged anywhere before the call.
    ///
    /// # Errors
    /// The caller is no administrator, the node is busy, or it cannot ask the leader what there is.
    pub(crate) async fn export(
        &self,
        client: Client<'_>,
        exported: Exported,
        from: u64,
    ) -> Result<ExportPage, Refusal> {
        self.authorize_maintenance(client.caller).await?;
        let filter = match &exported {
            Exported::Log(filter) => filter.clone(),
            Exported::Stream(_) => None,
        };
        let _matching = self.filters.hold(filter.as_deref()).await?;
        let memory = self.answers.reserve(PART_MEMORY_BYTES).await?;
        let mut page = ExportPage { events: Vec::new(), next: from, end: from, _memory: memory };
        let (mut bytes, mut looked_at) = (0, 0);
        let mut has_caught_up = false;
        while bytes < EXPORT_PAGE_BYTES && looked_at < EXPORT_SCANNED_EVENTS {
            let (exported, next, most) = (exported.clone(), page.next, EXPORT_PAGE_BYTES - bytes);
            let read = move |view: &ReadView<'_>| step(view, &exported, next, most);
            let Step { events, next, end } = self.cluster.store().read(read).await?;
            let is_at_the_end = next == page.next || next >= end;
            looked_at += next - page.next;
            (page.next, page.end) = (next, end);
            let events = match &filter {
                Some(filter) => matching(filter.clone(), events).await?,
                None => events,
            };
            bytes += events.iter().map(weight).sum::<usize>();
            page.events.extend(events);
            if is_at_the_end {
                if has_caught_up {
                    break;
                }
                // This node may be behind: its own end is not that of the log.
                self.cluster.catch_up().await?;
                has_caught_up = true;
            }
            tokio::task::yield_now().await;
        }
        Ok(page)
    }
}

impl Streams {
    /// Looks for streams whose last event is gone, behind the stream `after` in the order of names:
    /// of those that the export is about. A filter by types is about no stream.
    ///
    /// # Errors
    /// See [`Self::export`].
    pub(crate) async fn export_ends(
        &self,
        client: Client<'_>,
        exported: Exported,
        after: Option<String>,
    ) -> Result<ExportedEnds, Refusal> {
        self.authorize_maintenance(client.caller).await?;
        let memory = self.answers.reserve(PART_MEMORY_BYTES).await?;
        if after.is_none() {
            self.cluster.catch_up().await?;
        }
        let mut ends = ExportedEnds { streams: Vec::new(), reached: after, _memory: memory };
        let filter = match exported {
            Exported::Stream(name) => {
                let stream = name.clone();
                let next = move |view: &ReadView<'_>| view.next_of_emptied_stream(stream.as_str());
                let next = self.cluster.store().read(next).await?;
                ends.streams.extend(next.map(|next| (name.into_string(), next)));
                ends.reached = None;
                return Ok(ends);
            }
            Exported::Log(Some(filter)) if !filter.is_by_stream() => {
                ends.reached = None;
                return Ok(ends);
            }
            Exported::Log(filter) => filter,
        };
        let _matching = self.filters.hold(filter.as_deref()).await?;
        let (mut looked_at, mut bytes) = (0, 0);
        while looked_at < EXPORT_SCANNED_STREAMS && bytes < EXPORT_PAGE_BYTES {
            let after = ends.reached.take();
            let read = move |view: &ReadView<'_>| view.emptied_streams(after.as_deref(), EXPORT_STEP_STREAMS);
            let EmptiedStreams { mut found, reached } = self.cluster.store().read(read).await?;
            if let Some(filter) = filter.clone() {
                found = of_these_streams(filter, found).await?;
            }
            bytes += found.iter().map(|(name, _)| name.len()).sum::<usize>();
            ends.streams.extend(found);
            ends.reached = reached;
            looked_at += EXPORT_STEP_STREAMS;
            if ends.reached.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(ends)
    }
}

fn weight(event: &RecordedEvent) -> usize {
    event.data.len() + event.metadata.len() + event.stream.len() + event.event_type.len()
}

/// What the filter leaves. A regular expression may take long for each event, so it works apart
/// from the workers.
async fn matching(filter: Arc<Filter>, mut events: Vec<RecordedEvent>) -> Result<Vec<RecordedEvent>, Refusal> {
    if !filter.is_slow() {
        events.retain(|event| filter.matches(event));
        return Ok(events);
    }
    let matching = tokio::task::spawn_blocking(move || {
        let filter = filter.for_one_step();
        events.retain(|event| filter.matches(event));
        events
    });
    // The task ends early only when the process does.
    matching.await.map_err(|_| Refusal::Busy)
}

/// The same for streams.
async fn of_these_streams(
    filter: Arc<Filter>,
    mut streams: Vec<(String, EventNumber)>,
) -> Result<Vec<(String, EventNumber)>, Refusal> {
    let matching = tokio::task::spawn_blocking(move || {
        let filter = filter.for_one_step();
        streams.retain(|(name, _)| filter.matches_stream(name));
        streams
    });
    matching.await.map_err(|_| Refusal::Busy)
}

fn step(view: &ReadView<'_>, exported: &Exported, from: u64, most_bytes: usize) -> Result<Step, ReadError> {
    match exported {
        Exported::Log(_) => {
            let end = view.next_position()?;
            let events = view.log_forward(from, EXPORT_STEP_EVENTS, most_bytes)?;
            // Positions of removed events are passed over.
            let next = events.last().map_or(end, |event| event.position + 1).max(from);
            Ok(Step { events, next, end })
        }
        Exported::Stream(name) => {
            let info = view.stream(name.as_str())?;
            let (Visibility::Readable(visible), Some(id)) = (info.visibility(super::now()), info.id) else {
                return Ok(Step { events: Vec::new(), next: from, end: from });
            };
            let (first, end) = (from.max(visible.bounds.min), visible.bounds.last + 1);
            let behind = first.saturating_add(EXPORT_STEP_EVENTS as u64).min(end);
            let mut places = view.places(id, first..=behind.saturating_sub(1))?;
            let mut bytes = 0;
            let fitting = places.iter().take_while(|place| {
                bytes += place.bytes as usize;
                bytes <= most_bytes
            });
            let fitting = fitting.count().max(1);
            let next = places.get(fitting).map_or(behind, |place| place.number).max(from);
            places.truncate(fitting);
            let events: Result<Vec<_>, _> =
                view.rows(&places)?.iter().map(|row| row.event().map(|event| event.to_recorded())).collect();
            let mut events = events?;
            events.retain(|event| visible.shows(event.number, event.time));
            Ok(Step { events, next, end })
        }
    }
}
