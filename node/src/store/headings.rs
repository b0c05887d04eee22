//! Headings of the events of a page, from the index alone.

use uuid::Uuid;

use super::index_row::{EventPlace, Heading};
use crate::event::{EventNumber, EventRef, Position, Ticks};

/// Numbers, times and types of some events of one stream, ascending.
#[derive(Debug)]
pub(crate) struct Headings {
    events: Vec<KnownHeading>,
    /// All types, one after another.
    types: String,
}

#[derive(Debug)]
struct KnownHeading {
    number: EventNumber,
    position: Position,
    time: Ticks,
    /// Where its type ends in `types`; it begins where the type of the previous event ends.
    type_end: usize,
}

impl Headings {
    /// With memory for this many events.
    pub(super) fn with_capacity(events: usize) -> Self {
        Self { events: Vec::with_capacity(events), types: String::with_capacity(16 * events) }
    }

    /// Adds the next event.
    pub(super) fn push(&mut self, place: EventPlace, heading: Heading<'_>) {
        self.types.push_str(heading.event_type);
        let EventPlace { number, position, .. } = place;
        self.events.push(KnownHeading { number, position, time: heading.time, type_end: self.types.len() });
    }

    /// The events, all of `stream`, as far as they are known: number, position, time and type. All
    /// other fields are empty and must not be shown.
    pub(crate) fn events<'a>(&'a self, stream: &'a str) -> impl Iterator<Item = EventRef<'a>> {
        let mut type_begin = 0;
        self.events.iter().map(move |event| {
            let event_type = self.types.get(type_begin..event.type_end).unwrap_or_default();
            type_begin = event.type_end;
            EventRef {
                position: event.position,
                stream,
                number: event.number,
                event_id: Uuid::nil(),
                event_type,
                is_json: false,
                time: event.time,
                data: &[],
                metadata: &[],
            }
        })
    }
}
