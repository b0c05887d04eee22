//! The state database: the effect of all commands so far on the streams.
//!
//! One file per stored key kind, holding its codec, its byte layout and its round-trip test.

mod applied;
mod checkpoint;
mod ends;
pub(crate) mod event_id_row;
pub(crate) mod event_row;
mod forgotten;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod generation;
mod head;
mod headings;
mod hole_row;
mod id_filter;
pub(crate) mod index_row;
mod known_streams;
mod log_rows;
pub(crate) mod offline;
pub(crate) mod options;
mod read;
mod recent_ids;
mod reclaim;
mod remove;
mod scan;
pub(crate) mod slots;
pub(crate) mod stream_row;
mod system_row;
#[cfg(test)]
mod tests;
mod truncate;
pub(crate) mod write;
mod writer;
mod writer_memory;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use rocksdb::{Cache, FlushOptions};
use tokio::sync::Semaphore;

pub(crate) use applied::{Applied, AppliedWatch, StreamChange};
pub(crate) use ends::EmptiedStreams;
pub(crate) use headings::Headings;
pub(crate) use index_row::EventPlace;
pub(crate) use offline::{Facts, NewState, OfflineState};
pub(crate) use read::{ReadError, ReadView, StreamInfo};
pub(crate) use reclaim::Reclaimable;
pub(crate) use scan::{Candidate, Scanned};
pub(crate) use slots::SlotPlace;
pub(crate) use system_row::{FIRST_FORMAT_WITH_HOLES, FORMAT_VERSION};
pub(crate) use truncate::{TruncateError, Truncated};
pub(crate) use write::{ChangedStream, ChangedStreams};
pub(crate) use writer::StateWriter;

use crate::event::ClusterVersion;
use crate::fatal::Cause;
use crate::threads;
use generation::Generation;
use known_streams::KnownStreams;
use read::Tier;
use writer_memory::WriterMemory;

/// The state database of one node, for readers. Cheap to clone. When a snapshot is installed, the
/// database behind it is swapped as a whole; a running read keeps the database it started with. Its
/// one [`StateWriter`] writes to it.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// Directory of the generations.
    state: PathBuf,
    /// Shared by all families and generations.
    cache: Cache,
    /// Table files that each generation may have open.
    open_tables: u64,
    current: ArcSwap<Generation>,
    applied: AppliedWatch,
    unflushed_bytes: AtomicU64,
    /// See [`Store::removed_rows`].
    removed_rows: AtomicU64,
    /// Forgotten numbers when the tables with their rows were last rewritten by this process.
    forgotten_at_rewrite: AtomicU64,
    /// See [`Store::on_change`].
    on_change: OnceLock<ChangeHook>,
    known_streams: KnownStreams,
    /// A permit for each read that may wait for the disk.
    cold_reads: Arc<Semaphore>,
}

/// Reads that may wait for the disk at a time. Others wait in a separate queue: consensus reads its
/// log on the same pool, which has several times as many threads, and must not wait behind the
/// clients of a node with a slow disk.
pub(crate) const COLD_READS: usize = 64;

/// How long a read waits for such a permit. A slower disk is useless to a client.
pub(crate) const COLD_READ_WAIT: Duration = Duration::from_secs(10);

/// The changes of a commit.
#[derive(Clone, Copy)]
pub(crate) enum Changes<'a> {
    /// These streams.
    Streams(ChangedStreams<'a>),
    /// The whole state was replaced.
    Everything,
}

/// Called by the apply thread, see [`Store::on_change`].
pub(crate) type ChangeHook = Box<dyn Fn(Changes<'_>) + Send + Sync>;

impl Inner {
    fn changed(&self, changes: Changes<'_>) {
        if let Some(hook) = self.on_change.get() {
            hook(changes);
        }
    }

    fn add_unflushed(&self, bytes: u64) {
        self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The applied part of the log, as recorded in the state database by [`write::Chunk::commit`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AppliedMark {
    /// Encoded id of the last applied entry.
    pub(crate) last_applied: Option<Vec<u8>>,
    /// Encoded membership as of that entry.
    pub(crate) membership: Option<Vec<u8>>,
}

/// Why the state database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// RocksDB refuses to open the files, or they do not fit this version.
    #[error("state database in {path}: {reason}")]
    Damaged {
        /// Directory of the database.
        path: String,
        /// The problem and the remedy.
        reason: String,
    },
    /// The disk fails, is full or takes no writes.
    #[error("state database in {path}: {reason}")]
    Failed {
        /// Directory of the database.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing is wrong with disk and files: no permission, in use by another process.
    #[error("state database in {path}: {reason}")]
    Unusable {
        /// Directory of the database.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl OpenError {
    fn of(cause: Cause, path: &Path, reason: &str) -> Self {
        let path = path.display().to_string();
        match cause {
            Cause::Damage => Self::Damaged { path, reason: format!("{reason}; {}", generation::REMEDY) },
            Cause::Disk => Self::Failed { path, reason: reason.to_owned() },
            Cause::Setting => Self::Unusable { path, reason: reason.to_owned() },
        }
    }

    /// Whether the disk or the files are the reason, and not permissions or other processes.
    pub(crate) fn is_of_storage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Failed { .. } => true,
            Self::Unusable { .. } => false,
        }
    }
}

impl Store {
    fn open(directory: &Path, block_cache_bytes: usize, open_tables: u64) -> Result<(Self, WriterMemory), OpenError> {
        let cache = options::block_cache(block_cache_bytes);
        let generation = Arc::new(generation::open_current(directory, &cache, open_tables)?);
        let damaged =
            |error: ReadError| OpenError::Damaged { path: directory.display().to_string(), reason: error.to_string() };
        let memory = WriterMemory::new(&generation).map_err(damaged)?;
        let counters = memory.counters;
        let applied = Applied { log_entries: counters.log_entries, next_position: counters.next_position };
        let inner = Inner {
            state: directory.to_owned(),
            cache,
            open_tables,
            current: ArcSwap::new(generation),
            applied: AppliedWatch::new(applied),
            unflushed_bytes: AtomicU64::new(0),
            removed_rows: AtomicU64::new(0),
            forgotten_at_rewrite: AtomicU64::new(0),
            on_change: OnceLock::new(),
            known_streams: KnownStreams::new(),
            cold_reads: Arc::new(Semaphore::new(COLD_READS)),
        };
        Ok((Self { inner: Arc::new(inner) }, memory))
    }

    /// Runs `read` on one consistent view.
    ///
    /// While everything it touches is in memory, it runs at once on the calling thread. At the
    /// first block that is not in memory it starts again on the blocking pool, so that no async
    /// worker waits for a disk. `read` may therefore run twice and must be free of side effects.
    /// Damage ends the process: it must never be served as missing data.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Fn(&ReadView<'_>) -> Result<T, ReadError> + Send + 'static,
    {
        let generation = self.inner.current.load_full();
        let in_memory = read(&ReadView::new(&generation, Tier::Memory));
        match in_memory {
            Err(ReadError::NotInMemory) => self.on_blocking_pool(generation, read).await,
            result => or_stop(result),
        }
    }

    async fn on_blocking_pool<T, F>(&self, generation: Arc<Generation>, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&ReadView<'_>) -> Result<T, ReadError> + Send + 'static,
    {
        let place = tokio::time::timeout(COLD_READ_WAIT, self.inner.cold_reads.clone().acquire_owned()).await;
        let place = place.map_err(|_| ReadError::Busy)?;
        // The place goes back with what was read, when the caller takes that or is found to be
        // gone: threads that are faster than callers would fill the memory with results.
        let read = move || (read(&ReadView::new(&generation, Tier::Disk)), place);
        match threads::blocking(read).await {
            Ok((result, _place)) => or_stop(result),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down; no caller waits for the answer any more.
            Err(_) => Err(ReadError::NotInMemory),
        }
    }

    /// Runs `read` on one consistent view on the blocking pool, for reads that take milliseconds
    /// even from memory.
    pub(crate) async fn read_apart<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&ReadView<'_>) -> Result<T, ReadError> + Send + 'static,
    {
        self.on_blocking_pool(self.inner.current.load_full(), read).await
    }

    /// The known state of a stream without asking the database, and the slot for
    /// [`Self::remember_stream`]. The state is never older than what any reader on this node has
    /// seen.
    pub(crate) fn known_stream(&self, stream: &str) -> (SlotPlace, Option<Arc<StreamInfo>>) {
        self.inner.known_streams.get(stream)
    }

    /// How many events of all streams together were redacted. Never ahead of what a read shows that
    /// begins later.
    pub(crate) fn redactions(&self) -> u32 {
        self.inner.current.load().redactions()
    }

    /// The cluster version in force, as far as this node has applied the log.
    pub(crate) fn cluster_version(&self) -> ClusterVersion {
        self.inner.current.load().cluster_version()
    }

    /// Keeps the state that a read found after `place` was taken, unless the stream has changed
    /// since.
    pub(crate) fn remember_stream(&self, place: SlotPlace, stream: &str, info: &Arc<StreamInfo>) {
        self.inner.known_streams.put(place, stream, info);
    }

    /// Registers the hook for changes, once. It runs on the writing thread, after a chunk is
    /// visible to readers and before any waiting caller continues: a caller that knows of a change
    /// never again sees what the hook discarded. The hook must not block and must not keep the
    /// store alive.
    pub(crate) fn on_change(&self, hook: ChangeHook) {
        let is_first = self.inner.on_change.set(hook).is_ok();
        debug_assert!(is_first, "a hook is already registered");
    }

    /// Runs `read` on one consistent view on this thread, waiting for the disk if necessary: for
    /// the apply thread and the start.
    pub(crate) fn read_blocking<T>(&self, read: impl Fn(&ReadView<'_>) -> Result<T, ReadError>) -> T {
        match read(&ReadView::new(&self.inner.current.load_full(), Tier::Disk)) {
            Ok(found) => found,
            Err(error) => crate::fatal::stop("reading the state database", &error),
        }
    }

    /// A view that may wait for the disk, for tests without a runtime.
    #[cfg(test)]
    pub(crate) fn view<T>(&self, read: impl Fn(&ReadView<'_>) -> T) -> T {
        read(&ReadView::new(&self.inner.current.load_full(), Tier::Disk))
    }

    /// Waits for RocksDB's background work, without flushing, for tests that look at the files.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        let generation = self.inner.current.load_full();
        generation.db().wait_for_compact(&rocksdb::WaitForCompactOptions::default()).unwrap();
    }

    /// Rewrites all tables, for tests that compare sizes.
    #[cfg(test)]
    pub(crate) fn compact_everything(&self) {
        let generation = self.inner.current.load_full();
        for family in options::FAMILIES {
            generation.db().compact_range_cf(generation.family(family), None::<&[u8]>, None::<&[u8]>);
        }
    }

    /// The encoded log position and membership stored with the last committed chunk; `None` before
    /// the first.
    pub(crate) fn last_applied(&self) -> Result<AppliedMark, ReadError> {
        self.inner.current.load_full().mark()
    }

    /// Reads the mark inside a checkpoint.
    pub(crate) fn checkpoint_mark(checkpoint: &Path) -> std::io::Result<AppliedMark> {
        checkpoint::mark(checkpoint)
    }

    /// Writes everything committed so far to disk, atomically over all families. Any thread.
    pub(crate) fn flush(&self) -> std::io::Result<()> {
        let generation = self.inner.current.load_full();
        let before = self.inner.unflushed_bytes.load(Ordering::Relaxed);
        let forgotten = generation.forgotten.pending();
        let families = options::FAMILIES.map(|name| generation.family(name));
        let mut wait = FlushOptions::default();
        wait.set_wait(true);
        generation.db().flush_cfs_opt(&families, &wait).map_err(std::io::Error::other)?;
        generation.forgotten.flushed(forgotten);
        // Writes committed meanwhile may not be covered.
        let remaining = |now: u64| Some(now.saturating_sub(before));
        let _ = self.inner.unflushed_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, remaining);
        Ok(())
    }

    /// Number of the current database: files of one number and node never change under their name.
    pub(crate) fn generation(&self) -> u64 {
        self.inner.current.load().number
    }

    /// Approximate bytes committed since the last flush.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.inner.unflushed_bytes.load(Ordering::Relaxed)
    }

    /// The applied point, to read or to wait for.
    pub(crate) fn applied(&self) -> &AppliedWatch {
        &self.inner.applied
    }
}

/// Damage must never be served as missing data.
fn or_stop<T>(result: Result<T, ReadError>) -> Result<T, ReadError> {
    if let Err(ReadError::Damaged(reason)) = &result {
        crate::fatal::stop("reading the state database", reason);
    }
    result
}
