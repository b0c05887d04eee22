//! The log database: entries, vote, purge mark and committed hint, with group commit by one sync thread.
//!
//! It stores opaque records in order of their index and knows neither Raft's types nor the domain.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What the log keeps: something with a dense index that encodes to bytes and back.
pub trait Record: Clone + Send + Sync + 'static {
    /// Place in the log.
    fn index(&self) -> u64;
    /// Appends the encoding to `buffer`.
    fn encode(&self, buffer: &mut Vec<u8>);
    /// Reads an encoding; an error means the file is damaged.
    fn decode(bytes: bytes::Bytes) -> Result<Self, String>;
    /// Bytes this record occupies in memory, about; bounds the tail cache and the reads.
    fn weight(&self) -> usize;
}

/// The log of one node. Cheap to clone; one writer (Raft's core task), many readers.
pub struct Log<R: Record> {
    inner: Arc<std::marker::PhantomData<R>>,
}

impl<R: Record> Clone for Log<R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

/// First and last index on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Index of the first entry kept, or of the next one when empty.
    pub first: u64,
    /// Index after the last entry.
    pub end: u64,
}

/// Called by the sync thread once what precedes it is durable. A failed sync ends the process, so there is no error to hand over.
pub type Durable = Box<dyn FnOnce() + Send>;

/// Why the log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The files are damaged; the text names the file and says what to do.
    #[error("{0}")]
    Damaged(String),
}

impl<R: Record> Log<R> {
    /// Opens the log under `directory` (created when missing) and starts its sync thread.
    pub fn open(directory: &Path) -> Result<Self, LogError> {
        let _ = directory;
        unimplemented!()
    }

    /// First and last index.
    pub fn extent(&self) -> Extent {
        let _ = &self.inner;
        unimplemented!()
    }

    /// Writes records (dense, starting at `extent().end`); readable on return; `durable` runs after the sync that covers them.
    /// Must not block on the disk's sync. A failed write ends the process.
    pub fn append(&self, records: Vec<R>, durable: Durable) {
        let _ = (records, durable);
        unimplemented!()
    }

    /// Stores small values (vote) in order with the entries; durable when `durable` runs.
    pub fn put_meta(&self, key: &'static str, value: Vec<u8>, durable: Durable) {
        let _ = (key, value, durable);
        unimplemented!()
    }

    /// Stores a hint (committed) behind the entries written so far, unsynced.
    pub fn put_hint(&self, key: &'static str, value: Vec<u8>) {
        let _ = (key, value);
        unimplemented!()
    }

    /// Reads what `put_meta`, `put_hint` or `purge` stored.
    pub fn meta(&self, key: &'static str) -> Result<Option<Vec<u8>>, LogError> {
        let _ = key;
        unimplemented!()
    }

    /// Everything that exists in the range, from the tail cache or the disk (blocking).
    pub fn read(&self, range: Range<u64>) -> Result<Vec<R>, LogError> {
        let _ = range;
        unimplemented!()
    }

    /// The same from memory alone: `None` when any of it would have to come from disk. Stops after `max_bytes` but never returns
    /// nothing for a non-empty range.
    pub fn read_cached(&self, range: Range<u64>, max_bytes: usize) -> Option<Vec<R>> {
        let _ = (range, max_bytes);
        unimplemented!()
    }

    /// Like [`Self::read`], stopping after `max_bytes` but never returning nothing for a non-empty range.
    pub fn read_bounded(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<R>, LogError> {
        let _ = (range, max_bytes);
        unimplemented!()
    }

    /// Drops every entry from `index` on; durable on return.
    pub fn truncate_from(&self, index: u64) {
        let _ = index;
        unimplemented!()
    }

    /// Drops every entry before `end`, storing `value` under `key` no later than the deletion.
    pub fn purge_before(&self, end: u64, key: &'static str, value: Vec<u8>) {
        let _ = (end, key, value);
        unimplemented!()
    }

    /// For the apply thread: blocks until every entry before `end` is durable on this node.
    pub fn wait_durable(&self, end: u64) {
        let _ = end;
        unimplemented!()
    }

    /// Bytes appended since the process started, about.
    pub fn appended_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Syncs what is pending, flushes and closes. For ordered shutdown.
    pub fn close(&self) {
        unimplemented!()
    }
}
