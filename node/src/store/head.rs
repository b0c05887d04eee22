//! What the writer knows of the streams written lately, so that an append to one of them reads nothing of it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::event::{EventNumber, Position, StreamMetadata};

/// Streams remembered; at about 200 bytes each this is some 13 MiB. A stream beyond it costs two short reads.
const HEADS: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// State of one stream as of the newest write.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Numeric id; `None` when there is no row of the stream.
    pub id: Option<u64>,
    /// Number of the last event ever committed.
    pub last_number: Option<EventNumber>,
    /// Position of the tombstone of a hard-deleted stream.
    pub tombstone: Option<Position>,
    /// What the last event of `$$stream` means, if anything.
    pub metadata: Option<Arc<StreamMetadata>>,
    /// Field `last_number` of the stored record, kept when the record is written again.
    pub(super) stored_last_number: Option<EventNumber>,
}

impl Head {
    /// The last number as clients count: -1 for none.
    pub fn current_version(&self) -> i64 {
        self.last_number.map_or(-1, |number| number as i64)
    }

    /// Whether the stream is deleted in a way that can be undone.
    pub fn is_soft_deleted(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.is_soft_deleted())
    }
}

/// The heads of committed chunks, least recently used first out. Nothing of an uncommitted chunk is ever in it.
pub(super) struct HeadCache {
    heads: LruCache<Arc<str>, Head>,
}

impl HeadCache {
    pub(super) fn new() -> Self {
        Self { heads: LruCache::new(HEADS) }
    }

    pub(super) fn get(&mut self, stream: &str) -> Option<(Arc<str>, Head)> {
        self.heads.get_key_value(stream).map(|(name, head)| (name.clone(), head.clone()))
    }

    pub(super) fn put(&mut self, stream: Arc<str>, head: Head) {
        self.heads.put(stream, head);
    }
}
