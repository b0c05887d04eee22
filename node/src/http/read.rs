//! Reading events under one view: visibility and links. Runs inside [`crate::store::Store::read`].

use std::collections::HashMap;

use super::atom::{OwnedEntry, Target};
use crate::event::paging::Bounds;
use crate::event::{EventNumber, EventRef, RecordedEvent, StreamMetadata, Ticks};
use crate::store::{EventPlace, ReadError, ReadView, StreamInfo};

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

/// The time from which on events are young enough to be seen (`$maxAge`).
pub fn oldest_visible(metadata: &StreamMetadata, now: Ticks) -> Ticks {
    let age = |seconds: u64| seconds.saturating_mul(Ticks::PER_SECOND);
    metadata.max_age_s.map_or(Ticks(0), |seconds| Ticks(now.0.saturating_sub(age(seconds))))
}

/// Where the event with this number is, if readers may see it as far as that is known without its time.
pub fn place(view: &ReadView<'_>, info: &StreamInfo, number: EventNumber) -> Result<Option<EventPlace>, ReadError> {
    match (readable(info), info.id) {
        (Readable::Yes(bounds), Some(id)) if bounds.contains(number) => view.place(id, number),
        _ => Ok(None),
    }
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

    /// Where a stored event leads, if it is a link: one level is followed (contract/streams 11).
    pub fn target(&mut self, event: EventRef<'_>) -> Result<Target, ReadError> {
        let Some((number, stream)) = event.link_target() else { return Ok(Target::None) };
        let unreadable = || Target::Unreadable { number, stream: stream.to_owned() };
        let Some((place, oldest)) = self.place(number, stream)? else { return Ok(unreadable()) };
        let target = self.view.event_at(place)?;
        Ok(if target.time >= oldest { Target::Event(target) } else { unreadable() })
    }

    /// The entry for a stored event.
    pub fn entry(&mut self, event: RecordedEvent) -> Result<OwnedEntry, ReadError> {
        let target = self.target(event.borrowed())?;
        Ok(OwnedEntry { event, target })
    }

    /// How many stored bytes [`Self::target`] reads.
    pub fn target_bytes(&mut self, event: EventRef<'_>) -> Result<u64, ReadError> {
        let Some((number, stream)) = event.link_target() else { return Ok(0) };
        Ok(self.place(number, stream)?.map_or(0, |(place, _)| place.bytes.into()))
    }

    /// Where the target is, and how old it may be.
    fn place(&mut self, number: EventNumber, stream: &str) -> Result<Option<(EventPlace, Ticks)>, ReadError> {
        if !self.streams.contains_key(stream) {
            self.streams.insert(stream.to_owned(), self.view.stream(stream)?);
        }
        let Some(info) = self.streams.get(stream) else { return Ok(None) };
        let place = self::place(self.view, info, number)?;
        Ok(place.map(|place| (place, oldest_visible(&info.metadata, self.now))))
    }
}

/// The clock that `$maxAge` is judged by.
pub fn now() -> Ticks {
    Ticks::from_system_time(std::time::SystemTime::now())
}
