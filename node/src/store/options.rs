//! Every RocksDB option of the state database, each with its reason.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, InfoLogger, LogLevel,
    LruCacheOptions, Options, WriteOptions,
};

use super::forgotten::{self, Forgotten};

/// Names of the column families.
pub(crate) const EVENT: &str = "event";
/// See [`EVENT`].
pub(crate) const STREAM: &str = "stream";
/// See [`EVENT`].
pub(crate) const INDEX: &str = "index";
/// See [`EVENT`].
pub(crate) const EVENT_ID: &str = "event_id";
/// See [`EVENT`].
pub(crate) const SYSTEM: &str = "system";

/// See [`EVENT`].
pub(crate) const HOLE: &str = "hole";
/// See [`EVENT`].
pub(crate) const FORGOTTEN: &str = "forgotten";

/// All column families that hold rows of ours.
pub(crate) const FAMILIES: [&str; 7] = [EVENT, STREAM, INDEX, EVENT_ID, SYSTEM, HOLE, FORGOTTEN];
/// Those that a database of a format before 5 lacks; they are added when it is opened.
pub(crate) const FAMILIES_OF_FORMAT_5: [&str; 2] = [HOLE, FORGOTTEN];

/// Total size of the memtables of all families; beyond it RocksDB flushes early.
const MEMTABLES_BYTES: usize = 96 << 20;

/// Memtable of the payloads. It fills first, and so sets the pace of the atomic flushes.
const EVENT_MEMTABLE_BYTES: usize = 32 << 20;

/// Memtable of the index. It includes the insert hints of each stream (`by_name`), some 230 bytes
/// per stream, so it may become as large as that of small payloads.
const INDEX_MEMTABLE_BYTES: usize = 32 << 20;

/// Memtables of the other small rows, large enough not to force a flush before the payloads do.
const ROW_MEMTABLE_BYTES: usize = 16 << 20;

/// Open table files, where the process may open files enough; 5 million events of 1 KiB are about
/// 100 files, of those with events a table reader keeps the index.
pub(crate) const MAX_OPEN_FILES: u64 = 512;

/// Size of a table file: few files to link for a checkpoint, small enough to send one by one.
const TABLE_FILE_BYTES: u64 = 64 << 20;

/// Level 1 of the index, compressed.
const INDEX_LEVEL_1_BYTES: u64 = 32 << 20;

/// Bits per key of the bloom filters: about one needless block read in a hundred.
const BLOOM_BITS: f64 = 10.0;

/// Size of a filter or index partition that is cached by itself. An unpartitioned filter takes
/// megabytes for a table of small keys: more than one shard of the block cache holds, so it would
/// be read from its file for every look-up.
const FILTER_PART_BYTES: usize = 16 << 10;

/// The block cache has 2^n shards with a lock each: enough for the threads of a node, and each
/// large enough for any block.
const CACHE_SHARD_BITS: i32 = 3;

/// Options of the database as a whole, with so many open tables.
pub(crate) fn database(create: bool, open_tables: u64) -> Options {
    let mut options = Options::default();
    // A pointer file names the directory, so a missing database there is damage and must not be
    // hidden.
    options.create_if_missing(create);
    // For databases of older formats; that a newer one has all of its families is checked before.
    options.create_missing_column_families(true);
    // There is no WAL: the families must reach the disk together or not at all.
    options.set_atomic_flush(true);
    // There is one writer, which inserts many keys in order: each search begins where the last one
    // ended.
    options.set_allow_concurrent_memtable_write(false);
    // The two cores also serve requests: one flush and one compaction at a time.
    options.set_max_background_jobs(2);
    // Bounds file handles and table readers; opening then does not touch every file either.
    options.set_max_open_files(i32::try_from(open_tables).unwrap_or(i32::MAX));
    options.set_skip_stats_update_on_db_open(true);
    // One bound for the memory of all memtables, flushing ones included.
    options.set_db_write_buffer_size(MEMTABLES_BYTES);
    // A long manifest is replayed at each start.
    options.set_max_manifest_file_size(8 << 20);
    // Write-back in small steps, so that the sync at the end of a file does not delay syncs of the
    // log.
    options.set_bytes_per_sync(1 << 20);
    // Statistics dumps cost time and have no reader.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // Warnings go to the operator's log; a LOG file would also end up in checkpoints.
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, message| match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "headwater::store", "RocksDB: {message}"),
        LogLevel::Warn => tracing::warn!(target: "headwater::store", "RocksDB: {message}"),
        // The options of every family, which are printed at each opening whatever the level.
        _ => tracing::trace!(target: "headwater::store", "RocksDB: {message}"),
    }));
    options
}

/// All families with their options, sharing `cache`; what is forgotten leaves them in the
/// background.
pub(super) fn families(cache: &Cache, forgotten: &Forgotten) -> Vec<ColumnFamilyDescriptor> {
    let descriptor = |name: &'static str| {
        let mut options = family(name, cache);
        if name == INDEX || name == EVENT_ID {
            options.set_compaction_filter_factory(forgotten::Factory::new(forgotten, name));
        }
        ColumnFamilyDescriptor::new(name, options)
    };
    let mut all: Vec<_> = FAMILIES.into_iter().map(descriptor).collect();
    all.push(ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, family(SYSTEM, cache)));
    all
}

/// The family of facts about the database alone, to look into one without opening the rest.
pub(super) fn system_family(cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    [SYSTEM, rocksdb::DEFAULT_COLUMN_FAMILY_NAME]
        .map(|name| ColumnFamilyDescriptor::new(name, family(SYSTEM, cache)))
        .into()
}

/// Those families that a database has: one of an earlier format lacks some.
pub(crate) fn families_of(present: &[String], cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    let name = |name: &String| ColumnFamilyDescriptor::new(name.as_str(), family(name, cache));
    present.iter().map(name).collect()
}

/// The block cache that all families share.
pub(crate) fn block_cache(bytes: usize) -> Cache {
    let mut options = LruCacheOptions::default();
    options.set_capacity(bytes);
    options.set_num_shard_bits(CACHE_SHARD_BITS);
    Cache::new_lru_cache_opts(&options)
}

/// A bloom filter for whole keys and an index, both partitioned. Only their top level is always in
/// memory.
fn partitioned_filter(table: &mut BlockBasedOptions) {
    table.set_bloom_filter(BLOOM_BITS, false);
    table.set_whole_key_filtering(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(FILTER_PART_BYTES);
    table.set_pin_top_level_index_and_filter(true);
}

/// Writes skip the WAL: the Raft log is the WAL of the state, see `last_applied`.
pub(crate) fn write() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

/// Every read takes a snapshot. By default, its end makes RocksDB rewrite bottom-level files that
/// hold data only the snapshot may have needed, each file once after it was written or moved there.
/// Here such data is nothing at all, or an old row of a stream, which the next ordinary compaction
/// drops. But nothing of a rewritten file is in memory. So the delay is the longest possible.
const NO_COMPACTION_AFTER_SNAPSHOTS: &str = "bottommost_file_compaction_delay=4294967295;";

/// The search for a new row's place in the memtable begins at the previous row with the same first
/// bytes, instead of at the top: at the last row of the same stream, ..
const INSERT_BESIDE_LAST_OF_STREAM: &str = "memtable_insert_with_hint_prefix_extractor=fixed:8;";

/// .. or at the last row of all, where rows arrive sorted.
const INSERT_BEHIND_LAST: &str = "memtable_insert_with_hint_prefix_extractor=fixed:0;";

/// Options that the bindings know only by name.
fn by_name(family: &str) -> Options {
    let insertion = match family {
        INDEX => INSERT_BESIDE_LAST_OF_STREAM,
        EVENT_ID => INSERT_BEHIND_LAST,
        _ => "",
    };
    #[expect(clippy::expect_used, reason = "constant texts, read by the RocksDB of this binary")]
    Options::default()
        .get_options_from_string(format!("{NO_COMPACTION_AFTER_SNAPSHOTS}{insertion}"))
        .expect("RocksDB knows the options")
}

fn family(name: &str, cache: &Cache) -> Options {
    let mut options = by_name(name);
    // The same on every level: a file whose compression stays the same can be moved down without
    // being rewritten.
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_target_file_size_base(TABLE_FILE_BYTES);
    // One memtable filling, one being flushed; more would only postpone the moment when the disk is
    // too slow.
    options.set_max_write_buffer_number(3);
    options.set_write_buffer_size(match name {
        EVENT => EVENT_MEMTABLE_BYTES,
        INDEX => INDEX_MEMTABLE_BYTES,
        _ => ROW_MEMTABLE_BYTES,
    });
    // Small arena blocks: most families are almost empty.
    options.set_arena_block_size(256 << 10);

    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Filters and index blocks count against the cache, so memory does not grow with the number of
    // events.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // The newest format: smaller index blocks, better filters. No older version has to read it.
    table.set_format_version(6);

    match name {
        EVENT => {
            // A page of 20 events of 1 KiB touches two blocks, not six; its rows are adjacent.
            table.set_block_size(16 << 10);
            // With blocks this large, the index of a table is a thousandth of its data. The table
            // reader holds it, which saves twenty look-ups in the cache per page; 512 open tables
            // hold 40 MiB of it at most.
            table.set_cache_index_and_filter_blocks(false);
            // Keys are dense and read by exact position or in order: a filter would always answer
            // "yes".
        }
        EVENT_ID => {
            // Read for repeated ids, and for all ids when `id_filter` has no answer: then the
            // result is almost always "not there".
            partitioned_filter(&mut table);
            table.set_block_size(4 << 10);
            // Ids are random, so each compaction of level 0 rewrites level 1. So it takes many
            // files at once, and level 1 is small.
            options.set_level_zero_file_num_compaction_trigger(8);
            options.set_max_bytes_for_level_base(64 << 20);
        }
        STREAM => {
            // Reads of streams that do not exist (404, polling) end at the filter.
            partitioned_filter(&mut table);
            table.set_block_size(4 << 10);
        }
        INDEX => {
            table.set_block_size(8 << 10);
            // Every flush has rows of all busy streams, so each compaction of level 0 rewrites the
            // whole of level 1. At the default of 256 MiB a row would be rewritten dozens of times
            // before it leaves that level. Tables are small there and larger on each level below.
            options.set_max_bytes_for_level_base(INDEX_LEVEL_1_BYTES);
            options.set_target_file_size_base(INDEX_LEVEL_1_BYTES / 4);
            options.set_target_file_size_multiplier(2);
        }
        _ => {
            table.set_block_size(8 << 10);
        }
    }
    options.set_block_based_table_factory(&table);
    options
}
