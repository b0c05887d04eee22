//! The state database: what every command so far has made of the streams.
//!
//! One file per stored key kind, holding its codec, its byte layout and its round-trip test.

pub mod applied;
pub mod read;
pub mod write;

use std::path::Path;
use std::sync::Arc;

pub use applied::{Applied, AppliedWatch};
pub use read::{ReadError, ReadView, StreamInfo};

/// The state database of one node. Cheap to clone; the database behind it is swapped as a whole
/// when a snapshot is installed, and readers keep the one they started with.
#[derive(Clone)]
pub struct Store {
    inner: Arc<()>,
}

/// What the state database says of the log it has applied, as given to [`write::Chunk::commit`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppliedMark {
    /// Encoded id of the last applied entry.
    pub last_applied: Option<Vec<u8>>,
    /// Encoded membership as of that entry.
    pub membership: Option<Vec<u8>>,
}

/// Why the state database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// RocksDB refuses or the files do not fit this version.
    #[error("state database in {path}: {reason}")]
    Damaged {
        /// Directory of the database.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl Store {
    /// Opens the current state under `directory` (created when missing).
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let _ = directory;
        unimplemented!()
    }

    /// Runs `read` on one consistent view.
    ///
    /// It runs at once on the calling thread as long as everything it touches is in memory; the first block
    /// that is not makes it run again, from the start, on the blocking pool, so that no async worker waits for a disk.
    /// `read` may therefore run twice and must be free of side effects.
    pub async fn read<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Fn(&ReadView<'_>) -> Result<T, ReadError> + Send + 'static,
    {
        let _ = (read, &self.inner);
        unimplemented!()
    }

    /// Starts a chunk. Apply thread only.
    pub fn begin(&self) -> write::Chunk<'_> {
        unimplemented!()
    }

    /// The encoded log position and membership stored with the last committed chunk; `None` before the first.
    pub fn last_applied(&self) -> Result<AppliedMark, ReadError> {
        unimplemented!()
    }

    /// Makes a self-contained copy of the state in the new directory `target` by hard links: everything committed so far,
    /// `last_applied` included. Call [`Self::flush`] before, so that little is left to write here. Apply thread only.
    pub fn checkpoint(&self, target: &Path) -> std::io::Result<()> {
        let _ = target;
        unimplemented!()
    }

    /// Reads the mark inside a checkpoint.
    pub fn checkpoint_mark(checkpoint: &Path) -> std::io::Result<AppliedMark> {
        let _ = checkpoint;
        unimplemented!()
    }

    /// Replaces the whole state by a verified and synced checkpoint (hard links; `checkpoint` itself stays): durable, then swapped
    /// under the readers. Crash-safe at every step. Apply thread only.
    pub fn install(&self, checkpoint: &Path) -> std::io::Result<()> {
        let _ = checkpoint;
        unimplemented!()
    }

    /// Writes everything committed so far to disk, atomically over all families. Any thread.
    pub fn flush(&self) -> std::io::Result<()> {
        unimplemented!()
    }

    /// Bytes committed since the last flush, about.
    pub fn unflushed_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// What has been applied; for waiting on it.
    pub fn applied(&self) -> &AppliedWatch {
        unimplemented!()
    }
}
