//! Opening: finds where the log begins and ends, and refuses a log that has lost acknowledged
//! entries.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{ADVICE, Disk, damaged};
use super::durable_mark::{self, Durable, DurableMark};
use super::{Extent, LogError, keys};
use crate::fatal::{self, Cause};
use crate::files;

/// A log that was found intact. All of it is durable.
pub(super) struct Opened {
    /// The database.
    pub(crate) disk: Disk,
    /// The file `durable-end`, up to date.
    pub(crate) mark: DurableMark,
    /// Where the log begins and ends.
    pub(crate) extent: Extent,
    /// All small values.
    pub(crate) meta: BTreeMap<String, Vec<u8>>,
}

/// Opens or creates the log in `directory`, with so many open table files.
pub(super) fn open(directory: &Path, open_tables: u64) -> Result<Opened, LogError> {
    let io = |error: io::Error| {
        LogError::of(Cause::of_io(&error), format!("{} cannot be used ({error})", directory.display()))
    };
    std::fs::create_dir_all(directory).map_err(io)?;
    files::sync_name(directory).map_err(io)?;

    let promised = read_mark(directory)?;
    refuse_missing_files(directory, promised)?;
    let promised = promised.unwrap_or_default();
    let fresh = promised == Durable::default();
    let mut mark = DurableMark::open(directory).map_err(io)?;
    let suspects = Suspects::before_opening(directory);
    let disk = Disk::open(directory, fresh, open_tables)?;
    let mut meta: BTreeMap<_, _> = disk.all_meta()?.into_iter().collect();
    check_format(&disk, &mut meta, fresh)?;
    let found = find_extent(&disk, &meta)?;
    refuse_lost_tail(&disk, &suspects, found, promised)?;
    let extent = drop_broken_tail(&disk, found, promised)?;

    // RocksDB has moved the records recovered from the WAL into tables, and syncs those; this
    // covers the rest.
    disk.sync();
    mark.record_synced(Durable { end: extent.end, sequence: disk.sequence() }).map_err(io)?;
    Ok(Opened { disk, mark, extent, meta })
}

fn read_mark(directory: &Path) -> Result<Option<Durable>, LogError> {
    let path = directory.join(durable_mark::FILE_NAME);
    // The first start ended between creating the file and filling it, before RocksDB created
    // anything.
    if path.metadata().is_ok_and(|file| file.len() == 0) && !directory.join("CURRENT").exists() {
        return Ok(Some(Durable::default()));
    }
    DurableMark::read(directory).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => damaged(&path, &format!("is damaged ({error})")),
        _ => LogError::of(Cause::of_io(&error), format!("{} cannot be read ({error})", path.display())),
    })
}

/// If its file CURRENT is missing, RocksDB would start a new database and delete files that it does
/// not know.
fn refuse_missing_files(directory: &Path, promised: Option<Durable>) -> Result<(), LogError> {
    let current = directory.join("CURRENT");
    let exists = current.exists();
    if exists && promised.is_none() {
        let path = directory.join(durable_mark::FILE_NAME);
        return Err(damaged(&path, "is missing, so it is unknown whether the log is complete"));
    }
    if !exists && (promised.is_some_and(|promised| promised != Durable::default()) || has_data(directory)) {
        return Err(damaged(&current, "is missing although the log had been in use"));
    }
    Ok(())
}

fn has_data(directory: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(directory) else { return false };
    files.flatten().any(|file| {
        let name = file.file_name();
        let extension = Path::new(&name).extension().and_then(|extension| extension.to_str());
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        matches!(extension, Some("sst" | "log")) && length > 0
    })
}

fn check_format(disk: &Disk, meta: &mut BTreeMap<String, Vec<u8>>, fresh: bool) -> Result<(), LogError> {
    match meta.get(keys::FORMAT).map(Vec::as_slice) {
        Some([keys::FIRST_FORMAT_VERSION | keys::FORMAT_VERSION]) => Ok(()),
        Some(other) => Err(LogError::Unusable(format!(
            "{} was written in format {other:?}, and this program knows format {}: start the version of Headwater \
             that wrote it",
            disk.directory().display(),
            keys::FORMAT_VERSION,
        ))),
        None if fresh => {
            // An older program may still have to open it.
            disk.put_meta(keys::FORMAT, &[keys::FIRST_FORMAT_VERSION]);
            meta.insert(keys::FORMAT.to_owned(), vec![keys::FIRST_FORMAT_VERSION]);
            Ok(())
        }
        None => Err(disk.damaged("has lost the record of its format")),
    }
}

fn find_extent(disk: &Disk, meta: &BTreeMap<String, Vec<u8>>) -> Result<Extent, LogError> {
    let first = match meta.get(keys::FIRST) {
        None => 0,
        Some(value) => keys::index(value).ok_or_else(|| disk.damaged("has a damaged record of its beginning"))?,
    };
    let Some(last) = disk.last_index(first)? else { return Ok(Extent { first, end: first }) };
    if !disk.has_entry(first)? {
        return Err(disk.damaged(&format!("begins at entry {first}, but that entry is missing (the last is {last})")));
    }
    Ok(Extent { first, end: last + 1 })
}

/// Drops the entries after a gap; none of them was acknowledged.
///
/// When the power fails between the change to a new WAL file and the next sync, the old file may
/// have lost its tail although the new one was written. A sync covers both files, so no entry after
/// such a gap was acknowledged.
fn drop_broken_tail(disk: &Disk, extent: Extent, promised: Durable) -> Result<Extent, LogError> {
    let unpromised = promised.end.max(extent.first)..extent.end;
    if unpromised.is_empty() {
        return Ok(extent);
    }
    let Some(gap) = disk.first_missing(unpromised)? else { return Ok(extent) };
    tracing::warn!(from = gap, to = extent.end, "dropping log entries after a gap; they had not been acknowledged");
    disk.delete(gap..extent.end);
    Ok(Extent { end: gap, ..extent })
}

/// The files that hold the end of the log, as they are before RocksDB creates new ones. RocksDB
/// takes the first unreadable record for the end.
struct Suspects {
    /// The WALs, newest first.
    wals: Vec<PathBuf>,
    /// Tells which WALs are still in use.
    manifest: Option<PathBuf>,
}

impl Suspects {
    fn before_opening(directory: &Path) -> Self {
        let current = std::fs::read_to_string(directory.join("CURRENT")).ok();
        Self {
            wals: fatal::numbered_files(directory, "log"),
            manifest: current.map(|name| directory.join(name.trim_end())),
        }
    }
}

fn refuse_lost_tail(disk: &Disk, suspects: &Suspects, extent: Extent, promised: Durable) -> Result<(), LogError> {
    let found = Durable { end: extent.end, sequence: disk.sequence() };
    if found.end >= promised.end && found.sequence >= promised.sequence {
        return Ok(());
    }
    let mut what = match suspects.wals.split_first() {
        None => format!("the newest .log file in {} is missing or empty", disk.directory().display()),
        Some((newest, [])) => format!("{} is damaged or cut short", newest.display()),
        Some((newest, older)) => {
            let older: Vec<_> = older.iter().map(|path| path.display().to_string()).collect();
            format!("{} or, less likely, {} is damaged or cut short", newest.display(), older.join(" or "))
        }
    };
    if let Some(manifest) = &suspects.manifest {
        what.push_str(&format!(", or {} is damaged", manifest.display()));
    }
    Err(LogError::Damaged(format!(
        "{what}: the log ends before entry {} (write {}), but everything before entry {} \
         (write {}) was acknowledged as stored; {ADVICE}",
        found.end, found.sequence, promised.end, promised.sequence,
    )))
}
