//! Taking a database back to an earlier position: the events from there on go, and with them all
//! that they meant.
//!
//! Index, ids, records of streams and counters are afterwards those of a database that has never
//! seen the events, with two exceptions, neither of which a reader can see: numeric ids of streams
//! that are gone are not given again, and of two recreations of a stream the earlier one is not
//! known any more (docs/adr/0022-backup-format.md).

use std::collections::{HashMap, HashSet};
use std::io;

use headwater_proto::stored::StreamRecord;
use rocksdb::{ReadOptions, WriteBatch};

use super::forgotten;
use super::hole_row::{self, Holes, SPAN};
use super::offline::NewState;
use super::system_row::{self, Counters};
use super::{ReadError, event_id_row, event_row, index_row, options, stream_row};
use crate::event::{EventNumber, Position, Recreation, StreamMetadata, StreamNameRef};

/// Bytes of changes that are written at a time.
const BATCH_BYTES: usize = 4 << 20;

/// What was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Truncated {
    /// Positions that no longer hold an event.
    pub(crate) events: u64,
    /// Streams that lost events, metadata or their deletion.
    pub(crate) streams: u64,
    /// Streams whose metadata below the cut had been removed by then: they keep those from after
    /// it.
    pub(crate) keep_later_metadata: Vec<String>,
}

/// The last number that a stream keeps, by its numeric id.
type Affected = HashMap<u64, Option<EventNumber>>;

impl NewState {
    /// Removes every event from `cut` on.
    ///
    /// # Errors
    /// The database is damaged or cannot be written. It is unusable then.
    pub(crate) fn truncate(&self, cut: Position) -> Result<Truncated, TruncateError> {
        let counters = self.generation.counters()?;
        if cut >= counters.next_position {
            return Ok(Truncated::default());
        }
        let affected = self.truncate_index(cut)?;
        self.truncate_ids(&affected)?;
        let mut truncated = self.truncate_streams(cut, &affected)?;
        self.truncate_log(cut, counters)?;
        truncated.events = counters.next_position - cut;
        Ok(truncated)
    }

    /// Removes index rows; the streams that had some.
    fn truncate_index(&self, cut: Position) -> Result<Affected, TruncateError> {
        let mut affected = Affected::new();
        let mut last: Option<(u64, EventNumber)> = None;
        let mut changes = Changes::new(self);
        self.each_row(options::INDEX, &[], |key, value| {
            let (stream_id, number) = index_row::stream_and_number(key)?;
            if index_row::position(value)? < cut {
                last = Some((stream_id, number));
                return Ok(Walk::On);
            }
            let kept = last.filter(|(id, _)| *id == stream_id).map(|(_, number)| number);
            affected.insert(stream_id, kept);
            changes.delete(options::INDEX, key)?;
            Ok(Walk::On)
        })?;
        changes.write()?;
        Ok(affected)
    }

    /// Removes the ids that only removed events used.
    fn truncate_ids(&self, affected: &Affected) -> Result<(), TruncateError> {
        let mut changes = Changes::new(self);
        for (stream_id, kept) in affected {
            self.each_row(options::EVENT_ID, &stream_id.to_be_bytes(), |key, value| {
                if event_id_row::id(key)?.0 != *stream_id {
                    return Ok(Walk::End);
                }
                if kept.is_none_or(|kept| event_id_row::number(value).is_ok_and(|number| number > kept)) {
                    changes.delete(options::EVENT_ID, key)?;
                }
                Ok(Walk::On)
            })?;
        }
        changes.write()
    }

    /// Takes back what removed events meant for the records of streams.
    fn truncate_streams(&self, cut: Position, affected: &Affected) -> Result<Truncated, TruncateError> {
        let mut truncated = Truncated::default();
        let mut described: HashSet<String> = HashSet::new();
        let mut records: Vec<String> = Vec::new();
        self.each_row(options::STREAM, &[], |key, value| {
            let name = name_of(key)?;
            let record = stream_row::decode(name, value)?;
            let is_affected = affected.contains_key(&record.id);
            if is_affected && let Some(stream) = StreamNameRef::new(name).described() {
                described.insert(stream.as_str().to_owned());
            }
            let lost_its_end = record.tombstone_position.is_some_and(|position| position >= cut);
            if is_affected || lost_its_end {
                records.push(name.to_owned());
            }
            Ok(Walk::On)
        })?;
        let changed: HashSet<String> = records.into_iter().chain(described).collect();
        let mut changes = Changes::new(self);
        for name in &changed {
            let Some(mut record) = self.record(name)? else { continue };
            let before = self.metadata_below(name, cut)?;
            match take_back(&mut record, cut, affected, &before) {
                Meaning::Known => {}
                Meaning::OfLaterMetadata => truncated.keep_later_metadata.push(name.clone()),
            }
            changes.record(name, &record, self.has_events(record.id)?)?;
        }
        changes.write()?;
        truncated.streams = changed.len() as u64;
        truncated.keep_later_metadata.sort();
        Ok(truncated)
    }

    /// What the metastream of a stream says below the cut.
    fn metadata_below(&self, name: &str, cut: Position) -> Result<Described, ReadError> {
        let mut described = Described::default();
        let metastream = StreamNameRef::new(name).metastream();
        let Some(metastream) = self.record(&metastream)? else { return Ok(described) };
        let stream = self.record(name)?.map(|record| record.id);
        let recreated_at = match (stream, self.record(name)?.as_ref().and_then(stream_row::recreation)) {
            (Some(id), Some(recreation)) => self.position_of(id, recreation.first_number)?,
            _ => None,
        };
        // Newest first: usually the first one answers everything.
        let mut newest = ReadOptions::default();
        newest.set_iterate_lower_bound(index_row::key(metastream.id, 0));
        newest.set_iterate_upper_bound(index_row::end_key(metastream.id));
        let family = self.generation.family(options::INDEX);
        let mut rows = self.generation.db().raw_iterator_cf_opt(family, newest);
        rows.seek_to_last();
        while let Some((_, value)) = rows.item() {
            let position = index_row::position(value)?;
            if position < cut {
                let document = self.document_at(position)?;
                if described.last.is_none() {
                    described.last = Some(document.clone());
                }
                let is_later = recreated_at.is_some_and(|recreated| position > recreated);
                if !is_later {
                    break;
                }
                let meaning = document.flatten();
                described.is_undone |= meaning.is_some_and(|metadata| metadata.is_soft_deleted());
            }
            rows.prev();
        }
        rows.status().map_err(ReadError::from_rocksdb)?;
        Ok(described)
    }

    /// The meaning of a metadata event; `None` when it was removed.
    fn document_at(&self, position: Position) -> Result<Option<Option<StreamMetadata>>, ReadError> {
        let row = self.get(options::EVENT, &event_row::key(position))?;
        let Some(row) = row else { return Ok(None) };
        let event = event_row::read(position, &row)?;
        Ok(Some(if event.is_json { StreamMetadata::parse(event.data) } else { None }))
    }

    fn truncate_log(&self, cut: Position, counters: Counters) -> Result<(), TruncateError> {
        let system = self.generation.family(options::SYSTEM);
        let events = self.generation.family(options::EVENT);
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(events, event_row::key(cut), event_row::key(u64::MAX));
        batch.put_cf(system, system_row::COUNTERS, Counters { next_position: cut, ..counters }.encode());
        // The positions will be used again.
        let holes = self.generation.family(options::HOLE);
        batch.delete_range_cf(holes, hole_row::key(cut.next_multiple_of(SPAN)), hole_row::key(u64::MAX));
        if !cut.is_multiple_of(SPAN)
            && let Some(row) = self.get(options::HOLE, &hole_row::key(cut))?
        {
            let mut kept = Holes::decode(&row)?;
            kept.truncate(cut % SPAN);
            batch.put_cf(holes, hole_row::key(cut), kept.encode());
        }
        if self.generation.ids_before()?.is_some_and(|before| before > cut) {
            batch.put_cf(system, system_row::IDS_BEFORE, cut.to_be_bytes());
        }
        self.generation.db().write_opt(batch, &options::write()).map_err(TruncateError::of_rocksdb)?;
        // What was taken away shall not lie in the files for months.
        self.generation.db().compact_range_cf(events, Some(event_row::key(cut)), None::<[u8; 8]>);
        Ok(())
    }

    fn record(&self, name: &str) -> Result<Option<StreamRecord>, ReadError> {
        self.get(options::STREAM, stream_row::key(name))?.map(|row| stream_row::decode(name, &row)).transpose()
    }

    fn position_of(&self, stream_id: u64, number: EventNumber) -> Result<Option<Position>, ReadError> {
        let row = self.get(options::INDEX, &index_row::key(stream_id, number))?;
        row.map(|row| index_row::position(&row)).transpose()
    }

    fn has_events(&self, stream_id: u64) -> Result<bool, TruncateError> {
        let mut has_some = false;
        self.each_row(options::INDEX, &index_row::key(stream_id, 0), |key, _| {
            has_some = index_row::stream_and_number(key)?.0 == stream_id;
            Ok(Walk::End)
        })?;
        Ok(has_some)
    }

    fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.generation.db().get_cf(self.generation.family(family), key).map_err(ReadError::from_rocksdb)
    }

    fn each_row(
        &self,
        family: &str,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<Walk, TruncateError>,
    ) -> Result<(), TruncateError> {
        let mut once = ReadOptions::default();
        once.fill_cache(false);
        let mut rows = self.generation.db().raw_iterator_cf_opt(self.generation.family(family), once);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if visit(key, value)? == Walk::End {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(TruncateError::of_rocksdb)
    }
}

/// Whether a walk over rows goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    On,
    End,
}

/// The metadata of a stream below the cut.
#[derive(Debug, Default)]
struct Described {
    /// The newest document: `None` in it where the event was removed, then where it has no meaning.
    last: Option<Option<Option<StreamMetadata>>>,
    /// A soft delete followed the recreation that the record knows.
    is_undone: bool,
}

/// Whether the record is exactly that of the cut.
enum Meaning {
    Known,
    OfLaterMetadata,
}

fn take_back(record: &mut StreamRecord, cut: Position, affected: &Affected, before: &Described) -> Meaning {
    record.tombstone_position = record.tombstone_position.filter(|position| *position < cut);
    let kept = affected.get(&record.id).copied();
    if let Some(kept) = kept {
        // Where the events of the first numbers are forgotten, it is not known whether they were
        // stored before the cut, and some of their rows may be gone. No number is given twice.
        let last = kept.max(record.forgotten_before.checked_sub(1));
        record.last_number = record.last_number.and(last);
        let end = last.map_or(0, |last| last + 1);
        record.removed_before = record.removed_before.min(end);
        record.forgotten_before = record.forgotten_before.min(end);
        record.gaps.retain(|gap| gap.first < end);
        record.removals.iter_mut().for_each(|mark| mark.before = mark.before.min(end));
    }
    let recreation = stream_row::recreation(record);
    record.recreation = None;
    record.undone_recreation = None;
    let is_below = |recreation: &Recreation| match kept {
        Some(kept) => kept.is_some_and(|kept| recreation.first_number <= kept),
        None => true,
    };
    let is_undone = before.is_undone;
    let below = recreation.filter(is_below).map(|recreation| Recreation { is_undone, ..recreation });
    stream_row::set_recreation(record, below);
    match &before.last {
        // The tombstone is the end of the metadata.
        _ if record.tombstone_position.is_some() => record.metadata = None,
        None => record.metadata = None,
        Some(None) => return Meaning::OfLaterMetadata,
        Some(Some(meaning)) => record.metadata = meaning.as_ref().map(stream_row::metadata_to_stored),
    }
    Meaning::Known
}

/// Changes that are written in pieces.
struct Changes<'state> {
    state: &'state NewState,
    batch: WriteBatch,
    buffer: Vec<u8>,
}

impl<'state> Changes<'state> {
    fn new(state: &'state NewState) -> Self {
        Self { state, batch: WriteBatch::default(), buffer: Vec::new() }
    }

    fn delete(&mut self, family: &str, key: &[u8]) -> Result<(), TruncateError> {
        self.batch.delete_cf(self.state.generation.family(family), key);
        self.write_if_large()
    }

    /// Writes the row of a stream, or removes it when nothing is left of the stream.
    fn record(&mut self, name: &str, record: &StreamRecord, has_events: bool) -> Result<(), TruncateError> {
        let has_events = has_events || record.last_number.is_some();
        let family = self.state.generation.family(options::STREAM);
        if has_events || record.metadata.is_some() || record.tombstone_position.is_some() {
            stream_row::encode(record, &mut self.buffer);
            self.batch.put_cf(family, stream_row::key(name), &self.buffer);
            if record.forgotten_before > 0 {
                let (key, value) = forgotten::row(record.id, record.forgotten_before);
                self.batch.put_cf(self.state.generation.family(options::FORGOTTEN), key, value);
            }
        } else {
            self.batch.delete_cf(family, stream_row::key(name));
            let (key, _) = forgotten::row(record.id, 0);
            self.batch.delete_cf(self.state.generation.family(options::FORGOTTEN), key);
        }
        self.write_if_large()
    }

    fn write_if_large(&mut self) -> Result<(), TruncateError> {
        if self.batch.size_in_bytes() < BATCH_BYTES {
            return Ok(());
        }
        let full = std::mem::take(&mut self.batch);
        self.state.generation.db().write_opt(full, &options::write()).map_err(TruncateError::of_rocksdb)
    }

    fn write(self) -> Result<(), TruncateError> {
        self.state.generation.db().write_opt(self.batch, &options::write()).map_err(TruncateError::of_rocksdb)
    }
}

fn name_of(key: &[u8]) -> Result<&str, ReadError> {
    std::str::from_utf8(key).map_err(|_| ReadError::Damaged("family stream: a name that is no UTF-8".into()))
}

/// Why a database cannot be taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TruncateError {
    /// It is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be written.
    #[error("the state database cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl TruncateError {
    fn of_rocksdb(error: rocksdb::Error) -> Self {
        Self::Write(io::Error::other(error))
    }
}
