//! A database directory, and the pointer that names the current one.
//!
//! ```text
//! state/CURRENT-GENERATION    number of the current directory, decimal
//! state/<number>/             a RocksDB database
//! ```
//!
//! A new generation is complete and synced before the pointer names it. Directories that the
//! pointer does not name are left from a crash, and the next start removes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rocksdb::{Cache, ColumnFamily, DB};

use super::forgotten::{self, Forgotten};
use super::hole_row::{self, Holes, SPAN};
use super::options::FAMILIES_OF_FORMAT_5;
use super::system_row::{self, Counters};
use super::{AppliedMark, OpenError, ReadError, event_row, options, stream_row};
use crate::event::{ClusterVersion, Position, stream_name};
use crate::fatal::{self, Cause};
use crate::files;

const POINTER: &str = "CURRENT-GENERATION";

/// What an operator does about damaged files.
pub(super) const REMEDY: &str = "restore the file, or remove the data directory and start once with --rejoin so that the cluster \
                      replaces it; on a single node restore a backup";

/// An open database. The last handle closes it, and removes it if it was replaced.
pub(super) struct Generation {
    db: Arc<DB>,
    /// Number in the name of the directory.
    pub(crate) number: u64,
    /// The ids that are forgotten.
    pub(super) forgotten: Forgotten,
    /// Whether an event was ever removed.
    has_holes: AtomicBool,
    /// Events of all streams together that were redacted.
    redactions: AtomicU32,
    /// The cluster version in force.
    cluster_version: AtomicU32,
    removal: RemoveWhenReplaced,
}

impl Generation {
    /// The family called `name`, one of [`options::FAMILIES`].
    pub(super) fn family(&self, name: &str) -> &ColumnFamily {
        #[expect(clippy::expect_used, reason = "the database was opened with exactly these families")]
        self.db.cf_handle(name).expect("every family is open")
    }

    /// The database itself.
    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    /// Whether an event was ever removed. False as long as none was, so that most stores need not
    /// look for holes.
    pub(super) fn has_holes(&self) -> bool {
        self.has_holes.load(Ordering::Acquire)
    }

    /// Call it before the commit of the first removal.
    pub(super) fn set_has_holes(&self) {
        self.has_holes.store(true, Ordering::Release);
    }

    /// How many events were redacted, of all streams together. Asked for before a snapshot is
    /// taken, it is never ahead of what the snapshot shows.
    pub(super) fn redactions(&self) -> u32 {
        self.redactions.load(Ordering::Acquire)
    }

    /// Records how many: only once readers see the redacted events.
    pub(super) fn set_redactions(&self, count: u32) {
        self.redactions.store(count, Ordering::Release);
    }

    /// The cluster version in force.
    pub(super) fn cluster_version(&self) -> ClusterVersion {
        ClusterVersion(self.cluster_version.load(Ordering::Acquire))
    }

    /// Records it, once its row is written.
    pub(super) fn set_cluster_version(&self, version: ClusterVersion) {
        self.cluster_version.store(version.0, Ordering::Release);
    }

    /// Removes the directory after the last reader is gone.
    pub(super) fn replaced(&self) {
        self.removal.armed.store(true, Ordering::Release);
    }

    /// The counters as last committed.
    pub(super) fn counters(&self) -> Result<Counters, ReadError> {
        self.system_row(system_row::COUNTERS)?.map_or(Ok(Counters::default()), |value| Counters::decode(&value))
    }

    /// The mark as last committed.
    pub(super) fn mark(&self) -> Result<AppliedMark, ReadError> {
        Ok(AppliedMark {
            last_applied: self.system_row(system_row::LAST_APPLIED)?,
            membership: self.system_row(system_row::MEMBERSHIP)?,
        })
    }

    /// Events before this position have their ids in family `event_id`; `None` in a database of
    /// format 1, which has all of them there.
    pub(super) fn ids_before(&self) -> Result<Option<Position>, ReadError> {
        let Some(row) = self.system_row(system_row::IDS_BEFORE)? else { return Ok(None) };
        let bytes = row.try_into();
        let bytes =
            bytes.map_err(|_| ReadError::Damaged("family system: row 'ids_before' has a wrong length".into()))?;
        Ok(Some(Position::from_be_bytes(bytes)))
    }

    /// Records that position. Like all writes it becomes durable together with later ones.
    pub(super) fn put_ids_before(&self, position: Position) -> Result<(), ReadError> {
        self.put_system_row(system_row::IDS_BEFORE, &position.to_be_bytes())
    }

    /// Sets the newest format. Existing rows stay as they are.
    fn put_format(&self) -> Result<(), ReadError> {
        self.put_system_row(system_row::FORMAT, &system_row::FORMAT_VERSION.to_be_bytes())
    }

    pub(super) fn put_system_row(&self, key: &[u8], value: &[u8]) -> Result<(), ReadError> {
        let system = self.family(options::SYSTEM);
        self.db.put_cf_opt(system, key, value, &options::write()).map_err(ReadError::from_rocksdb)
    }

    fn system_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.db.get_cf(self.family(options::SYSTEM), key).map_err(ReadError::from_rocksdb)
    }

    /// Opens the database in `state/<number>` and checks what is cheap to check.
    pub(super) fn open(
        state: &Path,
        number: u64,
        create: bool,
        cache: &Cache,
        open_tables: u64,
    ) -> Result<Self, OpenError> {
        let path = directory(state, number);
        let failed =
            |complaint: &str| OpenError::of(Cause::of_rocksdb(complaint), &path, &fatal::name_files(&path, complaint));
        let options = options::database(create, open_tables);
        let forgotten = Forgotten::default();
        if !create {
            require_families(&path, cache).map_err(|error| failed(&error.to_string()))?;
        }
        let db = DB::open_cf_descriptors(&options, &path, options::families(cache, &forgotten))
            .map_err(|error| failed(error.as_ref()))?;
        let db = Arc::new(db);
        let removal = RemoveWhenReplaced { db: Some(db.clone()), path: path.clone(), armed: AtomicBool::new(false) };
        let generation = Self {
            db,
            number,
            forgotten,
            has_holes: AtomicBool::new(false),
            redactions: AtomicU32::new(0),
            cluster_version: AtomicU32::new(ClusterVersion::FIRST.0),
            removal,
        };
        let version = generation.stored_cluster_version().map_err(|error| failed(&error.to_string()))?;
        if version > ClusterVersion::NEWEST {
            let reason = format!(
                "its cluster has version {version}, and this program knows none beyond {}: start a newer version of Headwater",
                ClusterVersion::NEWEST
            );
            return Err(OpenError::of(Cause::Setting, &path, &reason));
        }
        generation.set_cluster_version(version);
        generation.check().map_err(|error| failed(&error.to_string()))?;
        generation.load_removals().map_err(|error| failed(&error.to_string()))?;
        Ok(generation)
    }

    fn is_hole(&self, position: Position) -> Result<bool, ReadError> {
        let row = self.db.get_pinned_cf(self.family(options::HOLE), hole_row::key(position));
        let row = row.map_err(ReadError::from_rocksdb)?;
        let holes = row.map(|row| Holes::decode(&row)).transpose()?;
        Ok(holes.is_some_and(|holes| holes.contains(position % SPAN)))
    }

    /// The cluster version in force, as last committed.
    fn stored_cluster_version(&self) -> Result<ClusterVersion, ReadError> {
        let Some(row) = self.system_row(system_row::CLUSTER_VERSION)? else { return Ok(ClusterVersion::FIRST) };
        let damaged = |_| ReadError::Damaged("family system: row 'cluster_version' has a wrong length".into());
        Ok(ClusterVersion(u32::from_be_bytes(row.try_into().map_err(damaged)?)))
    }

    /// What is known in memory of removed events.
    fn load_removals(&self) -> Result<(), ReadError> {
        forgotten::load(&self.db, &self.forgotten)?;
        let log = self.db.get_pinned_cf(self.family(options::STREAM), stream_row::key(stream_name::ALL));
        if let Some(row) = log.map_err(ReadError::from_rocksdb)? {
            self.set_redactions(stream_row::decode(stream_name::ALL, &row)?.redactions);
        }
        let mut holes = self.db.raw_iterator_cf(self.family(options::HOLE));
        holes.seek_to_first();
        if holes.valid() {
            self.set_has_holes();
        }
        holes.status().map_err(ReadError::from_rocksdb)
    }

    /// Format version and agreement of the counters with the events.
    fn check(&self) -> Result<(), ReadError> {
        let has_counters = self.system_row(system_row::COUNTERS)?.is_some();
        let is_of_newest_format = match self.system_row(system_row::FORMAT)? {
            Some(version) if version == system_row::FORMAT_VERSION.to_be_bytes() => true,
            Some(version) if known_formats().any(|known| version == known.to_be_bytes()) => false,
            Some(version) => {
                return Err(ReadError::Damaged(format!(
                    "format {version:02x?} was written by another version of headwater; this one knows format {}",
                    system_row::FORMAT_VERSION
                )));
            }
            None if has_counters => return Err(ReadError::Damaged("the format version is missing".into())),
            // A new database, or one that was never flushed: the first flush writes this row with
            // the others.
            None => false,
        };
        let Counters { next_position, .. } = self.counters()?;
        let exists = |position| {
            let row = self.db.get_pinned_cf(self.family(options::EVENT), event_row::key(position));
            row.map(|row| row.is_some()).map_err(ReadError::from_rocksdb)
        };
        // A node never removes the newest event, but a restore may end behind a removed one.
        if let Some(last) = next_position.checked_sub(1)
            && !exists(last)?
            && !self.is_hole(last)?
        {
            return Err(ReadError::Damaged(format!("the event at position {last} is missing although it was stored")));
        }
        if exists(next_position)? {
            return Err(ReadError::Damaged(format!("an event at position {next_position} exists beyond the counters")));
        }
        // A refused database stays unchanged. Otherwise the format is set before the first row that
        // an older program would not understand, and is durable no later than that row.
        if is_of_newest_format { Ok(()) } else { self.put_format() }
    }
}

/// Opening a database adds the families that it lacks. A database of a format that has them must
/// not lack any: without its holes, every event that was removed would be taken for damage.
fn require_families(path: &Path, cache: &Cache) -> Result<(), ReadError> {
    let options = options::database(false, FEW_OPEN_TABLES);
    // What is wrong with a database that cannot be listed, opening it tells.
    let Ok(families) = DB::list_cf(&options, path) else { return Ok(()) };
    let is_missing = |name: &&&str| !families.iter().any(|family| family == **name);
    let Some(missing) = FAMILIES_OF_FORMAT_5.iter().find(is_missing) else { return Ok(()) };
    let Ok(db) = DB::open_cf_descriptors_read_only(&options, path, options::system_family(cache), false) else {
        return Ok(());
    };
    let Some(system) = db.cf_handle(options::SYSTEM) else { return Ok(()) };
    let format = db.get_cf(system, system_row::FORMAT).map_err(ReadError::from_rocksdb)?;
    let has_them = |format: Vec<u8>| format.as_slice() >= system_row::FIRST_FORMAT_WITH_HOLES.to_be_bytes().as_slice();
    if format.is_some_and(has_them) {
        return Err(ReadError::Damaged(format!("family {missing} is missing")));
    }
    Ok(())
}

/// Open table files while a single row is read.
const FEW_OPEN_TABLES: u64 = 32;

pub(super) fn known_formats() -> impl Iterator<Item = u32> {
    system_row::OLDEST_FORMAT_VERSION..=system_row::FORMAT_VERSION
}

/// Opens the current generation under `state`, and creates the first one if there is none.
pub(super) fn open_current(state: &Path, cache: &Cache, open_tables: u64) -> Result<Generation, OpenError> {
    let failed = |error: io::Error| OpenError::of(Cause::of_io(&error), state, &error.to_string());
    fs::create_dir_all(state).map_err(failed)?;
    let Some(number) = read_pointer(state).map_err(failed)? else {
        for (_, path) in directories(state).map_err(failed)? {
            if holds_tables(&path).map_err(failed)? {
                let reason = format!("the file {POINTER} is missing although {} holds data", path.display());
                return Err(OpenError::of(Cause::Damage, state, &reason));
            }
        }
        remove_all_but(state, None).map_err(failed)?;
        let generation = Generation::open(state, 1, true, cache, open_tables)?;
        write_pointer(state, 1).map_err(failed)?;
        return Ok(generation);
    };
    // Opened before anything is removed: if the pointer is wrong, the right directory still exists.
    let generation = Generation::open(state, number, false, cache, open_tables)?;
    remove_all_but(state, Some(number)).map_err(failed)?;
    Ok(generation)
}

/// Directory of a generation.
pub(super) fn directory(state: &Path, number: u64) -> PathBuf {
    state.join(number.to_string())
}

/// Makes `number` the current generation, durably and at once.
pub(super) fn write_pointer(state: &Path, number: u64) -> io::Result<()> {
    files::replace(&state.join(POINTER), format!("{number}\n").as_bytes())
}

pub(super) fn read_pointer(state: &Path) -> io::Result<Option<u64>> {
    let text = match fs::read(state.join(POINTER)) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = text.trim().parse();
    let no_number = || io::Error::new(io::ErrorKind::InvalidData, format!("the file {POINTER} holds no number"));
    number.map(Some).map_err(|_| no_number())
}

/// Every generation directory, whatever it contains.
fn directories(state: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    Ok(found)
}

fn holds_tables(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        if entry?.path().extension().is_some_and(|extension| extension == "sst") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn remove_all_but(state: &Path, current: Option<u64>) -> io::Result<()> {
    for (number, path) in directories(state)? {
        if Some(number) != current {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

struct RemoveWhenReplaced {
    /// The last handle when this is dropped: fields are dropped in order, so the generation's
    /// handle is gone before.
    db: Option<Arc<DB>>,
    path: PathBuf,
    armed: AtomicBool,
}

impl Drop for RemoveWhenReplaced {
    fn drop(&mut self) {
        if !self.armed.load(Ordering::Acquire) {
            return;
        }
        files::remove_apart(self.db.take(), std::mem::take(&mut self.path));
    }
}
