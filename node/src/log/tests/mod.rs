//! The log against a real directory.

mod damage;
mod group_commit;
mod promise;
mod reading;
mod shrinking;

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::test_record::TestRecord;
use super::{Log, LogError, Record};

/// Far longer than any healthy disk takes; a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

fn open(directory: &Path) -> Log<TestRecord> {
    try_open(directory).unwrap()
}

fn try_open(directory: &Path) -> Result<Log<TestRecord>, LogError> {
    Log::open(directory, Box::new(|_| {}))
}

fn records(range: Range<u64>) -> Vec<TestRecord> {
    range.map(TestRecord::new).collect()
}

/// Appends records and waits until they are durable.
fn append(log: &Log<TestRecord>, records: Vec<TestRecord>) {
    let (done, wait) = mpsc::channel();
    log.append(records, Box::new(move || done.send(()).unwrap()));
    wait.recv_timeout(DEADLINE).unwrap();
}

/// Stores a small value and waits until it is durable.
fn put(log: &Log<TestRecord>, key: &'static str, value: &[u8]) {
    let (done, wait) = mpsc::channel();
    log.put_meta(key, value.to_vec(), Box::new(move || done.send(()).unwrap()));
    wait.recv_timeout(DEADLINE).unwrap();
}

fn indexes(records: &[TestRecord]) -> Vec<u64> {
    records.iter().map(Record::index).collect()
}

/// Paths of the files in the directory with this extension, oldest first.
fn files(directory: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}
