//! The end of a node that must not continue: a failed write or sync, or damaged files.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Exit code of a node that refused to start or to continue, or that ended before it had stopped in
/// order. The last line of its log gives the reason.
pub(crate) const EXIT_REFUSED: i32 = 1;

/// Exit code of a process that stopped because of a disk failure.
pub(crate) const EXIT_STORAGE: i32 = 74; // EX_IOERR of sysexits.h

/// Why files cannot be used, as far as the exit code of a node that does not start depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A file is missing, or is not what it has to be.
    Damage,
    /// The disk fails, is full or takes no writes.
    Disk,
    /// Nothing is wrong with disk and files: a permission, a limit of the process, another process
    /// that uses them.
    Setting,
}

impl Cause {
    /// The code for an error of the system.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => Self::Disk,
            ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Self::Damage,
            _ if error.raw_os_error() == Some(libc::EIO) => Self::Disk,
            _ => Self::Setting,
        }
    }

    /// The code for a complaint of RocksDB, which passes errors of the system on as text.
    pub(crate) fn of_rocksdb(complaint: &str) -> Self {
        const OF_SETTING: &[&str] = &[
            "While lock file",
            "lock hold by current process",
            "Permission denied",
            "Operation not permitted",
            "Resource temporarily unavailable",
            "Too many open files",
            "Cannot allocate memory",
            "Not a directory",
        ];
        if !complaint.contains("IO error") || complaint.contains("No such file") {
            Self::Damage
        } else if OF_SETTING.iter().any(|text| complaint.contains(text)) {
            Self::Setting
        } else {
            Self::Disk
        }
    }

    /// Whether a node that does not start for it ends with [`EXIT_STORAGE`].
    pub(crate) fn is_of_storage(self) -> bool {
        match self {
            Self::Damage | Self::Disk => true,
            Self::Setting => false,
        }
    }
}

/// Logs `what` failed and why, and ends the process at once.
///
/// Nothing is flushed, closed or retried on the way out: after a failed fsync the kernel may have
/// dropped the dirty pages, so the process may be wrong about its files. Acknowledged writes are in
/// the log on disk; the next start recovers from there.
pub(crate) fn stop(what: &str, error: &dyn std::fmt::Display) -> ! {
    #[cfg(test)]
    crate::threads::simulated::fail(&format_args!("{what}: {error}"));
    if shows_errors() {
        tracing::error!(%error, "fatal: {what}; the node stops now and must be started again once the cause is removed");
    } else {
        eprintln!("headwater: fatal: {what}: {error}");
    }
    leave(EXIT_STORAGE)
}

/// Ends the process at once. A node that has opened its databases without closing them in order
/// must end this way: a normal exit runs the destructors of RocksDB's statics while its threads
/// still work, and the process may then abort instead of returning its exit code.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// False when logging has not started, or when its filter excludes errors. Only then the reason for
/// the end is printed as a plain line too.
fn shows_errors() -> bool {
    tracing::enabled!(tracing::Level::ERROR)
}

/// Reports why a node did not start or does not continue.
pub(crate) fn tell(reason: &str) {
    if shows_errors() {
        tracing::error!("{reason}");
    } else {
        eprintln!("headwater: {reason}");
    }
}

/// Most table files that are named; a longer list does not help.
const TABLES_NAMED: usize = 8;

/// RocksDB's error about a damaged database, completed by the names of the files it may concern.
/// For a write-ahead log RocksDB names no file, and for the properties of a table it blames the
/// manifest.
pub(crate) fn name_files(directory: &Path, complaint: &str) -> String {
    let names = |files: Vec<PathBuf>| -> Vec<String> { files.iter().filter_map(|path| name(path)).collect() };
    let mut suspects = names(numbered_files(directory, "log"));
    let mut tables = names(numbered_files(directory, "sst"));
    if suspects.iter().chain(&tables).any(|name| complaint.contains(name.as_str())) {
        return complaint.to_owned();
    }
    let more = tables.len().saturating_sub(TABLES_NAMED);
    tables.truncate(TABLES_NAMED);
    suspects.extend(names(files(directory, |name| name.starts_with("MANIFEST-"))));
    suspects.push("CURRENT".to_owned());
    suspects.extend(tables);
    let more = if more > 0 { format!(" and {more} older tables") } else { String::new() };
    format!("{complaint}; RocksDB does not say in which file: it read {}{more}", suspects.join(", "))
}

fn name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn files(directory: &Path, is_meant: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| name(path).is_some_and(|name| is_meant(&name))).collect()
}

/// The files of a RocksDB directory that end in `extension` and are not empty, the highest number
/// first.
pub(crate) fn numbered_files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let suffix = format!(".{extension}");
    let mut found: Vec<(u64, PathBuf)> = files(directory, |name| name.ends_with(&suffix))
        .into_iter()
        .filter(|path| path.metadata().is_ok_and(|metadata| metadata.len() > 0))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_of_the_disk_of_the_files_or_of_neither() {
        for (code, cause) in [
            (libc::ENOSPC, Cause::Disk),
            (libc::EDQUOT, Cause::Disk),
            (libc::EROFS, Cause::Disk),
            (libc::EIO, Cause::Disk),
            (libc::ENOENT, Cause::Damage),
            (libc::EACCES, Cause::Setting),
            (libc::EPERM, Cause::Setting),
            (libc::EMFILE, Cause::Setting),
            (libc::ENFILE, Cause::Setting),
            (libc::ENOTDIR, Cause::Setting),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(Cause::of_io(&error), cause, "{error}");
        }
    }

    #[test]
    fn complaints_of_rocksdb_are_of_the_disk_of_the_files_or_of_neither() {
        for (complaint, cause) in [
            (
                "IO error: No space left on device: While appending to file: /d/log/000004.log: No space left on device",
                Cause::Disk,
            ),
            ("IO error: While fsync: /d/000004.log: Input/output error", Cause::Disk),
            ("IO error: While open a file for appending: /d/LOG: Read-only file system", Cause::Disk),
            ("IO error: While pwrite to file: /d/1.sst: Disk quota exceeded", Cause::Disk),
            (
                "IO error: No such file or directory: While open a file for sequentially reading: /d/MANIFEST-000009: No such file or directory",
                Cause::Damage,
            ),
            ("Corruption: CURRENT file does not end with newline", Cause::Damage),
            ("Invalid argument: /d: does not exist (create_if_missing is false)", Cause::Damage),
            ("IO error: While lock file: /d/LOCK: Resource temporarily unavailable", Cause::Setting),
            (
                "IO error: lock hold by current process, acquire time 1 acquiring thread 2: /d/LOCK: No locks available",
                Cause::Setting,
            ),
            ("IO error: While open a file for lock: /d/LOCK: Permission denied", Cause::Setting),
            (
                "IO error: While opening a file for sequentially reading: /d/CURRENT: Too many open files",
                Cause::Setting,
            ),
        ] {
            assert_eq!(Cause::of_rocksdb(complaint), cause, "{complaint}");
        }
    }

    #[test]
    fn a_complaint_without_a_name_gets_the_names_it_may_mean() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["000009.log", "000010.log", "MANIFEST-000005", "CURRENT", "000007.sst"] {
            fs::write(directory.path().join(name), b"x").unwrap();
        }
        fs::write(directory.path().join("000011.log"), b"").unwrap();
        let text = name_files(directory.path(), "Corruption: checksum mismatch");
        assert!(text.starts_with("Corruption: checksum mismatch; "), "{text}");
        assert!(text.ends_with("000010.log, 000009.log, MANIFEST-000005, CURRENT, 000007.sst"), "{text}");
        let blames_manifest = "Corruption: properties unsorted. The file MANIFEST-000005 may be corrupted";
        assert!(name_files(directory.path(), blames_manifest).contains("000007.sst"));
        let named = "Corruption: bad block in /x/000007.sst offset 3";
        assert_eq!(name_files(directory.path(), named), named);
        let newest_first = ["000010.log", "000009.log"].map(|name| directory.path().join(name));
        assert_eq!(numbered_files(directory.path(), "log"), newest_first);
    }
}
