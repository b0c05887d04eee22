//! The heads of recently written streams, so that an append to such a stream reads nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;

use headwater_proto::stored::Gap;
use lru::LruCache;

use crate::event::metadata::Acl;
use crate::event::{EventNumber, StreamHead};

/// Streams remembered; at about 200 bytes each this is some 13 MiB. Any other stream costs two
/// short reads.
const HEADS: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// Total size of the names and access lists in the heads, which make up most of some heads.
const HEADS_BYTES: usize = 32 << 20;

/// Largest name and access list of a remembered head. A larger head is read from the store each
/// time instead of displacing a thousand others.
const MAX_HEAD_BYTES: usize = 4 << 10;

/// The head of a stream, and the rest of its row.
#[derive(Debug, Clone, Default)]
pub(super) struct StoredHead {
    /// Numeric id; `None` when the stream has no row.
    pub(super) id: Option<u64>,
    /// Field `last_number` of the stored record, kept when the record is written again.
    pub(super) stored_last_number: Option<EventNumber>,
    /// Field `gaps` of the stored record, the same.
    pub(super) gaps: Vec<Gap>,
    /// State of the stream.
    pub(super) head: StreamHead,
}

impl StoredHead {
    /// Bytes of the head of `stream` beyond those that every head takes.
    fn weight(&self, stream: &str) -> usize {
        let list = self.head.metadata.as_deref().and_then(|metadata| metadata.acl.as_ref());
        stream.len() + list.map_or(0, Acl::weight) + size_of_val(self.gaps.as_slice())
    }
}

/// The heads of committed chunks; the least recently used is dropped first. It never holds anything
/// of an uncommitted chunk.
pub(super) struct HeadCache {
    heads: LruCache<Arc<str>, StoredHead>,
    /// Weight of all heads.
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
            // The known head goes too: it is an older state of the stream.
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

    /// A head with this many roles that weigh nothing but their place.
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
