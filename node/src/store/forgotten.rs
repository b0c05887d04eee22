//! Which ids are forgotten: rows of `event_id` and `index` whose event was removed long ago.
//!
//! By the state such rows do not exist; a reader that meets one takes it for absent. RocksDB drops
//! them when it rewrites a table. It may do so only by what is on disk itself: after a crash, the
//! log is applied again from the last flush on, and has to find every row that was there then.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rocksdb::CompactionDecision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

use super::options::{EVENT_ID, FORGOTTEN};
use super::{ReadError, event_id_row, index_row};
use crate::event::EventNumber;

/// Row of family `forgotten`: the numeric id of a stream, big-endian; the number before which the
/// ids of its events are forgotten, big-endian.
pub(super) fn row(stream_id: u64, before: EventNumber) -> ([u8; 8], [u8; 8]) {
    (stream_id.to_be_bytes(), before.to_be_bytes())
}

/// Reads a row.
pub(super) fn read(key: &[u8], value: &[u8]) -> Result<(u64, EventNumber), ReadError> {
    match (key.try_into(), value.try_into()) {
        (Ok(key), Ok(value)) => Ok((u64::from_be_bytes(key), u64::from_be_bytes(value))),
        _ => Err(ReadError::Damaged("family forgotten: row of a wrong length".into())),
    }
}

/// The forgotten ids of one database. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Forgotten {
    /// As on disk.
    durable: Arc<RwLock<HashMap<u64, EventNumber>>>,
    /// Committed, but perhaps not on disk.
    pending: Arc<Mutex<Vec<(u64, EventNumber)>>>,
}

impl Forgotten {
    /// Adds what is on disk.
    pub(super) fn add_durable(&self, stream_id: u64, before: EventNumber) {
        self.durable.write().insert(stream_id, before);
    }

    /// Adds what was committed.
    pub(super) fn add(&self, rows: impl IntoIterator<Item = (u64, EventNumber)>) {
        self.pending.lock().extend(rows);
    }

    /// What was committed until now: call it before a flush.
    pub(super) fn pending(&self) -> usize {
        self.pending.lock().len()
    }

    /// The first `count` pending ones are on disk: call it after the flush.
    pub(super) fn flushed(&self, count: usize) {
        let mut pending = self.pending.lock();
        let count = count.min(pending.len());
        self.durable.write().extend(pending.drain(..count));
    }

    fn includes(&self, stream_id: u64, number: EventNumber) -> bool {
        self.durable.read().get(&stream_id).is_some_and(|before| number < *before)
    }

    /// How many numbers are forgotten, of all streams together.
    pub(super) fn numbers(&self) -> u64 {
        self.durable.read().values().fold(0, |sum, before| sum.saturating_add(*before))
    }

    /// Whether there is nothing to drop.
    fn is_empty(&self) -> bool {
        self.durable.read().is_empty()
    }
}

/// Makes the filters for the tables of one family.
pub(super) struct Factory {
    forgotten: Forgotten,
    family: &'static str,
}

impl Factory {
    /// For `event_id` or `index`.
    pub(super) fn new(forgotten: &Forgotten, family: &'static str) -> Self {
        Self { forgotten: forgotten.clone(), family }
    }
}

const FORGOTTEN_FILTER: &CStr = c"headwater.forgotten";

impl CompactionFilterFactory for Factory {
    type Filter = Filter;

    fn create(&mut self, _: CompactionFilterContext) -> Filter {
        let is_idle = self.forgotten.is_empty();
        Filter { forgotten: self.forgotten.clone(), is_of_ids: self.family == EVENT_ID, is_idle }
    }

    fn name(&self) -> &CStr {
        FORGOTTEN_FILTER
    }
}

/// Drops the forgotten rows of one compaction.
pub(super) struct Filter {
    forgotten: Forgotten,
    is_of_ids: bool,
    /// Nothing is forgotten: every row stays.
    is_idle: bool,
}

impl Filter {
    fn drops(&self, key: &[u8], value: &[u8]) -> bool {
        // A row that cannot be read stays, so that the next reader finds the damage.
        let row = if self.is_of_ids {
            event_id_row::id(key)
                .map(|(stream, _)| stream)
                .and_then(|stream| Ok((stream, event_id_row::number(value)?)))
        } else {
            index_row::stream_id(key).and_then(|stream| Ok((stream, index_row::number(key)?)))
        };
        row.is_ok_and(|(stream, number)| self.forgotten.includes(stream, number))
    }
}

impl CompactionFilter for Filter {
    fn filter(&mut self, _: u32, key: &[u8], value: &[u8]) -> CompactionDecision {
        if !self.is_idle && self.drops(key, value) { CompactionDecision::Remove } else { CompactionDecision::Keep }
    }

    fn name(&self) -> &CStr {
        FORGOTTEN_FILTER
    }
}

/// Reads all rows of the family when a database is opened.
pub(super) fn load(db: &rocksdb::DB, forgotten: &Forgotten) -> Result<(), ReadError> {
    let Some(family) = db.cf_handle(FORGOTTEN) else {
        return Err(ReadError::Damaged("family forgotten is missing".into()));
    };
    let mut rows = db.raw_iterator_cf(family);
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        let (stream_id, before) = read(key, value)?;
        forgotten.add_durable(stream_id, before);
        rows.next();
    }
    rows.status().map_err(ReadError::from_rocksdb)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::event::Ticks;
    use crate::store::index_row::{Heading, IndexValue};

    #[test]
    fn rows_are_dropped_once_it_is_on_disk_that_they_are_forgotten() {
        let forgotten = Forgotten::default();
        let of = |family| {
            Factory::new(&forgotten, family)
                .create(CompactionFilterContext { is_full_compaction: false, is_manual_compaction: false })
        };
        let id = |stream, number| (event_id_row::key(stream, Uuid::from_u128(7)), event_id_row::value(number));
        let drops = |stream, number| {
            let (key, value) = id(stream, number);
            let index = IndexValue::new(1, 9, Heading { time: Ticks(1), event_type: "t" });
            let by_id = of(EVENT_ID);
            let by_number = of(super::super::options::INDEX);
            let dropped = by_id.drops(&key, &value);
            assert_eq!(dropped, by_number.drops(&index_row::key(stream, number), index.as_ref()));
            dropped
        };
        forgotten.add([(1, 5)]);
        assert!(!drops(1, 4));
        let pending = forgotten.pending();
        forgotten.add([(2, 9)]);
        forgotten.flushed(pending);
        assert!(drops(1, 4) && !drops(1, 5) && !drops(2, 8) && !drops(3, 0));
        forgotten.flushed(forgotten.pending());
        assert!(drops(2, 8));
        assert!(!of(EVENT_ID).drops(b"short", b""));
    }

    #[test]
    fn rows_round_trip() {
        let (key, value) = row(7, 9);
        assert_eq!(read(&key, &value).unwrap(), (7, 9));
        assert!(read(&key[1..], &value).is_err());
    }
}
