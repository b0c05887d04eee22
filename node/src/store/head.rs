//! What the writer knows of the streams written lately, so that an append to one of them reads
//! nothing of it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::event::metadata::Acl;
use crate::event::{EventNumber, StreamHead};

/// Streams remembered; at about 200 bytes each this is some 13 MiB. A stream beyond it costs two
/// short reads.
const HEADS: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// Bytes of all their names and access lists, which are most of what some heads take.
const HEADS_BYTES: usize = 32 << 20;

/// Bytes of name and access list with which a head is still remembered. A stream with more is read
/// from the store each time instead of pushing a thousand others out.
const MAX_HEAD_BYTES: usize = 4 << 10;

/// The head of a stream, and what else its row says.
#[derive(Debug, Clone, Default)]
pub(super) struct StoredHead {
    /// Numeric id; `None` when there is no row of the stream.
    pub(super) id: Option<u64>,
    /// Field `last_number` of the stored record, kept when the record is written again.
    pub(super) stored_last_number: Option<EventNumber>,
    /// State of the stream.
    pub(super) head: StreamHead,
}

impl StoredHead {
    /// Bytes of the head that `stream` has, beyond those that every head takes.
    fn weight(&self, stream: &str) -> usize {
        let list = self.head.metadata.as_deref().and_then(|metadata| metadata.acl.as_ref());
        stream.len() + list.map_or(0, Acl::weight)
    }
}

/// The heads of committed chunks, least recently used first out. Nothing of an uncommitted chunk is
/// ever in it.
pub(super) struct HeadCache {
    heads: LruCache<Arc<str>, StoredHead>,
    /// Weight of all of them.
    bytes: usize,
}

impl HeadCache {
    pub(super) fn new() -> Self {
        Self { heads: LruCache::new(HEADS), bytes: 0 }
    }

    pub(super) fn get(&mut self, stream: &str) -> Option<(Arc<str>, StoredHead)> {
        self.heads.get_key_value(stream).map(|(name, head)| (name.clone(), head.clone()))
    }

    pub(super) fn put(&mut self, stream: Arc<str>, head: StoredHead) {
        let weight = head.weight(&stream);
        if weight > MAX_HEAD_BYTES {
            // Also not what was known before: it would be an older state of the stream.
            let known = self.heads.pop_entry(&stream);
            return self.has_left(known);
        }
        self.bytes += weight;
        let replaced = self.heads.push(stream, head);
        self.has_left(replaced);
        while self.bytes > HEADS_BYTES {
            let oldest = self.heads.pop_lru();
            self.has_left(oldest);
        }
    }

    fn has_left(&mut self, entry: Option<(Arc<str>, StoredHead)>) {
        if let Some((stream, head)) = entry {
            self.bytes -= head.weight(&stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamMetadata;

    /// A head with so many roles that weigh nothing but their place.
    fn head(roles: usize) -> StoredHead {
        let acl = Acl { read: Some(vec![String::new(); roles]), ..Acl::default() };
        let metadata = StreamMetadata { acl: Some(acl), ..StreamMetadata::default() };
        let head = StreamHead { metadata: Some(Arc::new(metadata)), ..StreamHead::default() };
        StoredHead { id: Some(1), head, ..StoredHead::default() }
    }

    #[test]
    fn a_stream_with_a_huge_access_list_is_not_remembered_nor_its_older_state() {
        let mut heads = HeadCache::new();
        let name: Arc<str> = Arc::from("s");
        heads.put(name.clone(), head(3));
        assert!(heads.get("s").is_some());
        heads.put(name.clone(), head(1_000));
        assert!(heads.get("s").is_none());
        assert_eq!(heads.bytes, 0);
        heads.put(name, head(0));
        assert!(heads.get("s").is_some());
    }

    #[test]
    fn the_longest_unused_heads_leave_when_all_are_too_heavy_together() {
        let mut heads = HeadCache::new();
        let most = HEADS_BYTES / MAX_HEAD_BYTES;
        let name = |number: usize| Arc::<str>::from(format!("{number:0>MAX_HEAD_BYTES$}"));
        for number in 0..most {
            heads.put(name(number), head(0));
            heads.put(name(number), head(0));
        }
        assert_eq!((heads.heads.len(), heads.bytes), (most, HEADS_BYTES));
        assert!(heads.get(&name(0)).is_some());
        heads.put(name(most), head(0));
        assert!(heads.get(&name(1)).is_none(), "the first was used since");
        assert!(heads.get(&name(0)).is_some() && heads.get(&name(most)).is_some());
        assert_eq!((heads.heads.len(), heads.bytes), (most, HEADS_BYTES));
        heads.put(Arc::from(format!("{}x", name(0))), head(0));
        assert_eq!(heads.heads.len(), most, "its name alone is too long");
    }
}
