//! What the decision on a write rests on besides events: the state of one stream.

use std::sync::Arc;

use uuid::Uuid;

use super::{EventNumber, Position, StreamMetadata};

/// A write that recreated a soft-deleted stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recreation {
    /// Number of its first event, where the recreation set `$tb`.
    pub first_number: EventNumber,
    /// How many events it wrote.
    pub events: u64,
    /// What its copies have in common, if it said so.
    pub write_id: Option<Uuid>,
    /// The stream was soft-deleted again since.
    pub is_undone: bool,
}

/// State of one stream as of the newest write.
#[derive(Debug, Clone, Default)]
pub struct StreamHead {
    /// Number of the last event ever committed.
    pub last_number: Option<EventNumber>,
    /// Position of the tombstone of a hard-deleted stream.
    pub tombstone: Option<Position>,
    /// What the last event of `$$stream` means, if anything.
    pub metadata: Option<Arc<StreamMetadata>>,
    /// The write that brought the stream back last, if it expected no stream.
    pub recreation: Option<Recreation>,
}

impl StreamHead {
    /// The last number as clients count: -1 for none.
    pub fn current_version(&self) -> i64 {
        self.last_number.map_or(-1, |number| number as i64)
    }

    /// Takes over what the last event of `$$stream` means. Whether that is anything else than
    /// before.
    pub(crate) fn describe(&mut self, metadata: Option<StreamMetadata>) -> bool {
        if self.metadata.as_deref() == metadata.as_ref() {
            return false;
        }
        self.metadata = metadata.map(Arc::new);
        if self.is_soft_deleted() {
            // Whatever brought it back before has been undone. A copy of that write may still be
            // under way.
            let undone = |recreation| Recreation { is_undone: true, ..recreation };
            let has_copies = |recreation: &Recreation| recreation.write_id.is_some();
            self.recreation = self.recreation.filter(has_copies).map(undone);
        }
        true
    }

    /// Deleted for ever, by the tombstone at this position, which is also the end of its metadata.
    pub(crate) fn bury(&mut self, tombstone: Position) {
        self.tombstone = Some(tombstone);
        self.metadata = None;
    }

    /// Whether the stream is deleted in a way that can be undone.
    pub fn is_soft_deleted(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.is_soft_deleted())
    }
}
