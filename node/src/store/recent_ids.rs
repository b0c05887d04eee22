//! The ids of the newest events, kept in memory until there are enough of them to be written to
//! family `event_id` in order.
//!
//! Ids are random. Written to RocksDB one by one, each would search its place in a large memtable
//! or, in a hash table, be sorted by the flush: several times the cost of the rest of an event
//! (docs/adr/0010-recent-event-ids.md). A few thousand at a time are sorted here.
//!
//! Nothing is lost with this memory: row `ids_before` of family `system`, written together with the
//! ids, says which events have their ids in the database. The ids of later events are read from the
//! events themselves when a database is opened.

// Used for every event; seeded like the one of std, and several times faster.
use hashbrown::HashMap;
use rocksdb::{ReadOptions, WriteBatch};
use uuid::Uuid;

use super::generation::Generation;
use super::id_filter::IdFilter;
use super::options::{EVENT, EVENT_ID, STREAM, SYSTEM};
use super::system_row::{self, Counters};
use super::{ReadError, event_id_row, event_row, stream_row};
use crate::deliberate::{self, Fault};
use crate::event::{EventNumber, MAX_NUMBER, Position};

/// Ids kept in memory, not counting those of one more chunk: few enough to stay in the caches of a
/// processor and to be read again at every start, enough for sorting to pay.
pub(crate) const RECENT_IDS: usize = 4_096;

/// Events whose ids are kept in memory, not counting those of one more chunk. Not every event has
/// an id of its own: with the right version an id may be used again, and a start reads such events
/// too.
pub(crate) const RECENT_EVENTS: u64 = 16_384;

/// See the module. Owned by the writer.
#[derive(Debug, Default)]
pub(super) struct RecentIds {
    ids: HashMap<(u64, Uuid), EventNumber>,
    /// The database holds the ids of the events before this position.
    before: Position,
}

impl RecentIds {
    /// The ids that the database lacks. A database of an earlier version lacks none, and this is
    /// recorded in it.
    pub(super) fn open(generation: &Generation, counters: &Counters) -> Result<Self, ReadError> {
        let Some(before) = generation.ids_before()? else {
            generation.put_ids_before(counters.next_position)?;
            return Ok(Self { before: counters.next_position, ..Self::default() });
        };
        let mut recent = Self { before, ..Self::default() };
        let once = read_once();
        let mut streams: HashMap<String, (u64, EventNumber)> = HashMap::new();
        let mut newest = read_once();
        newest.set_iterate_lower_bound(event_row::key(before));
        newest.set_iterate_upper_bound(event_row::key(counters.next_position));
        let mut rows = generation.db().raw_iterator_cf_opt(generation.family(EVENT), newest);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            let event = event_row::read(event_row::position(key)?, value)?;
            // Tombstones have no number of their own, and their ids are never looked up.
            if event.number != MAX_NUMBER {
                let (stream_id, forgotten_before) = match streams.get(event.stream) {
                    Some(known) => *known,
                    None => *streams.entry_ref(event.stream).or_insert(numeric_id(generation, event.stream, &once)?),
                };
                if event.number >= forgotten_before {
                    let id = (stream_id, event.event_id);
                    recent.found(generation, id, event.number, forgotten_before, &once)?;
                }
            }
            rows.next();
        }
        rows.status().map_err(ReadError::from_rocksdb)?;
        Ok(recent)
    }

    /// The first commit of an id wins (contract/streams 6.7), unless it was forgotten since.
    fn found(
        &mut self,
        generation: &Generation,
        id: (u64, Uuid),
        number: EventNumber,
        forgotten_before: EventNumber,
        options: &ReadOptions,
    ) -> Result<(), ReadError> {
        let key = event_id_row::key(id.0, id.1);
        let family = generation.family(EVENT_ID);
        let row = generation.db().get_pinned_cf_opt(family, key, options).map_err(ReadError::from_rocksdb)?;
        let stored = row.map(|row| event_id_row::number(&row)).transpose()?;
        if stored.is_none_or(|stored| stored < forgotten_before) {
            self.ids.entry(id).or_insert(number);
        }
        Ok(())
    }

    /// The number that the first event with this id got in the stream, if the event is recent.
    pub(super) fn get(&self, id: &(u64, Uuid)) -> Option<EventNumber> {
        self.ids.get(id).copied()
    }

    /// Takes the ids that a chunk used first. Once there are enough, all kept ids go into its
    /// batch. `next_position` is the position after the chunk.
    pub(super) fn commit(
        &mut self,
        new: HashMap<(u64, Uuid), EventNumber>,
        next_position: Position,
        generation: &Generation,
        batch: &mut WriteBatch,
        filter: &mut IdFilter,
    ) {
        if self.ids.len() + new.len() < RECENT_IDS && next_position - self.before < RECENT_EVENTS {
            self.ids.extend(new);
            return;
        }
        self.write_all(new, next_position, generation, batch, filter);
    }

    /// The database holds the ids of the events before this position.
    pub(super) fn before(&self) -> Position {
        self.before
    }

    /// Puts all kept ids and the new ones into the batch; otherwise like [`Self::commit`].
    pub(super) fn write_all(
        &mut self,
        new: HashMap<(u64, Uuid), EventNumber>,
        next_position: Position,
        generation: &Generation,
        batch: &mut WriteBatch,
        filter: &mut IdFilter,
    ) {
        self.ids.extend(new);
        self.before = next_position;
        self.ids.keys().for_each(|id| filter.add(id));
        // The order of the keys; comparing numbers finds it several times faster.
        let mut rows: Vec<_> = self.ids.drain().map(|((stream, id), number)| (stream, id.as_u128(), number)).collect();
        rows.sort_unstable();
        let family = generation.family(EVENT_ID);
        for (stream, id, number) in rows {
            if deliberate::now_and_then(Fault::LoseIdRow) {
                continue;
            }
            batch.put_cf(family, event_id_row::key(stream, Uuid::from_u128(id)), event_id_row::value(number));
        }
        batch.put_cf(generation.family(SYSTEM), system_row::IDS_BEFORE, next_position.to_be_bytes());
    }
}

/// Reads at the start leave the block cache to ordinary reads.
fn read_once() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options
}

/// The id of a stream, and the number before which the ids of its events are forgotten.
fn numeric_id(generation: &Generation, stream: &str, options: &ReadOptions) -> Result<(u64, EventNumber), ReadError> {
    let row = generation.db().get_pinned_cf_opt(generation.family(STREAM), stream_row::key(stream), options);
    match row.map_err(ReadError::from_rocksdb)? {
        Some(row) => stream_row::decode(stream, &row).map(|record| (record.id, record.forgotten_before)),
        None => Err(ReadError::Damaged(format!("stream '{stream}' has events but no row"))),
    }
}
