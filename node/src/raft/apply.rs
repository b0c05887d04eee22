//! The apply thread: the only writer of the state database.
//!
//! Committed entries reach it in chunks, each of which becomes one atomic batch. Whatever else may not run beside a
//! chunk (checkpoint, install) is run here between two chunks. Flushing has a thread of its own so that it never stalls applying.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::storage::ApplyResponder;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use super::codec;
use super::types::{Entry, LogId, Outcomes, Proposal, TypeConfig};
use crate::metrics::Metrics;
use crate::store::write::Chunk;
use crate::store::{ReadError, Store};
use crate::{fatal, machine, priority};

/// Chunks and closures waiting for the thread: one being applied and one prepared meanwhile, with room for a closure and for entries to be
/// decided ahead.
const QUEUE: usize = 6;

/// Entries in one chunk at most: one batch of the state database, during which nothing else is visible.
pub(super) const MAX_CHUNK_ENTRIES: usize = 1024;

/// Bytes of commands in one chunk at most (one entry more may go over it).
pub(super) const MAX_CHUNK_BYTES: usize = 4 << 20;

/// Flush once this much is unflushed. What is not flushed is replayed at start (a few hundred thousand entries per second); but each flush makes
/// tables of its own, and the more there are the more often every row is rewritten.
const FLUSH_BYTES: u64 = 24 << 20;

/// Flush at least this often while anything is unflushed, so that a quiet node replays little as well.
const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

/// Blocks until the node's own log is durable up to the index given (exclusive). openraft may commit on the word of two other
/// nodes, but what this node serves must survive its own power loss.
pub type DurableGate = Arc<dyn Fn(u64) + Send + Sync>;

/// One log entry with whoever waits for its outcome.
pub type Committed = (Entry, Option<ApplyResponder<TypeConfig>>);

type Task = Box<dyn FnOnce(&Store) + Send>;

enum Job {
    /// Entries that were written to the log and will probably be applied next: what they mean is found out meanwhile.
    DecideAhead(Vec<Entry>),
    /// Entries in order, without a gap; `done` after they are visible to readers.
    Apply { entries: Vec<Committed>, done: oneshot::Sender<()> },
    /// Something that must not run beside a chunk.
    Run(Task),
    /// Flush and end.
    Stop { done: oneshot::Sender<()> },
}

/// The apply thread has ended: the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the apply thread has ended")]
pub struct ApplyStopped;

impl From<ApplyStopped> for std::io::Error {
    fn from(error: ApplyStopped) -> Self {
        Self::other(error)
    }
}

/// Handle on the apply thread. Cheap to clone.
#[derive(Clone)]
pub struct ApplyHandle {
    jobs: mpsc::Sender<Job>,
    store: Store,
    /// Bytes of log applied by this process, with samples to find the index that lies a number of bytes back.
    volume: Arc<Mutex<LogVolume>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl ApplyHandle {
    /// Starts the thread for `store`.
    pub fn start(store: Store, gate: DurableGate, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        // One pending request is enough: a flush takes everything committed before it starts.
        let (flush, flush_requests) = std_mpsc::sync_channel(1);
        let volume = Arc::new(Mutex::new(LogVolume::default()));
        let applier = Applier { store: store.clone(), gate, metrics, volume: volume.clone(), flush };
        let flush_store = store.clone();
        let flusher = std::thread::Builder::new()
            .name("state-flush".to_owned())
            .spawn(move || flush_on_request(&flush_store, &flush_requests))?;
        let thread = std::thread::Builder::new().name("apply".to_owned()).spawn(move || applier.run(queue))?;
        Ok(Self { jobs, store, volume, threads: Arc::new(Mutex::new(vec![thread, flusher])) })
    }

    /// The state this thread writes.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Lets the thread find out, while the disk syncs, what entries do that will probably be applied next. Whether they will be committed
    /// nobody knows yet, so nothing of them becomes visible; a busy thread leaves them alone.
    pub fn decide_ahead(&self, entries: Vec<Entry>) {
        // Without room the thread is behind, and has no time for guesses.
        let _ = self.jobs.try_send(Job::DecideAhead(entries));
    }

    /// Hands over consecutive committed entries; the receiver fires once they are applied and visible.
    pub async fn apply(&self, entries: Vec<Committed>) -> Result<oneshot::Receiver<()>, ApplyStopped> {
        let (done, applied) = oneshot::channel();
        self.jobs.send(Job::Apply { entries, done }).await.map_err(|_| ApplyStopped)?;
        Ok(applied)
    }

    /// Runs `task` on the thread, between two chunks, and returns what it returns.
    pub async fn run<T, F>(&self, task: F) -> Result<T, ApplyStopped>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> T + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let task: Task = Box::new(move |store| {
            // The caller may have given up waiting; the task is done all the same.
            let _ = done.send(task(store));
        });
        self.jobs.send(Job::Run(task)).await.map_err(|_| ApplyStopped)?;
        result.await.map_err(|_| ApplyStopped)
    }

    /// How many bytes of log were applied, and where.
    pub fn volume(&self) -> &Mutex<LogVolume> {
        &self.volume
    }

    /// Applies what is queued, flushes the state and ends the threads. Call it after openraft's own shutdown.
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        if self.jobs.send(Job::Stop { done }).await.is_ok() {
            let _ = ended.await;
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        if let Err(error) = joined.await {
            tracing::warn!(%error, "the apply threads were not joined");
        }
    }
}

struct Applier {
    store: Store,
    gate: DurableGate,
    metrics: Arc<Metrics>,
    volume: Arc<Mutex<LogVolume>>,
    /// A slot for one flush request.
    flush: std_mpsc::SyncSender<()>,
}

impl Applier {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        priority::run_promptly();
        let store = self.store.clone();
        // Holds the store's writer, so it goes before anything else that writes.
        let mut ahead: Option<Decided<'_>> = None;
        while let Some(job) = queue.blocking_recv() {
            match job {
                Job::DecideAhead(entries) => {
                    if ahead.is_none() && follows(&store, &entries) {
                        ahead = Some(Decided::new(&store, entries.iter()));
                    }
                }
                Job::Apply { entries, done } => {
                    let decided = ahead.take().filter(|decided| decided.is_of(&entries));
                    self.metrics.decided_ahead.inc_by(u64::from(decided.is_some()));
                    let decided =
                        decided.unwrap_or_else(|| Decided::new(&store, entries.iter().map(|(entry, _)| entry)));
                    self.commit(decided, entries);
                    // openraft may be gone during shutdown.
                    let _ = done.send(());
                }
                Job::Run(task) => {
                    ahead = None;
                    task(&store);
                }
                Job::Stop { done } => {
                    drop(ahead);
                    flush(&store);
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    /// Makes visible what was decided on these entries and answers who waits for it.
    fn commit(&mut self, decided: Decided<'_>, entries: Vec<Committed>) {
        let Some((last, _)) = entries.last() else { return };
        let last_log_id = last.log_id;
        (self.gate)(last_log_id.index + 1);
        let mark = codec::log_id_to_message(&last_log_id).encode_to_vec();
        let new_events = decided.chunk.new_events();
        decided.chunk.commit(last_log_id.index + 1, mark, decided.membership);

        // Only now, when readers see it: a client may read on this node as soon as it has its answer.
        let count = entries.len() as u64;
        for ((_, responder), outcomes) in entries.into_iter().zip(decided.outcomes) {
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
        }
        self.metrics.applied_entries.inc_by(count);
        self.metrics.apply_chunk.observe(decided.commands as f64);
        self.metrics.applied_events.inc_by(new_events);
        self.volume.lock().add(last_log_id.index, decided.bytes);
        if self.store.unflushed_bytes() >= FLUSH_BYTES {
            // A full slot means that a flush is already asked for.
            let _ = self.flush.try_send(());
        }
    }
}

/// Whether these are the next entries after those applied, and few enough for one chunk.
fn follows(store: &Store, entries: &[Entry]) -> bool {
    let bytes: usize = entries.iter().map(weight).sum();
    let next = store.applied().current().log_entries;
    entries.first().is_some_and(|first| first.log_id.index == next) && bytes <= MAX_CHUNK_BYTES
}

/// Bytes of an entry's commands.
pub(super) fn weight(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.weight(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// What some consecutive entries do to the state, not yet visible to anybody.
struct Decided<'store> {
    /// In the log, in their order.
    log_ids: Vec<LogId>,
    outcomes: Vec<Outcomes>,
    chunk: Chunk<'store>,
    membership: Option<Vec<u8>>,
    commands: usize,
    /// Of log.
    bytes: u64,
}

impl<'store> Decided<'store> {
    fn new<'a>(store: &'store Store, entries: impl Iterator<Item = &'a Entry>) -> Self {
        let chunk = store.begin();
        let (log_ids, outcomes) = (Vec::new(), Vec::new());
        let mut decided = Self { log_ids, outcomes, chunk, membership: None, commands: 0, bytes: 0 };
        entries.for_each(|entry| decided.add(entry));
        decided
    }

    fn add(&mut self, entry: &Entry) {
        let outcomes = match &entry.payload {
            EntryPayload::Blank => Outcomes::default(),
            EntryPayload::Normal(proposal) => {
                self.commands += proposal.commands.len();
                decide(&mut self.chunk, proposal)
            }
            EntryPayload::Membership(new) => {
                let stored = super::types::StoredMembership::new(Some(entry.log_id), new.clone());
                self.membership = Some(codec::stored_membership_to_message(&stored).encode_to_vec());
                Outcomes::default()
            }
        };
        self.bytes += weight(entry) as u64 + ENTRY_OVERHEAD_BYTES;
        self.log_ids.push(entry.log_id);
        self.outcomes.push(outcomes);
    }

    /// Whether it was decided on exactly these: the same place in the log, given by the same leader, holds the same entry.
    fn is_of(&self, entries: &[Committed]) -> bool {
        self.log_ids.iter().eq(entries.iter().map(|(entry, _)| &entry.log_id))
    }
}

fn decide(chunk: &mut Chunk<'_>, proposal: &Proposal) -> Outcomes {
    let commands = proposal.commands.iter();
    Outcomes(
        commands
            .map(|command| machine::apply(chunk, proposal.time, command).unwrap_or_else(|error| stop(&error)))
            .collect(),
    )
}

/// What a log entry occupies beside its commands, about: ids, time, key and framing.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

fn stop(error: &ReadError) -> ! {
    fatal::stop("the state database cannot be read while applying the log", error)
}

fn flush_on_request(store: &Store, requests: &std_mpsc::Receiver<()>) {
    loop {
        match requests.recv_timeout(FLUSH_INTERVAL) {
            Ok(()) => flush(store),
            Err(std_mpsc::RecvTimeoutError::Timeout) if store.unflushed_bytes() > 0 => flush(store),
            Err(std_mpsc::RecvTimeoutError::Timeout) => {}
            // The apply thread has ended, after its own last flush.
            Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Makes the state durable. A failure ends the process: nobody knows what of it is on disk.
pub(super) fn flush(store: &Store) {
    if let Err(error) = store.flush() {
        fatal::stop("the state database cannot be flushed", &error);
    }
}

/// Where in the log how many bytes lie, by samples: enough to purge by bytes without reading the log.
#[derive(Debug, Default)]
pub struct LogVolume {
    total: u64,
    /// (index, bytes of log up to and including it), ascending.
    samples: VecDeque<(u64, u64)>,
}

impl LogVolume {
    /// Samples kept: two MiB of memory. With one per [`Self::STEP_BYTES`] they reach 8 GiB back; older ones are dropped, which only
    /// means purging no more precisely than that.
    const MAX_SAMPLES: usize = 1 << 17;
    /// Bytes between two samples: small against the smallest log that anybody configures to be kept.
    const STEP_BYTES: u64 = 64 << 10;

    /// Bytes counted so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts `bytes` of log ending at `index`.
    pub fn add(&mut self, index: u64, bytes: u64) {
        self.total += bytes;
        let step_reached = self.samples.back().is_none_or(|(_, at)| self.total - at >= Self::STEP_BYTES);
        if !step_reached {
            return;
        }
        if self.samples.len() == Self::MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((index, self.total));
    }

    /// Puts what a former process applied before everything counted so far: (index, bytes up to it) ascending, counted from the
    /// beginning of the log.
    pub fn prepend(&mut self, earlier: &[(u64, u64)]) {
        let Some((_, offset)) = earlier.last().copied() else { return };
        self.total += offset;
        for (_, bytes) in &mut self.samples {
            *bytes += offset;
        }
        for sample in earlier.iter().rev() {
            if self.samples.len() < Self::MAX_SAMPLES {
                self.samples.push_front(*sample);
            }
        }
    }

    /// The bytes counted up to `index`, rounded down to a sample; 0 when it lies before all of them.
    pub fn bytes_at(&self, index: u64) -> u64 {
        let after = self.samples.partition_point(|(at, _)| *at <= index);
        after.checked_sub(1).map_or(0, |last| self.samples[last].1)
    }

    /// The highest index known to have at least `keep_bytes` of log between it and `below`; `None` when that little is known.
    pub fn index_below(&self, below: u64, keep_bytes: u64) -> Option<u64> {
        let limit = self.bytes_at(below).checked_sub(keep_bytes)?;
        let after = self.samples.partition_point(|(index, bytes)| *bytes <= limit && *index <= below);
        after.checked_sub(1).map(|last| self.samples[last].0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use headwater_proto::stored::{Append, Command, NewEvent, command};
    use openraft::entry::RaftEntry;

    use super::*;
    use crate::event::Ticks;

    const STEP: u64 = LogVolume::STEP_BYTES;

    fn volume(entries: std::ops::RangeInclusive<u64>) -> LogVolume {
        let mut volume = LogVolume::default();
        entries.for_each(|index| volume.add(index, STEP));
        volume
    }

    fn entry(term: u64, index: u64, stream: &str) -> Entry {
        let event = NewEvent {
            event_id: Bytes::copy_from_slice(&u128::from(index + 1).to_be_bytes()),
            event_type: "t".into(),
            ..NewEvent::default()
        };
        let append = Append { stream: stream.into(), expected_version: -2, events: vec![event], ..Append::default() };
        let command = Command::of_streams(command::Kind::Append(append)).encode_to_vec();
        let proposal = Proposal { time: Ticks(index), commands: [Bytes::from(command)].into() };
        Entry::new(LogId::new(term.into(), index), EntryPayload::Normal(proposal))
    }

    async fn apply(handle: &ApplyHandle, entries: Vec<Entry>) {
        let committed = entries.into_iter().map(|entry| (entry, None)).collect();
        handle.apply(committed).await.unwrap().await.unwrap();
    }

    /// Number of the last event of each stream.
    async fn last_numbers<const N: usize>(handle: &ApplyHandle, streams: [&'static str; N]) -> [Option<u64>; N] {
        let read = move |store: &Store| {
            let mut chunk = store.begin();
            streams.map(|name| {
                let stream = chunk.stream(name).unwrap();
                chunk.head(stream).last_number
            })
        };
        handle.run(read).await.unwrap()
    }

    #[tokio::test]
    async fn decisions_ahead_count_only_for_exactly_their_entries() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state"), 1 << 20).unwrap();
        let metrics = Metrics::new();
        let handle = ApplyHandle::start(store.clone(), Arc::new(|_| {}), metrics.clone()).unwrap();
        let applied = |entries| (store.applied().current().log_entries == entries, metrics.decided_ahead.get());

        handle.decide_ahead(vec![entry(1, 0, "a"), entry(1, 1, "a")]);
        assert_eq!(applied(0), (true, 0), "a guess is visible to nobody");
        apply(&handle, vec![entry(1, 0, "a"), entry(1, 1, "a")]).await;
        assert_eq!(applied(2), (true, 1));

        // Another leader wrote something else at that place.
        handle.decide_ahead(vec![entry(1, 2, "lost")]);
        apply(&handle, vec![entry(2, 2, "b")]).await;
        assert_eq!(applied(3), (true, 1));
        // Less and more than was guessed.
        handle.decide_ahead(vec![entry(2, 3, "a"), entry(2, 4, "a")]);
        apply(&handle, vec![entry(2, 3, "a")]).await;
        handle.decide_ahead(vec![entry(2, 4, "a")]);
        apply(&handle, vec![entry(2, 4, "a"), entry(2, 5, "a")]).await;
        // Entries that do not come next, and a second guess while there is a first.
        handle.decide_ahead(vec![entry(2, 7, "a")]);
        handle.decide_ahead(vec![entry(2, 6, "a")]);
        handle.decide_ahead(vec![entry(2, 7, "lost")]);
        apply(&handle, vec![entry(2, 6, "a")]).await;
        assert_eq!(applied(7), (true, 2));

        // What else the thread does must not wait for a guess.
        handle.decide_ahead(vec![entry(2, 7, "a")]);
        assert_eq!(last_numbers(&handle, ["a", "b", "lost"]).await, [Some(5), Some(0), None]);
        apply(&handle, vec![entry(2, 7, "a")]).await;
        assert_eq!(applied(8), (true, 2));
        handle.decide_ahead(vec![entry(2, 8, "lost")]);
        handle.shutdown().await;
        drop((handle, store));
        let store = Store::open(&directory.path().join("state"), 1 << 20).unwrap();
        assert_eq!(store.applied().current().log_entries, 8);
    }

    #[test]
    fn purging_leaves_the_bytes_to_keep_below_the_snapshot() {
        let volume = volume(1..=10);
        assert_eq!(volume.index_below(10, 3 * STEP), Some(7));
        assert_eq!(volume.index_below(8, 3 * STEP), Some(5));
        assert_eq!(volume.index_below(10, 0), Some(10));
        assert_eq!(volume.index_below(3, 3 * STEP), None);
        assert_eq!(volume.index_below(3, u64::MAX), None);
    }

    #[test]
    fn entries_applied_by_an_earlier_process_count() {
        let mut volume = volume(101..=103);
        volume.prepend(&[(50, 5 * STEP), (100, 10 * STEP)]);
        assert_eq!(volume.total(), 13 * STEP);
        assert_eq!(volume.index_below(103, 3 * STEP), Some(100));
        assert_eq!(volume.index_below(103, 8 * STEP), Some(50));
    }

    #[test]
    fn samples_are_bounded() {
        let volume = volume(1..=LogVolume::MAX_SAMPLES as u64 + 50);
        assert_eq!(volume.samples.len(), LogVolume::MAX_SAMPLES);
        assert_eq!(volume.index_below(40, 0), None);
    }
}
