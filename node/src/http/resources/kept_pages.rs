//! Pages that were written lately, to be sent again as they are.
//!
//! Stored events change by redaction only, and so does a page that follows no link and hides no
//! event for its age: what it shows depends on the numbers on it, on the links in its head and on
//! how many events of its stream were redacted, and all of that is in the key. Whether the caller
//! may read it, and whether it is still the page that was asked for, is decided before, on the
//! state of the stream as it is. Many subscribers of one stream ask for the same pages; this spares
//! them everything but the sending. Without it, a page that is asked for again is answered 0.79
//! times as often and takes 1.61 times the processor time; another page each time is answered 1.10
//! times as often, because its key is not copied (docs/performance.md).

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
// Asked with every page; seeded like that of std, and several times faster.
use hashbrown::DefaultHashBuilder;
use lru::LruCache;
use parking_lot::Mutex;

use crate::deliberate::{self, Fault};
use crate::http::HttpMetrics;
use crate::http::limits::{KEPT_PAGES_BYTES, MAX_KEPT_PAGE_BYTES};
use crate::http::resources::page::{FeedFormat, FeedPageWriter};
use crate::streams::{Detail, PageFormat, PageIdentity};

/// Places with a lock each.
const SHARDS: usize = 8;

/// Pages that were asked for once are remembered by their hashes, so many of them.
const SEEN: usize = 8_192;

/// What a page needs beside its document: its key and the places in the tables, about.
const ENTRY_BYTES: usize = 512;

/// A format of which pages that are asked for again are kept.
pub(crate) struct Kept {
    format: FeedFormat,
    pages: Arc<KeptPages>,
}

impl Kept {
    /// Pages in `format`, kept among `pages`.
    pub(crate) fn new(format: FeedFormat, pages: &Arc<KeptPages>) -> Self {
        Self { format, pages: pages.clone() }
    }

    fn key(&self, page: PageIdentity) -> PageKey {
        PageKey { page, format: self.format.clone() }
    }
}

impl PageFormat for Kept {
    type Writer<'a> = FeedPageWriter<'a>;

    fn detail(&self) -> Detail {
        self.format.detail()
    }

    fn writer(&self, has_events: bool) -> FeedPageWriter<'_> {
        self.format.writer(has_events)
    }

    fn recall(&self, page: PageIdentity) -> Option<Bytes> {
        let document = self.pages.get(&self.key(page))?;
        self.pages.metrics.sent_kept_page();
        if deliberate::every_other_time(Fault::ChangeKeptPage) {
            return Some(document.iter().map(|byte| if *byte == b'7' { b'8' } else { *byte }).collect());
        }
        Some(document)
    }

    fn offer(&self, page: PageIdentity, document: Vec<u8>) -> Bytes {
        let key = self.key(page);
        if !self.pages.is_wanted_again(&key) {
            return document.into();
        }
        // Without the memory that it was written in.
        let document = Bytes::from(document.into_boxed_slice());
        self.pages.put(key, document.clone());
        document
    }
}

/// Everything that the document of a page depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PageKey {
    page: PageIdentity,
    format: FeedFormat,
}

/// The pages, least recently used first out.
pub(crate) struct KeptPages {
    shards: [Mutex<Shard>; SHARDS],
    /// Hashes of pages that were asked for, the newest of each place.
    seen: Box<[AtomicU64]>,
    hasher: DefaultHashBuilder,
    metrics: HttpMetrics,
}

struct Shard {
    pages: LruCache<PageKey, Bytes>,
    bytes: usize,
}

impl KeptPages {
    /// None yet. Counts in `metrics` how many are sent.
    pub(crate) fn new(metrics: HttpMetrics) -> Self {
        let shard = || Mutex::new(Shard { pages: LruCache::unbounded(), bytes: 0 });
        let seen = (0..SEEN).map(|_| AtomicU64::new(0)).collect();
        Self { shards: std::array::from_fn(|_| shard()), seen, hasher: DefaultHashBuilder::default(), metrics }
    }

    /// The document, if it is kept.
    fn get(&self, key: &PageKey) -> Option<Bytes> {
        self.shard(key).lock().pages.get(key).cloned()
    }

    /// Whether a page that was not found should be kept: it is asked for at least the second time
    /// lately. A client that walks through a whole stream once would otherwise push everything out
    /// for nothing.
    fn is_wanted_again(&self, key: &PageKey) -> bool {
        let hash = self.hasher.hash_one(key);
        self.seen[(hash >> 32) as usize % SEEN].swap(hash, Ordering::Relaxed) == hash
    }

    /// Keeps a document unless it is large.
    fn put(&self, key: PageKey, document: Bytes) {
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
    use crate::event::paging::{Direction, PageLinks, StreamPageHead};
    use crate::http::format::atom::{Embed, Format, Notation};
    use crate::http::format::links::Base;
    use crate::streams::Links;

    fn key(stream_id: u64) -> PageKey {
        let base = Base::of_request(&HeaderMap::new(), "http", None, "n:1");
        let head = StreamPageHead {
            links: PageLinks { last: false, next: None, previous: Some(20) },
            count: 20,
            direction: Direction::Forward,
            is_head_of_stream: false,
            version: None,
        };
        PageKey {
            page: PageIdentity { stream_id, numbers: (0, 19), redactions: 0, head, links: Links::Followed },
            format: FeedFormat { feed: Format { notation: Notation::Json, embed: Embed::None, base }, filter: None },
        }
    }

    fn kept_pages() -> KeptPages {
        KeptPages::new(HttpMetrics::default())
    }

    /// The same page with another head.
    fn with_head(head: impl Fn(StreamPageHead) -> StreamPageHead) -> PageKey {
        let PageKey { page, format } = key(1);
        PageKey { page: PageIdentity { head: head(page.head), ..page }, format }
    }

    #[test]
    fn a_page_is_found_by_all_that_it_depends_on() {
        let kept = kept_pages();
        kept.put(key(1), Bytes::from_static(b"page"));
        assert_eq!(kept.get(&key(1)).as_deref(), Some(&b"page"[..]));
        let PageKey { page, format } = key(1);
        let feed = Format { embed: Embed::Body, ..format.feed.clone() };
        let others = [
            key(2),
            PageKey { page: PageIdentity { numbers: (1, 19), ..page }, format: format.clone() },
            PageKey { page: PageIdentity { redactions: 1, ..page }, format: format.clone() },
            with_head(|head| StreamPageHead { links: PageLinks { last: true, ..head.links }, ..head }),
            with_head(|head| StreamPageHead { count: 21, ..head }),
            with_head(|head| StreamPageHead { is_head_of_stream: true, ..head }),
            with_head(|head| StreamPageHead { version: Some(19), ..head }),
            with_head(|head| StreamPageHead { direction: Direction::Backward, ..head }),
            PageKey { page: PageIdentity { links: Links::AsStored, ..page }, format: format.clone() },
            PageKey { page, format: FeedFormat { feed, ..format } },
        ];
        for other in others {
            assert_eq!(kept.get(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_page_is_wanted_again_when_it_is_asked_for_the_second_time() {
        let kept = kept_pages();
        assert!(!kept.is_wanted_again(&key(1)));
        assert!(kept.is_wanted_again(&key(1)));
        assert!(!kept.is_wanted_again(&key(2)));
        assert!(kept.is_wanted_again(&key(2)));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let kept = kept_pages();
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
