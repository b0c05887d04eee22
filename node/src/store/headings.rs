//! What the index alone says of the events of a page.

use uuid::Uuid;

use super::index_row::{EventPlace, Heading};
use crate::event::{EventNumber, EventRef, Position, Ticks};

/// Numbers, times and types of some events of one stream, ascending.
#[derive(Debug)]
pub struct Headings {
    events: Vec<KnownHeading>,
    /// All types, one behind the other.
    types: String,
}

#[derive(Debug)]
struct KnownHeading {
    number: EventNumber,
    position: Position,
    time: Ticks,
    /// Where its type ends among all of them; it begins where that of the event before ends.
    type_end: usize,
}

impl Headings {
    /// With memory for so many events.
    pub(super) fn with_capacity(events: usize) -> Self {
        Self { events: Vec::with_capacity(events), types: String::with_capacity(16 * events) }
    }

    /// The next event.
    pub(super) fn push(&mut self, place: EventPlace, heading: Heading<'_>) {
        self.types.push_str(heading.event_type);
        let EventPlace { number, position, .. } = place;
        self.events.push(KnownHeading { number, position, time: heading.time, type_end: self.types.len() });
    }

    /// The events, which stand in `stream`, as far as they are known: number, position, time and
    /// type. All else of them is empty and must not be shown.
    pub fn events<'a>(&'a self, stream: &'a str) -> impl Iterator<Item = EventRef<'a>> {
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
