//! What a log promises about the programs that may open it.

use super::super::keys;
use super::*;

fn promise(log: &Log<TestRecord>, version: u32) {
    let (done, wait) = mpsc::channel();
    log.promise_cluster_version(version, Box::new(move || done.send(()).unwrap()));
    wait.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn programs_of_the_first_version_open_a_log_until_another_one_is_promised() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let log = open(directory.path());
        append(&log, records(log.extent().end..log.extent().end + 1));
        assert_eq!(log.meta(keys::FORMAT), Some(vec![keys::FIRST_FORMAT_VERSION]));
        assert_eq!(log.cluster_version(), 0);
        log.close();
    }
    let log = open(directory.path());
    promise(&log, 2);
    assert_eq!(log.cluster_version(), 2);
    promise(&log, 3);
    log.close();
    drop(log);

    // An ordered end, which writes the format once more, and a start keep it.
    let log = open(directory.path());
    assert_eq!((log.cluster_version(), log.meta(keys::FORMAT)), (3, Some(vec![keys::FORMAT_VERSION])));
    assert_eq!(indexes(&log.read(0..9).unwrap()), [0, 1]);
}

#[test]
fn a_promise_is_durable_when_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, records(0..1));
    promise(&log, 2);
    // As after a crash: nothing was closed.
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "LOCK" {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    assert_eq!(open(copy.path()).cluster_version(), 2);
}
