//! The seam between the machine and what holds the state: what a decision reads, and what it
//! writes.
//!
//! The node decides on a chunk of the state database (`on_store`); the rules are tested on a state
//! in memory. Both are known at compile time, so the seam costs nothing.

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use crate::event::{EventNumber, Position, Recreation, StreamHead, StreamMetadata, Ticks};

/// The state contradicts itself: nothing can be decided on it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damaged(pub(super) String);

/// The state as of the last write, those of the batch included.
pub(crate) trait View {
    /// A stream found by its name. Two are equal when they stand for the same one.
    type Stream: Copy + Eq;

    /// Why the state cannot be read.
    type Error: From<Damaged>;

    /// A stream by name, whether it exists or not.
    fn stream(&mut self, name: &str) -> Result<Self::Stream, Self::Error>;

    /// Name of a stream.
    fn name(&self, stream: Self::Stream) -> &str;

    /// What is known of a stream besides its events.
    fn head(&self, stream: Self::Stream) -> &StreamHead;

    /// The number which the first event with this id got in the stream.
    fn number_of_id(&mut self, stream: Self::Stream, event_id: Uuid) -> Result<Option<EventNumber>, Self::Error>;

    /// Where the event with this number is.
    fn position_of(&self, stream: Self::Stream, number: EventNumber) -> Result<Option<Position>, Self::Error>;

    /// Id of the event at a position below [`Self::next_position`].
    fn event_id_at(&self, position: Position) -> Result<Uuid, Self::Error>;

    /// Whether the event at a position below [`Self::next_position`] is JSON, and its data.
    fn data_at(&self, position: Position) -> Result<(bool, Bytes), Self::Error>;

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
    ) -> Result<Position, Self::Error>;

    /// Deletes a stream for ever: a tombstone among all events, and the end of its metadata
    /// (contract/streams 7).
    fn append_tombstone(&mut self, stream: Self::Stream, time: Ticks, event_id: Uuid) -> Position;

    /// Remembers what the last event of `$$stream` means for the stream.
    fn set_metadata(&mut self, stream: Self::Stream, metadata: Option<StreamMetadata>);

    /// Remembers by which write a soft-deleted stream is brought back; `None` when a repetition of
    /// that write is found by other means.
    fn set_recreation(&mut self, stream: Self::Stream, recreation: Option<Recreation>);
}
