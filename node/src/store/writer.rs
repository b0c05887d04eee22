//! The only writer of the state.

use std::ops::Deref;
use std::path::Path;

use super::write::Chunk;
use super::writer_memory::WriterMemory;
use super::{OpenError, Store, checkpoint};
use crate::deliberate::{self, Fault};

/// Writes the state of one node. Its owner alone applies commands, copies the state and replaces
/// it. It is a reader as well; other readers get clones of its [`Store`].
pub(crate) struct StateWriter {
    store: Store,
    memory: WriterMemory,
}

impl StateWriter {
    /// Opens it with as many open table files as it likes.
    #[cfg(test)]
    pub(crate) fn open(directory: &Path, block_cache_bytes: usize) -> Result<Self, OpenError> {
        Self::open_within(directory, block_cache_bytes, super::options::MAX_OPEN_FILES)
    }

    /// Opens the current state under `directory` (created when missing), with this much memory for
    /// blocks of table files, and so many of these open at most.
    pub(crate) fn open_within(directory: &Path, block_cache_bytes: usize, open_tables: u64) -> Result<Self, OpenError> {
        let (store, memory) = Store::open(directory, block_cache_bytes, open_tables)?;
        Ok(Self { store, memory })
    }

    /// Starts a chunk.
    pub(crate) fn begin(&mut self) -> Chunk<'_> {
        Chunk::new(&self.store.inner, &mut self.memory)
    }

    /// Makes a self-contained copy of the state in the new directory `target` by hard links:
    /// everything committed so far, `last_applied` included. Call [`Store::flush`] first, so that
    /// little is left to write here.
    pub(crate) fn checkpoint(&mut self, target: &Path) -> std::io::Result<()> {
        checkpoint::take(&self.store.inner, target)
    }

    /// Replaces the whole state by a verified and synced checkpoint (hard links; `checkpoint`
    /// itself stays): durable, then swapped under the readers. Crash-safe at every step. After an
    /// error the old state is still in place, unless the pointer file could not be synced: then
    /// only the next start knows.
    pub(crate) fn install(&mut self, checkpoint: &Path) -> std::io::Result<()> {
        deliberate::arm(Fault::ForgetIdsInSnapshots);
        checkpoint::install(&self.store.inner, &mut self.memory, checkpoint)
    }

    #[cfg(test)]
    pub(super) fn memory(&mut self) -> &mut WriterMemory {
        &mut self.memory
    }
}

impl Deref for StateWriter {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
