//! Damaged and incomplete files are refused with the file's name, or recovered without losing
//! acknowledged entries.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::durable_mark::{self, Durable, DurableMark};
use super::super::{Extent, offline};
use super::*;

/// A copy of the directory of a stopped log, to be damaged.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

/// A stopped log of 20 entries, written one by one, which are in the WAL.
fn stopped() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    (0..20).for_each(|index| append(&log, records(index..index + 1)));
    directory
}

fn wal(directory: &Path) -> PathBuf {
    let mut files = files(directory, "log");
    files.retain(|path| path.metadata().unwrap().len() > 0);
    files.pop().unwrap()
}

fn cut(path: &Path, bytes: u64) {
    let length = path.metadata().unwrap().len();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length - bytes).unwrap();
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// The refusal, which must name the directory and the file, and say what to do.
fn refusal(directory: &Path) -> String {
    let Err(error) = try_open(directory) else { panic!("the damage went unnoticed") };
    let text = error.to_string();
    assert!(matches!(error, LogError::Damaged(_)), "{text}");
    assert!(text.contains("--rejoin") && text.contains(directory.to_str().unwrap()), "{text}");
    text
}

#[test]
fn a_lost_acknowledged_tail_is_refused() {
    let whole = stopped();
    for bytes in [1, 3, 40, 200] {
        let directory = copy(whole.path());
        cut(&wal(directory.path()), bytes);
        let text = refusal(directory.path());
        assert!(text.contains("before entry 20"), "{text}");
        // It stays refused: the attempt to open it must not repair it.
        refusal(directory.path());
    }
    assert_eq!(open(whole.path()).read(0..99).unwrap(), records(0..20), "the original is intact");
}

#[test]
fn an_emptied_or_removed_wal_is_refused() {
    let whole = stopped();
    let emptied = copy(whole.path());
    fs::write(wal(emptied.path()), []).unwrap();
    refusal(emptied.path());
    let removed = copy(whole.path());
    fs::remove_file(wal(removed.path())).unwrap();
    refusal(removed.path());
}

#[test]
fn a_lost_vote_is_refused_even_if_no_entry_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..3));
    put(&log, "vote", b"promised");
    drop(log);
    cut(&wal(directory.path()), 2);
    refusal(directory.path());
}

#[test]
fn an_unacknowledged_torn_tail_is_cut_off() {
    let directory = stopped();
    let promised = fs::read(directory.path().join(durable_mark::FILE_NAME)).unwrap();
    let log = open(directory.path());
    // After this start the promise is the same: nothing has been added.
    let mark = directory.path().join(durable_mark::FILE_NAME);
    let promised_now = fs::read(&mark).unwrap();
    assert_eq!(promised_now[..8], promised[..8]);
    append(&log, records(20..21));
    append(&log, records(21..22));
    drop(log);
    // As after a power loss: the mark is behind the log, and the log's last record is incomplete.
    fs::write(&mark, promised_now).unwrap();
    cut(&wal(directory.path()), 5);

    let log = open(directory.path());
    assert_eq!(log.read(0..99).unwrap(), records(0..21));
    append(&log, records(21..23));
    drop(log);
    assert_eq!(open(directory.path()).read(0..99).unwrap(), records(0..23));
}

#[test]
fn a_flipped_byte_in_the_wal_is_refused_or_harmless() {
    let whole = stopped();
    let length = wal(whole.path()).metadata().unwrap().len();
    let mut refused = 0;
    for offset in (0..length).step_by(37) {
        let directory = copy(whole.path());
        flip(&wal(directory.path()), offset);
        match try_open(directory.path()) {
            Ok(log) => assert_eq!(log.read(0..99).unwrap(), records(0..20), "flipped at {offset}"),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
                assert!(matches!(error, LogError::Damaged(_)), "{error}");
            }
        }
    }
    assert!(refused > 0, "every record carries a checksum");
}

#[test]
fn verification_finds_each_flipped_byte_of_what_was_acknowledged() {
    let whole = stopped();
    let found = |directory: &Path| {
        let mut found = offline::damaged_files(directory);
        found.extend(offline::check(directory, |_| Ok(())).err());
        found
    };
    assert_eq!(found(whole.path()), Vec::<String>::new());
    let path = wal(whole.path());
    let name = path.file_name().unwrap().to_str().unwrap();
    let length = path.metadata().unwrap().len();
    let mut named = 0;
    for offset in (0..length).step_by(37) {
        let directory = copy(whole.path());
        flip(&wal(directory.path()), offset);
        let found = found(directory.path());
        assert!(!found.is_empty(), "flipped at {offset} of {length}");
        named += u32::from(found[0].contains(name));
    }
    assert!(named > 0, "the file is named where a later record follows");
}

/// A copy of a log of `end` entries as its killed process left it, and its newest WAL: a reused one
/// that is longer than what was last written to it.
fn killed_with_a_reused_wal() -> (TempDir, PathBuf, u64) {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let inode = |path: &PathBuf| path.metadata().unwrap().ino();
    let newest = || files(directory.path(), "log").pop().unwrap();
    let mut used = vec![inode(&newest())];
    let mut end = 0;
    // The first WAL is replaced by a new one; then, at the latest, they take turns.
    loop {
        append(&log, records(end..end + 2_000));
        end += 2_000;
        let now = inode(&newest());
        if used.last() == Some(&now) {
            continue;
        }
        if used.contains(&now) {
            break;
        }
        assert!(used.len() < 8, "no WAL is used again");
        used.push(now);
    }
    append(&log, records(end..end + 20));
    log.inner.group.disk().settle();
    let copied = copy(directory.path());
    let wal = copied.path().join(newest().file_name().unwrap());
    (copied, wal, end + 20)
}

#[test]
fn a_reused_wal_ends_with_the_last_write() {
    let (killed, wal, end) = killed_with_a_reused_wal();
    let name = wal.file_name().unwrap();
    let bytes = fs::read(&wal).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    // Everything after the last record is old.
    for offset in [9, bytes.len() / 2, bytes.len() - 9] {
        let directory = copy(killed.path());
        flip(&directory.path().join(name), offset as u64);
        match try_open(directory.path()) {
            Ok(log) => {
                assert_eq!(log.extent().end, end, "flipped at {offset}");
                harmless += 1;
            }
            Err(error) => {
                assert!(matches!(error, LogError::Damaged(_)) && error.to_string().contains("--rejoin"), "{error}");
                assert!(error.to_string().contains(name.to_str().unwrap()), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && harmless > 0, "refused {refused}, harmless {harmless}");

    let log = open(killed.path());
    assert_eq!(log.extent(), Extent { first: 0, end });
    assert_eq!(log.read(end - 3_000..end).unwrap(), records(end - 3_000..end));
    append(&log, records(end..end + 5));
    drop(log);
    assert_eq!(open(killed.path()).extent().end, end + 5);
}

#[test]
fn a_flipped_byte_in_a_table_is_noticed_and_named() {
    let whole = stopped();
    let log = open(whole.path());
    log.close();
    drop(log);
    let name = |path: &Path| files(path, "sst").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let length = name(whole.path()).metadata().unwrap().len();
    let mut named = 0;
    for offset in (0..length).step_by(29) {
        let directory = copy(whole.path());
        let table = name(directory.path());
        flip(&table, offset);
        match try_open(directory.path()).and_then(|log| log.read(0..99)) {
            Ok(read) => assert_eq!(read, records(0..20), "flipped at {offset}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("--rejoin") && text.contains(directory.path().to_str().unwrap()), "{text}");
                // RocksDB does not name the table when the table's properties are damaged.
                named += u32::from(text.contains(table.file_name().unwrap().to_str().unwrap()));
            }
        }
    }
    assert!(named > 0, "every block carries a checksum");
}

#[test]
fn missing_files_are_refused() {
    let whole = stopped();
    let log = open(whole.path());
    log.close();
    drop(log);
    let table = files(whole.path(), "sst").remove(0);
    for name in ["CURRENT", durable_mark::FILE_NAME, table.file_name().unwrap().to_str().unwrap()] {
        let directory = copy(whole.path());
        fs::remove_file(directory.path().join(name)).unwrap();
        let text = refusal(directory.path());
        assert!(text.contains(name), "{text}");
    }
    let neither = copy(whole.path());
    fs::remove_file(neither.path().join("CURRENT")).unwrap();
    fs::remove_file(neither.path().join(durable_mark::FILE_NAME)).unwrap();
    assert!(refusal(neither.path()).contains("CURRENT"));
}

#[test]
fn a_damaged_mark_is_refused() {
    let directory = stopped();
    flip(&directory.path().join(durable_mark::FILE_NAME), 3);
    assert!(refusal(directory.path()).contains(durable_mark::FILE_NAME));
}

#[test]
fn a_first_start_that_ended_early_may_be_made_again() {
    // As a crash between creating the mark and filling it leaves it.
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(durable_mark::FILE_NAME), b"").unwrap();
    drop(open(directory.path()));
    // In an existing log the same is damage.
    let directory = stopped();
    fs::write(directory.path().join(durable_mark::FILE_NAME), b"").unwrap();
    assert!(refusal(directory.path()).contains(durable_mark::FILE_NAME));
}

#[test]
fn a_missing_beginning_is_refused_and_a_hole_is_noticed() {
    let beginning = stopped();
    let log = open(beginning.path());
    log.inner.group.disk().delete(0..1);
    drop(log);
    assert!(refusal(beginning.path()).contains("begins at entry 0"));

    let hole = stopped();
    let log = open(hole.path());
    log.inner.group.disk().delete(5..6);
    drop(log);
    let log = open(hole.path());
    let error = log.read(0..20).unwrap_err().to_string();
    assert!(error.contains("lost entry 5"), "{error}");
    assert_eq!(log.read(6..20).unwrap(), records(6..20));
}

#[test]
fn unacknowledged_entries_behind_a_gap_are_dropped() {
    let directory = stopped();
    let log = open(directory.path());
    log.inner.group.disk().delete(15..16);
    drop(log);
    let mut mark = DurableMark::open(directory.path()).unwrap();
    mark.record(Durable { end: 12, sequence: 1 }).unwrap();

    let log = open(directory.path());
    assert_eq!(log.extent().end, 15);
    assert_eq!(log.read(0..99).unwrap(), records(0..15));
    append(&log, records(15..16));
    drop(log);
    assert_eq!(open(directory.path()).read(0..99).unwrap(), records(0..16), "entry 16 must not come back");
}

#[test]
fn a_manifest_that_is_missing_or_misnamed_is_damage() {
    let whole = stopped();
    let current = fs::read_to_string(whole.path().join("CURRENT")).unwrap();
    fs::remove_file(whole.path().join(current.trim())).unwrap();
    assert!(refusal(whole.path()).contains(current.trim()));
    for content in ["MANIFEST-999999\n", "", "nonsense", "nonsense\n"] {
        let whole = stopped();
        fs::write(whole.path().join("CURRENT"), content).unwrap();
        assert!(refusal(whole.path()).contains("CURRENT"), "{content:?}");
    }
}

#[test]
fn a_log_in_use_is_not_called_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let _log = open(directory.path());
    assert!(matches!(try_open(directory.path()), Err(LogError::Unusable(_))));
}
