//! The state of one stream, on which the decision on a write rests besides the events.

use std::sync::Arc;

use uuid::Uuid;

use super::{EventNumber, Position, Removed, StreamMetadata};

/// A write that recreated a soft-deleted stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recreation {
    /// Number of its first event, where the recreation set `$tb`.
    pub(crate) first_number: EventNumber,
    /// Number of its events.
    pub(crate) events: u64,
    /// Common to all copies of the write, if it has such an id.
    pub(crate) write_id: Option<Uuid>,
    /// The stream has been soft-deleted again since.
    pub(crate) is_undone: bool,
}

/// State of one stream as of the newest write.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamHead {
    /// Number of the last event ever committed.
    pub(crate) last_number: Option<EventNumber>,
    /// Position of the tombstone of a hard-deleted stream.
    pub(crate) tombstone: Option<Position>,
    /// The meaning of the last event of `$$stream`, if it has any.
    pub(crate) metadata: Option<Arc<StreamMetadata>>,
    /// The write that last recreated the stream, if it expected no stream.
    pub(crate) recreation: Option<Recreation>,
    /// What has been removed of its events.
    pub(crate) removed: Removed,
    /// How many of its events were redacted.
    pub(crate) redactions: u32,
}

impl StreamHead {
    /// The last number as clients see it: -1 for none.
    pub(crate) fn current_version(&self) -> i64 {
        self.last_number.map_or(-1, |number| number as i64)
    }

    /// Applies the meaning of the last event of `$$stream`. Returns whether it differs from the
    /// former one.
    pub(crate) fn describe(&mut self, metadata: Option<StreamMetadata>) -> bool {
        if self.metadata.as_deref() == metadata.as_ref() {
            return false;
        }
        self.metadata = metadata.map(Arc::new);
        if self.is_soft_deleted() {
            // The earlier recreation has been undone. A copy of that write may still be under way.
            let undone = |recreation| Recreation { is_undone: true, ..recreation };
            let has_copies = |recreation: &Recreation| recreation.write_id.is_some();
            self.recreation = self.recreation.filter(has_copies).map(undone);
        }
        true
    }

    /// Marks the stream as deleted for ever by the tombstone at this position, which is also the
    /// end of its metadata.
    pub(crate) fn set_tombstone(&mut self, tombstone: Position) {
        self.tombstone = Some(tombstone);
        self.metadata = None;
    }

    /// Whether the stream is deleted in a way that can be undone.
    pub(crate) fn is_soft_deleted(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.is_soft_deleted())
    }
}
