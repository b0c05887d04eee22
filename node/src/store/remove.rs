//! Removing events for ever, forgetting their ids, and blanking one: what a chunk does besides
//! adding events.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_proto::stored::EventRecord;
use rocksdb::ReadOptions;

use super::forgotten;
use super::hole_row::{self, Holes, SPAN};
use super::index_row::{Heading, IndexValue};
use super::write::{Chunk, StreamRef};
use super::{ReadError, event_row, index_row, options};
use crate::event::{EventNumber, Position, Removable, RemovedEvents, Ticks, stream_name};

/// The removals of one chunk.
#[derive(Default)]
pub(super) struct Removals {
    /// New holes, by the number of their row.
    holes: BTreeMap<u64, Holes>,
    newest: Option<Position>,
    /// Removed events, and streams of which ids were forgotten.
    rows: u64,
    forgotten: Vec<(u64, EventNumber)>,
    /// Events of all streams together that were redacted, if the chunk redacts one.
    redactions: Option<u32>,
}

impl Removals {
    /// Rows that are gone, about.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many events were redacted until now, if the chunk redacts one.
    pub(super) fn redactions(&self) -> Option<u32> {
        self.redactions
    }

    /// Whether ids were forgotten.
    pub(super) fn has_forgotten(&self) -> bool {
        !self.forgotten.is_empty()
    }

    /// The streams of which ids were forgotten.
    pub(super) fn forgotten(&mut self) -> impl Iterator<Item = (u64, EventNumber)> {
        self.forgotten.drain(..)
    }
}

/// An event at the beginning of a stream.
struct Front {
    number: EventNumber,
    position: Position,
    bytes: u32,
    /// `None` where the index does not say.
    time: Option<Ticks>,
}

impl Chunk<'_> {
    /// Removes the events at the beginning of a stream that nobody can see, `most` of them at most.
    /// Their ids stay known until [`Self::forget_ids`]. The newest of all events stays: the
    /// counters and the time of the log are checked against it at every start.
    pub(crate) fn remove_events(
        &mut self,
        stream: StreamRef,
        removable: Removable,
        time: Ticks,
        most: u64,
    ) -> Result<RemovedEvents, ReadError> {
        let mut removed = RemovedEvents { is_finished: true, ..RemovedEvents::default() };
        let (Some(id), Some(last)) = (self.streams[stream.0].stored.id, self.head(stream).last_number) else {
            return Ok(removed);
        };
        let newest = self.next_position().saturating_sub(1);
        let begin = self.head(stream).removed.before;
        let mut before = begin;
        // Where every event may go, one more than `most` tells whether this is all.
        let fronts = self.front(stream, id, begin, last, most.saturating_add(1))?;
        for front in fronts {
            let is_included = removable.includes_any_age(front.number)
                || (removable.oldest.is_some() && removable.includes(front.number, self.time_of(&front)?));
            if !is_included || front.position == newest {
                break;
            }
            if removed.events == most {
                removed.is_finished = false;
                break;
            }
            self.put_hole(front.position)?;
            removed.events += 1;
            removed.bytes += u64::from(front.bytes);
            before = front.number + 1;
        }
        if before > begin {
            let state = &mut self.streams[stream.0];
            state.metadata_changed = true;
            state.stored.head.removed.extend(before, time);
            state.stored.gaps.retain(|gap| gap.end > before);
            self.put_record(stream);
        }
        Ok(removed)
    }

    /// Forgets the ids of the events of the stream that were removed before this time: an event
    /// with such an id is a new one. Returns whether there were any.
    pub(crate) fn forget_ids(&mut self, stream: StreamRef, removed_before: Ticks) -> bool {
        let state = &mut self.streams[stream.0];
        let Some(id) = state.stored.id else { return false };
        if !state.stored.head.removed.forget(removed_before) {
            return false;
        }
        // The row of the last number may go with the others.
        state.stored.stored_last_number = state.stored.head.last_number;
        state.metadata_changed = true;
        let before = state.stored.head.removed.forgotten_before;
        let (key, value) = forgotten::row(id, before);
        self.batch.put_cf(self.generation.family(options::FORGOTTEN), key, value);
        self.removals.forgotten.push((id, before));
        self.removals.rows += 1;
        self.put_record(stream);
        true
    }

    /// Blanks data and metadata of an event; `None` when it is not stored.
    pub(crate) fn redact(&mut self, stream: StreamRef, number: EventNumber) -> Result<Option<Position>, ReadError> {
        let Some(id) = self.streams[stream.0].stored.id else { return Ok(None) };
        if number < self.head(stream).removed.before {
            return Ok(None);
        }
        let Some(position) = self.position_of(stream, number)? else { return Ok(None) };
        let record = match self.written(position) {
            Some(event) => event.to_record(self.name(stream), number),
            None => self.stored(position)?,
        };
        let data = if record.is_json { Bytes::from_static(b"{}") } else { Bytes::new() };
        let blank = EventRecord { data, metadata: Bytes::new(), ..record };
        event_row::encode(&blank, &mut self.buffer);
        let heading = Heading { time: Ticks(blank.time_ticks), event_type: &blank.event_type };
        let row = IndexValue::new(position, self.buffer.len(), heading);
        self.batch.put_cf(self.generation.family(options::EVENT), event_row::key(position), &self.buffer);
        self.batch.put_cf(self.generation.family(options::INDEX), index_row::key(id, number), row);
        self.blank_written(position, blank.data);
        // Pages of the log show the event, too.
        let all = self.stream(stream_name::ALL)?;
        for stream in [stream, all] {
            let state = &mut self.streams[stream.0];
            state.metadata_changed = true;
            state.stored.head.redactions += 1;
            self.put_record(stream);
        }
        self.removals.redactions = Some(self.head(all).redactions);
        Ok(Some(position))
    }

    /// Adds the new holes to the batch, when the chunk is complete. Returns the position of the
    /// newest removed event.
    pub(super) fn put_removals(&mut self) -> Option<Position> {
        let newest = self.removals.newest?;
        self.generation.set_has_holes();
        let family = self.generation.family(options::HOLE);
        for (row, holes) in &self.removals.holes {
            self.batch.put_cf(family, row.to_be_bytes(), holes.encode());
        }
        Some(newest)
    }

    /// The first `most` stored events from `begin` on: those of the database, then those of this
    /// chunk.
    fn front(
        &self,
        stream: StreamRef,
        id: u64,
        begin: EventNumber,
        last: EventNumber,
        most: u64,
    ) -> Result<Vec<Front>, ReadError> {
        let first_new = self.first_new_number(&self.streams[stream.0]).unwrap_or(last + 1);
        let mut found = Vec::new();
        let mut bounded = ReadOptions::default();
        bounded.set_iterate_lower_bound(index_row::key(id, begin));
        bounded.set_iterate_upper_bound(index_row::key(id, first_new));
        bounded.fill_cache(false);
        let mut rows = self.generation.db().raw_iterator_cf_opt(self.generation.family(options::INDEX), bounded);
        if begin < first_new {
            rows.seek_to_first();
            while (found.len() as u64) < most
                && let Some((key, value)) = rows.item()
            {
                let (place, heading) = index_row::place_and_heading(key, value)?;
                let time = heading.map(|heading| heading.time);
                found.push(Front { number: place.number, position: place.position, bytes: place.bytes, time });
                rows.next();
            }
            rows.status().map_err(ReadError::from_rocksdb)?;
        }
        let new = self.streams[stream.0].written.iter().skip_while(|(number, _)| *number < begin);
        for (number, position) in new.take((most - found.len() as u64) as usize) {
            let Some(event) = self.written(*position) else { break };
            let (bytes, time) = (event.row_bytes, Some(event.time));
            found.push(Front { number: *number, position: *position, bytes, time });
        }
        Ok(found)
    }

    fn time_of(&self, front: &Front) -> Result<Ticks, ReadError> {
        match front.time {
            Some(time) => Ok(time),
            None => self.stored(front.position).map(|record| Ticks(record.time_ticks)),
        }
    }

    fn put_hole(&mut self, position: Position) -> Result<(), ReadError> {
        let (row, offset) = (position / SPAN, position % SPAN);
        if !self.removals.holes.contains_key(&row) {
            let stored = self.get(options::HOLE, &hole_row::key(position))?;
            let holes = stored.map(|value| Holes::decode(&value)).transpose()?.unwrap_or_default();
            self.removals.holes.insert(row, holes);
        }
        if let Some(holes) = self.removals.holes.get_mut(&row) {
            holes.insert(offset);
        }
        self.removals.newest = self.removals.newest.max(Some(position));
        self.removals.rows += 1;
        self.batch.delete_cf(self.generation.family(options::EVENT), event_row::key(position));
        Ok(())
    }
}
