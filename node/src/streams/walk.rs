//! Steps along a stream or along the log of all events, for reads that cannot know beforehand where
//! their events are: those with a filter, and those that follow what comes.

use super::filter::Filter;
use super::limits::{NAMES_PER_ENTRY, PAGE_ENTRY_BYTES};
use super::links::LinkResolver;
use super::source::{Source, SourceState};
use crate::event::paging::Direction;
use crate::event::visibility::VisibleEvents;
use crate::event::{EventNumber, Position, RecordedEvent, ResolvedEvent};
use crate::store::{EventPlace, ReadError, ReadView};

/// How far one step goes at most. It looks at one event at least, if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepLimits {
    /// Events that it looks at.
    pub(super) examined: u64,
    /// Stored bytes that it looks at.
    pub(super) examined_bytes: usize,
    /// Events that it takes.
    pub(super) taken: u64,
    /// Bytes to show beyond which it takes no further event.
    pub(super) enough_bytes: usize,
    /// Bytes to show that it takes, unless its first event alone has more. Links may lead to more
    /// than was looked at.
    pub(super) most_bytes: usize,
}

/// What one step found.
#[derive(Debug)]
pub(super) struct Step {
    /// The events, in the order of the walk.
    pub(super) events: Vec<ResolvedEvent>,
    /// What they show: their payload, and long names.
    pub(super) shown_bytes: usize,
    /// How far it came: on the way forward the number or position where the next step begins, on
    /// the way backward the one before which it does.
    pub(super) reached: u64,
    /// Events that it looked at.
    pub(super) examined: u64,
    /// Their payload.
    pub(super) examined_bytes: usize,
}

/// A step along the log: the next events that `filter` leaves of those at `position` and after it,
/// or of those before it.
pub(super) fn along_log(
    view: &ReadView<'_>,
    resolver: &mut LinkResolver<'_, '_>,
    direction: Direction,
    position: Position,
    filter: Option<&Filter>,
    limits: StepLimits,
) -> Result<Step, ReadError> {
    let (count, bytes) = (limits.examined as usize, limits.examined_bytes);
    let events = match direction {
        Direction::Backward => view.log_backward(position, count, bytes)?,
        Direction::Forward => view.log_forward(position, count, bytes)?,
    };
    let behind = |event: &RecordedEvent| match direction {
        Direction::Backward => event.position,
        Direction::Forward => event.position + 1,
    };
    let mut step = Step::at(position);
    for event in events {
        if step.is_enough(limits) {
            break;
        }
        let (behind, bytes) = (behind(&event), event.data.len() + event.metadata.len());
        if filter.is_none_or(|filter| filter.matches(&event)) && !step.take(event, resolver, limits)? {
            break;
        }
        step.reached = behind;
        step.examined += 1;
        step.examined_bytes += bytes;
    }
    Ok(step)
}

/// A step forward along a source of which this is visible, from a number or position on.
pub(super) fn forward(
    view: &ReadView<'_>,
    resolver: &mut LinkResolver<'_, '_>,
    source: &Source,
    state: &SourceState,
    visible: VisibleEvents,
    next: u64,
    limits: StepLimits,
) -> Result<Step, ReadError> {
    match (source, state.info.id) {
        _ if next >= state.end => Ok(Step::at(next)),
        (Source::Log { filter }, _) => along_log(view, resolver, Direction::Forward, next, filter.as_deref(), limits),
        (Source::Stream { .. }, Some(id)) => along_stream(view, resolver, id, visible, next, limits),
        (Source::Stream { .. }, None) => Ok(Step::at(next)),
    }
}

/// A step forward along a stream: its next visible events from `next` on.
fn along_stream(
    view: &ReadView<'_>,
    resolver: &mut LinkResolver<'_, '_>,
    stream_id: u64,
    visible: VisibleEvents,
    next: EventNumber,
    limits: StepLimits,
) -> Result<Step, ReadError> {
    let bounds = visible.bounds;
    let first = next.max(bounds.min);
    if first > bounds.last {
        return Ok(Step::at(next));
    }
    let end = bounds.last.min(first.saturating_add(limits.examined - 1));
    let places = view.places(stream_id, first..=end)?;
    let mut bytes = 0;
    let fits = |place: &&EventPlace| {
        bytes += place.bytes as usize;
        bytes <= limits.examined_bytes
    };
    let count = places.iter().take_while(fits).count().max(1).min(places.len());
    let mut step = Step::at(first);
    for row in &view.rows(&places[..count])? {
        let event = row.event()?;
        if visible.shows(event.number, event.time)
            && (step.is_enough(limits) || !step.take(event.to_recorded(), resolver, limits)?)
        {
            return Ok(step);
        }
        step.reached = event.number + 1;
        step.examined += 1;
        step.examined_bytes += event.data.len() + event.metadata.len();
    }
    // Numbers of which nothing is stored are passed as well.
    step.reached = places.get(count).map_or(end + 1, |place| place.number);
    Ok(step)
}

impl Step {
    fn at(reached: u64) -> Self {
        Self { events: Vec::new(), shown_bytes: 0, reached, examined: 0, examined_bytes: 0 }
    }

    fn is_enough(&self, limits: StepLimits) -> bool {
        self.events.len() as u64 >= limits.taken || self.shown_bytes > limits.enough_bytes
    }

    /// Takes an event, unless it is too much for this step.
    fn take(
        &mut self,
        event: RecordedEvent,
        resolver: &mut LinkResolver<'_, '_>,
        limits: StepLimits,
    ) -> Result<bool, ReadError> {
        let event = resolver.resolve(event)?;
        let shown_bytes = self.shown_bytes + shown_bytes(&event);
        if shown_bytes > limits.most_bytes && !self.events.is_empty() {
            return Ok(false);
        }
        self.shown_bytes = shown_bytes;
        self.events.push(event);
        Ok(true)
    }
}

/// What an event adds to an answer: its payload, and its names as far as they exceed what every
/// entry takes anyway.
fn shown_bytes(event: &ResolvedEvent) -> usize {
    let names = NAMES_PER_ENTRY * event.name_bytes();
    event.payload_bytes() + names.saturating_sub(PAGE_ENTRY_BYTES as usize)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::event::stream_name::MAX_STREAM_NAME_BYTES;
    use crate::event::{LinkTarget, Ticks};
    use crate::streams::limits::LIVE_PIECE_BYTES;

    fn event(stream: &str, data: usize) -> RecordedEvent {
        RecordedEvent {
            stream: stream.to_owned(),
            number: 0,
            position: 0,
            event_id: Uuid::nil(),
            event_type: "t".to_owned(),
            is_json: false,
            time: Ticks(0),
            data: vec![0; data].into(),
            metadata: Vec::new().into(),
        }
    }

    #[test]
    fn long_names_count_for_what_a_step_shows_and_short_ones_do_not() {
        let shown = |original, target| shown_bytes(&ResolvedEvent { original, target });
        assert_eq!(shown(event("s", 100), LinkTarget::NotFollowed), 100);
        let longest = "x".repeat(MAX_STREAM_NAME_BYTES);
        let of_names = NAMES_PER_ENTRY * MAX_STREAM_NAME_BYTES - PAGE_ENTRY_BYTES as usize;
        assert_eq!(shown(event(&longest, 100), LinkTarget::NotFollowed), 100 + of_names);
        assert_eq!(shown(event("s", 9), LinkTarget::Event(event(&longest, 100))), 100 + of_names);
        let dangling = LinkTarget::Dangling { number: 1, stream: longest };
        assert_eq!(shown(event("s", 9), dangling), of_names);
        // A piece of a subscription has one event of them.
        assert!(of_names < LIVE_PIECE_BYTES && 2 * of_names > LIVE_PIECE_BYTES);
    }
}
