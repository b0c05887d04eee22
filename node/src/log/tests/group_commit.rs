//! One sync for all waiting callers, and the promise of a callback.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;

use super::super::SyncReport;
use super::*;

#[test]
fn appends_during_a_sync_share_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let (reports, seen) = mpsc::channel::<SyncReport>();
    let log: Log<TestRecord> =
        Log::open(directory.path(), Box::new(move |report| reports.send(*report).unwrap())).unwrap();

    // The sync thread is held in the callback of the first append while a hundred others arrive.
    let (entered, wait_entered) = mpsc::channel();
    let (release, wait_release) = mpsc::channel::<()>();
    log.append(
        records(0..1),
        Box::new(move || {
            entered.send(()).unwrap();
            wait_release.recv_timeout(DEADLINE).unwrap();
        }),
    );
    wait_entered.recv_timeout(DEADLINE).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for index in 1..=100 {
        let order = Arc::clone(&order);
        log.append(records(index..index + 1), Box::new(move || order.lock().unwrap().push(index)));
    }
    assert_eq!(log.read(0..200).unwrap().len(), 101, "readable before it is durable");
    assert_eq!(log.durable_end(), 1);
    release.send(()).unwrap();

    assert_eq!(seen.recv_timeout(DEADLINE).unwrap().callers, 1);
    let second = seen.recv_timeout(DEADLINE).unwrap();
    assert_eq!(second.callers, 100);
    let mut encoded = Vec::new();
    records(1..101).iter().for_each(|record| record.encode(&mut encoded));
    assert_eq!(second.bytes, encoded.len() as u64);
    assert_eq!(*order.lock().unwrap(), (1..=100).collect::<Vec<_>>(), "in the order of the appends");
    drop(log);
    assert!(seen.recv_timeout(DEADLINE).is_err(), "no further sync");
}

#[test]
fn a_callback_runs_only_when_its_entries_are_durable() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let (done, wait) = mpsc::channel();
    for index in 0..500 {
        let (done, observed) = (done.clone(), log.clone());
        log.append(records(index..index + 1), Box::new(move || done.send((index, observed.durable_end())).unwrap()));
    }
    for expected in 0..500 {
        let (index, durable) = wait.recv_timeout(DEADLINE).unwrap();
        assert_eq!(index, expected);
        assert!(durable > index, "callback of {index} at durable end {durable}");
    }
}

#[test]
fn the_apply_thread_is_woken_by_the_sync_that_covers_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let (done, wait) = mpsc::channel();
    let waiting = log.clone();
    let thread = std::thread::spawn(move || {
        waiting.wait_durable(3);
        done.send(waiting.durable_end()).unwrap();
    });
    append(&log, records(0..2));
    assert!(wait.try_recv().is_err(), "two entries do not satisfy a wait for three");
    append(&log, records(2..3));
    assert_eq!(wait.recv_timeout(DEADLINE).unwrap(), 3);
    thread.join().unwrap();
    log.wait_durable(1);
}

#[test]
fn votes_are_completed_between_the_appends_around_them() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let (done, wait) = mpsc::channel();
    for round in 0..50 {
        let (entry, vote) = (done.clone(), done.clone());
        log.append(records(round..round + 1), Box::new(move || entry.send(("entry", round)).unwrap()));
        let value = round.to_be_bytes().to_vec();
        log.put_meta("vote", value, Box::new(move || vote.send(("vote", round)).unwrap()));
        assert_eq!(log.meta("vote"), Some(round.to_be_bytes().to_vec()));
    }
    for round in 0..50 {
        assert_eq!(wait.recv_timeout(DEADLINE).unwrap(), ("entry", round));
        assert_eq!(wait.recv_timeout(DEADLINE).unwrap(), ("vote", round));
    }
}

#[test]
fn closing_completes_and_keeps_waiting_writes() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let (done, wait) = mpsc::channel();
    for index in 0..20 {
        let done = done.clone();
        log.append(records(index..index + 1), Box::new(move || done.send(index).unwrap()));
    }
    log.put_hint("committed", b"19".to_vec());
    log.close();
    assert_eq!(wait.try_iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    // A late write is completed too: openraft would wait for it for ever.
    append(&log, records(20..21));
    log.close();
    drop(log);
    let log = open(directory.path());
    assert_eq!(log.read(0..99).unwrap(), records(0..21));
    assert_eq!(log.meta("committed"), Some(b"19".to_vec()));
    assert_eq!(log.durable_end(), 21);
}

#[test]
fn an_append_of_nothing_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, vec![]);
    assert_eq!(log.extent().end, 0);
}

#[test]
fn a_callback_may_own_the_last_handle() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let (done, wait) = mpsc::channel();
    let (release, wait_release) = mpsc::channel::<()>();
    let last = log.clone();
    log.append(
        records(0..1),
        Box::new(move || {
            wait_release.recv_timeout(DEADLINE).unwrap();
            drop(last);
            done.send(()).unwrap();
        }),
    );
    drop(log);
    release.send(()).unwrap();
    wait.recv_timeout(DEADLINE).unwrap();
}
