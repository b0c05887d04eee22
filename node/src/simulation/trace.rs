//! The trace of a simulation: everything that happens, in order, and a hash of it.

use std::collections::VecDeque;
use std::fmt::Arguments;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

/// Lines that are kept for a report.
const KEPT: usize = 60;

/// Cheap to clone; all clones are one trace.
#[derive(Clone)]
pub(super) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    now: u64,
    hash: DefaultHasher,
    lines: u64,
    newest: VecDeque<String>,
    file: Option<std::io::BufWriter<std::fs::File>>,
}

impl Trace {
    /// An empty trace, which is written to this file as well.
    pub(super) fn new(file: Option<&std::path::Path>) -> Self {
        let file = file.map(|path| std::io::BufWriter::new(std::fs::File::create(path).unwrap()));
        let hash = DefaultHasher::new();
        Self(Arc::new(Mutex::new(Inner { now: 0, hash, lines: 0, newest: VecDeque::new(), file })))
    }

    /// The time of the next lines, in milliseconds.
    pub(super) fn set_time(&self, now: u64) {
        self.0.lock().now = now;
    }

    /// Adds a line.
    pub(super) fn note(&self, what: Arguments<'_>) {
        let mut inner = self.0.lock();
        let line = format!("{:>6} {what}", inner.now);
        line.hash(&mut inner.hash);
        inner.lines += 1;
        if let Some(file) = &mut inner.file {
            writeln!(file, "{line}").unwrap();
        }
        if inner.newest.len() == KEPT {
            inner.newest.pop_front();
        }
        inner.newest.push_back(line);
    }

    /// Hash of all lines.
    pub(super) fn hash(&self) -> u64 {
        self.0.lock().hash.finish()
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> u64 {
        self.0.lock().lines
    }

    /// The newest lines.
    pub(super) fn newest(&self) -> String {
        self.0.lock().newest.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

/// A hash that is the same in every process.
pub(super) fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
