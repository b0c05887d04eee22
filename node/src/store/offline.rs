//! A state database that no node has open: a checkpoint, a backup, the disk of a stopped node.
//!
//! It is opened to be read, and nothing in its directory changes.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rocksdb::{DB, DBRawIterator, ReadOptions};

use super::generation::{self, Generation};
use super::hole_row::{self, Holes, SPAN};
use super::system_row::{self, Counters};
use super::{AppliedMark, OpenError, ReadError, event_row, index_row, options, stream_row};
use crate::event::{EventNumber, EventRef, MAX_NUMBER, Position, Ticks};
use crate::fatal::{self, Cause};
use crate::record_files;
use headwater_proto::stored::StreamRecord;

/// Table files that are open while such a database is read.
const OPEN_TABLES: u64 = 128;

/// Memory for its blocks: each row is read once, in order, and few are looked up.
const BLOCK_CACHE_BYTES: usize = 32 << 20;

/// Bytes read ahead of a scan.
const READ_AHEAD_BYTES: usize = 2 << 20;

/// See the module.
pub(crate) struct OfflineState {
    db: DB,
    /// The row of holes that was asked for last, and its number.
    holes: Mutex<Option<(u64, Option<Holes>)>>,
}

/// What the database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The applied part of the log.
    pub(crate) mark: AppliedMark,
    /// Version of all encodings.
    pub(crate) format: u32,
    /// Position of the next event.
    pub(crate) next_position: Position,
    /// Events before this position have their ids in family `event_id`.
    pub(crate) ids_before: Position,
    /// Time of the newest event.
    pub(crate) newest_time: Option<Ticks>,
}

/// A scan ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Unreadable {
    /// The last key that could be read.
    pub(crate) after: Option<Vec<u8>>,
    /// What RocksDB says; it names the file.
    pub(crate) reason: String,
}

impl From<Unreadable> for ReadError {
    fn from(error: Unreadable) -> Self {
        Self::Damaged(error.reason)
    }
}

/// The directory of the current database under `state`, the directory of a node's databases, and
/// its number.
pub(crate) fn current_database(state: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    Ok(generation::read_pointer(state)?.map(|number| (number, generation::directory(state, number))))
}

/// Reads the MANIFEST of the database in this directory, and what names it. The state has no
/// write-ahead log.
///
/// # Errors
/// What is damaged or missing.
pub(crate) fn check_manifest(directory: &Path) -> Result<(), String> {
    record_files::check_manifest(directory)
}

/// Whether another process has the database in this directory open. A process that has it open
/// itself must not ask: the question would take its lock away.
pub(crate) fn is_in_use(directory: &Path) -> io::Result<bool> {
    // RocksDB holds a lock of this kind on this file for as long as a database is open for writing.
    let file = match fs::OpenOptions::new().read(true).write(true).open(directory.join("LOCK")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

impl OfflineState {
    /// Opens the database in `directory`.
    ///
    /// # Errors
    /// RocksDB refuses the files, or another version wrote them.
    pub(crate) fn open(directory: &Path) -> Result<Self, OpenError> {
        let failed = |complaint: &str| {
            let path = directory.display().to_string();
            let reason = fatal::name_files(directory, complaint);
            match Cause::of_rocksdb(complaint) {
                Cause::Damage => OpenError::Damaged { path, reason },
                Cause::Disk => OpenError::Failed { path, reason },
                Cause::Setting => OpenError::Unusable { path, reason },
            }
        };
        let database = options::database(false, OPEN_TABLES);
        // A database of an earlier format lacks families that came later.
        let present = DB::list_cf(&database, directory).map_err(|error| failed(error.as_ref()))?;
        let cache = options::block_cache(BLOCK_CACHE_BYTES);
        let families = options::families_of(&present, &cache);
        let db = DB::open_cf_descriptors_read_only(&database, directory, families, false);
        let state = Self { db: db.map_err(|error| failed(error.as_ref()))?, holes: Mutex::new(None) };
        state.facts().map_err(|error| failed(&error.to_string()))?;
        Ok(state)
    }

    /// Whether the database in `directory` holds no row at all.
    ///
    /// # Errors
    /// RocksDB refuses the files.
    pub(crate) fn is_blank(directory: &Path) -> Result<bool, ReadError> {
        let database = options::database(false, OPEN_TABLES);
        let present = DB::list_cf(&database, directory).map_err(ReadError::from_rocksdb)?;
        let cache = options::block_cache(BLOCK_CACHE_BYTES);
        let families = options::families_of(&present, &cache);
        let db = DB::open_cf_descriptors_read_only(&database, directory, families, false);
        let state = Self { db: db.map_err(ReadError::from_rocksdb)?, holes: Mutex::new(None) };
        for family in &present {
            if state.first_key(family, &[])?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What it says of itself.
    pub(crate) fn facts(&self) -> Result<Facts, ReadError> {
        let format = self.number_of_format()?;
        let Counters { next_position, .. } = match self.system_row(system_row::COUNTERS)? {
            Some(row) => Counters::decode(&row)?,
            None => Counters::default(),
        };
        let ids_before = match self.system_row(system_row::IDS_BEFORE)? {
            Some(row) => {
                u64::from_be_bytes(row.try_into().map_err(|_| damaged("row 'ids_before' has a wrong length"))?)
            }
            None => next_position,
        };
        Ok(Facts {
            mark: AppliedMark {
                last_applied: self.system_row(system_row::LAST_APPLIED)?,
                membership: self.system_row(system_row::MEMBERSHIP)?,
            },
            format,
            next_position,
            ids_before,
            newest_time: self.newest_time()?,
        })
    }

    fn number_of_format(&self) -> Result<u32, ReadError> {
        let row = self.system_row(system_row::FORMAT)?.ok_or_else(|| damaged("the format version is missing"))?;
        let format = u32::from_be_bytes(row.try_into().map_err(|_| damaged("row 'format' has a wrong length"))?);
        if generation::known_formats().any(|known| known == format) {
            return Ok(format);
        }
        Err(ReadError::Damaged(format!(
            "format {format} was written by another version of headwater; this one knows format {}",
            system_row::FORMAT_VERSION
        )))
    }

    /// Shows all rows of a family from `from` on to `visit`, in the order of their keys, until it
    /// breaks off. All checksums are compared.
    pub(crate) fn scan(
        &self,
        family: &str,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Unreadable> {
        let Some(mut rows) = self.rows(family) else { return Ok(()) };
        rows.seek(from);
        let mut last = None;
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            let last = last.get_or_insert_with(Vec::new);
            last.clear();
            last.extend_from_slice(key);
            rows.next();
        }
        rows.status().map_err(|error| Unreadable { after: last, reason: error.into_string() })
    }

    /// Shows the events at these positions to `visit`, in their order, until it breaks off.
    pub(crate) fn events(
        &self,
        from: Position,
        mut visit: impl FnMut(EventRef<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        let mut failed = None;
        self.scan(options::EVENT, &event_row::key(from), |key, value| {
            let read = event_row::position(key).and_then(|position| visit(event_row::read(position, value)?));
            read.unwrap_or_else(|error| {
                failed = Some(error);
                ControlFlow::Break(())
            })
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// The first key of a family from `from` on.
    pub(crate) fn first_key(&self, family: &str, from: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(mut rows) = self.rows(family) else { return Ok(None) };
        rows.seek(from);
        let key = rows.key().map(<[u8]>::to_vec);
        rows.status().map_err(ReadError::from_rocksdb)?;
        Ok(key)
    }

    /// The value of a key.
    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(family) = self.db.cf_handle(family) else { return Ok(None) };
        self.db.get_cf(family, key).map_err(ReadError::from_rocksdb)
    }

    /// The row of a stream.
    pub(crate) fn stream(&self, name: &str) -> Result<Option<StreamRecord>, ReadError> {
        self.get(options::STREAM, stream_row::key(name))?.map(|row| stream_row::decode(name, &row)).transpose()
    }

    /// The position of the event with this number, by the index.
    pub(crate) fn position_of(&self, stream_id: u64, number: EventNumber) -> Result<Option<Position>, ReadError> {
        let row = self.get(options::INDEX, &index_row::key(stream_id, number))?;
        row.map(|row| index_row::position(&row)).transpose()
    }

    /// The position of the last event of a stream, by the index.
    pub(crate) fn last_position(&self, stream_id: u64) -> Result<Option<Position>, ReadError> {
        let Some(mut rows) = self.rows(options::INDEX) else { return Ok(None) };
        rows.seek_for_prev(index_row::key(stream_id, MAX_NUMBER));
        let position = match rows.item() {
            Some((key, value)) if index_row::stream_and_number(key)?.0 == stream_id => {
                Some(index_row::position(value)?)
            }
            _ => None,
        };
        rows.status().map_err(ReadError::from_rocksdb)?;
        Ok(position)
    }

    /// Whether the event at this position was removed on purpose.
    pub(crate) fn is_hole(&self, position: Position) -> Result<bool, ReadError> {
        let row = position / SPAN;
        let mut kept = self.holes.lock();
        if kept.as_ref().is_none_or(|(of, _)| *of != row) {
            let value = self.get(options::HOLE, &hole_row::key(position))?;
            *kept = Some((row, value.map(|value| Holes::decode(&value)).transpose()?));
        }
        let holes = kept.as_ref().and_then(|(_, holes)| holes.as_ref());
        Ok(holes.is_some_and(|holes| holes.contains(position % SPAN)))
    }

    /// The position of the first event that was stamped after this time; the next position when
    /// there is none. Looks at every event before it: those of an import bring older times with
    /// them, so the times of a log do not ascend.
    pub(crate) fn first_after(&self, time: Ticks) -> Result<Position, ReadError> {
        let mut found = None;
        self.events(0, |event| {
            if event.time <= time {
                return Ok(ControlFlow::Continue(()));
            }
            found = Some(event.position);
            Ok(ControlFlow::Break(()))
        })?;
        found.map_or_else(|| Ok(self.facts()?.next_position), Ok)
    }

    fn newest_time(&self) -> Result<Option<Ticks>, ReadError> {
        let Some(mut rows) = self.rows(options::EVENT) else { return Ok(None) };
        rows.seek_to_last();
        let newest = match rows.item() {
            Some((key, value)) => Some(event_row::read(event_row::position(key)?, value)?.time),
            None => None,
        };
        rows.status().map_err(ReadError::from_rocksdb)?;
        Ok(newest)
    }

    fn system_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.get(options::SYSTEM, key)
    }

    fn rows(&self, family: &str) -> Option<DBRawIterator<'_>> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READ_AHEAD_BYTES);
        options.set_verify_checksums(true);
        Some(self.db.raw_iterator_cf_opt(self.db.cf_handle(family)?, options))
    }
}

fn damaged(what: &str) -> ReadError {
    ReadError::Damaged(format!("family system: {what}"))
}

/// A database of a node that is being restored: opened for writing by nobody else, and handed over
/// durable by [`Self::finish`].
pub(crate) struct NewState {
    pub(super) generation: Generation,
}

impl NewState {
    /// Takes over the files of a database in `state/1`, and makes it the current one.
    pub(crate) fn open(state: &Path) -> Result<Self, OpenError> {
        let cache = options::block_cache(BLOCK_CACHE_BYTES);
        let generation = Generation::open(state, FIRST, false, &cache, OPEN_TABLES)?;
        Ok(Self { generation })
    }

    /// The directory for the files of the first database under `state`.
    pub(crate) fn directory(state: &Path) -> PathBuf {
        generation::directory(state, FIRST)
    }

    /// Records other members.
    pub(crate) fn put_membership(&self, membership: &[u8]) -> Result<(), ReadError> {
        self.generation.put_system_row(system_row::MEMBERSHIP, membership)
    }

    /// Makes everything durable, closes the database and names it as the current one.
    pub(crate) fn finish(self, state: &Path) -> io::Result<()> {
        let families = options::FAMILIES.map(|name| self.generation.family(name));
        let mut wait = rocksdb::FlushOptions::default();
        wait.set_wait(true);
        self.generation.db().flush_cfs_opt(&families, &wait).map_err(io::Error::other)?;
        drop(self);
        generation::write_pointer(state, FIRST)
    }
}

/// Number of the first database of a node.
const FIRST: u64 = 1;
