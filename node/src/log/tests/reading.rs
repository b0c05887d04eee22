//! Reads from memory, from the disk, and across the boundary.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::Extent;
use super::*;

#[test]
fn a_new_log_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    assert_eq!(log.extent(), Extent { first: 0, end: 0 });
    assert_eq!(log.read(0..10).unwrap(), []);
    assert_eq!(log.read_cached(0..10, usize::MAX), Some(vec![]));
    assert_eq!(log.meta("vote"), None);
}

#[test]
fn every_range_is_read_alike_cached_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let weight = TestRecord::new(0).weight();
    let log: Log<TestRecord> = Log::open_with_cache(directory.path(), Box::new(|_| {}), 5 * weight).unwrap();
    append(&log, records(0..20));
    assert_eq!(log.read_cached(14..20, usize::MAX), None);
    assert_eq!(log.read_cached(15..20, usize::MAX).unwrap().len(), 5);
    for start in 0..22 {
        for end in start..23 {
            let expected = records(start.min(20)..end.min(20));
            assert_eq!(log.read(start..end).unwrap(), expected, "{start}..{end}");
        }
    }
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "this is what is tested")]
fn empty_and_reversed_ranges_have_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..20));
    assert_eq!(log.read(7..7).unwrap(), []);
    assert_eq!(log.read(9..3).unwrap(), []);
    assert_eq!(log.read(u64::MAX..0).unwrap(), []);
}

#[test]
fn after_a_restart_everything_comes_from_the_disk_until_something_is_appended() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..10));
    drop(log);

    let log = open(directory.path());
    assert_eq!(log.extent(), Extent { first: 0, end: 10 });
    assert_eq!(log.durable_end(), 10);
    assert_eq!(log.read_cached(9..10, usize::MAX), None);
    assert_eq!(log.read(0..10).unwrap(), records(0..10));
    append(&log, records(10..12));
    assert_eq!(log.read_cached(9..12, usize::MAX), None);
    assert_eq!(log.read_cached(10..12, usize::MAX), Some(records(10..12)));
    assert_eq!(log.read(5..12).unwrap(), records(5..12));
}

#[test]
fn bounded_reads_stop_early_but_never_give_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..10));
    let weight = TestRecord::new(0).weight();
    // From memory, then from the disk.
    let mut log = Some(log);
    for _ in 0..2 {
        let log = log.take().unwrap_or_else(|| open(directory.path()));
        assert_eq!(indexes(&log.read_bounded(2..10, 3 * weight).unwrap()), [2, 3, 4]);
        assert_eq!(indexes(&log.read_bounded(2..10, 3 * weight - 1).unwrap()), [2, 3]);
        assert_eq!(indexes(&log.read_bounded(2..10, 0).unwrap()), [2]);
        assert_eq!(indexes(&log.read_bounded(8..10, 99 * weight).unwrap()), [8, 9]);
    }
}

#[test]
fn entries_larger_than_every_buffer_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let big = TestRecord::with_payload(0, vec![7; 40 << 20]);
    append(&log, vec![big.clone()]);
    append(&log, records(1..3));
    assert_eq!(log.read(0..1).unwrap(), std::slice::from_ref(&big));
    drop(log);
    let log = open(directory.path());
    assert_eq!(log.read(0..3).unwrap()[0], big);
    assert_eq!(log.read(1..3).unwrap(), records(1..3));
}

#[test]
fn readers_beside_truncation_and_purge_see_an_unbroken_run_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let weight = TestRecord::new(0).weight();
    let log: Log<TestRecord> = Log::open_with_cache(directory.path(), Box::new(|_| {}), 4 * weight).unwrap();
    append(&log, records(0..50));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    // At least once, however late this thread begins.
                    let mut is_last = false;
                    while !is_last {
                        is_last = done.load(Ordering::Relaxed);
                        let Extent { first, end } = log.extent();
                        let read = log.read(first..end).unwrap();
                        let run = read.first().map_or(0, Record::index);
                        assert_eq!(read, records(run..run + read.len() as u64));
                    }
                })
            })
            .collect();
        for round in 1..100 {
            let end = log.extent().end;
            log.truncate_from(end - 5);
            log.append(records(end - 5..end + 10), Box::new(|| {}));
            log.purge_before(round * 3, "purged", vec![]);
        }
        log.wait_durable(log.extent().end);
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
