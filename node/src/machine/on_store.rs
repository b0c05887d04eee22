//! The machine on the state database: a chunk of the database is the batch. Every method calls the
//! chunk's method of the same name.

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use super::state::{Batch, Damaged, View};
use crate::event::{
    ClusterVersion, EventNumber, Position, Recreation, Removable, RemovedEvents, StreamHead, StreamMetadata, Ticks,
};
use crate::store::ReadError;
use crate::store::write::{Chunk, StreamRef};

impl From<Damaged> for ReadError {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged.0)
    }
}

impl View for Chunk<'_> {
    type Stream = StreamRef;
    type Error = ReadError;

    fn stream(&mut self, name: &str) -> Result<StreamRef, ReadError> {
        self.stream(name)
    }

    fn name(&self, stream: StreamRef) -> &str {
        self.name(stream)
    }

    fn head(&self, stream: StreamRef) -> &StreamHead {
        self.head(stream)
    }

    fn number_of_id(&mut self, stream: StreamRef, event_id: Uuid) -> Result<Option<EventNumber>, ReadError> {
        self.number_of_id(stream, event_id)
    }

    fn position_of(&self, stream: StreamRef, number: EventNumber) -> Result<Option<Position>, ReadError> {
        self.position_of(stream, number)
    }

    fn event_id_at(&self, position: Position) -> Result<Uuid, ReadError> {
        self.event_id_at(position)
    }

    fn data_at(&self, position: Position) -> Result<(bool, Bytes), ReadError> {
        self.data_at(position)
    }

    fn next_position(&self) -> Position {
        self.next_position()
    }

    fn cluster_version(&self) -> ClusterVersion {
        self.cluster_version()
    }

    fn gaps(&self, stream: StreamRef) -> usize {
        self.gaps(stream)
    }
}

impl Batch for Chunk<'_> {
    fn append(
        &mut self,
        stream: StreamRef,
        time: Ticks,
        event_id: Uuid,
        event: NewEvent,
    ) -> Result<Position, ReadError> {
        self.append(stream, time, event_id, event)
    }

    fn append_at(
        &mut self,
        stream: StreamRef,
        number: EventNumber,
        time: Ticks,
        event_id: Uuid,
        event: NewEvent,
    ) -> Result<Position, ReadError> {
        self.append_at(stream, number, time, event_id, event)
    }

    fn skip_to(&mut self, stream: StreamRef, next_number: EventNumber) {
        self.skip_to(stream, next_number);
    }

    fn append_tombstone(&mut self, stream: StreamRef, time: Ticks, event_id: Uuid) -> Position {
        self.append_tombstone(stream, time, event_id)
    }

    fn set_metadata(&mut self, stream: StreamRef, metadata: Option<StreamMetadata>) {
        self.set_metadata(stream, metadata);
    }

    fn set_recreation(&mut self, stream: StreamRef, recreation: Option<Recreation>) {
        self.set_recreation(stream, recreation);
    }

    fn remove_events(
        &mut self,
        stream: StreamRef,
        removable: Removable,
        time: Ticks,
        most: u64,
    ) -> Result<RemovedEvents, ReadError> {
        self.remove_events(stream, removable, time, most)
    }

    fn forget_ids(&mut self, stream: StreamRef, removed_before: Ticks) {
        self.forget_ids(stream, removed_before);
    }

    fn raise_cluster_version(&mut self, version: ClusterVersion) {
        self.raise_cluster_version(version);
    }

    fn redact(&mut self, stream: StreamRef, number: EventNumber) -> Result<Option<Position>, ReadError> {
        self.redact(stream, number)
    }
}
