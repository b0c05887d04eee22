//! One chunk of applied commands: an overlay for reading its own writes, and one atomic write
//! batch.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
// Used several times for every command; its hash is seeded like the one of std, and several times
// faster.
use hashbrown::HashMap;
use headwater_proto::stored::{EventRecord, Gap, NewEvent, StreamRecord};
use rocksdb::{ReadOptions, WriteBatch};
use uuid::Uuid;

use super::generation::Generation;
use super::head::StoredHead;
use super::index_row::{Heading, IndexValue};
use super::remove::Removals;
use super::system_row::{self, Counters};
use super::writer_memory::WriterMemory;
use super::{Applied, Changes, Inner, ReadError, event_id_row, event_row, index_row, options, read, stream_row};
use crate::deliberate::{self, Fault};
use crate::event::{
    ClusterVersion, EventNumber, MAX_NUMBER, Position, Recreation, StreamHead, StreamMetadata, TOMBSTONE_EVENT_TYPE,
    Ticks,
};

/// Initial size of a chunk's batch: room for some fifty events of usual size, so that it is not
/// copied while it grows.
const USUAL_BATCH_BYTES: usize = 32 << 10;

/// A stream in one chunk, see [`Chunk::stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StreamRef(pub(super) usize);

pub(super) struct StreamState {
    name: Arc<str>,
    pub(super) stored: StoredHead,
    /// Numbers and positions of the events written in this chunk, ascending.
    pub(super) written: Vec<(EventNumber, Position)>,
    changed: bool,
    /// Its metadata has changed in this chunk, or what is left of its events.
    pub(super) metadata_changed: bool,
}

impl StreamState {
    /// Whether readers will find a different state than before the chunk.
    fn has_changed(&self) -> bool {
        self.changed || self.metadata_changed
    }
}

/// A stream that a commit changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChangedStream<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Whether its metadata changed, or what is left of its events. Otherwise it got events, or
    /// metadata with the same meaning.
    pub(crate) has_new_metadata: bool,
}

/// The streams that a commit changed, each once.
#[derive(Clone, Copy)]
pub(crate) struct ChangedStreams<'a>(&'a [StreamState]);

impl<'a> ChangedStreams<'a> {
    /// The streams one by one.
    pub(crate) fn iter(self) -> impl Iterator<Item = ChangedStream<'a>> {
        let changed = self.0.iter().filter(|state| state.has_changed());
        changed.map(|state| ChangedStream { name: &state.name, has_new_metadata: state.metadata_changed })
    }
}

/// An event written in this chunk.
pub(super) struct ChunkEvent {
    event_id: Uuid,
    is_json: bool,
    data: Bytes,
    metadata: Bytes,
    event_type: String,
    pub(super) time: Ticks,
    /// Size of its row.
    pub(super) row_bytes: u32,
}

impl ChunkEvent {
    /// Its row.
    pub(super) fn to_record(&self, stream: &str, number: EventNumber) -> EventRecord {
        EventRecord {
            stream: stream.to_owned(),
            number,
            event_id: Bytes::copy_from_slice(self.event_id.as_bytes()),
            event_type: self.event_type.clone(),
            is_json: self.is_json,
            time_ticks: self.time.0,
            data: self.data.clone(),
            metadata: self.metadata.clone(),
        }
    }
}

/// The writes of some consecutive log entries, invisible to readers until committed. Made by
/// [`super::StateWriter::begin`]. If dropped without a commit, it leaves no trace.
pub(crate) struct Chunk<'writer> {
    pub(super) inner: &'writer Inner,
    pub(super) memory: &'writer mut WriterMemory,
    pub(super) generation: Arc<Generation>,
    read_options: ReadOptions,
    pub(super) batch: WriteBatch,
    counters: Counters,
    pub(super) streams: Vec<StreamState>,
    by_name: HashMap<Arc<str>, StreamRef>,
    event_ids: HashMap<(u64, Uuid), EventNumber>,
    /// By position, from `memory.counters.next_position` on.
    events: Vec<ChunkEvent>,
    /// The last id that was not found: its append follows, and need not look again.
    absent: Option<(u64, Uuid)>,
    pub(super) removals: Removals,
    /// The cluster version that this chunk puts in force.
    raised: Option<ClusterVersion>,
    pub(super) buffer: Vec<u8>,
}

impl<'writer> Chunk<'writer> {
    pub(super) fn new(inner: &'writer Inner, memory: &'writer mut WriterMemory) -> Self {
        Self {
            generation: inner.current.load_full(),
            counters: memory.counters,
            inner,
            memory,
            read_options: ReadOptions::default(),
            batch: WriteBatch::with_capacity_bytes(USUAL_BATCH_BYTES),
            streams: Vec::new(),
            by_name: HashMap::new(),
            event_ids: HashMap::new(),
            events: Vec::new(),
            absent: None,
            removals: Removals::default(),
            raised: None,
            buffer: Vec::new(),
        }
    }

    /// A stream by name, whether it exists or not.
    pub(crate) fn stream(&mut self, name: &str) -> Result<StreamRef, ReadError> {
        if let Some(stream) = self.by_name.get(name) {
            return Ok(*stream);
        }
        let (name, stored) = match self.memory.heads.get(name) {
            Some(known) => known,
            None => (Arc::from(name), self.read_head(name)?),
        };
        let stream = StreamRef(self.streams.len());
        self.streams.push(StreamState {
            name: name.clone(),
            stored,
            written: Vec::new(),
            changed: false,
            metadata_changed: false,
        });
        self.by_name.insert(name, stream);
        Ok(stream)
    }

    /// The state of a stream as of this chunk.
    pub(crate) fn head(&self, stream: StreamRef) -> &StreamHead {
        &self.streams[stream.0].stored.head
    }

    /// Name of a stream.
    pub(crate) fn name(&self, stream: StreamRef) -> &str {
        &self.streams[stream.0].name
    }

    /// The number that the first event with this id got in the stream.
    pub(crate) fn number_of_id(&mut self, stream: StreamRef, event_id: Uuid) -> Result<Option<EventNumber>, ReadError> {
        let state = &self.streams[stream.0];
        if deliberate::is(Fault::ForgetIds) || deliberate::is_armed(Fault::ForgetIdsInSnapshots) {
            return Ok(None);
        }
        let (Some(id), Some(_)) = (state.stored.id, state.stored.head.last_number) else {
            return Ok(None);
        };
        // Rows of forgotten ids may still be there.
        let forgotten_before = state.stored.head.removed.forgotten_before;
        let known = |number: EventNumber| (number >= forgotten_before).then_some(number);
        if let Some(number) = self.event_ids.get(&(id, event_id)) {
            return Ok(known(*number));
        }
        if let Some(number) = self.memory.recent_ids.get(&(id, event_id)) {
            return Ok(known(number));
        }
        let was_empty_before_chunk = self.first_new_number(state) == Some(0);
        if was_empty_before_chunk || self.absent == Some((id, event_id)) {
            return Ok(None);
        }
        if !self.memory.id_filter.may_hold(&(id, event_id)) {
            return Ok(None);
        }
        let row = self.get(options::EVENT_ID, &event_id_row::key(id, event_id))?;
        let number = row.map(|row| event_id_row::number(&row)).transpose()?.and_then(known);
        if number.is_none() {
            self.absent = Some((id, event_id));
        }
        Ok(number)
    }

    /// The position of the event with this number.
    pub(crate) fn position_of(&self, stream: StreamRef, number: EventNumber) -> Result<Option<Position>, ReadError> {
        let state = &self.streams[stream.0];
        let Some(id) = state.stored.id else {
            return Ok(None);
        };
        if let Some(first) = self.first_new_number(state)
            && number >= first
        {
            // Without gaps the number tells where it is.
            let (written, dense) = (&state.written, (number - first) as usize);
            if let Some((_, position)) = written.get(dense).filter(|(found, _)| *found == number) {
                return Ok(Some(*position));
            }
            let found = written.binary_search_by_key(&number, |(number, _)| *number);
            return Ok(found.ok().map(|at| written[at].1));
        }
        if number < state.stored.head.removed.forgotten_before {
            return Ok(None);
        }
        let row = self.get(options::INDEX, &index_row::key(id, number))?;
        row.map(|row| index_row::position(&row)).transpose()
    }

    /// Id of the event at a position below [`Self::next_position`].
    pub(crate) fn event_id_at(&self, position: Position) -> Result<Uuid, ReadError> {
        match self.written(position) {
            Some(event) => Ok(event.event_id),
            None => event_row::event_id(position, &self.stored(position)?),
        }
    }

    /// Whether the event at a position below [`Self::next_position`] is JSON, and its data.
    pub(crate) fn data_at(&self, position: Position) -> Result<(bool, Bytes), ReadError> {
        match self.written(position) {
            Some(event) => Ok((event.is_json, event.data.clone())),
            None => self.stored(position).map(|record| (record.is_json, record.data)),
        }
    }

    /// Position of the next event.
    pub(crate) fn next_position(&self) -> Position {
        self.counters.next_position
    }

    /// Events that this chunk adds.
    pub(crate) fn new_events(&self) -> u64 {
        self.counters.next_position - self.memory.counters.next_position
    }

    /// Adds an event at the end of a stream. Its id must have 16 bytes.
    pub(crate) fn append(
        &mut self,
        stream: StreamRef,
        time: Ticks,
        event_id: Uuid,
        event: NewEvent,
    ) -> Result<Position, ReadError> {
        let number = self.head(stream).last_number.map_or(0, |last| last + 1);
        self.append_at(stream, number, time, event_id, event)
    }

    /// Adds an event with this number, which is above the last one; the stream will never have the
    /// numbers in between. Its id must have 16 bytes.
    pub(crate) fn append_at(
        &mut self,
        stream: StreamRef,
        number: EventNumber,
        time: Ticks,
        event_id: Uuid,
        event: NewEvent,
    ) -> Result<Position, ReadError> {
        let id = self.numeric_id(stream);
        let is_first_use = self.number_of_id(stream, event_id)?.is_none();
        self.leave_out(stream, number);
        let position = self.put_event(stream, number, time, event_id, event);
        let event_type = self.events.last().map_or("", |event| &event.event_type);
        // The row of the event is still in the buffer.
        let row = IndexValue::new(position, self.buffer.len(), Heading { time, event_type });
        if !deliberate::now_and_then(Fault::LoseIndexRow) {
            self.batch.put_cf(self.generation.family(options::INDEX), index_row::key(id, number), row);
        }
        if is_first_use {
            // The first commit of an id wins (contract/streams 6.7).
            self.event_ids.insert((id, event_id), number);
        }
        let state = &mut self.streams[stream.0];
        state.stored.head.last_number = Some(number);
        state.written.push((number, position));
        Ok(position)
    }

    /// How many ranges of numbers the stream lacks after its first event.
    pub(crate) fn gaps(&self, stream: StreamRef) -> usize {
        self.streams[stream.0].stored.gaps.len()
    }

    /// Lets a stream go on at this number, which is above the last one, although it will never have
    /// the events before it.
    pub(crate) fn skip_to(&mut self, stream: StreamRef, next_number: EventNumber) {
        self.leave_out(stream, next_number);
        let state = &mut self.streams[stream.0];
        state.stored.head.last_number = next_number.checked_sub(1);
        // No row of the index says so.
        state.stored.stored_last_number = state.stored.head.last_number;
        state.changed = true;
        state.metadata_changed = true;
        self.put_record(stream);
    }

    /// Records that the stream has no events between the last one and this number.
    fn leave_out(&mut self, stream: StreamRef, number: EventNumber) {
        let StoredHead { head, gaps, .. } = &mut self.streams[stream.0].stored;
        match head.last_number {
            None if number > 0 => head.removed.before = number,
            Some(last) if number > last + 1 => gaps.push(Gap { first: last + 1, end: number }),
            _ => return,
        }
        self.put_record(stream);
    }

    /// Deletes a stream for ever: adds a tombstone to the log of all events, and ends the stream's
    /// metadata (contract/streams 7).
    pub(crate) fn append_tombstone(&mut self, stream: StreamRef, time: Ticks, event_id: Uuid) -> Position {
        let event = NewEvent {
            event_id: Bytes::copy_from_slice(event_id.as_bytes()),
            event_type: TOMBSTONE_EVENT_TYPE.to_owned(),
            ..NewEvent::default()
        };
        let position = self.put_event(stream, MAX_NUMBER, time, event_id, event);
        let state = &mut self.streams[stream.0];
        state.metadata_changed = true;
        state.stored.head.set_tombstone(position);
        self.put_record(stream);
        position
    }

    /// Records what the last event of `$$stream` means for the stream.
    pub(crate) fn set_metadata(&mut self, stream: StreamRef, metadata: Option<StreamMetadata>) {
        let state = &mut self.streams[stream.0];
        state.changed = true;
        if state.stored.head.describe(metadata) {
            state.metadata_changed = true;
            self.put_record(stream);
        }
    }

    /// Records which write recreated a soft-deleted stream; `None` when a repetition of that write
    /// is recognised by other means.
    pub(crate) fn set_recreation(&mut self, stream: StreamRef, recreation: Option<Recreation>) {
        let state = &mut self.streams[stream.0];
        if state.stored.head.recreation != recreation {
            state.stored.head.recreation = recreation;
            self.put_record(stream);
        }
    }

    /// The cluster version in force.
    pub(crate) fn cluster_version(&self) -> ClusterVersion {
        self.raised.unwrap_or_else(|| self.generation.cluster_version())
    }

    /// Puts a cluster version in force.
    pub(crate) fn raise_cluster_version(&mut self, version: ClusterVersion) {
        let system = self.generation.family(options::SYSTEM);
        self.batch.put_cf(system, system_row::CLUSTER_VERSION, version.0.to_be_bytes());
        self.raised = Some(version);
    }

    /// Writes the batch, with the log position of the last entry (and the membership, when the
    /// chunk changed it), both encoded by the caller. Then publishes it to readers and waiters. A
    /// failed write ends the process.
    pub(crate) fn commit(mut self, log_entries: u64, last_applied: Vec<u8>, membership: Option<Vec<u8>>) {
        self.counters.log_entries = log_entries;
        let system = self.generation.family(options::SYSTEM);
        self.batch.put_cf(system, system_row::COUNTERS, self.counters.encode());
        self.batch.put_cf(system, system_row::LAST_APPLIED, last_applied);
        if let Some(membership) = membership {
            self.batch.put_cf(system, system_row::MEMBERSHIP, membership);
        }
        let removed = self.put_removals();
        // If the write fails, the process ends, and so does this memory.
        let (new_ids, next_position) = (std::mem::take(&mut self.event_ids), self.counters.next_position);
        let WriterMemory { recent_ids, id_filter, .. } = &mut *self.memory;
        if removed.is_some_and(|newest| newest >= recent_ids.before()) || self.removals.has_forgotten() {
            // The next start could not read their ids from the events any more; or it would take an
            // event for the first with its id because the one before it is forgotten by then.
            recent_ids.write_all(new_ids, next_position, &self.generation, &mut self.batch, id_filter);
        } else {
            recent_ids.commit(new_ids, next_position, &self.generation, &mut self.batch, id_filter);
        }
        let batch_bytes = self.batch.size_in_bytes() as u64;
        let known = &self.inner.known_streams;
        let another = || self.streams.iter().filter(|state| state.has_changed()).map(|state| &*state.name);
        known.begin_change(another());
        if let Err(error) = self.generation.db().write_opt(self.batch, &options::write()) {
            crate::fatal::stop("writing to the state database", &error);
        }
        known.end_change(another());
        if let Some(version) = self.raised {
            self.generation.set_cluster_version(version);
        }
        if let Some(redactions) = self.removals.redactions() {
            self.generation.set_redactions(redactions);
        }
        self.inner.removed_rows.fetch_add(self.removals.rows(), Ordering::Relaxed);
        self.generation.forgotten.add(self.removals.forgotten());
        self.inner.add_unflushed(batch_bytes);
        self.memory.counters = self.counters;
        self.inner.changed(Changes::Streams(ChangedStreams(&self.streams)));
        let applied = Applied { log_entries, next_position: self.counters.next_position };
        let changed = self.streams.iter().filter(|state| state.changed).map(|state| &*state.name);
        self.inner.applied.publish(applied, changed);
        for StreamState { name, stored, .. } in self.streams {
            self.memory.heads.put(name, stored);
        }
    }

    /// Number of the first event that this chunk wrote to the stream.
    pub(super) fn first_new_number(&self, state: &StreamState) -> Option<EventNumber> {
        state.written.first().map(|(number, _)| *number)
    }

    /// The event at this position, if this chunk wrote it.
    pub(super) fn written(&self, position: Position) -> Option<&ChunkEvent> {
        let offset = position.checked_sub(self.memory.counters.next_position)?;
        self.events.get(offset as usize)
    }

    /// Blanks the event at this position, if this chunk wrote it.
    pub(super) fn blank_written(&mut self, position: Position, data: Bytes) {
        let offset = position.checked_sub(self.memory.counters.next_position);
        if let Some(event) = offset.and_then(|offset| self.events.get_mut(offset as usize)) {
            event.data = data;
            event.metadata = Bytes::new();
        }
    }

    pub(super) fn stored(&self, position: Position) -> Result<EventRecord, ReadError> {
        match self.get(options::EVENT, &event_row::key(position))? {
            Some(row) => event_row::decode(position, Bytes::copy_from_slice(&row)),
            None => {
                Err(ReadError::Damaged(format!("the event at position {position} is missing although it is indexed")))
            }
        }
    }

    /// Leaves the row in the buffer.
    fn put_event(
        &mut self,
        stream: StreamRef,
        number: EventNumber,
        time: Ticks,
        event_id: Uuid,
        event: NewEvent,
    ) -> Position {
        self.numeric_id(stream);
        let position = self.counters.next_position;
        self.counters.next_position += 1;
        let record = EventRecord {
            stream: self.name(stream).to_owned(),
            number,
            event_id: event.event_id,
            event_type: event.event_type,
            is_json: event.is_json,
            time_ticks: time.0,
            data: event.data,
            metadata: event.metadata,
        };
        event_row::encode(&record, &mut self.buffer);
        self.batch.put_cf(self.generation.family(options::EVENT), event_row::key(position), &self.buffer);
        self.streams[stream.0].changed = true;
        let EventRecord { event_type, is_json, data, metadata, .. } = record;
        let row_bytes = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        self.events.push(ChunkEvent { event_id, is_json, data, metadata, event_type, time, row_bytes });
        position
    }

    /// Id of the stream; a new stream gets an id and a row.
    fn numeric_id(&mut self, stream: StreamRef) -> u64 {
        if let Some(id) = self.streams[stream.0].stored.id {
            return id;
        }
        let id = self.counters.next_stream_id;
        self.counters.next_stream_id += 1;
        self.streams[stream.0].stored.id = Some(id);
        self.put_record(stream);
        id
    }

    pub(super) fn put_record(&mut self, stream: StreamRef) {
        let id = self.numeric_id(stream);
        let StreamState { name, stored, .. } = &self.streams[stream.0];
        let StoredHead { head, stored_last_number, gaps, .. } = stored;
        let mut record = StreamRecord {
            id,
            tombstone_position: head.tombstone,
            metadata: head.metadata.as_deref().map(stream_row::metadata_to_stored),
            last_number: *stored_last_number,
            redactions: head.redactions,
            gaps: gaps.clone(),
            ..StreamRecord::default()
        };
        stream_row::set_recreation(&mut record, head.recreation);
        stream_row::set_removed(&mut record, &head.removed);
        stream_row::encode(&record, &mut self.buffer);
        self.batch.put_cf(self.generation.family(options::STREAM), stream_row::key(name), &self.buffer);
    }

    fn read_head(&self, name: &str) -> Result<StoredHead, ReadError> {
        let Some(row) = self.get(options::STREAM, stream_row::key(name))? else {
            return Ok(StoredHead::default());
        };
        let record = stream_row::decode(name, &row)?;
        let mut bounded = ReadOptions::default();
        bounded.set_iterate_lower_bound(index_row::key(record.id, 0));
        bounded.set_iterate_upper_bound(index_row::end_key(record.id));
        let mut rows = self.generation.db().raw_iterator_cf_opt(self.generation.family(options::INDEX), bounded);
        let head = StreamHead {
            // The index may lack the rows of forgotten ids, the last ones too, and have earlier
            // ones.
            last_number: read::last_number(&mut rows, record.id)?.max(record.last_number),
            tombstone: record.tombstone_position,
            recreation: stream_row::recreation(&record),
            removed: stream_row::removed(&record),
            redactions: record.redactions,
            metadata: record.metadata.map(|metadata| Arc::new(stream_row::metadata_from_stored(metadata))),
        };
        Ok(StoredHead { id: Some(record.id), stored_last_number: record.last_number, gaps: record.gaps, head })
    }

    pub(super) fn get(&self, family: &str, key: &[u8]) -> Result<Option<rocksdb::DBPinnableSlice<'_>>, ReadError> {
        let family = self.generation.family(family);
        self.generation.db().get_pinned_cf_opt(family, key, &self.read_options).map_err(ReadError::from_rocksdb)
    }
}
