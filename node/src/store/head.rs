//! The heads of recently written streams, so that an append to such a stream reads nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::event::metadata::Acl;
use crate::event::{EventNumber, StreamHead};

/// Streams remembered; at about 200 bytes each this is some 13 MiB. Any other stream costs two
/// short reads.
const HEADS: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// Most bytes of metadata in a remembered head. Access lists may be as large as an event; a stream
/// with an unusually long one is read from the store each time instead of filling the memory.
pub(super) const MAX_HEAD_BYTES: usize = 4 << 10;

/// The head of a stream, and the rest of its row.
#[derive(Debug, Clone, Default)]
pub(super) struct StoredHead {
    /// Numeric id; `None` when the stream has no row.
    pub(super) id: Option<u64>,
    /// Field `last_number` of the stored record, kept when the record is written again.
    pub(super) stored_last_number: Option<EventNumber>,
    /// State of the stream.
    pub(super) head: StreamHead,
}

impl StoredHead {
    /// Bytes that only few streams need: their access lists.
    fn weight(&self) -> usize {
        self.head.metadata.as_deref().and_then(|metadata| metadata.acl.as_ref()).map_or(0, Acl::weight)
    }
}

/// The heads of committed chunks; the least recently used is dropped first. It never holds anything
/// of an uncommitted chunk.
pub(super) struct HeadCache {
    heads: LruCache<Arc<str>, StoredHead>,
}

impl HeadCache {
    pub(super) fn new() -> Self {
        Self { heads: LruCache::new(HEADS) }
    }

    pub(super) fn get(&mut self, stream: &str) -> Option<(Arc<str>, StoredHead)> {
        self.heads.get_key_value(stream).map(|(name, head)| (name.clone(), head.clone()))
    }

    pub(super) fn put(&mut self, stream: Arc<str>, head: StoredHead) {
        if head.weight() > MAX_HEAD_BYTES {
            // The known head goes too: it is an older state of the stream.
            self.heads.pop(&stream);
        } else {
            self.heads.put(stream, head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamMetadata;

    #[test]
    fn a_stream_with_a_huge_access_list_is_not_remembered_nor_its_older_state() {
        let head = |roles: usize| {
            let acl = Acl { read: Some(vec![String::new(); roles]), ..Acl::default() };
            let metadata = StreamMetadata { acl: Some(acl), ..StreamMetadata::default() };
            let head = StreamHead { metadata: Some(Arc::new(metadata)), ..StreamHead::default() };
            StoredHead { id: Some(1), head, ..StoredHead::default() }
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
