//! The only writer of the state.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use super::generation::Generation;
use super::head::HeadCache;
use super::id_filter::IdFilter;
use super::recent_ids::RecentIds;
use super::system_row::Counters;
use super::write::Chunk;
use super::{OpenError, ReadError, Store, checkpoint};

/// Writes the state of one node: whoever owns it applies commands, copies the state and puts
/// another one in its place, and nobody else can. It is a reader as well; others get clones of its
/// [`Store`].
pub struct StateWriter {
    store: Store,
    kept: Kept,
}

/// What the writer keeps from one chunk to the next.
pub(super) struct Kept {
    pub(super) counters: Counters,
    pub(super) heads: HeadCache,
    pub(super) recent_ids: RecentIds,
    pub(super) id_filter: IdFilter,
}

impl Kept {
    /// For a database that was just opened.
    pub(super) fn new(generation: &Arc<Generation>) -> Result<Self, ReadError> {
        let counters = generation.counters()?;
        let recent_ids = RecentIds::open(generation, &counters)?;
        let id_filter = IdFilter::open(generation, &counters);
        Ok(Self { counters, heads: HeadCache::new(), recent_ids, id_filter })
    }
}

impl StateWriter {
    /// Opens the current state under `directory` (created when missing), with so much memory for
    /// blocks of table files.
    pub fn open(directory: &Path, block_cache_bytes: usize) -> Result<Self, OpenError> {
        let (store, kept) = Store::open(directory, block_cache_bytes)?;
        Ok(Self { store, kept })
    }

    /// Starts a chunk.
    pub fn begin(&mut self) -> Chunk<'_> {
        Chunk::new(&self.store.inner, &mut self.kept)
    }

    /// Makes a self-contained copy of the state in the new directory `target` by hard links:
    /// everything committed so far, `last_applied` included. Call [`Store::flush`] before, so that
    /// little is left to write here.
    pub fn checkpoint(&mut self, target: &Path) -> std::io::Result<()> {
        checkpoint::take(&self.store.inner, target)
    }

    /// Replaces the whole state by a verified and synced checkpoint (hard links; `checkpoint`
    /// itself stays): durable, then swapped under the readers. Crash-safe at every step. After an
    /// error the old state is still in place, unless the pointer file could not be synced: then
    /// only the next start knows.
    pub fn install(&mut self, checkpoint: &Path) -> std::io::Result<()> {
        checkpoint::install(&self.store.inner, &mut self.kept, checkpoint)
    }

    #[cfg(test)]
    pub(super) fn kept(&mut self) -> &mut Kept {
        &mut self.kept
    }
}

impl Deref for StateWriter {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
