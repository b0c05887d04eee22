//! What the writer knows of the streams written lately, so that an append to one of them reads
//! nothing of it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use uuid::Uuid;

use crate::event::metadata::Acl;
use crate::event::{EventNumber, Position, StreamMetadata};

/// Streams remembered; at about 200 bytes each this is some 13 MiB. A stream beyond it costs two
/// short reads.
const HEADS: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// Bytes of metadata with which a head is still remembered. Access lists may be as large as an
/// event; a stream with one that is unusually long is read from the store each time instead of
/// filling the memory.
pub(super) const MAX_HEAD_BYTES: usize = 4 << 10;

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
pub struct Head {
    /// Numeric id; `None` when there is no row of the stream.
    pub id: Option<u64>,
    /// Number of the last event ever committed.
    pub last_number: Option<EventNumber>,
    /// Position of the tombstone of a hard-deleted stream.
    pub tombstone: Option<Position>,
    /// What the last event of `$$stream` means, if anything.
    pub metadata: Option<Arc<StreamMetadata>>,
    /// The write that brought the stream back last, if it expected no stream.
    pub recreation: Option<Recreation>,
    /// Field `last_number` of the stored record, kept when the record is written again.
    pub(super) stored_last_number: Option<EventNumber>,
}

impl Head {
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

    /// Bytes that only few streams have: their access lists.
    fn weight(&self) -> usize {
        self.metadata.as_deref().and_then(|metadata| metadata.acl.as_ref()).map_or(0, Acl::weight)
    }

    /// Whether the stream is deleted in a way that can be undone.
    pub fn is_soft_deleted(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.is_soft_deleted())
    }
}

/// The heads of committed chunks, least recently used first out. Nothing of an uncommitted chunk is
/// ever in it.
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
        if head.weight() > MAX_HEAD_BYTES {
            // Also not what was known before: it would be an older state of the stream.
            self.heads.pop(&stream);
        } else {
            self.heads.put(stream, head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_with_a_huge_access_list_is_not_remembered_nor_its_older_state() {
        let head = |roles: usize| {
            let acl = Acl { read: Some(vec![String::new(); roles]), ..Acl::default() };
            let metadata = StreamMetadata { acl: Some(acl), ..StreamMetadata::default() };
            Head { id: Some(1), metadata: Some(Arc::new(metadata)), ..Head::default() }
        };
        let mut heads = HeadCache::new();
        let name: Arc<str> = Arc::from("s");
        heads.put(name.clone(), head(3));
        assert!(heads.get("s").is_some());
        heads.put(name.clone(), head(1_000));
        assert!(heads.get("s").is_none());
        heads.put(name, head(0));
        assert!(heads.get("s").is_some());
    }
}
