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

/// Memtable of the entries: bounds memory and, with [`Options::set_atomic_flush`], what the next
/// start replays from the WAL.
const ENTRIES_MEMTABLE_BYTES: usize = 24 * MIB;
/// Memtable of the small values. They are rewritten for ever, so it fills although there are only a
/// few of them; a flush of it flushes the entries too, so it has to last about as long as theirs.
const META_MEMTABLE_BYTES: usize = 8 * MIB;
/// One memtable is written to while the other is being flushed. Together with the sizes above: 64
/// MiB at most.
const MEMTABLES: i32 = 2;
/// Blocks that cold reads share. They read forwards and once, so it needs to hold no more than the
/// blocks being read.
const BLOCK_CACHE_BYTES: usize = 4 * MIB;
/// Cold reads are sequential: large blocks make the index, which stays in memory, small.
const BLOCK_BYTES: usize = 64 << 10;
/// What a cold read asks the kernel for at once.
const READAHEAD_BYTES: usize = MIB;
/// Ranges shorter than this are left to RocksDB's own, growing readahead: at the start Raft looks
/// up single entries.
const READAHEAD_ENTRIES: u64 = 64;
/// More WAL than this forces a flush. Reached only if one kind of memtable stays almost empty.
const MAX_WAL_BYTES: u64 = 128 << 20;
/// WALs that were flushed and wait to be written over: one is due when the next begins, and a flush
/// may be late.
const REUSED_WALS: usize = 2;
/// RocksDB's own text log, which tells about flushes and errors: two files of this size are kept.
const INFO_LOG_BYTES: usize = 4 * MIB;

/// Options of the whole database. `fresh` says that it may be created: an established log that has
/// disappeared must not be replaced by an empty one in silence.
pub(super) fn database(fresh: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(fresh);
    options.create_missing_column_families(fresh);
    // A WAL that has been flushed is written over by the next one but one. A sync then has only
    // data to bring to the disk, while that of a file that grows also waits for the file system's
    // journal (ADR 11).
    options.set_recycle_log_file_num(REUSED_WALS);
    // Old records follow the new ones in such a file, so RocksDB reads until something is wrong and
    // takes that for the end. Whether it is too early for the end, the durable mark knows.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // The MANIFEST records every WAL that is complete, so one that is missing or short is noticed.
    options.set_track_and_verify_wals_in_manifest(true);
    // Verify as much as can be had without reading data twice; it is RocksDB's default and must
    // stay.
    options.set_paranoid_checks(true);
    // Both families go to disk together: a WAL is then released by one flush and is never kept by a
    // few small values.
    options.set_atomic_flush(true);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    // Every write reaches the page cache at once, so a killed process loses nothing; the sync
    // thread cares for power losses.
    options.set_manual_wal_flush(false);
    // There is one writer: the machinery for many would only cost.
    options.set_allow_concurrent_memtable_write(false);
    // One flush beside one compaction (which only moves files here); the cores belong to the node.
    options.set_max_background_jobs(2);
    // All tables stay open: their number is small, and each is checked for existence and a sound
    // footer at the start.
    options.set_max_open_files(-1);
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
    // Events are mostly text: LZ4 is the cheapest way to write and keep fewer bytes of it.
    entries.set_compression_type(DBCompressionType::Lz4);
    // Files in level 0 cannot be dropped by a purge. Entries come in order, so leaving level 0 is a
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
    // Each block is read once and then not again for a long time.
    options.fill_cache(false);
    if range.end - range.start >= READAHEAD_ENTRIES {
        options.set_readahead_size(READAHEAD_BYTES);
    }
    options
}
