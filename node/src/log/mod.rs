//! The log database: entries, vote, purge mark and committed hint, with group commit by one sync
//! thread.
//!
//! It stores opaque records in order of their index and knows neither Raft's types nor the domain.
//! One RocksDB database in a directory of its own, WAL on, and beside it the file [`durable_mark`].
//!
//! - `append` writes, unsynced, inside the call; one thread ([`sync`]) makes the write durable and
//!   then calls back, in order.
//! - Reads take what the [`tail_cache`] holds, and scan the disk for the rest. No lock is held
//!   across a scan.
//! - A failed write or sync ends the process ([`disk`]). Damaged files are detected when the log is
//!   opened ([`open`]) or read.

mod disk;
mod durable_mark;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod keys;
pub(crate) mod offline;
mod open;
mod options;
mod sync;
mod tail_cache;
#[cfg(test)]
mod test_record;
#[cfg(test)]
mod tests;
pub(crate) mod volume;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

pub(crate) use self::disk::ADVICE;
pub(crate) use self::durable_mark::FILE_NAME as MARK_FILE_NAME;
pub(crate) use self::options::MAX_OPEN_TABLES;
use self::sync::{GroupCommit, Syncs};
use self::tail_cache::TailCache;
pub(crate) use self::volume::Volume;
use crate::fatal::{self, Cause};

/// The file of the log's directory that a process locks while it has the log open. RocksDB names
/// it.
pub(crate) const LOCK_FILE_NAME: &str = "LOCK";

/// Weight of the decoded records kept in memory: some four seconds at 20,000 entries of 256 bytes a
/// second, more than a healthy follower or the apply thread ever lags behind.
pub(crate) const TAIL_CACHE_BYTES: usize = 32 << 20;

/// A value that the log keeps: it has a dense index and encodes to bytes and back.
pub(crate) trait Record: Clone + Send + Sync + 'static {
    /// Index in the log.
    fn index(&self) -> u64;
    /// Appends the encoding to `buffer`.
    fn encode(&self, buffer: &mut Vec<u8>);
    /// Reads an encoding; an error means the file is damaged.
    fn decode(bytes: bytes::Bytes) -> Result<Self, String>;
    /// Approximate bytes of this record in memory; bounds the tail cache and the reads.
    fn weight(&self) -> usize;
}

/// First and last index on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Index of the first entry kept, or of the next one when empty.
    pub(crate) first: u64,
    /// Index after the last entry.
    pub(crate) end: u64,
}

impl Extent {
    fn clip(self, range: Range<u64>) -> Range<u64> {
        let start = range.start.clamp(self.first, self.end);
        start..range.end.clamp(start, self.end)
    }
}

/// Called by the sync thread once all earlier writes are durable. It must not block. A failed sync
/// ends the process, so there is no error to pass.
pub(crate) type OnDurable = Box<dyn FnOnce() + Send>;

/// Called by the sync thread after each sync, for metrics. It must not block.
pub(crate) type SyncObserver = Box<dyn Fn(&SyncReport) + Send + Sync>;

/// Figures of one sync.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SyncReport {
    /// How long the disk took.
    pub(crate) duration: Duration,
    /// Callers that it served.
    pub(crate) callers: usize,
    /// Bytes of entries written since the previous sync.
    pub(crate) bytes: u64,
}

/// Why the log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The files are damaged; the text names the file and the remedy.
    #[error("{0}")]
    Damaged(String),
    /// The disk fails, is full or takes no writes.
    #[error("{0}")]
    Failed(String),
    /// The files cannot be used, but nothing says that they are damaged: no permission, in use by
    /// another process, of another version.
    #[error("{0}")]
    Unusable(String),
}

impl LogError {
    /// That files cannot be used, for a reason that need not be damage.
    fn of(cause: Cause, what: String) -> Self {
        match cause {
            Cause::Damage => Self::Damaged(format!("{what}; {ADVICE}")),
            Cause::Disk => Self::Failed(what),
            Cause::Setting => Self::Unusable(what),
        }
    }
}

/// The log of one node. Cheap to clone; one writer (Raft's core task), many readers.
pub(crate) struct Log<R: Record> {
    inner: Arc<Inner<R>>,
}

impl<R: Record> Clone for Log<R> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<R: Record> {
    group: Arc<GroupCommit>,
    state: RwLock<State<R>>,
    /// All small values: they are read far more often than written.
    meta: RwLock<BTreeMap<String, Vec<u8>>>,
    /// Taken when the log is closed.
    syncs: Mutex<Option<Syncs>>,
}

/// What readers see. The lock is never held while waiting for the disk.
struct State<R> {
    extent: Extent,
    /// Changes whenever entries disappear, so that a scan can tell a concurrent deletion from
    /// damage.
    deletions: u64,
    cache: TailCache<R>,
}

impl<R: Record> Log<R> {
    /// Opens the log under `directory` (created when missing) and starts its sync thread.
    ///
    /// Refuses damaged files, and a log that ends before its acknowledged end.
    pub(crate) fn open(directory: &Path, observer: SyncObserver) -> Result<Self, LogError> {
        Self::open_within(directory, MAX_OPEN_TABLES, observer)
    }

    /// Opens it with so many open table files at most.
    pub(crate) fn open_within(directory: &Path, open_tables: u64, observer: SyncObserver) -> Result<Self, LogError> {
        Self::open_sized(directory, open_tables, observer, TAIL_CACHE_BYTES)
    }

    #[cfg(test)]
    fn open_with_cache(directory: &Path, observer: SyncObserver, cache_bytes: usize) -> Result<Self, LogError> {
        Self::open_sized(directory, MAX_OPEN_TABLES, observer, cache_bytes)
    }

    fn open_sized(
        directory: &Path,
        open_tables: u64,
        observer: SyncObserver,
        cache_bytes: usize,
    ) -> Result<Self, LogError> {
        let open::Opened { disk, mark, extent, meta } = open::open(directory, open_tables)?;
        let (group, syncs) = GroupCommit::start(disk, mark, extent.end, observer)
            .map_err(|error| LogError::Unusable(format!("the log's sync thread cannot be started ({error})")))?;
        let state = State { extent, deletions: 0, cache: TailCache::new(extent.end, cache_bytes) };
        let inner = Inner { group, state: RwLock::new(state), meta: RwLock::new(meta), syncs: Mutex::new(Some(syncs)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// First and last index.
    pub(crate) fn extent(&self) -> Extent {
        self.inner.state.read().extent
    }

    /// Writes records (dense, starting at `extent().end`, or anywhere in a log that never had one).
    /// They are readable on return; `durable` runs after the sync that covers them. Does not wait
    /// for that sync. A failed write ends the process, and so do records that do not follow the
    /// last one.
    pub(crate) fn append(&self, records: Vec<R>, durable: OnDurable) {
        let group = &self.inner.group;
        let Some(start) = records.first().map(Record::index) else {
            return group.after_sync(durable);
        };
        let extent = self.extent();
        let founding = extent == Extent { first: 0, end: 0 } && start > 0;
        let dense = records.iter().zip(start..).all(|(record, index)| record.index() == index);
        if !dense || (start != extent.end && !founding) {
            fatal::stop("appending to the log", &format!("entries from {start} on do not follow {extent:?}"));
        }
        let end = start + records.len() as u64;
        let bytes = group.disk().append(&records, founding.then_some(start)) as u64;
        {
            let mut state = self.inner.state.write();
            if founding {
                state.extent.first = start;
                state.cache.purge_before(start);
            }
            records.into_iter().for_each(|record| state.cache.push(record));
            state.extent.end = end;
        }
        group.written(end, bytes, durable);
    }

    /// Stores small values (vote) in order with the entries; durable when `durable` runs.
    pub(crate) fn put_meta(&self, key: &'static str, value: Vec<u8>, durable: OnDurable) {
        self.put_hint(key, value);
        self.inner.group.after_sync(durable);
    }

    /// Stores a hint (committed) after the entries written so far, unsynced.
    pub(crate) fn put_hint(&self, key: &'static str, value: Vec<u8>) {
        self.inner.group.disk().put_meta(key, &value);
        self.remember(key, value);
    }

    /// The cluster version that a program has to know to open this log; 0 if none was promised.
    pub(crate) fn cluster_version(&self) -> u32 {
        let value = self.inner.meta.read().get(keys::CLUSTER_VERSION).map(|value| <[u8; 4]>::try_from(&value[..]));
        value.and_then(Result::ok).map_or(0, u32::from_be_bytes)
    }

    /// From now on, and for good, programs that do not know this cluster version refuse the log;
    /// durable when `durable` runs, and not told before. It must be above the present one.
    pub(crate) fn promise_cluster_version(&self, version: u32, durable: OnDurable) {
        self.inner.group.disk().put_cluster_version(version);
        let log = self.clone();
        self.inner.group.after_sync(Box::new(move || {
            log.remember(keys::CLUSTER_VERSION, version.to_be_bytes().to_vec());
            log.remember(keys::FORMAT, vec![keys::FORMAT_VERSION]);
            durable();
        }));
    }

    /// Returns what `put_meta`, `put_hint` or `purge_before` stored, from memory.
    pub(crate) fn meta(&self, key: &'static str) -> Option<Vec<u8>> {
        self.inner.meta.read().get(key).cloned()
    }

    fn remember(&self, key: &'static str, value: Vec<u8>) {
        let mut meta = self.inner.meta.write();
        match meta.get_mut(key) {
            Some(known) => *known = value,
            None => {
                meta.insert(key.to_owned(), value);
            }
        }
    }

    /// All existing records in the range.
    #[cfg(test)]
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Vec<R>, LogError> {
        self.read_bounded(range, usize::MAX)
    }

    /// The existing records in the range, from memory alone: `None` when any of it would have to
    /// come from disk. Stops after `max_bytes`, but returns at least one record for a non-empty
    /// range.
    pub(crate) fn read_cached(&self, range: Range<u64>, max_bytes: usize) -> Option<Vec<R>> {
        let state = self.inner.state.read();
        state.cache.read(state.extent.clip(range), max_bytes)
    }

    /// The same from the tail cache or the disk (blocking).
    pub(crate) fn read_bounded(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<R>, LogError> {
        loop {
            if let Some(records) = self.read_cached(range.clone(), max_bytes) {
                return Ok(records);
            }
            let (wanted, deletions) = {
                let state = self.inner.state.read();
                (state.extent.clip(range.clone()), state.deletions)
            };
            let disk = self.inner.group.disk();
            // The newest entries are written before they are published here, so the disk has the
            // whole range.
            let scan = disk.scan(wanted.clone(), max_bytes)?;
            if scan.complete {
                return Ok(scan.records);
            }
            if self.inner.state.read().deletions == deletions {
                let missing = wanted.start + scan.records.len() as u64;
                return Err(disk.damaged(&format!("has lost entry {missing} out of {wanted:?}")));
            }
        }
    }

    /// Drops every entry from `index` on; durable on return.
    pub(crate) fn truncate_from(&self, index: u64) {
        let Extent { first, end } = self.extent();
        let index = index.max(first);
        if index >= end {
            return;
        }
        let group = &self.inner.group;
        group.truncate(index, || {
            {
                // Readers learn of it first: a reader that misses entries must be able to see why.
                let mut state = self.inner.state.write();
                state.deletions += 1;
                state.extent.end = index;
                state.cache.truncate_from(index);
            }
            group.disk().delete(index..end);
        });
    }

    /// Drops every entry before `end`, and stores `value` under `key` no later than the deletion.
    /// With an `end` beyond the last entry the log is empty and continues there.
    pub(crate) fn purge_before(&self, end: u64, key: &'static str, value: Vec<u8>) {
        let group = &self.inner.group;
        let first = self.extent().first.max(end);
        group.disk().purge(first, key, &value);
        self.remember(key, value);
        let extent = {
            let mut state = self.inner.state.write();
            state.deletions += 1;
            state.extent = Extent { first, end: state.extent.end.max(first) };
            state.cache.purge_before(first);
            state.extent
        };
        group.purged(extent.first, extent.end);
    }

    /// Blocks until every entry before `end` is durable on this node; for the apply thread.
    pub(crate) fn wait_durable(&self, end: u64) {
        self.inner.group.wait_durable(end);
    }

    /// Index after the last entry that is durable on this node.
    pub(crate) fn durable_end(&self) -> u64 {
        self.inner.group.durable_end()
    }

    /// Ends the process when the log cannot be read: without its log a node can neither replicate
    /// nor apply.
    pub(crate) fn or_stop<T>(&self, result: Result<T, LogError>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => fatal::stop("reading the log", &error),
        }
    }

    /// Waits for RocksDB's background work, for tests that copy the files.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.inner.group.disk().wait_for_background_work();
    }

    /// Syncs pending writes, flushes and closes. For an ordered shutdown; the files are released
    /// with the last clone.
    pub(crate) fn close(&self) {
        if self.inner.stop_sync_thread() {
            self.inner.group.disk().flush();
        }
    }
}

impl<R: Record> Inner<R> {
    /// Lets the sync thread finish; false when it was stopped before.
    fn stop_sync_thread(&self) -> bool {
        let Some(syncs) = self.syncs.lock().take() else { return false };
        self.group.close();
        match syncs {
            Syncs::OnThread(thread) => join(thread),
            #[cfg(test)]
            Syncs::Simulated => {
                self.group.finish();
            }
        }
        true
    }
}

/// Waits for the end of the sync thread.
fn join(thread: JoinHandle<()>) {
    // If a callback owned the last handle, the thread ends by itself when the callback has
    // returned.
    let is_own = thread.thread().id() == std::thread::current().id();
    if !is_own && thread.join().is_err() {
        fatal::stop("syncing the log", &"the sync thread panicked");
    }
}

impl<R: Record> Drop for Inner<R> {
    fn drop(&mut self) {
        self.stop_sync_thread();
    }
}
