//! Events as they are stored, for exports: with everything that a reader of pages does not see, and
//! nothing of what pages add. An export looks at its source and walks along it as pages and
//! subscriptions do ([`Source`], [`walk`]). It asks no access list: it is for administrators.

use std::time::Instant;

use super::document::LargeAnswer;
use super::filter::Filter;
use super::limits::{
    EXPORT_PAGE_BYTES, EXPORT_SCANNED_EVENTS, EXPORT_SCANNED_STREAMS, EXPORT_STEP_EVENTS, EXPORT_STEP_STREAMS,
    MATCH_PAGE_TIME, MATCH_STEP_TIME,
};
use super::links::{LinkResolver, Links};
use super::refusal::Refusal;
use super::source::Source;
use super::still_readable::StillReadable;
use super::walk::{self, StepLimits};
use super::{RemoteCaller, Streams};
use crate::access::{Caller, Policy};
use crate::event::{EventNumber, RecordedEvent, Visibility};
use crate::store::{EmptiedStreams, ReadError, ReadView};

/// The next events of an export.
pub(crate) struct ExportPage {
    /// In the order of the log, or of the stream.
    pub(crate) events: Vec<RecordedEvent>,
    /// Position, or number in the stream, at which the next page begins.
    pub(crate) next: u64,
    /// The one after the last event.
    pub(crate) end: u64,
    /// What the answer has until it is sent.
    pub(crate) answer: LargeAnswer,
}

/// Streams whose last event is gone: an import of the events alone would use its number again.
pub(crate) struct ExportedEnds {
    /// The streams, and the numbers of their next events, in the order of the names.
    pub(crate) streams: Vec<(String, EventNumber)>,
    /// The last stream that was looked at; `None` when there are no more behind it.
    pub(crate) reached: Option<String>,
    /// What the answer has until it is sent.
    pub(crate) answer: LargeAnswer,
}

/// What one read of the store found.
struct ExportStep {
    events: Vec<RecordedEvent>,
    next: u64,
    end: u64,
}

impl Streams {
    /// Reads the next events from a position, or number, on. A page may be empty although more
    /// follows: a filter looks at a bounded number of events, a slow one for a bounded time. A page
    /// that says that nothing more follows has everything that was acknowledged anywhere before the
    /// call.
    ///
    /// # Errors
    /// The caller is no administrator, the node is busy, or it cannot ask the leader what there is.
    pub(crate) async fn export(
        &self,
        client: RemoteCaller<'_>,
        source: Source,
        from: u64,
    ) -> Result<ExportPage, Refusal> {
        self.authorize_maintenance(client.caller).await?;
        let _matching = self.filters.hold(source.filter()).await?;
        let answer = self.maintenance_answer(client.caller).await?;
        let mut page = ExportPage { events: Vec::new(), next: from, end: from, answer };
        let deadline = deadline(source.filter());
        let (mut bytes, mut looked_at) = (0, 0);
        let mut has_caught_up = false;
        while bytes < EXPORT_PAGE_BYTES && looked_at < EXPORT_SCANNED_EVENTS {
            let (looked, next, most) = (source.clone(), page.next, EXPORT_PAGE_BYTES - bytes);
            let policy = self.policy(client.caller).await?;
            let read = move |view: &ReadView<'_>| step(view, &policy, &looked, next, most);
            let ExportStep { events, next, end } =
                self.filters.read(source.filter(), self.cluster.store(), read).await?;
            let is_at_the_end = next == page.next || next >= end;
            looked_at += next - page.next;
            (page.next, page.end) = (next, end);
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
            if is_past(deadline) {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(page)
    }

    /// The reader of an answer that passes by the access lists, such as a backup.
    pub(crate) fn reader_for_maintenance(&self, caller: &Caller) -> StillReadable {
        StillReadable::of_maintenance(self, caller)
    }

    async fn maintenance_answer(&self, caller: &Caller) -> Result<LargeAnswer, Refusal> {
        Ok(LargeAnswer { memory: self.answer_memory().await?, reader: self.reader_for_maintenance(caller) })
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
        client: RemoteCaller<'_>,
        source: Source,
        after: Option<String>,
    ) -> Result<ExportedEnds, Refusal> {
        self.authorize_maintenance(client.caller).await?;
        let answer = self.maintenance_answer(client.caller).await?;
        if after.is_none() {
            self.cluster.catch_up().await?;
        }
        let mut ends = ExportedEnds { streams: Vec::new(), reached: after, answer };
        let filter = match source {
            Source::Stream { name, .. } => {
                let stream = name.clone();
                let next = move |view: &ReadView<'_>| view.next_of_emptied_stream(stream.as_str());
                let next = self.cluster.store().read(next).await?;
                ends.streams.extend(next.map(|next| (name.into_string(), next)));
                ends.reached = None;
                return Ok(ends);
            }
            Source::Log { filter: Some(filter), .. } if !filter.is_by_stream() => {
                ends.reached = None;
                return Ok(ends);
            }
            Source::Log { filter, .. } => filter,
        };
        let _matching = self.filters.hold(filter.as_deref()).await?;
        let deadline = deadline(filter.as_deref());
        let (mut looked_at, mut bytes) = (0, 0);
        while looked_at < EXPORT_SCANNED_STREAMS && bytes < EXPORT_PAGE_BYTES {
            let after = ends.reached.take();
            let wanted = filter.clone();
            let read = move |view: &ReadView<'_>| {
                let emptied = view.emptied_streams(after.as_deref(), EXPORT_STEP_STREAMS)?;
                Ok(match &wanted {
                    Some(filter) => of_these_streams(filter, emptied),
                    None => emptied,
                })
            };
            let EmptiedStreams { found, reached } =
                self.filters.read(filter.as_deref(), self.cluster.store(), read).await?;
            bytes += found.iter().map(|(name, _)| name.len()).sum::<usize>();
            ends.streams.extend(found);
            ends.reached = reached;
            looked_at += EXPORT_STEP_STREAMS;
            if ends.reached.is_none() || is_past(deadline) {
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

/// When a page ends whatever it has found; only with a slow filter.
fn deadline(filter: Option<&Filter>) -> Option<Instant> {
    filter.is_some_and(Filter::is_slow).then(|| Instant::now() + MATCH_PAGE_TIME)
}

fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// What the filter leaves of them; of a slow one, after [`MATCH_STEP_TIME`] no more, but one.
fn of_these_streams(filter: &Filter, emptied: EmptiedStreams) -> EmptiedStreams {
    let started = Instant::now();
    let (is_slow, filter) = (filter.is_slow(), filter.for_one_step());
    let mut left = EmptiedStreams { found: Vec::new(), reached: emptied.reached };
    let mut last = None;
    for (name, next) in emptied.found {
        if last.is_some() && is_slow && started.elapsed() >= MATCH_STEP_TIME {
            left.reached = last;
            return left;
        }
        if filter.matches_stream(&name) {
            left.found.push((name.clone(), next));
        }
        last = Some(name);
    }
    left
}

/// Reads the next events as [`walk::forward`] finds them. Only the access lists are not asked.
fn step(
    view: &ReadView<'_>,
    policy: &Policy,
    source: &Source,
    from: u64,
    most_bytes: usize,
) -> Result<ExportStep, ReadError> {
    let now = super::now();
    let state = source.state(view)?;
    let Visibility::Readable(visible) = source.visibility(&state, now) else {
        return Ok(ExportStep { events: Vec::new(), next: from, end: from });
    };
    let limits = StepLimits {
        examined: EXPORT_STEP_EVENTS,
        examined_bytes: most_bytes,
        taken: u64::MAX,
        enough_bytes: usize::MAX,
        most_bytes: usize::MAX,
    };
    let mut resolver = LinkResolver::new(view, Links::AsStored, now, policy);
    let found = walk::forward(view, &mut resolver, source, &state, visible, from, limits)?;
    // Where nothing is found, the last events were removed.
    let next = if found.reached == from { state.end.max(from) } else { found.reached };
    let events = found.events.into_iter().map(|event| event.original).collect();
    Ok(ExportStep { events, next, end: state.end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::{FilterBy, Pattern};

    #[test]
    fn a_slow_filter_of_streams_stops_in_time_and_behind_what_it_has_looked_at() {
        // Expressions that look back are slow for letters of these two, as long as they differ.
        let name = |number: u64| -> String {
            let mut state = number + 1;
            let mut letter = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if state >> 63 == 0 { 'a' } else { 'b' }
            };
            (0..900).map(|_| letter()).collect()
        };
        let found: Vec<(String, EventNumber)> = (0..1_000).map(|number| (name(number), number)).collect();
        let emptied = || EmptiedStreams { found: found.clone(), reached: Some("z".to_owned()) };
        let filter = |pattern| Filter { pattern: Some((FilterBy::Stream, pattern)), without_system_events: false };

        let slow = filter(Pattern::regex("[ab]*a[ab]{300}c").unwrap());
        let left = of_these_streams(&slow, emptied());
        let reached = left.reached.unwrap();
        let at = found.iter().position(|(name, _)| *name == reached).expect("all were looked at");
        assert!(at < 900 && left.found.is_empty(), "{at}");

        let quick = filter(Pattern::prefixes(["a"].into_iter()).unwrap());
        let left = of_these_streams(&quick, emptied());
        assert_eq!(left.reached.as_deref(), Some("z"));
        assert_eq!(left.found.len(), found.iter().filter(|(name, _)| name.starts_with('a')).count());
    }
}
