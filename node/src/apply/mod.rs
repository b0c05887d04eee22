//! The apply thread: it owns the only writer of the state database ([`StateWriter`]).
//!
//! Committed entries reach it in chunks, and each chunk becomes one atomic batch. Work that must
//! not overlap with a chunk (checkpoint, install) runs here between two chunks. Flushing has a
//! thread of its own ([`flush`]), so that it never stalls applying.

mod entry;
mod flush;
#[cfg(test)]
mod tests;
mod thread;

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

pub(crate) use entry::{Entry, EntryId, Payload, Proposal};

use crate::event::WriteOutcome;
use crate::log::Volume;
use crate::metrics::Metrics;
use crate::store::{StateWriter, Store};
use crate::threads;
use thread::{Publisher, Worker};

/// Chunks and closures waiting for the thread: one chunk being applied, the next one prepared, and
/// room for closures.
const QUEUE: usize = 4;

/// Entries in one chunk at most: one batch of the state database, during which nothing else is
/// visible.
pub(crate) const MAX_CHUNK_ENTRIES: usize = 1024;

/// Bytes of commands in one chunk at most (exceeded by one entry at most).
pub(crate) const MAX_CHUNK_BYTES: usize = 4 << 20;

/// Blocks until the node's own log is durable up to the given index (exclusive). openraft may
/// commit on the word of two other nodes, but what this node serves must survive a power loss of
/// this node.
pub(crate) type DurableGate = Arc<dyn Fn(u64) + Send + Sync>;

/// Called with the outcomes of a chunk, one list for each entry, once readers can see them. It must
/// not block.
pub(crate) type Answer = Box<dyn FnOnce(Vec<Vec<WriteOutcome>>) + Send>;

type Task = Box<dyn FnOnce(&mut StateWriter) + Send>;

enum Job {
    /// Consecutive entries, in order; `done` fires once readers can see them.
    Apply { entries: Vec<Entry>, answer: Answer, done: oneshot::Sender<()> },
    /// Work that must not overlap with a chunk.
    Run(Task),
    /// Flush and end.
    Stop { done: oneshot::Sender<()> },
}

/// The apply thread has ended: the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the apply thread has ended")]
pub(crate) struct ApplyStopped;

impl From<ApplyStopped> for std::io::Error {
    fn from(error: ApplyStopped) -> Self {
        Self::other(error)
    }
}

/// Handle on the apply thread. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApplyHandle {
    jobs: mpsc::Sender<Job>,
    store: Store,
    /// Bytes of log applied by this process, with samples to find the index a given number of bytes
    /// back.
    volume: Arc<Mutex<Volume>>,
    /// The threads, until they are joined.
    running: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl ApplyHandle {
    /// Starts the thread, which takes ownership of the writer.
    pub(crate) fn start(writer: StateWriter, gate: DurableGate, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        // One pending request is enough: a flush covers everything committed before it starts.
        let (flush, flush_requests) = std_mpsc::sync_channel(1);
        let volume = Arc::new(Mutex::new(Volume::default()));
        let store = Store::clone(&writer);
        let publisher = Publisher { store: store.clone(), gate, metrics, volume: volume.clone(), flush };
        let worker = Worker { writer, publisher };
        #[cfg(test)]
        if threads::simulated::is_on() {
            tokio::spawn(thread::run_simulated(worker, queue));
            return Ok(Self { jobs, store, volume, running: Arc::default() });
        }
        let flush_store = store.clone();
        let flusher = std::thread::Builder::new()
            .name("state-flush".to_owned())
            .spawn(move || flush::on_request(&flush_store, &flush_requests))?;
        let thread = std::thread::Builder::new().name("apply".to_owned()).spawn(move || thread::run(worker, queue))?;
        Ok(Self { jobs, store, volume, running: Arc::new(Mutex::new(vec![thread, flusher])) })
    }

    /// The state this thread writes.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Hands over consecutive committed entries. The receiver fires once they are applied and
    /// visible, after the answer.
    pub(crate) async fn apply(
        &self,
        entries: Vec<Entry>,
        answer: Answer,
    ) -> Result<oneshot::Receiver<()>, ApplyStopped> {
        let (done, applied) = oneshot::channel();
        self.jobs.send(Job::Apply { entries, answer, done }).await.map_err(|_| ApplyStopped)?;
        Ok(applied)
    }

    /// Runs `task` on the thread, between two chunks, and returns its result.
    pub(crate) async fn run<T, F>(&self, task: F) -> Result<T, ApplyStopped>
    where
        T: Send + 'static,
        F: FnOnce(&mut StateWriter) -> T + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let task: Task = Box::new(move |writer| {
            // The caller may no longer be waiting; the task runs all the same.
            let _ = done.send(task(writer));
        });
        self.jobs.send(Job::Run(task)).await.map_err(|_| ApplyStopped)?;
        result.await.map_err(|_| ApplyStopped)
    }

    /// How many bytes of log were applied, by index.
    pub(crate) fn volume(&self) -> &Mutex<Volume> {
        &self.volume
    }

    /// Makes everything applied so far durable, concurrently with the apply thread. A failure ends
    /// the process.
    pub(crate) async fn flush(&self) -> std::io::Result<()> {
        let store = self.store.clone();
        threads::blocking(move || flush::flush(&store)).await.map_err(std::io::Error::other)
    }

    /// Applies the queued entries, flushes the state and ends the threads. Call it after consensus
    /// has shut down.
    pub(crate) async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        if self.jobs.send(Job::Stop { done }).await.is_ok() {
            let _ = ended.await;
        }
        let running = std::mem::take(&mut *self.running.lock());
        let joined = threads::blocking(move || running.into_iter().for_each(|thread| drop(thread.join())));
        if let Err(error) = joined.await {
            tracing::warn!(%error, "the apply threads were not joined");
        }
    }
}
