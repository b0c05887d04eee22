//! A state in memory in place of a node's database: no chunk, every write visible at once.

use std::collections::HashMap;

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use super::super::state::{Batch, Damaged, View};
use crate::event::{
    EventNumber, MAX_NUMBER, Position, RecordedEvent, Recreation, StreamHead, StreamMetadata, StreamNameRef,
    TOMBSTONE_EVENT_TYPE, Ticks,
};

/// See the module.
#[derive(Default)]
pub(super) struct Memory {
    streams: Vec<(String, StreamHead)>,
    /// By position.
    events: Vec<RecordedEvent>,
    /// The number of the first event with an id, by index of the stream.
    numbers: HashMap<(usize, Uuid), EventNumber>,
    /// Ranges of numbers that streams lack, by index of the stream.
    gaps: HashMap<usize, usize>,
}

impl Memory {
    /// The state of a stream that was used before.
    fn known(&self, stream: &str) -> Option<&StreamHead> {
        self.streams.iter().find(|(name, _)| name == stream).map(|(_, head)| head)
    }

    pub(super) fn last_number(&self, stream: &str) -> Option<EventNumber> {
        self.known(stream).and_then(|head| head.last_number)
    }

    pub(super) fn metadata(&self, stream: &str) -> StreamMetadata {
        if StreamNameRef::new(stream).is_metastream() {
            return StreamMetadata::of_metastream();
        }
        self.known(stream).and_then(|head| head.metadata.as_deref().cloned()).unwrap_or_default()
    }

    /// All events.
    pub(super) fn log(&self) -> &[RecordedEvent] {
        &self.events
    }

    /// The events of a stream in the order of their numbers, its tombstone left out.
    pub(super) fn events(&self, stream: &str) -> Vec<RecordedEvent> {
        self.events.iter().filter(|event| event.stream == stream && event.number != MAX_NUMBER).cloned().collect()
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
        Ok(self.numbers.get(&(stream, event_id)).copied())
    }

    fn position_of(&self, stream: usize, number: EventNumber) -> Result<Option<Position>, Damaged> {
        let is_it = |event: &RecordedEvent| event.stream == self.streams[stream].0 && event.number == number;
        Ok(self.events.iter().position(is_it).map(|at| at as Position))
    }

    fn event_id_at(&self, position: Position) -> Result<Uuid, Damaged> {
        Ok(self.events[position as usize].event_id)
    }

    fn data_at(&self, position: Position) -> Result<(bool, Bytes), Damaged> {
        let event = &self.events[position as usize];
        Ok((event.is_json, event.data.clone()))
    }

    fn next_position(&self) -> Position {
        self.events.len() as Position
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
        self.numbers.entry((stream, event_id)).or_insert(number);
        match self.head(stream).last_number {
            None => self.streams[stream].1.removed_before = number,
            Some(last) if number > last + 1 => *self.gaps.entry(stream).or_default() += 1,
            Some(_) => {}
        }
        self.streams[stream].1.last_number = Some(number);
        Ok(self.put(stream, number, time, event_id, event))
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
}
