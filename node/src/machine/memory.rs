//! A state in memory in place of a node's database: no chunk, every write visible at once.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use super::state::{Batch, Damaged, View};
use crate::event::{
    ClusterVersion, EventNumber, MAX_NUMBER, Position, RecordedEvent, Recreation, Removable, RemovedEvents, StreamHead,
    StreamMetadata, TOMBSTONE_EVENT_TYPE, Ticks,
};

/// See the module.
#[derive(Default)]
pub(super) struct Memory {
    streams: Vec<(String, StreamHead)>,
    /// By position.
    events: Vec<RecordedEvent>,
    /// The number of the first event with an id, by index of the stream.
    numbers: HashMap<(usize, Uuid), EventNumber>,
    /// Positions of removed events.
    removed: BTreeSet<Position>,
    /// Ranges of numbers that streams lack, by index of the stream.
    gaps: HashMap<usize, usize>,
    /// Absent before it was raised.
    cluster_version: Option<ClusterVersion>,
}

impl Memory {
    /// All events that are left.
    pub(super) fn log(&self) -> Vec<RecordedEvent> {
        self.events.iter().filter(|event| !self.removed.contains(&event.position)).cloned().collect()
    }

    /// The events of a stream in the order of their numbers, its tombstone left out.
    pub(super) fn events(&self, stream: &str) -> Vec<RecordedEvent> {
        self.log().into_iter().filter(|event| event.stream == stream && event.number != MAX_NUMBER).collect()
    }

    /// Records that the stream has no events between the last one and this number.
    fn leave_out(&mut self, stream: usize, number: EventNumber) {
        match self.head(stream).last_number {
            None => self.streams[stream].1.removed.before = number,
            Some(last) if number > last + 1 => *self.gaps.entry(stream).or_default() += 1,
            Some(_) => {}
        }
    }

    fn put(&mut self, stream: usize, number: EventNumber, time: Ticks, event_id: Uuid, event: NewEvent) -> Position {
        let position = self.next_position();
        self.events.push(RecordedEvent {
            position,
            stream: self.streams[stream].0.clone(),
            number,
            event_id,
            event_type: event.event_type,
            is_json: event.is_json,
            time,
            data: event.data,
            metadata: event.metadata,
        });
        position
    }
}

/// What tests look at.
#[cfg(test)]
impl Memory {
    /// The state of a stream that was used before.
    pub(super) fn known(&self, stream: &str) -> Option<&StreamHead> {
        self.streams.iter().find(|(name, _)| name == stream).map(|(_, head)| head)
    }

    pub(super) fn last_number(&self, stream: &str) -> Option<EventNumber> {
        self.known(stream).and_then(|head| head.last_number)
    }

    pub(super) fn metadata(&self, stream: &str) -> StreamMetadata {
        if crate::event::StreamNameRef::new(stream).is_metastream() {
            return StreamMetadata::of_metastream();
        }
        self.known(stream).and_then(|head| head.metadata.as_deref().cloned()).unwrap_or_default()
    }
}

impl View for Memory {
    type Stream = usize;
    type Error = Damaged;

    fn stream(&mut self, name: &str) -> Result<usize, Damaged> {
        if let Some(known) = self.streams.iter().position(|(known, _)| known == name) {
            return Ok(known);
        }
        self.streams.push((name.to_owned(), StreamHead::default()));
        Ok(self.streams.len() - 1)
    }

    fn name(&self, stream: usize) -> &str {
        &self.streams[stream].0
    }

    fn head(&self, stream: usize) -> &StreamHead {
        &self.streams[stream].1
    }

    fn number_of_id(&mut self, stream: usize, event_id: Uuid) -> Result<Option<EventNumber>, Damaged> {
        let forgotten_before = self.head(stream).removed.forgotten_before;
        Ok(self.numbers.get(&(stream, event_id)).copied().filter(|number| *number >= forgotten_before))
    }

    fn position_of(&self, stream: usize, number: EventNumber) -> Result<Option<Position>, Damaged> {
        let is_it = |event: &RecordedEvent| event.stream == self.streams[stream].0 && event.number == number;
        Ok(self.events.iter().position(is_it).map(|at| at as Position))
    }

    fn event_id_at(&self, position: Position) -> Result<Uuid, Damaged> {
        if self.removed.contains(&position) {
            return Err(Damaged(format!("the event at position {position} is missing although it is indexed")));
        }
        Ok(self.events[position as usize].event_id)
    }

    fn data_at(&self, position: Position) -> Result<(bool, Bytes), Damaged> {
        if self.removed.contains(&position) {
            return Err(Damaged(format!("the event at position {position} is missing although it is indexed")));
        }
        let event = &self.events[position as usize];
        Ok((event.is_json, event.data.clone()))
    }

    fn next_position(&self) -> Position {
        self.events.len() as Position
    }

    fn cluster_version(&self) -> ClusterVersion {
        self.cluster_version.unwrap_or(ClusterVersion::FIRST)
    }

    fn gaps(&self, stream: usize) -> usize {
        self.gaps.get(&stream).copied().unwrap_or_default()
    }
}

impl Batch for Memory {
    fn append(&mut self, stream: usize, time: Ticks, event_id: Uuid, event: NewEvent) -> Result<Position, Damaged> {
        let number = self.head(stream).last_number.map_or(0, |last| last + 1);
        self.append_at(stream, number, time, event_id, event)
    }

    fn append_at(
        &mut self,
        stream: usize,
        number: EventNumber,
        time: Ticks,
        event_id: Uuid,
        event: NewEvent,
    ) -> Result<Position, Damaged> {
        if self.number_of_id(stream, event_id)?.is_none() {
            self.numbers.insert((stream, event_id), number);
        }
        self.leave_out(stream, number);
        self.streams[stream].1.last_number = Some(number);
        Ok(self.put(stream, number, time, event_id, event))
    }

    fn skip_to(&mut self, stream: usize, next_number: EventNumber) {
        self.leave_out(stream, next_number);
        self.streams[stream].1.last_number = next_number.checked_sub(1);
    }

    fn append_tombstone(&mut self, stream: usize, time: Ticks, event_id: Uuid) -> Position {
        let event = NewEvent { event_type: TOMBSTONE_EVENT_TYPE.to_owned(), ..NewEvent::default() };
        let position = self.put(stream, MAX_NUMBER, time, event_id, event);
        self.streams[stream].1.set_tombstone(position);
        position
    }

    fn set_metadata(&mut self, stream: usize, metadata: Option<StreamMetadata>) {
        self.streams[stream].1.describe(metadata);
    }

    fn set_recreation(&mut self, stream: usize, recreation: Option<Recreation>) {
        self.streams[stream].1.recreation = recreation;
    }

    fn remove_events(
        &mut self,
        stream: usize,
        removable: Removable,
        time: Ticks,
        most: u64,
    ) -> Result<RemovedEvents, Damaged> {
        let name = self.streams[stream].0.clone();
        let mut removed = RemovedEvents { is_finished: true, ..RemovedEvents::default() };
        for event in self.events(&name) {
            if !removable.includes(event.number, event.time) || event.position + 1 == self.next_position() {
                break;
            }
            if removed.events == most {
                removed.is_finished = false;
                break;
            }
            self.removed.insert(event.position);
            self.streams[stream].1.removed.extend(event.number + 1, time);
            removed.events += 1;
        }
        Ok(removed)
    }

    fn forget_ids(&mut self, stream: usize, removed_before: Ticks) {
        self.streams[stream].1.removed.forget(removed_before);
    }

    fn raise_cluster_version(&mut self, version: ClusterVersion) {
        self.cluster_version = Some(version);
    }

    fn redact(&mut self, stream: usize, number: EventNumber) -> Result<Option<Position>, Damaged> {
        let name = self.streams[stream].0.clone();
        let Some(position) = self.events(&name).iter().find(|event| event.number == number).map(|event| event.position)
        else {
            return Ok(None);
        };
        let event = &mut self.events[position as usize];
        event.data = if event.is_json { Bytes::from_static(b"{}") } else { Bytes::new() };
        event.metadata = Bytes::new();
        let all = self.stream("$all")?;
        for stream in [stream, all] {
            self.streams[stream].1.redactions += 1;
        }
        Ok(Some(position))
    }
}
