//! Reading the state under one consistent view.

use std::cell::RefCell;
use std::ops::{ControlFlow, Range, RangeInclusive};

use headwater_proto::stored::StreamRecord;
use rocksdb::{DBPinnableSlice, DBRawIterator, ErrorKind, ReadOptions, ReadTier, Snapshot};

use super::generation::Generation;
use super::headings::Headings;
use super::index_row::EventPlace;
use super::log_rows::{KeptHoles, LogRows};
use super::system_row::{self, Counters};
use super::{event_row, index_row, options, stream_row};
use crate::event::metadata::Acl;
use crate::event::visibility::{StoredNumbers, VisibleEvents};
use crate::event::{
    EventNumber, EventRef, MAX_NUMBER, Position, RecordedEvent, StreamMetadata, StreamNameRef, Ticks, Visibility,
};

/// Places of a page whose memory is allocated at once; larger pages are rare.
const PREALLOCATED_PLACES: u64 = 127;

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// A block is not in memory and this view may not wait for the disk; handled inside
    /// [`super::Store::read`].
    #[error("not in memory")]
    NotInMemory,
    /// Too many reads have waited for the disk for too long, see [`super::COLD_READS`].
    #[error("no place to wait for the disk in time")]
    Busy,
    /// The database is damaged; the node stops (see `fatal`).
    #[error("state database: {0}")]
    Damaged(String),
}

impl ReadError {
    /// Classifies errors of RocksDB, whose text names the file of a damaged block.
    pub(super) fn from_rocksdb(error: rocksdb::Error) -> Self {
        match error.kind() {
            ErrorKind::Incomplete => Self::NotInMemory,
            _ => Self::Damaged(error.into_string()),
        }
    }
}

/// The state of a stream, without its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamInfo {
    /// Numeric id for [`ReadView::events`]; `None` when the stream has never had an event or
    /// metadata.
    pub(crate) id: Option<u64>,
    /// Hard-deleted; for a metastream, whether the stream it describes is hard-deleted.
    pub(crate) tombstoned: bool,
    /// Number of the last event ever committed, truncated ones included; `None` when there was
    /// none.
    pub(crate) last_number: Option<EventNumber>,
    /// Events with smaller numbers were removed for ever.
    pub(crate) removed_before: EventNumber,
    /// How many of its events were redacted: the same page looks different afterwards.
    pub(crate) redactions: u32,
    /// Effective metadata: the fixed one for `$$...` streams, the defaults when there is none.
    pub(crate) metadata: StreamMetadata,
    /// For `$$...` streams the metadata of the stream they describe, whose `$mr` names their
    /// readers.
    pub(crate) described: Option<StreamMetadata>,
}

impl StreamInfo {
    /// What readers may see of the stream at this time.
    pub(crate) fn visibility(&self, now: Ticks) -> Visibility {
        Visibility::new(self.numbers(), &self.metadata, now)
    }

    fn numbers(&self) -> StoredNumbers {
        StoredNumbers { is_tombstoned: self.tombstoned, last: self.last_number, removed_before: self.removed_before }
    }
}

/// What a view may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    /// Memory only; anything else is [`ReadError::NotInMemory`].
    Memory,
    /// The disk as well.
    Disk,
}

/// The state as of one moment.
pub(crate) struct ReadView<'db> {
    // Declared before the snapshot that it reads from, so that it is dropped first.
    /// The index rows of the last stream read: its last number and its page are usually read
    /// together, and making an iterator costs as much as moving one over a page.
    index_rows: RefCell<Option<(u64, DBRawIterator<'db>)>>,
    /// The holes that were asked for last.
    pub(super) holes: RefCell<Option<KeptHoles>>,
    generation: &'db Generation,
    redactions: u32,
    snapshot: Snapshot<'db>,
    tier: Tier,
    /// For look-ups by key.
    options: ReadOptions,
}

impl<'db> ReadView<'db> {
    pub(super) fn new(generation: &'db Generation, tier: Tier) -> Self {
        let redactions = generation.redactions();
        let snapshot = generation.db().snapshot();
        let options = read_options(&snapshot, tier);
        Self {
            generation,
            redactions,
            snapshot,
            tier,
            options,
            index_rows: RefCell::new(None),
            holes: RefCell::new(None),
        }
    }

    /// The state of `stream`; also for streams that never existed.
    pub(crate) fn stream(&self, stream: &str) -> Result<StreamInfo, ReadError> {
        let record = self.record(stream)?;
        let last_number = match &record {
            // The index may lack the rows of forgotten ids, the last ones too, and have earlier
            // ones. An import may have let the stream go on behind its last event.
            Some(record) => self.last_index_number(record.id)?.max(record.last_number),
            None => None,
        };
        let id = record.as_ref().map(|record| record.id);
        let removed_before = record.as_ref().map_or(0, |record| record.removed_before);
        let redactions = record.as_ref().map_or(0, |record| record.redactions);
        let tombstoned_itself = record.as_ref().is_some_and(|record| record.tombstone_position.is_some());
        let Some(described) = StreamNameRef::new(stream).described() else {
            let metadata = metadata_of(record);
            let tombstoned = tombstoned_itself;
            let info =
                StreamInfo { id, tombstoned, last_number, removed_before, redactions, metadata, described: None };
            return Ok(info);
        };
        let described = self.record(described.as_str())?;
        let described_is_tombstoned = described.as_ref().is_some_and(|record| record.tombstone_position.is_some());
        Ok(StreamInfo {
            id,
            tombstoned: tombstoned_itself || described_is_tombstoned,
            last_number,
            removed_before,
            redactions,
            metadata: StreamMetadata::of_metastream(),
            described: Some(metadata_of(described)),
        })
    }

    /// The access list of the stream itself, without looking at its events; also for streams that
    /// never existed.
    pub(crate) fn acl(&self, stream: &str) -> Result<Option<Acl>, ReadError> {
        Ok(metadata_of(self.record(stream)?).acl)
    }

    /// The last event of a stream as readers see it: none for a deleted or truncated stream. Its
    /// age does not count: users and access lists are read here, and only writes change them, never
    /// the clock.
    pub(crate) fn last_visible_event(&self, stream: &str) -> Result<Option<RecordedEvent>, ReadError> {
        let info = self.stream(stream)?;
        let visibility = Visibility::regardless_of_age(info.numbers(), &info.metadata);
        match (visibility, info.id) {
            (Visibility::Readable(VisibleEvents { bounds, .. }), Some(id)) if bounds.contains(bounds.last) => {
                self.event(id, bounds.last)
            }
            _ => Ok(None),
        }
    }

    /// The places of the stored events of a stream (id from [`StreamInfo`]) with the given numbers,
    /// ascending. Raw: truncation, age and deletion are left to the caller. Numbers that are not
    /// stored are skipped.
    pub(crate) fn places(
        &self,
        stream_id: u64,
        numbers: RangeInclusive<EventNumber>,
    ) -> Result<Vec<EventPlace>, ReadError> {
        let mut places = places_for(&numbers);
        self.scan_index(stream_id, numbers, |key, value| {
            places.push(index_row::place(key, value)?);
            Ok(())
        })?;
        Ok(places)
    }

    /// The same, with the headings of these events if the index has all of them.
    pub(crate) fn places_and_headings(
        &self,
        stream_id: u64,
        numbers: RangeInclusive<EventNumber>,
    ) -> Result<(Vec<EventPlace>, Option<Headings>), ReadError> {
        let mut places = places_for(&numbers);
        let mut headings = Some(Headings::with_capacity(places.capacity()));
        self.scan_index(stream_id, numbers, |key, value| {
            let (place, heading) = index_row::place_and_heading(key, value)?;
            places.push(place);
            match (&mut headings, heading) {
                (Some(headings), Some(heading)) => headings.push(place, heading),
                _ => headings = None,
            }
            Ok(())
        })?;
        Ok((places, headings))
    }

    /// Shows the index rows of these events to `visit`, ascending.
    fn scan_index(
        &self,
        stream_id: u64,
        numbers: RangeInclusive<EventNumber>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let (start, end) = (*numbers.start(), (*numbers.end()).min(MAX_NUMBER));
        if start > end {
            return Ok(());
        }
        let mut rows = match self.kept_index_rows(stream_id) {
            Some(rows) => rows,
            // With a bound after the last row wanted, tables that have only later rows of the
            // stream take no part in each step.
            None => {
                self.iterate(options::INDEX, &index_row::key(stream_id, start), &index_row::key(stream_id, end + 1))
            }
        };
        rows.seek(index_row::key(stream_id, start));
        while let Some((key, value)) = rows.item() {
            let number = index_row::number(key)?;
            if number > end {
                break;
            }
            visit(key, value)?;
            if number == end {
                break;
            }
            rows.next();
        }
        // An iterator ends the same way at the end and at an unreadable block.
        rows.status().map_err(ReadError::from_rocksdb)
    }

    /// The place of the stored event with this number, raw.
    pub(crate) fn place(&self, stream_id: u64, number: EventNumber) -> Result<Option<EventPlace>, ReadError> {
        let key = index_row::key(stream_id, number);
        self.get(options::INDEX, &key)?.map(|row| index_row::place(&key, &row)).transpose()
    }

    /// Whether an event was ever removed, on this node or on the one that its state came from.
    pub(crate) fn has_holes(&self) -> bool {
        self.generation.has_holes()
    }

    /// How many events of all streams together were redacted.
    pub(crate) fn redactions(&self) -> u32 {
        self.redactions
    }

    /// The rows of events at ascending places, all held in memory until the result is dropped.
    /// Events that were removed since their places were found are left out.
    pub(crate) fn rows(&self, places: &[EventPlace]) -> Result<Vec<EventRow<'db>>, ReadError> {
        let keys: Vec<_> = places.iter().map(|place| event_row::key(place.position)).collect();
        let family = self.generation.family(options::EVENT);
        let rows = self.generation.db().batched_multi_get_cf_opt(family, &keys, true, &self.options);
        let mut found = Vec::with_capacity(places.len());
        for (EventPlace { position, .. }, row) in places.iter().zip(rows) {
            match row.map_err(ReadError::from_rocksdb)? {
                Some(value) => found.push(EventRow { position: *position, value }),
                None => self.require_hole(*position)?,
            }
        }
        Ok(found)
    }

    /// The event at a place; `None` when it was removed since the place was found.
    pub(crate) fn event_at(&self, place: EventPlace) -> Result<Option<RecordedEvent>, ReadError> {
        match self.get(options::EVENT, &event_row::key(place.position))? {
            Some(value) => Ok(Some(event_row::read(place.position, &value)?.to_recorded())),
            None => self.require_hole(place.position).map(|()| None),
        }
    }

    /// The row of the event at this position; `None` when the event was removed, or the log does
    /// not reach so far.
    pub(crate) fn row_at(&self, position: Position) -> Result<Option<EventRow<'db>>, ReadError> {
        match self.get(options::EVENT, &event_row::key(position))? {
            Some(value) => Ok(Some(EventRow { position, value })),
            None if position >= self.next_position()? => Ok(None),
            None => self.require_hole(position).map(|()| None),
        }
    }

    /// An event without a row was removed, or it is lost.
    fn require_hole(&self, position: Position) -> Result<(), ReadError> {
        if self.is_hole(position)? { Ok(()) } else { Err(missing(position)) }
    }

    /// The stored event with this number, raw.
    pub(crate) fn event(&self, stream_id: u64, number: EventNumber) -> Result<Option<RecordedEvent>, ReadError> {
        let Some(place) = self.place(stream_id, number)? else { return Ok(None) };
        self.event_at(place)
    }

    /// The stored events of a stream with the given numbers, ascending, as [`Self::places`] finds
    /// them.
    #[cfg(test)]
    pub(crate) fn events(
        &self,
        stream_id: u64,
        numbers: RangeInclusive<EventNumber>,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let rows = self.rows(&self.places(stream_id, numbers)?)?;
        rows.iter().map(|row| Ok(row.event()?.to_recorded())).collect()
    }

    /// Shows the events at these positions to `visit`, newest first, until it breaks off. One row
    /// is held at a time.
    pub(crate) fn log_down(
        &self,
        positions: Range<Position>,
        mut visit: impl FnMut(EventRef<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        let mut rows = LogRows::new(self, positions);
        while rows.down()? {
            if visit(rows.event()?.0)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Shows the events at these positions to `visit`, oldest first, until it breaks off.
    pub(crate) fn log_up(
        &self,
        positions: Range<Position>,
        mut visit: impl FnMut(EventRef<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        if positions.is_empty() {
            return Ok(());
        }
        let from = event_row::key(positions.start);
        let mut rows = self.iterate(options::EVENT, &from, &event_row::key(positions.end));
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if visit(event_row::read(event_row::position(key)?, value)?)?.is_break() {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(ReadError::from_rocksdb)
    }

    /// Up to `count` events from `from` on, ascending; fewer when the payload of more would exceed
    /// `max_bytes`, but at least one if there is one.
    pub(crate) fn log_forward(
        &self,
        from: Position,
        count: usize,
        max_bytes: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        take_events(LogRows::new(self, from..self.next_position()?), count, max_bytes, LogRows::up)
    }

    /// Up to `count` events before `before`, descending; `max_bytes` as in [`Self::log_forward`].
    pub(crate) fn log_backward(
        &self,
        before: Position,
        count: usize,
        max_bytes: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        take_events(LogRows::new(self, 0..before.min(self.next_position()?)), count, max_bytes, LogRows::down)
    }

    /// The time of the newest of all events; `None` when there is none.
    pub(crate) fn newest_time(&self) -> Result<Option<Ticks>, ReadError> {
        let mut newest = None;
        self.log_down(0..self.next_position()?, |event| {
            newest = Some(event.time);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(newest)
    }

    /// Position the next event will get, which is the number of events ever stored, as of this
    /// view.
    pub(crate) fn next_position(&self) -> Result<Position, ReadError> {
        let row = self.get(options::SYSTEM, system_row::COUNTERS)?;
        Ok(row.map_or(Ok(Counters::default()), |row| Counters::decode(&row))?.next_position)
    }

    pub(super) fn record(&self, stream: &str) -> Result<Option<StreamRecord>, ReadError> {
        let row = self.get(options::STREAM, stream_row::key(stream))?;
        row.map(|row| stream_row::decode(stream, &row)).transpose()
    }

    /// Keeps the iterator for the rows that are usually read next.
    pub(super) fn last_index_number(&self, stream_id: u64) -> Result<Option<EventNumber>, ReadError> {
        let mut rows = self.kept_index_rows(stream_id).unwrap_or_else(|| {
            self.iterate(options::INDEX, &index_row::key(stream_id, 0), &index_row::end_key(stream_id))
        });
        let last = last_number(&mut rows, stream_id)?;
        self.index_rows.replace(Some((stream_id, rows)));
        Ok(last)
    }

    /// The kept iterator, if it covers all index rows of this stream, at any row.
    fn kept_index_rows(&self, stream_id: u64) -> Option<DBRawIterator<'db>> {
        self.index_rows.take().filter(|(kept_for, _)| *kept_for == stream_id).map(|(_, rows)| rows)
    }

    pub(super) fn get(&self, family: &str, key: &[u8]) -> Result<Option<DBPinnableSlice<'db>>, ReadError> {
        let family = self.generation.family(family);
        self.generation.db().get_pinned_cf_opt(family, key, &self.options).map_err(ReadError::from_rocksdb)
    }

    /// Over a whole family.
    pub(super) fn iterate_all(&self, family: &str) -> DBRawIterator<'db> {
        let options = read_options(&self.snapshot, self.tier);
        self.generation.db().raw_iterator_cf_opt(self.generation.family(family), options)
    }

    pub(super) fn iterate(&self, family: &str, from: &[u8], end: &[u8]) -> DBRawIterator<'db> {
        let mut options = read_options(&self.snapshot, self.tier);
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(end);
        self.generation.db().raw_iterator_cf_opt(self.generation.family(family), options)
    }
}

/// The stored row of an event, in memory for as long as this value lives.
pub(crate) struct EventRow<'db> {
    position: Position,
    value: DBPinnableSlice<'db>,
}

impl EventRow<'_> {
    /// The event.
    pub(crate) fn event(&self) -> Result<EventRef<'_>, ReadError> {
        event_row::read(self.position, &self.value)
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> usize {
        self.value.len()
    }
}

fn places_for(numbers: &RangeInclusive<EventNumber>) -> Vec<EventPlace> {
    Vec::with_capacity(numbers.end().saturating_sub(*numbers.start()).min(PREALLOCATED_PLACES) as usize + 1)
}

/// The event at this position should be there: it was stored, and it was not removed.
pub(super) fn missing(position: Position) -> ReadError {
    ReadError::Damaged(format!("the event at position {position} is missing although it was stored"))
}

/// Up to `count` of the next events, moved on to by `step`; fewer when the payload of more would
/// exceed `max_bytes`, but at least one if there is one.
fn take_events<'view, 'db>(
    mut rows: LogRows<'view, 'db>,
    count: usize,
    max_bytes: usize,
    step: impl Fn(&mut LogRows<'view, 'db>) -> Result<bool, ReadError>,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let mut events = Vec::new();
    let mut bytes = 0usize;
    while events.len() < count && step(&mut rows)? {
        let (event, size) = rows.event()?;
        bytes += size;
        if bytes > max_bytes && !events.is_empty() {
            break;
        }
        events.push(event.to_recorded());
    }
    Ok(events)
}

fn metadata_of(record: Option<StreamRecord>) -> StreamMetadata {
    record.and_then(|record| record.metadata).map(stream_row::metadata_from_stored).unwrap_or_default()
}

/// The number of the last row of a stream, given an iterator bounded to its rows.
pub(super) fn last_number(rows: &mut DBRawIterator<'_>, stream_id: u64) -> Result<Option<EventNumber>, ReadError> {
    rows.seek_for_prev(index_row::key(stream_id, MAX_NUMBER));
    let number = rows.key().map(index_row::number).transpose()?;
    rows.status().map_err(ReadError::from_rocksdb)?;
    Ok(number)
}

fn read_options(snapshot: &Snapshot<'_>, tier: Tier) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_snapshot(snapshot);
    options.set_read_tier(match tier {
        Tier::Memory => ReadTier::BlockCache,
        Tier::Disk => ReadTier::All,
    });
    options
}
