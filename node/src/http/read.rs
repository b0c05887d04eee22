//! Reading events under one view: visibility, links, limits. Runs inside [`crate::store::Store::read`].

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::atom::Entry;
use super::limits::{MAX_PAGE_BYTES, PAGE_READ_STEP};
use crate::event::paging::Bounds;
use crate::event::{EventNumber, RecordedEvent, StreamMetadata, Ticks};
use crate::store::{ReadError, ReadView, StreamInfo};

/// What a stream is to its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// It has, or had, events in these bounds.
    Yes(Bounds),
    /// Never existed, or soft-deleted.
    NotFound,
    /// Hard-deleted.
    Deleted,
}

/// Looks at a stream's state before its events.
pub fn readable(info: &StreamInfo) -> Readable {
    match info.last_number {
        _ if info.tombstoned => Readable::Deleted,
        Some(last) if !info.metadata.is_soft_deleted() => Readable::Yes(Bounds::new(last, &info.metadata)),
        _ => Readable::NotFound,
    }
}

fn is_young(event: &RecordedEvent, metadata: &StreamMetadata, now: Ticks) -> bool {
    let oldest = |age: u64| now.0.saturating_sub(age.saturating_mul(Ticks::PER_SECOND));
    metadata.max_age_s.is_none_or(|age| event.time.0 >= oldest(age))
}

/// The visible event with this number.
pub fn event(
    view: &ReadView<'_>,
    info: &StreamInfo,
    number: EventNumber,
    now: Ticks,
) -> Result<Option<RecordedEvent>, ReadError> {
    let (Readable::Yes(bounds), Some(id)) = (readable(info), info.id) else { return Ok(None) };
    if !bounds.contains(number) {
        return Ok(None);
    }
    Ok(view.event(id, number)?.filter(|event| is_young(event, &info.metadata, now)))
}

/// Counts the payload of a page.
#[derive(Debug, Default)]
pub struct Budget {
    bytes: usize,
}

impl Budget {
    /// False once the page holds more than [`MAX_PAGE_BYTES`].
    pub fn take(&mut self, event: &RecordedEvent) -> bool {
        self.bytes += event.data.len() + event.metadata.len();
        self.bytes <= MAX_PAGE_BYTES
    }
}

/// Events of a page.
pub enum Page {
    /// Visible events, ascending.
    Events(Vec<RecordedEvent>),
    /// More payload than a page may have.
    TooLarge,
}

/// The visible events of a stream with these numbers, within the bounds already.
pub fn page(
    view: &ReadView<'_>,
    info: &StreamInfo,
    numbers: Option<RangeInclusive<EventNumber>>,
    now: Ticks,
) -> Result<Page, ReadError> {
    let (Some(id), Some(numbers)) = (info.id, numbers) else { return Ok(Page::Events(Vec::new())) };
    let mut events = Vec::new();
    let mut budget = Budget::default();
    let (mut from, end) = numbers.into_inner();
    while from <= end {
        let to = end.min(from.saturating_add(PAGE_READ_STEP - 1));
        for event in view.events(id, from..=to)? {
            if !budget.take(&event) {
                return Ok(Page::TooLarge);
            }
            if is_young(&event, &info.metadata, now) {
                events.push(event);
            }
        }
        from = to + 1;
    }
    Ok(Page::Events(events))
}

/// Follows links; remembers the streams they lead to.
pub struct Resolver<'view, 'db> {
    view: &'view ReadView<'db>,
    now: Ticks,
    streams: HashMap<String, StreamInfo>,
}

impl<'view, 'db> Resolver<'view, 'db> {
    /// Nothing followed yet.
    pub fn new(view: &'view ReadView<'db>, now: Ticks) -> Self {
        Self { view, now, streams: HashMap::new() }
    }

    /// The entry for a stored event: one level of links is followed (contract/streams 11).
    pub fn entry(&mut self, event: RecordedEvent) -> Result<Entry, ReadError> {
        let Some((number, stream)) = event.link_target() else { return Ok(Entry::Plain(event)) };
        let stream = stream.to_owned();
        if !self.streams.contains_key(&stream) {
            self.streams.insert(stream.clone(), self.view.stream(&stream)?);
        }
        let target = match self.streams.get(&stream) {
            Some(info) => self::event(self.view, info, number, self.now)?,
            None => None,
        };
        Ok(match target {
            Some(target) => Entry::Resolved { link: event, target },
            None => Entry::Unresolvable { link: event, number, stream },
        })
    }
}

/// The clock that `$maxAge` is judged by.
pub fn now() -> Ticks {
    Ticks::from_system_time(std::time::SystemTime::now())
}
