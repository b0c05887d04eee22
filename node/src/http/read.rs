//! Reading events under one view: visibility, links, limits. Runs inside [`crate::store::Store::read`].

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::atom::Entry;
use super::limits::PAGE_READ_STEP;
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

/// Events of a page as read.
#[derive(Debug, Default)]
pub struct Page {
    /// Visible events, newest first.
    pub events: Vec<RecordedEvent>,
    /// The first number that was left out because the page would have held too many bytes with it.
    pub cut_at: Option<EventNumber>,
}

/// Which end of the numbers of a page must not be missing when it is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The page goes on with smaller numbers.
    NewestFirst,
    /// The page goes on with larger numbers.
    OldestFirst,
}

/// The visible events of a stream with these numbers, within the bounds already. Stops before the event that would take
/// the payload over `max_bytes`, but has at least one number of the stream.
pub fn page(
    view: &ReadView<'_>,
    info: &StreamInfo,
    numbers: Option<RangeInclusive<EventNumber>>,
    order: Order,
    now: Ticks,
    max_bytes: usize,
) -> Result<Page, ReadError> {
    let mut page = Page::default();
    let (Some(id), Some(numbers)) = (info.id, numbers) else { return Ok(page) };
    let (mut from, mut end) = numbers.into_inner();
    let (mut bytes, mut is_first) = (0, true);
    'page: while from <= end {
        let mut step = match order {
            Order::OldestFirst => view.events(id, from..=end.min(from.saturating_add(PAGE_READ_STEP - 1)))?,
            Order::NewestFirst => view.events(id, from.max(end.saturating_sub(PAGE_READ_STEP - 1))..=end)?,
        };
        if order == Order::NewestFirst {
            step.reverse();
        }
        for event in step {
            bytes += event.data.len() + event.metadata.len();
            if bytes > max_bytes && !is_first {
                page.cut_at = Some(event.number);
                break 'page;
            }
            is_first = false;
            if is_young(&event, &info.metadata, now) {
                page.events.push(event);
            }
        }
        match order {
            Order::OldestFirst => from = from.saturating_add(PAGE_READ_STEP),
            Order::NewestFirst => match end.checked_sub(PAGE_READ_STEP) {
                Some(rest) => end = rest,
                None => break,
            },
        }
    }
    if order == Order::OldestFirst {
        page.events.reverse();
    }
    Ok(page)
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
