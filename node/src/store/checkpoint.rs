//! Copies of the whole state: taking a copy, reading its mark, replacing the current state by a
//! copy.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::DB;

use super::generation::{self, Generation};
use super::writer_memory::WriterMemory;
use super::{Applied, AppliedMark, Changes, Inner, options, system_row};
use crate::files;

/// Open table files while the mark of a checkpoint is read, which takes one or two of them.
const MARK_OPEN_FILES: u64 = 32;

/// See [`super::StateWriter::checkpoint`], whose exclusive use means that the copy ends with a
/// whole chunk.
pub(super) fn take(inner: &Inner, target: &Path) -> io::Result<()> {
    let generation = inner.current.load_full();
    let checkpoint = rocksdb::checkpoint::Checkpoint::new(generation.db()).map_err(io::Error::other)?;
    checkpoint.create_checkpoint(target).map_err(io::Error::other)?;
    // The checkpoint flushed all memtables, because there is no WAL to copy.
    inner.unflushed_bytes.store(0, Ordering::Relaxed);
    for entry in fs::read_dir(target)? {
        File::open(entry?.path())?.sync_all()?;
    }
    files::sync_directory(target)?;
    target.parent().map_or(Ok(()), files::sync_directory)
}

/// See [`super::Store::checkpoint_mark`].
pub(super) fn mark(checkpoint: &Path) -> io::Result<AppliedMark> {
    let cache = rocksdb::Cache::new_lru_cache(1 << 20);
    let options = options::database(false, MARK_OPEN_FILES);
    let db = DB::open_cf_descriptors_read_only(&options, checkpoint, options::system_family(&cache), false)
        .map_err(io::Error::other)?;
    let family = db.cf_handle(options::SYSTEM).ok_or_else(|| io::Error::other("family system is missing"))?;
    let row = |key: &[u8]| db.get_cf(family, key).map_err(io::Error::other);
    Ok(AppliedMark { last_applied: row(system_row::LAST_APPLIED)?, membership: row(system_row::MEMBERSHIP)? })
}

/// See [`super::StateWriter::install`].
pub(super) fn install(inner: &Inner, memory: &mut WriterMemory, checkpoint: &Path) -> io::Result<()> {
    let old = inner.current.load_full();
    let number = old.number + 1;
    let directory = generation::directory(&inner.state, number);
    let prepared = prepare(inner, checkpoint, number);
    let new = match prepared {
        Ok(new) => new,
        Err(error) => {
            // The old state is untouched. The next start would also remove remains of the new one.
            let _ = fs::remove_dir_all(&directory);
            return Err(error);
        }
    };
    let new = Arc::new(new);
    let new_memory = WriterMemory::new(&new).map_err(io::Error::other)?;
    let counters = new_memory.counters;
    // From here on the new state is current, whatever happens to this process.
    generation::write_pointer(&inner.state, number)?;
    inner.known_streams.begin_replacement();
    inner.current.store(new);
    inner.known_streams.end_replacement();
    *memory = new_memory;
    inner.unflushed_bytes.store(0, Ordering::Relaxed);
    old.replaced();
    let applied = Applied { log_entries: counters.log_entries, next_position: counters.next_position };
    inner.changed(Changes::Everything);
    inner.applied.publish_everything_changed(applied);
    Ok(())
}

/// Builds the new generation beside the old one, durable and open.
fn prepare(inner: &Inner, checkpoint: &Path, number: u64) -> io::Result<Generation> {
    let directory = generation::directory(&inner.state, number);
    if directory.exists() {
        // Left over from a failed install in this process.
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir(&directory)?;
    for entry in fs::read_dir(checkpoint)? {
        let entry = entry?;
        let target = directory.join(entry.file_name());
        let is_table = target.extension().is_some_and(|extension| extension == "sst");
        // Tables never change, so both databases may share them; RocksDB changes everything else in
        // place.
        if is_table && fs::hard_link(entry.path(), &target).is_ok() {
            continue;
        }
        fs::copy(entry.path(), &target)?;
        File::open(&target)?.sync_all()?;
    }
    files::sync_directory(&directory)?;
    files::sync_directory(&inner.state)?;
    Generation::open(&inner.state, number, false, &inner.cache, inner.open_tables).map_err(io::Error::other)
}
