//! One fault test at a time.
//!
//! A fault test starts three nodes and measures how long they take to recover. Two tests at once on
//! a small machine would distort each other's measurements. The lock is a file, so it also holds
//! between test processes (nextest, two terminals).

use std::fs::{File, OpenOptions};

use anyhow::Context;

/// While this value lives, no other fault test runs on this machine.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

/// Waits until no other fault test runs.
///
/// It has no deadline of its own: the wait ends when the earlier tests end, and each of those has
/// deadlines.
pub fn my_turn() -> anyhow::Result<Turn> {
    let path = std::env::temp_dir().join("headwater-fault-tests.lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(Turn { _lock: lock })
}
