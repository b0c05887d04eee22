//! Reading the state under one consistent view.

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use crate::event::{EventNumber, Position, RecordedEvent, StreamMetadata};

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A block is not in memory and this view may not wait for the disk; handled inside [`super::Store::read`].
    #[error("not in memory")]
    NotInMemory,
    /// The database is damaged; the node stops (see `fatal`).
    #[error("state database: {0}")]
    Damaged(String),
}

/// What is known of a stream besides its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Numeric id for [`ReadView::events`]; `None` when the stream has never had an event or metadata.
    pub id: Option<u64>,
    /// Hard-deleted.
    pub tombstoned: bool,
    /// Number of the last event ever committed, truncated ones included; `None` when there was none.
    pub last_number: Option<EventNumber>,
    /// Effective metadata: the fixed one for `$$...` streams, all defaults when there is none.
    pub metadata: StreamMetadata,
}

/// The state as of one moment.
pub struct ReadView<'db> {
    marker: PhantomData<&'db ()>,
}

impl ReadView<'_> {
    /// What is known of `stream`; also for streams that never existed.
    pub fn stream(&self, stream: &str) -> Result<StreamInfo, ReadError> {
        let _ = (stream, self.marker);
        unimplemented!()
    }

    /// The stored events of a stream (id from [`StreamInfo`]) in the given numbers, ascending. Raw: truncation, age and deletion
    /// are the caller's business; numbers that are not stored are left out.
    pub fn events(
        &self,
        stream_id: u64,
        numbers: RangeInclusive<EventNumber>,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let _ = (stream_id, numbers);
        unimplemented!()
    }

    /// The stored event with this number, raw.
    pub fn event(&self, stream_id: u64, number: EventNumber) -> Result<Option<RecordedEvent>, ReadError> {
        let _ = (stream_id, number);
        unimplemented!()
    }

    /// Up to `count` events at `from` and after it, ascending.
    pub fn log_forward(&self, from: Position, count: usize) -> Result<Vec<RecordedEvent>, ReadError> {
        let _ = (from, count);
        unimplemented!()
    }

    /// Up to `count` events before `before`, descending.
    pub fn log_backward(&self, before: Position, count: usize) -> Result<Vec<RecordedEvent>, ReadError> {
        let _ = (before, count);
        unimplemented!()
    }

    /// Position the next event will get = number of events ever stored, as of this view.
    pub fn next_position(&self) -> Result<Position, ReadError> {
        unimplemented!()
    }
}
