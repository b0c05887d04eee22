//! Every call into RocksDB. A failed write or sync ends the process here; a failed read is
//! returned.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, ErrorKind, FlushOptions, IteratorMode, WriteBatch, WriteOptions};

use super::{LogError, Record, keys, options};
use crate::deliberate::{self, Fault};
use crate::fatal::{self, Cause};

/// Advice for the operator about damaged files.
pub(crate) const ADVICE: &str = "restore this file exactly as it was when the node stopped (an older copy would make the node \
                          forget what it promised), or remove the node's data directory and start it once with --rejoin";

/// Usual size of a record in a batch besides its weight. With room for it, the batch is not copied
/// while it grows.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// The open database.
pub(super) struct Disk {
    db: DB,
    directory: PathBuf,
}

/// The result of a scan.
pub(super) struct Scan<R> {
    /// Consecutive records from the beginning of the range.
    pub(crate) records: Vec<R>,
    /// False when the records break off before the end of the range and before the byte limit.
    pub(crate) complete: bool,
}

impl Disk {
    /// Opens the database; `fresh` allows it to be created.
    pub(super) fn open(directory: &Path, fresh: bool, open_tables: u64) -> Result<Self, LogError> {
        let db = DB::open_cf_descriptors(&options::database(fresh, open_tables), directory, options::families())
            .map_err(|error| read_error(directory, "cannot be opened", &error))?;
        Ok(Self { db, directory: directory.to_owned() })
    }

    /// The directory of the database.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn family(&self, name: &'static str) -> &ColumnFamily {
        #[expect(clippy::expect_used, reason = "opening fails when a family is missing")]
        self.db.cf_handle(name).expect("both families are open")
    }

    /// Writes records, and with `first` also the index at which the log begins. Returns the bytes
    /// of the encodings.
    pub(super) fn append<R: Record>(&self, records: &[R], first: Option<u64>) -> usize {
        let entries = self.family(options::ENTRIES);
        let room: usize = records.iter().map(|record| record.weight() + RECORD_OVERHEAD_BYTES).sum();
        let mut batch = WriteBatch::with_capacity_bytes(room);
        if let Some(first) = first {
            batch.put_cf(self.family(options::META), keys::FIRST, first.to_be_bytes());
        }
        let mut bytes = 0;
        let mut buffer = Vec::new();
        for record in records {
            buffer.clear();
            record.encode(&mut buffer);
            bytes += buffer.len();
            batch.put_cf(entries, keys::entry(record.index()), &buffer);
        }
        self.write(batch);
        bytes
    }

    /// Writes a small value.
    pub(super) fn put_meta(&self, key: &str, value: &[u8]) {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(options::META), key, value);
        self.write(batch);
    }

    /// Says in one write which cluster version a program has to know, and that it is said.
    pub(super) fn put_cluster_version(&self, version: u32) {
        let meta = self.family(options::META);
        let mut batch = WriteBatch::default();
        batch.put_cf(meta, keys::CLUSTER_VERSION, version.to_be_bytes());
        batch.put_cf(meta, keys::FORMAT, [keys::FORMAT_VERSION]);
        self.write(batch);
    }

    /// All small values.
    pub(super) fn all_meta(&self) -> Result<Vec<(String, Vec<u8>)>, LogError> {
        self.db
            .iterator_cf(self.family(options::META), IteratorMode::Start)
            .map(|row| {
                let (key, value) = row.map_err(|error| self.unreadable(&error))?;
                Ok((String::from_utf8_lossy(&key).into_owned(), value.into_vec()))
            })
            .collect()
    }

    /// Index of the last entry at or after `first`.
    pub(super) fn last_index(&self, first: u64) -> Result<Option<u64>, LogError> {
        let mut iterator = self.db.raw_iterator_cf(self.family(options::ENTRIES));
        iterator.seek_to_last();
        iterator.status().map_err(|error| self.unreadable(&error))?;
        match iterator.key() {
            None => Ok(None),
            Some(key) => {
                let last = keys::index(key)
                    .ok_or_else(|| self.damaged(&format!("has a key of {} instead of 8 bytes", key.len())))?;
                Ok((last >= first).then_some(last))
            }
        }
    }

    /// Whether the entry exists.
    pub(super) fn has_entry(&self, index: u64) -> Result<bool, LogError> {
        let row = self.db.get_pinned_cf(self.family(options::ENTRIES), keys::entry(index));
        row.map(|row| row.is_some()).map_err(|error| self.unreadable(&error))
    }

    /// The lowest index in the range that has no entry.
    pub(super) fn first_missing(&self, range: Range<u64>) -> Result<Option<u64>, LogError> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(options::ENTRIES), options::scan(&range));
        let mut next = range.start;
        iterator.seek_to_first();
        while next < range.end && iterator.key().and_then(keys::index) == Some(next) {
            next += 1;
            iterator.next();
        }
        iterator.status().map_err(|error| self.unreadable(&error))?;
        Ok((next < range.end).then_some(next))
    }

    /// Reads consecutive records from the start of the range until its end or until `max_bytes` are
    /// reached, but at least one.
    pub(super) fn scan<R: Record>(&self, range: Range<u64>, max_bytes: usize) -> Result<Scan<R>, LogError> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(options::ENTRIES), options::scan(&range));
        let mut records: Vec<R> = Vec::new();
        let mut weight = 0;
        let mut next = range.start;
        iterator.seek_to_first();
        while next < range.end {
            let Some((key, value)) = iterator.item() else { break };
            if keys::index(key) != Some(next) {
                break;
            }
            let record = R::decode(Bytes::copy_from_slice(value))
                .map_err(|reason| self.damaged(&format!("holds an entry {next} that cannot be decoded ({reason})")))?;
            if record.index() != next {
                return Err(self.damaged(&format!("holds entry {} under the key of entry {next}", record.index())));
            }
            weight += record.weight();
            if weight > max_bytes && !records.is_empty() {
                return Ok(Scan { records, complete: true });
            }
            records.push(record);
            next += 1;
            iterator.next();
        }
        iterator.status().map_err(|error| self.unreadable(&error))?;
        Ok(Scan { complete: next == range.end, records })
    }

    /// Deletes the entries in the range.
    pub(super) fn delete(&self, range: Range<u64>) {
        let mut batch = WriteBatch::default();
        let (from, to) = (keys::entry(range.start), keys::entry(range.end));
        batch.delete_range_cf(self.family(options::ENTRIES), from, to);
        self.write(batch);
    }

    /// Moves the beginning of the log to `first`, and stores a small value in the same write.
    pub(super) fn purge(&self, first: u64, key: &str, value: &[u8]) {
        let meta = self.family(options::META);
        let mut batch = WriteBatch::default();
        batch.put_cf(meta, keys::FIRST, first.to_be_bytes());
        batch.put_cf(meta, key, value);
        self.write(batch);
    }

    /// Removes the files that hold only entries before `end`. The beginning of the log must already
    /// be durable at or above `end`.
    ///
    /// The rest (part of one file, and whatever is still in level 0) goes with a later purge. It is
    /// not deleted row by row: nothing reads below the beginning of the log, and a range tombstone
    /// over files that are about to vanish would make RocksDB rewrite them first.
    pub(super) fn drop_files_before(&self, end: u64) {
        let Some(last) = end.checked_sub(1) else { return };
        let dropped = self.db.delete_file_in_range_cf(self.family(options::ENTRIES), keys::entry(0), keys::entry(last));
        if let Err(error) = dropped {
            fatal::stop(&format!("dropping purged files of the log in {}", self.directory.display()), &error);
        }
    }

    /// Number of the last write.
    pub(super) fn sequence(&self) -> u64 {
        self.db.latest_sequence_number()
    }

    /// Makes every write that has returned durable.
    pub(super) fn sync(&self) {
        if deliberate::every_other_time(Fault::SkipSync) {
            return;
        }
        if deliberate::is(Fault::SyncWrongFile) {
            return self.sync_wrong_file();
        }
        if let Err(error) = self.db.flush_wal(true) {
            fatal::stop(&format!("syncing the log in {}", self.directory.display()), &error);
        }
        #[cfg(test)]
        crate::threads::simulated::synced(&self.directory);
    }

    /// Deliberate fault: makes a file durable that is so already.
    fn sync_wrong_file(&self) {
        let path = self.directory.join("CURRENT");
        let synced = self.db.flush_wal(false).map_err(std::io::Error::other);
        if let Err(error) = synced.and_then(|()| std::fs::File::open(&path)?.sync_all()) {
            fatal::stop(&format!("syncing {}", path.display()), &error);
        }
    }

    /// Moves everything from memory and WAL to tables, so that the next start has nothing to
    /// replay.
    pub(super) fn flush(&self) {
        // A family with nothing to flush would still depend on the WAL. If the process died right
        // here, RocksDB could not distinguish old records at the end of the WAL from lost records
        // of the other family.
        if let Ok(Some(format)) = self.db.get_cf(self.family(options::META), keys::FORMAT) {
            self.put_meta(keys::FORMAT, &format);
        }
        let families = [self.family(options::ENTRIES), self.family(options::META)];
        if let Err(error) = self.db.flush_cfs_opt(&families, &FlushOptions::default()) {
            fatal::stop(&format!("flushing the log in {}", self.directory.display()), &error);
        }
    }

    /// Waits for RocksDB's background work.
    #[cfg(test)]
    pub(super) fn wait_for_background_work(&self) {
        self.db.wait_for_compact(&rocksdb::WaitForCompactOptions::default()).unwrap();
    }

    /// Waits for RocksDB's background work and prevents more of it, so that a test can copy the
    /// files.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.db.cancel_all_background_work(true);
    }

    fn write(&self, batch: WriteBatch) {
        // Unsynced: the sync thread makes many writes durable at once.
        if let Err(error) = self.db.write_opt(batch, &WriteOptions::default()) {
            fatal::stop(&format!("writing to the log in {}", self.directory.display()), &error);
        }
    }

    /// The error for impossible content.
    pub(super) fn damaged(&self, what: &str) -> LogError {
        damaged(&self.directory, what)
    }

    fn unreadable(&self, error: &rocksdb::Error) -> LogError {
        read_error(&self.directory, "cannot be read", error)
    }
}

/// The error for impossible content.
pub(super) fn damaged(path: &Path, what: &str) -> LogError {
    LogError::Damaged(format!("{} {what}; {ADVICE}", path.display()))
}

/// Only damage calls for a restore: what RocksDB calls corruption, and a file that is not there.
fn read_error(directory: &Path, what: &str, error: &rocksdb::Error) -> LogError {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::InvalidArgument => {
            damaged(directory, &format!("{what} ({})", fatal::name_files(directory, error.as_ref())))
        }
        ErrorKind::IOError => {
            let complaint = fatal::name_files(directory, error.as_ref());
            let cause = Cause::of_rocksdb(error.as_ref());
            LogError::of(cause, format!("the log in {} {what} ({complaint})", directory.display()))
        }
        _ => LogError::Unusable(format!("the log in {} {what} ({error})", directory.display())),
    }
}
