//! The seam between the machine and what holds the state: what a decision reads, and what it
//! writes.
//!
//! The node decides on a chunk of the state database ([`Chunk`]); the rules are tested on a state
//! in memory. Both are known at compile time, so the seam costs nothing.

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use crate::event::{EventNumber, Position, StreamMetadata, Ticks};
use crate::store::ReadError;
use crate::store::head::{Head, Recreation};
use crate::store::write::{Chunk, StreamRef};

/// The state as of the last write, those of the batch included.
pub(crate) trait View {
    /// A stream found by its name. Two are equal when they stand for the same one.
    type Stream: Copy + Eq;

    /// A stream by name, whether it exists or not.
    fn stream(&mut self, name: &str) -> Result<Self::Stream, ReadError>;

    /// Name of a stream.
    fn name(&self, stream: Self::Stream) -> &str;

    /// What is known of a stream besides its events.
    fn head(&self, stream: Self::Stream) -> &Head;

    /// The number which the first event with this id got in the stream.
    fn number_of_id(&mut self, stream: Self::Stream, event_id: Uuid) -> Result<Option<EventNumber>, ReadError>;

    /// Where the event with this number is.
    fn position_of(&self, stream: Self::Stream, number: EventNumber) -> Result<Option<Position>, ReadError>;

    /// Id of the event at a position below [`Self::next_position`].
    fn event_id_at(&self, position: Position) -> Result<Uuid, ReadError>;

    /// Whether the event at a position below [`Self::next_position`] is JSON, and its data.
    fn data_at(&self, position: Position) -> Result<(bool, Bytes), ReadError>;

    /// Position the next event gets.
    fn next_position(&self) -> Position;
}

/// Writes that become visible all together.
pub(crate) trait Batch: View {
    /// Adds an event at the end of a stream. Its id must be of 16 bytes.
    fn append(
        &mut self,
        stream: Self::Stream,
        time: Ticks,
        event_id: Uuid,
        event: NewEvent,
    ) -> Result<Position, ReadError>;

    /// Deletes a stream for ever: a tombstone among all events, and the end of its metadata
    /// (contract/streams 7).
    fn append_tombstone(&mut self, stream: Self::Stream, time: Ticks, event_id: Uuid) -> Position;

    /// Remembers what the last event of `$$stream` means for the stream.
    fn set_metadata(&mut self, stream: Self::Stream, metadata: Option<StreamMetadata>);

    /// Remembers by which write a soft-deleted stream is brought back; `None` when a repetition of
    /// that write is found by other means.
    fn set_recreation(&mut self, stream: Self::Stream, recreation: Option<Recreation>);
}

impl View for Chunk<'_> {
    type Stream = StreamRef;

    fn stream(&mut self, name: &str) -> Result<StreamRef, ReadError> {
        self.stream(name)
    }

    fn name(&self, stream: StreamRef) -> &str {
        self.name(stream)
    }

    fn head(&self, stream: StreamRef) -> &Head {
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

    fn append_tombstone(&mut self, stream: StreamRef, time: Ticks, event_id: Uuid) -> Position {
        self.append_tombstone(stream, time, event_id)
    }

    fn set_metadata(&mut self, stream: StreamRef, metadata: Option<StreamMetadata>) {
        self.set_metadata(stream, metadata);
    }

    fn set_recreation(&mut self, stream: StreamRef, recreation: Option<Recreation>) {
        self.set_recreation(stream, recreation);
    }
}
