//! What of a node's directory survives a power cut.
//!
//! The files are real, in memory. Of the log's database the model knows how much of the write-ahead
//! log was there at the last sync, and a cut leaves that and a random part of the rest. The state
//! has no write-ahead log: it keeps what was flushed, because the copy is made beside the running
//! database, whose memory is lost. A killed process loses no write to a file, but that memory.

use std::cell::RefCell;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

/// The end of a node that is not in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The process ends; what it has written stays.
    Kill,
    /// The power fails; what was not synced is lost, or a part of it.
    Power,
}

/// The log of one node while it runs.
#[derive(Default)]
pub(super) struct SyncedLog {
    /// The newest write-ahead log at the last sync, and its length then.
    synced: RefCell<Option<(String, u64)>>,
}

impl SyncedLog {
    /// The log in this directory was synced.
    pub(super) fn note(&self, log: &Path) {
        *self.synced.borrow_mut() = newest_wal(log);
    }

    /// How many bytes of this write-ahead log are certainly on disk.
    fn synced_bytes(&self, name: &str) -> u64 {
        match &*self.synced.borrow() {
            Some((synced, bytes)) if synced == name => *bytes,
            Some((synced, _)) if name < synced.as_str() => u64::MAX,
            _ => 0,
        }
    }

    /// Copies what survives of `from` to the new directory `to`; returns the bytes that are lost.
    pub(super) fn survive(&self, from: &Path, to: &Path, cut: Cut, rng: &mut StdRng) -> std::io::Result<u64> {
        let mut lost = 0;
        copy(from, to, &mut |path, length| {
            let is_wal = path.extension().is_some_and(|extension| extension == "log");
            let is_of_log = path.parent().is_some_and(|parent| parent.ends_with("log"));
            if cut == Cut::Kill || !is_wal || !is_of_log {
                return length;
            }
            let synced = self.synced_bytes(&name_of(path)).min(length);
            // Nothing of it, all of it, or a part that may end within a record.
            let kept = match rng.random_range(0..3) {
                0 => synced,
                1 => length,
                _ => rng.random_range(synced..=length),
            };
            lost += length - kept;
            kept
        })?;
        Ok(lost)
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn newest_wal(log: &Path) -> Option<(String, u64)> {
    let files = fs::read_dir(log).ok()?.flatten();
    let wals = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
    let newest = wals.max_by_key(fs::DirEntry::file_name)?;
    Some((newest.file_name().to_string_lossy().into_owned(), newest.metadata().ok()?.len()))
}

/// Copies a directory in the order of its names.
fn copy(from: &Path, to: &Path, kept: &mut impl FnMut(&Path, u64) -> u64) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries: Vec<PathBuf> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let target = to.join(name_of(&path));
        let copied = if path.is_dir() { copy(&path, &target, kept) } else { copy_file(&path, &target, kept) };
        match copied {
            // RocksDB's threads may still remove files that nothing refers to.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            copied => copied?,
        }
    }
    Ok(())
}

/// Tables never change, so the copy is a link. Text logs and locks are left out.
fn copy_file(path: &Path, target: &Path, kept: &mut impl FnMut(&Path, u64) -> u64) -> std::io::Result<()> {
    let name = name_of(path);
    if path.extension().is_some_and(|extension| extension == "sst") {
        return fs::hard_link(path, target);
    }
    if name.starts_with("LOG") || name == "LOCK" {
        return Ok(());
    }
    let length = fs::copy(path, target)?;
    let kept = kept(path, length);
    if kept < length {
        fs::File::options().write(true).open(target)?.set_len(kept)?;
    }
    Ok(())
}
