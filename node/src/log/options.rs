//! RocksDB options of the log database, each with its reason.

use std::ops::Range;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options, ReadOptions,
};

use super::keys;

/// Entries by index.
pub(super) const ENTRIES: &str = "entries";
/// Vote, marks and hints by name.
pub(super) const META: &str = "meta";

const MIB: usize = 1 << 20;

/// Memtable of the entries. It bounds memory and, with [`Options::set_atomic_flush`], how much the
/// next start replays from the WAL.
const ENTRIES_MEMTABLE_BYTES: usize = 24 * MIB;
/// Memtable of the small values. There are few, but they are rewritten all the time, so it fills.
/// Its flush flushes the entries too, so it has to last roughly as long as their memtable.
const META_MEMTABLE_BYTES: usize = 8 * MIB;
/// One memtable takes writes while the other is flushed. Together with the sizes above: 64 MiB at
/// most.
const MEMTABLES: i32 = 2;
/// Blocks that cold reads share. Each is read forwards once, so the cache needs to hold only the
/// blocks being read.
const BLOCK_CACHE_BYTES: usize = 4 * MIB;
/// Cold reads are sequential: large blocks make the index, which stays in memory, small.
const BLOCK_BYTES: usize = 64 << 10;
/// How much a cold read requests from the kernel at once.
const READAHEAD_BYTES: usize = MIB;
/// Ranges shorter than this use RocksDB's own, growing readahead: at the start Raft looks up single
/// entries.
const READAHEAD_ENTRIES: u64 = 64;
/// More WAL than this forces a flush. Reached only if one kind of memtable stays almost empty.
const MAX_WAL_BYTES: u64 = 128 << 20;
/// Flushed WALs kept for reuse: one is due when the next one begins, and a flush may be late.
const REUSED_WALS: usize = 2;
/// RocksDB's own text log, with flushes and errors. Two files of this size are kept.
const INFO_LOG_BYTES: usize = 4 * MIB;

/// Open table files, where the process may open files enough: those of a log of several GiB, which
/// a leader keeps for a node that catches up. As a rule there are a dozen.
pub(crate) const MAX_OPEN_TABLES: u64 = 256;

/// Options of the whole database, with so many open tables. `fresh` says that it may be created: an
/// established log that has disappeared must not be replaced by an empty one in silence.
pub(super) fn database(fresh: bool, open_tables: u64) -> Options {
    let mut options = Options::default();
    options.create_if_missing(fresh);
    options.create_missing_column_families(fresh);
    // A flushed WAL is overwritten by the next but one. A sync then only has to write data, while a
    // sync of a growing file also waits for the file system's journal (ADR 11).
    options.set_recycle_log_file_num(REUSED_WALS);
    // Old records follow the new ones in such a file, so RocksDB takes the first wrong record for
    // the end. The durable mark tells whether the end comes too early.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // The MANIFEST records every complete WAL, so a missing or short one is noticed.
    options.set_track_and_verify_wals_in_manifest(true);
    // Verify whatever can be verified without reading data twice. This is RocksDB's default and
    // must stay.
    options.set_paranoid_checks(true);
    // Both families are flushed together: one flush then releases a WAL, and a few small values
    // never keep it.
    options.set_atomic_flush(true);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    // Every write reaches the page cache at once, so a killed process loses nothing. The sync
    // thread protects against power loss.
    options.set_manual_wal_flush(false);
    // There is one writer: support for many would only cost time.
    options.set_allow_concurrent_memtable_write(false);
    // One flush and one compaction (which only moves files here) at a time; the cores belong to the
    // node.
    options.set_max_background_jobs(2);
    // A log may grow while clients hold connections, and a file that cannot be opened ends the
    // node. At the start each table is checked for existence and size, and the first ones are
    // opened.
    options.set_max_open_files(i32::try_from(open_tables).unwrap_or(i32::MAX));
    // Written SST files go to the disk steadily, not all at the end, where they would delay the
    // WAL's syncs.
    options.set_bytes_per_sync(MIB as u64);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_log_level(LogLevel::Warn);
    // No periodic statistics in the text log.
    options.set_stats_dump_period_sec(0);
    options
}

/// The column families with their options.
pub(super) fn families() -> Vec<ColumnFamilyDescriptor> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    table.set_block_size(BLOCK_BYTES);

    let mut entries = Options::default();
    entries.set_write_buffer_size(ENTRIES_MEMTABLE_BYTES);
    entries.set_max_write_buffer_number(MEMTABLES);
    entries.set_block_based_table_factory(&table);
    // Events are mostly text. LZ4 is the cheapest way to write and keep fewer bytes.
    entries.set_compression_type(DBCompressionType::Lz4);
    // A purge cannot drop files in level 0. Entries arrive in order, so leaving level 0 is a
    // rename, not a copy.
    entries.set_level_zero_file_num_compaction_trigger(2);

    let mut meta = Options::default();
    meta.set_write_buffer_size(META_MEMTABLE_BYTES);
    meta.set_max_write_buffer_number(MEMTABLES);
    meta.set_block_based_table_factory(&table);

    vec![ColumnFamilyDescriptor::new(ENTRIES, entries), ColumnFamilyDescriptor::new(META, meta)]
}

/// Options for reading the entries with indexes in `range`.
pub(super) fn scan(range: &Range<u64>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(keys::entry(range.start));
    options.set_iterate_upper_bound(keys::entry(range.end));
    // Each block is read once and then not needed for a long time.
    options.fill_cache(false);
    if range.end - range.start >= READAHEAD_ENTRIES {
        options.set_readahead_size(READAHEAD_BYTES);
    }
    options
}
