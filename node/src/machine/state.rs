//! The seam between the machine and its state: what a decision reads, and what it writes.
//!
//! A node decides on a chunk of the state database (`on_store`); tests of the rules use a state in
//! memory. Both are known at compile time, so the seam costs nothing.

use std::hash::Hash;

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use crate::event::{
    ClusterVersion, EventNumber, Position, Recreation, Removable, RemovedEvents, StreamHead, StreamMetadata, Ticks,
};

/// The state contradicts itself: no decision is possible.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damaged(pub(super) String);

/// The state as of the last write, including those of the batch.
pub(crate) trait View {
    /// A stream found by its name. Equal values stand for the same stream.
    type Stream: Copy + Eq + Hash;

    /// Why the state cannot be read.
    type Error: From<Damaged>;

    /// A stream by name, whether it exists or not.
    fn stream(&mut self, name: &str) -> Result<Self::Stream, Self::Error>;

    /// Name of a stream.
    fn name(&self, stream: Self::Stream) -> &str;

    /// The state of a stream, without its events.
    fn head(&self, stream: Self::Stream) -> &StreamHead;

    /// The number that the first event with this id got in the stream.
    fn number_of_id(&mut self, stream: Self::Stream, event_id: Uuid) -> Result<Option<EventNumber>, Self::Error>;

    /// The position of the event with this number.
    fn position_of(&self, stream: Self::Stream, number: EventNumber) -> Result<Option<Position>, Self::Error>;

    /// Id of the event at a position below [`Self::next_position`].
    fn event_id_at(&self, position: Position) -> Result<Uuid, Self::Error>;

    /// Whether the event at a position below [`Self::next_position`] is JSON, and its data.
    fn data_at(&self, position: Position) -> Result<(bool, Bytes), Self::Error>;

    /// Position of the next event.
    fn next_position(&self) -> Position;

    /// The cluster version in force.
    fn cluster_version(&self) -> ClusterVersion;

    /// How many ranges of numbers the stream lacks after its first event.
    fn gaps(&self, stream: Self::Stream) -> usize;
}

/// Writes that become visible together.
pub(crate) trait Batch: View {
    /// Adds an event at the end of a stream. Its id must have 16 bytes.
    fn append(
        &mut self,
        stream: Self::Stream,
        time: Ticks,
        event_id: Uuid,
        event: NewEvent,
    ) -> Result<Position, Self::Error>;

    /// Adds an event with this number, which is above the last one; the stream will never have the
    /// numbers in between. Its id must have 16 bytes.
    fn append_at(
        &mut self,
        stream: Self::Stream,
        number: EventNumber,
        time: Ticks,
        event_id: Uuid,
        event: NewEvent,
    ) -> Result<Position, Self::Error>;

    /// Lets a stream go on at this number, which is above the last one, although it will never have
    /// the events before it.
    fn skip_to(&mut self, stream: Self::Stream, next_number: EventNumber);

    /// Deletes a stream for ever: adds a tombstone to the log of all events, and ends the stream's
    /// metadata (contract/streams 7).
    fn append_tombstone(&mut self, stream: Self::Stream, time: Ticks, event_id: Uuid) -> Position;

    /// Records what the last event of `$$stream` means for the stream.
    fn set_metadata(&mut self, stream: Self::Stream, metadata: Option<StreamMetadata>);

    /// Records which write recreated a soft-deleted stream; `None` when a repetition of that write
    /// is recognised by other means.
    fn set_recreation(&mut self, stream: Self::Stream, recreation: Option<Recreation>);

    /// Removes the events at the beginning of a stream that nobody can see, so many at most. The
    /// newest of all events stays.
    fn remove_events(
        &mut self,
        stream: Self::Stream,
        removable: Removable,
        time: Ticks,
        most: u64,
    ) -> Result<RemovedEvents, Self::Error>;

    /// Forgets the ids of the events of a stream that were removed before this time.
    fn forget_ids(&mut self, stream: Self::Stream, removed_before: Ticks);

    /// Puts a cluster version in force that is above the present one.
    fn raise_cluster_version(&mut self, version: ClusterVersion);

    /// Blanks data and metadata of an event; `None` when it is not stored.
    fn redact(&mut self, stream: Self::Stream, number: EventNumber) -> Result<Option<Position>, Self::Error>;
}
