//! A node's log and state without the rest of a node: chunks, crashes, restarts and copies.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headwater_proto::stored::Command;
use prost::Message;

use crate::event::{Ticks, WriteOutcome};
use crate::store::{StateWriter, Store};

/// Longer than a busy machine takes to remove a few files.
const REMOVAL_LIMIT: Duration = Duration::from_secs(30);

/// When the entry with this index was proposed: one each second.
pub(super) fn time_of(index: usize) -> Ticks {
    Ticks(index as u64 * Ticks::PER_SECOND)
}

/// A node's state machine, reduced to what matters here: a log, and a state that follows it.
pub(super) struct Node {
    pub(super) root: tempfile::TempDir,
    store: Option<StateWriter>,
    directory: PathBuf,
    copies: u32,
    pub(super) log: Vec<Command>,
    /// Entries applied and committed.
    pub(super) applied: usize,
    pub(super) checkpoint: Option<PathBuf>,
}

impl Node {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("state0");
        let store = Some(StateWriter::open(&directory, 1 << 20).unwrap());
        Self { root, store, directory, copies: 0, log: Vec::new(), applied: 0, checkpoint: None }
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(super) fn writer(&mut self) -> &mut StateWriter {
        self.store.as_mut().unwrap()
    }

    /// Applies the remaining entries, in one chunk.
    pub(super) fn catch_up(&mut self) -> Vec<WriteOutcome> {
        if self.applied == self.log.len() {
            return Vec::new();
        }
        let mut chunk = self.store.as_mut().unwrap().begin();
        let mut outcomes = Vec::new();
        for (index, command) in self.log.iter().enumerate().skip(self.applied) {
            let bytes = command.encode_to_vec().into();
            outcomes.push(super::super::apply(&mut chunk, time_of(index), &bytes).unwrap());
        }
        let entries = self.log.len() as u64;
        chunk.commit(entries, entries.to_be_bytes().to_vec(), Some(vec![7]));
        self.applied = self.log.len();
        outcomes
    }

    pub(super) fn adopt_applied(&mut self) {
        let mark = self.store().last_applied().unwrap();
        self.applied = mark.last_applied.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()) as usize);
        assert_eq!(self.store().applied().current().log_entries, self.applied as u64);
    }

    /// Continues on a copy of the current files, as after the loss of a machine.
    pub(super) fn crash(&mut self) {
        self.copies += 1;
        // Copying takes longer than a power loss: the files must not change meanwhile.
        self.store().settle();
        let copy = self.root.path().join(format!("state{}", self.copies));
        copy_tree(&self.directory, &copy);
        self.store = None;
        self.directory = copy;
        self.store = Some(StateWriter::open(&self.directory, 1 << 20).unwrap());
        self.adopt_applied();
    }

    pub(super) fn restart(&mut self) {
        self.store = None;
        self.wait_for_removals();
        self.store = Some(StateWriter::open(&self.directory, 1 << 20).unwrap());
        assert_eq!(self.applied, self.log.len());
        self.adopt_applied();
        // A clean stop leaves nothing to apply again.
        assert_eq!(self.applied, self.log.len());
    }

    /// A process that ends takes its threads along. Here one of them may still close and remove a
    /// state that was replaced.
    fn wait_for_removals(&self) {
        let began = Instant::now();
        let is_state = |entry: &std::io::Result<std::fs::DirEntry>| entry.as_ref().unwrap().path().is_dir();
        while std::fs::read_dir(&self.directory).unwrap().filter(is_state).count() > 1 {
            assert!(began.elapsed() < REMOVAL_LIMIT, "a replaced state stays in {}", self.directory.display());
            std::thread::yield_now();
        }
    }
}

/// Copies the existing files. Another thread may be removing a replaced state: a lost machine may
/// hold any part of it.
fn copy_tree(from: &Path, to: &Path) {
    fn unless_removed<T>(result: std::io::Result<T>) -> Option<T> {
        match result {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            result => Some(result.unwrap()),
        }
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in unless_removed(std::fs::read_dir(from)).into_iter().flatten() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else if entry.file_name() != "LOCK" {
            unless_removed(std::fs::copy(entry.path(), target));
        }
    }
}
