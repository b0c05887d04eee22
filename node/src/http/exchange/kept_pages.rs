//! Pages that were written lately, to be sent again as they are.
//!
//! Stored events never change, and neither does a page that follows no link and hides no event for its age: what it shows depends on the
//! numbers on it and on the links in its head, and all of that is in the key. Whether the caller may read it, and whether it is still
//! the page that was asked for, is decided before, on the state of the stream as it is. Many subscribers of one stream ask for the
//! same pages; this spares them everything but the sending.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
// Asked with every page; seeded like that of std, and several times faster.
use hashbrown::DefaultHashBuilder;
use lru::LruCache;
use parking_lot::Mutex;

use crate::event::EventNumber;
use crate::event::paging::PageLinks;
use crate::http::format::atom::Format;
use crate::http::limits::{KEPT_PAGES_BYTES, MAX_KEPT_PAGE_BYTES};

/// Places with a lock each.
const SHARDS: usize = 8;

/// Pages that were asked for once are remembered by their hashes, so many of them.
const SEEN: usize = 8_192;

/// What a page needs beside its document: its key and the places in the tables, about.
const ENTRY_BYTES: usize = 512;

/// Everything that the document of a page depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PageKey {
    /// The stream, by the id that is never given to another one.
    pub stream_id: u64,
    /// Smallest and largest number on it.
    pub numbers: (EventNumber, EventNumber),
    /// Where it leads.
    pub links: PageLinks,
    /// The size of page in its links.
    pub count: u64,
    /// What it says of being the head of the stream.
    pub head_of_stream: bool,
    /// The last number of the stream, where its head names that in a tag.
    pub version: Option<EventNumber>,
    /// Whether it was asked for backwards, and so has a URI of its own.
    pub is_backward: bool,
    /// Whether links would have been followed, had there been any.
    pub follows_links: bool,
    /// Notation, embedding, and the base of its links.
    pub format: Format,
}

/// The pages, least recently used first out.
pub struct KeptPages {
    shards: [Mutex<Shard>; SHARDS],
    /// Hashes of pages that were asked for, the newest of each place.
    seen: Box<[AtomicU64]>,
    hasher: DefaultHashBuilder,
}

struct Shard {
    pages: LruCache<PageKey, Bytes>,
    bytes: usize,
}

impl Default for KeptPages {
    fn default() -> Self {
        let shard = || Mutex::new(Shard { pages: LruCache::unbounded(), bytes: 0 });
        let seen = (0..SEEN).map(|_| AtomicU64::new(0)).collect();
        Self { shards: std::array::from_fn(|_| shard()), seen, hasher: DefaultHashBuilder::default() }
    }
}

impl KeptPages {
    /// The document, if it is kept.
    pub fn get(&self, key: &PageKey) -> Option<Bytes> {
        self.shard(key).lock().pages.get(key).cloned()
    }

    /// Whether a page that was not found should be kept: it is asked for at least the second time lately. Whoever walks through a
    /// whole stream once would otherwise push everything out for nothing.
    pub fn is_wanted_again(&self, key: &PageKey) -> bool {
        let hash = self.hasher.hash_one(key);
        self.seen[(hash >> 32) as usize % SEEN].swap(hash, Ordering::Relaxed) == hash
    }

    /// Keeps a document unless it is large.
    pub fn put(&self, key: PageKey, document: Bytes) {
        if document.len() > MAX_KEPT_PAGE_BYTES {
            return;
        }
        let mut shard = self.shard(&key).lock();
        shard.bytes += weight(&document);
        if let Some(before) = shard.pages.put(key, document) {
            shard.bytes -= weight(&before);
        }
        while shard.bytes > KEPT_PAGES_BYTES / SHARDS {
            let Some((_, oldest)) = shard.pages.pop_lru() else { break };
            shard.bytes -= weight(&oldest);
        }
    }

    fn shard(&self, key: &PageKey) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

fn weight(document: &Bytes) -> usize {
    document.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::http::format::atom::{Embed, Notation};
    use crate::http::format::links::Base;

    fn key(stream_id: u64) -> PageKey {
        let base = Base::of_request(&HeaderMap::new(), "http", None, "n:1");
        PageKey {
            stream_id,
            numbers: (0, 19),
            links: PageLinks { last: false, next: None, previous: Some(20) },
            count: 20,
            head_of_stream: false,
            version: None,
            is_backward: false,
            follows_links: true,
            format: Format { notation: Notation::Json, embed: Embed::None, base },
        }
    }

    #[test]
    fn a_page_is_found_by_all_that_it_depends_on() {
        let kept = KeptPages::default();
        kept.put(key(1), Bytes::from_static(b"page"));
        assert_eq!(kept.get(&key(1)).as_deref(), Some(&b"page"[..]));
        let mut others = vec![key(2)];
        others.push(PageKey { numbers: (1, 19), ..key(1) });
        others.push(PageKey { links: PageLinks { last: true, ..key(1).links }, ..key(1) });
        others.push(PageKey { count: 21, ..key(1) });
        others.push(PageKey { head_of_stream: true, ..key(1) });
        others.push(PageKey { version: Some(19), ..key(1) });
        others.push(PageKey { is_backward: true, ..key(1) });
        others.push(PageKey { follows_links: false, ..key(1) });
        others.push(PageKey { format: Format { embed: Embed::Body, ..key(1).format }, ..key(1) });
        for other in others {
            assert_eq!(kept.get(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_page_is_wanted_again_when_it_is_asked_for_the_second_time() {
        let kept = KeptPages::default();
        assert!(!kept.is_wanted_again(&key(1)));
        assert!(kept.is_wanted_again(&key(1)));
        assert!(!kept.is_wanted_again(&key(2)));
        assert!(kept.is_wanted_again(&key(2)));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let kept = KeptPages::default();
        let document = Bytes::from(vec![b'x'; 10_000]);
        let fits = KEPT_PAGES_BYTES / weight(&document);
        for stream in 0..2 * fits as u64 {
            kept.put(key(stream), document.clone());
        }
        let held: usize = kept.shards.iter().map(|shard| shard.lock().bytes).sum();
        assert!(held <= KEPT_PAGES_BYTES && held > KEPT_PAGES_BYTES / 2, "{held}");
        assert!(kept.get(&key(2 * fits as u64 - 1)).is_some());
        assert!(kept.get(&key(0)).is_none());
        for shard in &kept.shards {
            let shard = shard.lock();
            assert_eq!(shard.bytes, shard.pages.iter().map(|(_, page)| weight(page)).sum::<usize>());
        }
        kept.put(key(7), Bytes::from(vec![b'x'; MAX_KEPT_PAGE_BYTES + 1]));
        assert!(kept.get(&key(7)).is_none_or(|page| page.len() == 10_000));
    }
}
