//! Reading the state under one consistent view.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use headwater_proto::stored::StreamRecord;
use rocksdb::{DBPinnableSlice, DBRawIterator, ErrorKind, ReadOptions, ReadTier, Snapshot};

use super::generation::Generation;
use super::system_row::{self, Counters};
use super::{event_row, index_row, options, stream_row};
use crate::event::{EventNumber, MAX_NUMBER, Position, RecordedEvent, StreamMetadata, stream_id};

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A block is not in memory and this view may not wait for the disk; handled inside [`super::Store::read`].
    #[error("not in memory")]
    NotInMemory,
    /// The database is damaged; the node stops (see `fatal`).
    #[error("state database: {0}")]
    Damaged(String),
}

impl ReadError {
    /// Sorts the errors of RocksDB. Its text names the file of a damaged block.
    pub(super) fn from_rocksdb(error: rocksdb::Error) -> Self {
        match error.kind() {
            ErrorKind::Incomplete => Self::NotInMemory,
            _ => Self::Damaged(error.into_string()),
        }
    }
}

/// What is known of a stream besides its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Numeric id for [`ReadView::events`]; `None` when the stream has never had an event or metadata.
    pub id: Option<u64>,
    /// Hard-deleted; for a metastream, when the stream it describes is.
    pub tombstoned: bool,
    /// Number of the last event ever committed, truncated ones included; `None` when there was none.
    pub last_number: Option<EventNumber>,
    /// Effective metadata: the fixed one for `$$...` streams, all defaults when there is none.
    pub metadata: StreamMetadata,
    /// For `$$...` streams the metadata of the stream they describe, whose `$mr` says who may read them.
    pub described: Option<StreamMetadata>,
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
pub struct ReadView<'db> {
    // Before the snapshot it reads under, so that it is gone first.
    /// The index rows of the stream asked for last: its last number and its page are usually wanted together, and making an
    /// iterator costs as much as moving one over a page.
    index_rows: RefCell<Option<(u64, DBRawIterator<'db>)>>,
    generation: &'db Generation,
    snapshot: Snapshot<'db>,
    tier: Tier,
    /// For reads by key.
    options: ReadOptions,
}

impl<'db> ReadView<'db> {
    pub(super) fn new(generation: &'db Generation, tier: Tier) -> Self {
        let snapshot = generation.db().snapshot();
        let options = read_options(&snapshot, tier);
        Self { generation, snapshot, tier, options, index_rows: RefCell::new(None) }
    }

    /// What is known of `stream`; also for streams that never existed.
    pub fn stream(&self, stream: &str) -> Result<StreamInfo, ReadError> {
        let record = self.record(stream)?;
        let last_number = match &record {
            Some(record) => match self.last_index_number(record.id)? {
                Some(number) => Some(number),
                None => record.last_number,
            },
            None => None,
        };
        let id = record.as_ref().map(|record| record.id);
        let tombstoned_itself = record.as_ref().is_some_and(|record| record.tombstone_position.is_some());
        let Some(described) = stream_id::described_by(stream) else {
            let metadata = metadata_of(record);
            return Ok(StreamInfo { id, tombstoned: tombstoned_itself, last_number, metadata, described: None });
        };
        let described = self.record(described)?;
        let described_is_tombstoned = described.as_ref().is_some_and(|record| record.tombstone_position.is_some());
        Ok(StreamInfo {
            id,
            tombstoned: tombstoned_itself || described_is_tombstoned,
            last_number,
            metadata: StreamMetadata::of_metastream(),
            described: Some(metadata_of(described)),
        })
    }

    /// The stored events of a stream (id from [`StreamInfo`]) in the given numbers, ascending. Raw: truncation, age and deletion
    /// are the caller's business; numbers that are not stored are left out.
    pub fn events(
        &self,
        stream_id: u64,
        numbers: RangeInclusive<EventNumber>,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let (start, end) = (*numbers.start(), (*numbers.end()).min(MAX_NUMBER));
        if start > end {
            return Ok(Vec::new());
        }
        let positions = self.with_index_rows(stream_id, |rows| {
            let mut positions = Vec::new();
            rows.seek(index_row::key(stream_id, start));
            while let Some((key, value)) = rows.item()
                && index_row::number(key)? <= end
            {
                positions.push(index_row::position(value)?);
                rows.next();
            }
            // An iterator ends in the same way at the end and at a block it could not read.
            rows.status().map_err(ReadError::from_rocksdb)?;
            Ok(positions)
        })?;
        self.at_positions(&positions)
    }

    /// The stored event with this number, raw.
    pub fn event(&self, stream_id: u64, number: EventNumber) -> Result<Option<RecordedEvent>, ReadError> {
        let Some(row) = self.get(options::INDEX, &index_row::key(stream_id, number))? else {
            return Ok(None);
        };
        let position = index_row::position(&row)?;
        Ok(self.at_positions(&[position])?.pop())
    }

    /// Up to `count` events at `from` and after it, ascending; fewer when the payload of more would exceed `max_bytes`, but at
    /// least one if there is one.
    pub fn log_forward(&self, from: Position, count: usize, max_bytes: usize) -> Result<Vec<RecordedEvent>, ReadError> {
        let from = event_row::key(from);
        let mut rows = self.iterate(options::EVENT, &from, &event_row::key(u64::MAX));
        rows.seek(from);
        take_events(rows, count, max_bytes, DBRawIterator::next)
    }

    /// Up to `count` events before `before`, descending; `max_bytes` as in [`Self::log_forward`].
    pub fn log_backward(
        &self,
        before: Position,
        count: usize,
        max_bytes: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let Some(newest) = before.checked_sub(1) else {
            return Ok(Vec::new());
        };
        let mut rows = self.iterate(options::EVENT, &event_row::key(0), &event_row::key(before));
        rows.seek_for_prev(event_row::key(newest));
        take_events(rows, count, max_bytes, DBRawIterator::prev)
    }

    /// Position the next event will get = number of events ever stored, as of this view.
    pub fn next_position(&self) -> Result<Position, ReadError> {
        let row = self.get(options::SYSTEM, system_row::COUNTERS)?;
        Ok(row.map_or(Ok(Counters::default()), |row| Counters::decode(&row))?.next_position)
    }

    fn record(&self, stream: &str) -> Result<Option<StreamRecord>, ReadError> {
        let row = self.get(options::STREAM, stream_row::key(stream))?;
        row.map(|row| stream_row::decode(stream, &row)).transpose()
    }

    fn last_index_number(&self, stream_id: u64) -> Result<Option<EventNumber>, ReadError> {
        self.with_index_rows(stream_id, |rows| last_number(rows, stream_id))
    }

    /// Lends the iterator over the index rows of one stream, wherever it stands.
    fn with_index_rows<T>(
        &self,
        stream_id: u64,
        read: impl FnOnce(&mut DBRawIterator<'db>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let kept = self.index_rows.take().filter(|(kept_for, _)| *kept_for == stream_id);
        let mut rows = match kept {
            Some((_, rows)) => rows,
            None => self.iterate(options::INDEX, &index_row::key(stream_id, 0), &index_row::end_key(stream_id)),
        };
        let result = read(&mut rows)?;
        self.index_rows.replace(Some((stream_id, rows)));
        Ok(result)
    }

    /// The events at these positions, which an index row promises to be there.
    fn at_positions(&self, positions: &[Position]) -> Result<Vec<RecordedEvent>, ReadError> {
        let keys: Vec<_> = positions.iter().map(|position| event_row::key(*position)).collect();
        let family = self.generation.family(options::EVENT);
        // A stream's positions ascend with its numbers, so the keys are sorted.
        let rows = self.generation.db().batched_multi_get_cf_opt(family, &keys, true, &self.options);
        let decode = |(position, row): (&Position, Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>)| match row
            .map_err(ReadError::from_rocksdb)?
        {
            Some(value) => event_row::decode_event(*position, &value),
            None => {
                Err(ReadError::Damaged(format!("the event at position {position} is missing although it is indexed")))
            }
        };
        positions.iter().zip(rows).map(decode).collect()
    }

    fn get(&self, family: &str, key: &[u8]) -> Result<Option<DBPinnableSlice<'db>>, ReadError> {
        let family = self.generation.family(family);
        self.generation.db().get_pinned_cf_opt(family, key, &self.options).map_err(ReadError::from_rocksdb)
    }

    fn iterate(&self, family: &str, from: &[u8], end: &[u8]) -> DBRawIterator<'db> {
        let mut options = read_options(&self.snapshot, self.tier);
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(end);
        self.generation.db().raw_iterator_cf_opt(self.generation.family(family), options)
    }
}

/// Up to `count` events from where the iterator stands, moving it by `step`; fewer when the payload of more would exceed
/// `max_bytes`, but at least one if there is one.
fn take_events<'db>(
    mut rows: DBRawIterator<'db>,
    count: usize,
    max_bytes: usize,
    step: impl Fn(&mut DBRawIterator<'db>),
) -> Result<Vec<RecordedEvent>, ReadError> {
    let mut events = Vec::new();
    let mut bytes = 0usize;
    while events.len() < count
        && let Some((key, value)) = rows.item()
    {
        bytes += value.len();
        if bytes > max_bytes && !events.is_empty() {
            break;
        }
        events.push(event_row::decode_event(event_row::position(key)?, value)?);
        step(&mut rows);
    }
    rows.status().map_err(ReadError::from_rocksdb)?;
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
