//! Giving the space of removed rows back to the disk.
//!
//! RocksDB keeps a removed row until it rewrites the table that holds it. What was removed long
//! after it was written lies on the lowest level, which RocksDB rewrites by itself only when new
//! rows come to the same place; behind the end of the log none ever come. So tables are rewritten
//! here, a range at a time.

use std::io;
use std::sync::atomic::Ordering;

use rocksdb::{BottommostLevelCompaction, CompactOptions, LiveFile};

use super::generation::Generation;
use super::{Store, options};

/// Removed rows that a table may keep, of all of its rows: a tenth.
const TOLERATED: u64 = 10;

/// Keys from one to another, both included, that are rewritten together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reclaimable {
    family: &'static str,
    from: Vec<u8>,
    to: Vec<u8>,
    /// It was chosen for its removals, which may be gone with those of another range.
    has_removals: bool,
    /// Bytes of the tables of the range.
    pub(crate) bytes: u64,
}

impl Store {
    /// What should be rewritten to give space back, in pieces of some tables each. Writes
    /// everything to disk first, because only tables can be rewritten.
    pub(crate) fn reclaimable(&self) -> io::Result<Vec<Reclaimable>> {
        let generation = self.inner.current.load_full();
        if !generation.has_holes() {
            return Ok(Vec::new());
        }
        self.flush()?;
        let files = generation.db().live_files().map_err(io::Error::other)?;
        let mut found: Vec<_> =
            [options::EVENT, options::HOLE].into_iter().flat_map(|family| of_removals(family, &files)).collect();
        if self.has_many_forgotten_rows(&generation, &files) {
            found.extend([options::EVENT_ID, options::INDEX].into_iter().flat_map(|family| whole(family, &files)));
        }
        Ok(found)
    }

    /// All tables of the index and of the ids of events, in pieces of some tables each. Writes
    /// everything to disk first, because only tables can be rewritten.
    pub(crate) fn index_tables(&self) -> io::Result<Vec<Reclaimable>> {
        self.flush()?;
        let files = self.inner.current.load_full().db().live_files().map_err(io::Error::other)?;
        Ok([options::EVENT_ID, options::INDEX].into_iter().flat_map(|family| whole(family, &files)).collect())
    }

    /// Whether so many rows of the index belong to forgotten ids that it is worthwhile to rewrite
    /// it, and the family of ids with it. There is no telling which tables hold them, and how many
    /// there are can only be estimated: streams may have begun at a number above 0. So once they
    /// were rewritten, only what is forgotten after that counts.
    fn has_many_forgotten_rows(&self, generation: &Generation, files: &[LiveFile]) -> bool {
        let of_index = files.iter().filter(|file| file.column_family_name == options::INDEX);
        let rows: u64 = of_index.map(|file| file.num_entries.saturating_sub(file.num_deletions)).sum();
        let (forgotten, events) = (generation.forgotten.numbers(), self.applied().current().next_position);
        let in_excess = (rows + forgotten).saturating_sub(events).min(rows);
        let rewritten = self.inner.forgotten_at_rewrite.load(Ordering::Relaxed);
        let new = in_excess.min(forgotten.saturating_sub(rewritten));
        if new == 0 || new * TOLERATED < rows {
            return false;
        }
        self.inner.forgotten_at_rewrite.store(forgotten, Ordering::Relaxed);
        true
    }

    /// How many rows this process has removed. It grows as long as a run goes on.
    pub(crate) fn removed_rows(&self) -> u64 {
        self.inner.removed_rows.load(Ordering::Relaxed)
    }

    /// Rewrites one range. It takes as long as it takes to read and write so many bytes. False when
    /// nothing had to be done: its removals were taken away with those of another range since.
    ///
    /// # Errors
    /// The files cannot be listed.
    pub(crate) fn reclaim(&self, range: &Reclaimable) -> io::Result<bool> {
        let generation = self.inner.current.load_full();
        if range.has_removals {
            let files = generation.db().live_files().map_err(io::Error::other)?;
            if !of_removals(range.family, &files).iter().any(|left| left.from <= range.to && range.from <= left.to) {
                return Ok(false);
            }
        }
        compact(&generation, range);
        Ok(true)
    }

    /// Bytes of all tables of the state.
    pub(crate) fn table_bytes(&self) -> io::Result<u64> {
        let generation = self.inner.current.load_full();
        let files = generation.db().live_files().map_err(io::Error::other)?;
        Ok(files.iter().map(|file| file.size as u64).sum())
    }

    /// Rewrites the rows of a stream in the index from this number on.
    #[cfg(test)]
    pub(crate) fn rewrite_index(&self, stream_id: u64, from: crate::event::EventNumber) {
        let (from, to) =
            (super::index_row::key(stream_id, from).to_vec(), super::index_row::end_key(stream_id).to_vec());
        let range = Reclaimable { family: options::INDEX, from, to, has_removals: false, bytes: 0 };
        compact(&self.inner.current.load_full(), &range);
    }
}

fn compact(generation: &Generation, range: &Reclaimable) {
    let mut how = CompactOptions::default();
    // Other compactions go on beside it.
    how.set_exclusive_manual_compaction(false);
    // Tables on the lowest level, too: one that was moved there as it was holds its removals still.
    how.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
    let family = generation.family(range.family);
    generation.db().compact_range_cf_opt(family, Some(&range.from), Some(&range.to), &how);
}

/// The tables with many removals, each with what it overlaps: the removals come to rest on the
/// rows that they remove, and both are gone.
fn of_removals(family: &'static str, files: &[LiveFile]) -> Vec<Reclaimable> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.column_family_name == family) {
        let (Some(from), Some(to)) = (&file.start_key, &file.end_key) else { continue };
        if file.num_deletions > 0 && file.num_deletions * TOLERATED >= file.num_entries {
            let bytes = bytes_between(family, files, from, to);
            found.push(Reclaimable { family, from: from.clone(), to: to.clone(), has_removals: true, bytes });
        }
    }
    found
}

/// All tables of a family, in the pieces of its lowest level.
fn whole(family: &'static str, files: &[LiveFile]) -> Vec<Reclaimable> {
    let of_family = || files.iter().filter(|file| file.column_family_name == family);
    let Some(lowest) = of_family().map(|file| file.level).max() else { return Vec::new() };
    let mut pieces: Vec<_> = of_family()
        .filter(|file| file.level == lowest)
        .filter_map(|file| {
            let (from, to) = (file.start_key.clone()?, file.end_key.clone()?);
            let bytes = bytes_between(family, files, &from, &to);
            Some(Reclaimable { family, from, to, has_removals: false, bytes })
        })
        .collect();
    pieces.sort_by(|a, b| a.from.cmp(&b.from));
    pieces
}

fn bytes_between(family: &str, files: &[LiveFile], from: &[u8], to: &[u8]) -> u64 {
    let overlaps = |file: &&LiveFile| {
        file.column_family_name == family
            && file.start_key.as_deref().is_some_and(|start| start <= to)
            && file.end_key.as_deref().is_some_and(|end| end >= from)
    };
    files.iter().filter(overlaps).map(|file| file.size as u64).sum()
}
