//! The loop of the apply thread.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::entry::{Entry, EntryId, Payload, Proposal};
use super::flush::{self, FLUSH_BYTES};
use super::{Answer, DurableGate, Job};
use crate::deliberate::{self, Fault};
use crate::event::WriteOutcome;
use crate::log::Volume;
use crate::metrics::Metrics;
use crate::store::write::Chunk;
use crate::store::{ReadError, StateWriter, Store};
use crate::trace::EntryTrace;
use crate::{fatal, machine};

/// Approximate size of a log entry besides its commands: ids, time, key and framing.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// Works until it is stopped.
#[expect(clippy::disallowed_methods, reason = "this is the apply thread")]
pub(super) fn run(mut worker: Worker, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        if worker.work(job).is_break() {
            return;
        }
    }
}

/// The same as a task of a simulated node. The gate would stop simulated time, so it is waited for
/// before the work.
#[cfg(test)]
pub(super) async fn run_simulated(mut worker: Worker, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.recv().await {
        if let Job::Apply { entries, .. } = &job {
            let end = entries.last().map_or(0, |last| last.id.index + 1);
            crate::threads::simulated::apply_pause(end).await;
        }
        if worker.work(job).is_break() {
            return;
        }
    }
}

/// The writer of the state, and what makes its work visible.
pub(super) struct Worker {
    pub(super) writer: StateWriter,
    pub(super) publisher: Publisher,
}

impl Worker {
    /// Does one job; breaks off at the last.
    fn work(&mut self, job: Job) -> ControlFlow<()> {
        match job {
            Job::Apply { entries, answer, done } => {
                let decided = Decided::new(&mut self.writer, &entries);
                self.publisher.commit(decided, answer, done);
            }
            Job::Run(task) => task(&mut self.writer),
            Job::Stop { done } => {
                flush::flush(&self.writer);
                let _ = done.send(());
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// Makes decisions visible.
pub(super) struct Publisher {
    pub(super) store: Store,
    pub(super) gate: DurableGate,
    pub(super) metrics: Arc<Metrics>,
    pub(super) volume: Arc<Mutex<Volume>>,
    /// Holds one flush request.
    pub(super) flush: SyncSender<()>,
}

impl Publisher {
    /// Makes the decisions visible and answers the callers that wait for them.
    fn commit(&mut self, decided: Decided<'_>, answer: Answer, done: oneshot::Sender<()>) {
        let Decided { ids, outcomes, chunk, members, traces, commands, bytes } = decided;
        let Some(last) = ids.last().copied() else { return };
        (self.gate)(last.index + 1);
        let new_events = chunk.new_events();
        chunk.commit(last.index + 1, last.encode(), members);

        // Not earlier: a client may read on this node as soon as it has its answer.
        answer(outcomes);
        traces.iter().for_each(|(trace, began)| trace.applied(*began));
        self.metrics.applied_entries.inc_by(ids.len() as u64);
        self.metrics.apply_chunk.observe(commands as f64);
        self.metrics.applied_events.inc_by(new_events);
        self.volume.lock().add(last.index, bytes);
        if self.store.unflushed_bytes() >= FLUSH_BYTES {
            // A full slot means that a flush is already pending.
            let _ = self.flush.try_send(());
        }
        // Consensus may be gone during shutdown.
        let _ = done.send(());
    }
}

/// The effect of some consecutive entries on the state, not yet visible to readers.
struct Decided<'writer> {
    /// The ids of the entries, in log order.
    ids: Vec<EntryId>,
    /// For each entry, the outcomes of its commands.
    outcomes: Vec<Vec<WriteOutcome>>,
    chunk: Chunk<'writer>,
    /// The members as of the last entry, if an entry changed them.
    members: Option<Vec<u8>>,
    /// Those of the entries that are traced, and when their decision began.
    traces: Vec<(EntryTrace, Instant)>,
    commands: usize,
    /// Bytes of log.
    bytes: u64,
}

impl<'writer> Decided<'writer> {
    fn new(writer: &'writer mut StateWriter, entries: &[Entry]) -> Self {
        let (ids, outcomes) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        let (chunk, traces) = (writer.begin(), Vec::new());
        let mut decided = Self { ids, outcomes, chunk, members: None, traces, commands: 0, bytes: 0 };
        entries.iter().for_each(|entry| decided.add(entry));
        decided
    }

    fn add(&mut self, entry: &Entry) {
        let outcomes = match &entry.payload {
            Payload::Blank => Vec::new(),
            // Of a node that begins with the first entries this is none of a client.
            Payload::Commands(_) if deliberate::first_time(Fault::SkipApplyAfterRestart) => Vec::new(),
            Payload::Commands(proposal) => {
                self.commands += proposal.commands.len();
                self.traces.extend(proposal.trace.clone().map(|trace| (trace, Instant::now())));
                decide(&mut self.chunk, proposal)
            }
            Payload::Members(members) => {
                self.members = Some(members.clone());
                Vec::new()
            }
        };
        self.bytes += entry.weight() as u64 + ENTRY_OVERHEAD_BYTES;
        self.ids.push(entry.id);
        self.outcomes.push(outcomes);
    }
}

fn decide(chunk: &mut Chunk<'_>, proposal: &Proposal) -> Vec<WriteOutcome> {
    let commands = proposal.commands.iter();
    commands.map(|command| machine::apply(chunk, proposal.time, command).unwrap_or_else(|error| stop(&error))).collect()
}

fn stop(error: &ReadError) -> ! {
    fatal::stop("the state database cannot be read while applying the log", error)
}
