//! Truncation at the end and purging at the beginning.

use super::super::Extent;
use super::super::durable_mark::DurableMark;
use super::*;

fn replaced(range: Range<u64>) -> Vec<TestRecord> {
    range.map(|index| TestRecord::with_payload(index, format!("another {index}"))).collect()
}

#[test]
fn truncation_drops_the_tail_at_once_and_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..10));
    log.truncate_from(6);
    assert_eq!(log.extent(), Extent { first: 0, end: 6 });
    assert_eq!(log.read(0..10).unwrap(), records(0..6));
    assert_eq!(log.durable_end(), 6);
    assert_eq!(DurableMark::read(directory.path()).unwrap().unwrap().end, 6);
    drop(log);

    let log = open(directory.path());
    assert_eq!(log.read(0..10).unwrap(), records(0..6));
    append(&log, replaced(6..8));
    drop(log);
    let log = open(directory.path());
    assert_eq!(log.read(6..10).unwrap(), replaced(6..8), "the old tail must not come back");
}

#[test]
fn replaced_entries_are_durable_only_after_their_own_sync() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..10));
    log.truncate_from(4);
    append(&log, replaced(4..5));
    assert_eq!(log.durable_end(), 5);
    assert_eq!(log.read(3..9).unwrap()[1..], replaced(4..5));
}

#[test]
fn truncating_everything_and_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..10));
    log.truncate_from(10);
    log.truncate_from(99);
    assert_eq!(log.extent(), Extent { first: 0, end: 10 });
    log.purge_before(4, "purged", vec![4]);
    log.truncate_from(0);
    assert_eq!(log.extent(), Extent { first: 4, end: 4 });
    append(&log, replaced(4..6));
    drop(log);
    assert_eq!(open(directory.path()).read(0..10).unwrap(), replaced(4..6));
}

#[test]
fn purging_drops_the_beginning_and_keeps_the_mark() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..10));
    log.purge_before(7, "purged", b"mark".to_vec());
    assert_eq!(log.extent(), Extent { first: 7, end: 10 });
    assert_eq!(log.read(0..10).unwrap(), records(7..10));
    assert_eq!(log.read(2..5).unwrap(), []);
    append(&log, records(10..11));
    drop(log);

    let log = open(directory.path());
    assert_eq!(log.extent(), Extent { first: 7, end: 11 });
    assert_eq!(log.meta("purged"), Some(b"mark".to_vec()));
    assert_eq!(log.read(0..20).unwrap(), records(7..11));
}

#[test]
fn a_purge_beyond_the_end_leaves_an_empty_log_that_goes_on_there() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..10));
    log.purge_before(100, "purged", vec![]);
    assert_eq!(log.extent(), Extent { first: 100, end: 100 });
    assert_eq!(log.read(0..200).unwrap(), []);
    drop(log);

    let log = open(directory.path());
    assert_eq!(log.extent(), Extent { first: 100, end: 100 });
    append(&log, records(100..102));
    assert_eq!(log.read(0..200).unwrap(), records(100..102));
    drop(log);
    assert_eq!(open(directory.path()).read(0..200).unwrap(), records(100..102));
}

#[test]
fn a_purge_gives_the_disk_back() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let noise = |seed: u64| (0..1 << 16).map(|i: u64| (i.wrapping_mul(seed * 2 + 1) >> 7) as u8).collect::<Vec<_>>();
    // Each round leaves one table; four of them are enough for RocksDB to move some out of level 0.
    for round in 0..8 {
        append(&log, (round * 10..round * 10 + 10).map(|i| TestRecord::with_payload(i, noise(i))).collect());
        log.inner.group.disk().flush();
    }
    let bytes = |directory: &Path| -> u64 {
        files(directory, "sst").iter().map(|path| path.metadata().map_or(0, |metadata| metadata.len())).sum()
    };
    let before = bytes(directory.path());
    log.purge_before(75, "purged", vec![]);
    log.close();
    drop(log);
    // Opening removes the files that nothing refers to any more.
    drop(open(directory.path()));
    let after = bytes(directory.path());
    assert!(after < before / 2, "{before} bytes before the purge, {after} after it");
    assert_eq!(indexes(&open(directory.path()).read(0..99).unwrap()), [75, 76, 77, 78, 79]);
}
