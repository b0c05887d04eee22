//! The end of a node that must not continue: a failed write or sync, or damaged files.

use std::fs;
use std::path::{Path, PathBuf};

/// Exit code of a node that refused to start or to continue, or that ended before it had stopped in
/// order. The last line of its log gives the reason.
pub const EXIT_REFUSED: i32 = 1;

/// Exit code of a process that stopped because of a disk failure.
pub const EXIT_STORAGE: i32 = 74; // EX_IOERR of sysexits.h

/// Logs that `what` failed and why, and ends the process at once.
///
/// Nothing is flushed, closed or retried on the way out: after a failed fsync the kernel may have
/// dropped the dirty pages, so the process may be wrong about its files. Acknowledged writes are in
/// the log on disk; the next start recovers from there.
pub fn stop(what: &str, error: &dyn std::fmt::Display) -> ! {
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
pub fn leave(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// False when logging has not started, or when its filter excludes errors. Only then the reason for
/// the end is printed as a plain line too.
fn shows_errors() -> bool {
    tracing::enabled!(tracing::Level::ERROR)
}

/// Reports why a node did not start or does not continue.
pub fn tell(reason: &str) {
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
pub fn name_files(directory: &Path, complaint: &str) -> String {
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
pub fn numbered_files(directory: &Path, extension: &str) -> Vec<PathBuf> {
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
