//! What the apply thread does.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::entry::{Entry, EntryId, Payload, Proposal};
use super::flush::{self, FLUSH_BYTES};
use super::{Answer, DurableGate, Job, MAX_CHUNK_BYTES};
use crate::event::WriteOutcome;
use crate::log::Volume;
use crate::metrics::Metrics;
use crate::store::write::Chunk;
use crate::store::{ReadError, StateWriter, Store};
use crate::{fatal, machine, priority};

/// What a log entry occupies beside its commands, about: ids, time, key and framing.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// Works until it is told to stop.
#[expect(clippy::disallowed_methods, reason = "this is the apply thread")]
pub(super) fn run(mut writer: StateWriter, mut publisher: Publisher, mut queue: mpsc::Receiver<Job>) {
    priority::run_promptly();
    while let Some(job) = queue.blocking_recv() {
        let stop = match job {
            Job::DecideAhead(entries) if follows(&writer, &entries) => {
                let ahead = Decided::new(&mut writer, &entries);
                match next_but_guesses(&mut queue) {
                    Some(Job::Apply { entries, answer, done }) if ahead.is_of(&entries) => {
                        publisher.metrics.decided_ahead.inc();
                        publisher.commit(ahead, answer, done);
                        ControlFlow::Continue(())
                    }
                    Some(other) => {
                        drop(ahead);
                        work(&mut writer, &mut publisher, other)
                    }
                    None => return,
                }
            }
            job => work(&mut writer, &mut publisher, job),
        };
        if stop.is_break() {
            return;
        }
    }
}

/// The next job that is no guess: there is one already.
#[expect(clippy::disallowed_methods, reason = "runs on the apply thread")]
fn next_but_guesses(queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
    loop {
        match queue.blocking_recv() {
            Some(Job::DecideAhead(_)) => {}
            next => return next,
        }
    }
}

/// Does a job for which nothing was decided ahead.
fn work(writer: &mut StateWriter, publisher: &mut Publisher, job: Job) -> ControlFlow<()> {
    match job {
        Job::DecideAhead(_) => {}
        Job::Apply { entries, answer, done } => publisher.commit(Decided::new(writer, &entries), answer, done),
        Job::Run(task) => task(writer),
        Job::Stop { done } => {
            flush::flush(writer);
            let _ = done.send(());
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}

/// Makes decisions visible.
pub(super) struct Publisher {
    pub(super) store: Store,
    pub(super) gate: DurableGate,
    pub(super) metrics: Arc<Metrics>,
    pub(super) volume: Arc<Mutex<Volume>>,
    /// A slot for one flush request.
    pub(super) flush: SyncSender<()>,
}

impl Publisher {
    /// Makes visible what was decided and answers who waits for it.
    fn commit(&mut self, decided: Decided<'_>, answer: Answer, done: oneshot::Sender<()>) {
        let Decided { ids, outcomes, chunk, members, commands, bytes } = decided;
        let Some(last) = ids.last().copied() else { return };
        (self.gate)(last.index + 1);
        let new_events = chunk.new_events();
        chunk.commit(last.index + 1, last.encode(), members);

        // Only now, when readers see it: a client may read on this node as soon as it has its
        // answer.
        answer(outcomes);
        self.metrics.applied_entries.inc_by(ids.len() as u64);
        self.metrics.apply_chunk.observe(commands as f64);
        self.metrics.applied_events.inc_by(new_events);
        self.volume.lock().add(last.index, bytes);
        if self.store.unflushed_bytes() >= FLUSH_BYTES {
            // A full slot means that a flush is already asked for.
            let _ = self.flush.try_send(());
        }
        // Consensus may be gone during shutdown.
        let _ = done.send(());
    }
}

/// Whether these are the next entries after those applied, and few enough for one chunk.
fn follows(store: &Store, entries: &[Entry]) -> bool {
    let bytes: usize = entries.iter().map(Entry::weight).sum();
    let next = store.applied().current().log_entries;
    entries.first().is_some_and(|first| first.id.index == next) && bytes <= MAX_CHUNK_BYTES
}

/// What some consecutive entries do to the state, not yet visible to anybody.
struct Decided<'writer> {
    /// In the log, in their order.
    ids: Vec<EntryId>,
    /// Of each entry the outcomes of its commands.
    outcomes: Vec<Vec<WriteOutcome>>,
    chunk: Chunk<'writer>,
    /// The members as of the last entry, if one of them changed them.
    members: Option<Vec<u8>>,
    commands: usize,
    /// Of log.
    bytes: u64,
}

impl<'writer> Decided<'writer> {
    fn new(writer: &'writer mut StateWriter, entries: &[Entry]) -> Self {
        let (ids, outcomes) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        let mut decided = Self { ids, outcomes, chunk: writer.begin(), members: None, commands: 0, bytes: 0 };
        entries.iter().for_each(|entry| decided.add(entry));
        decided
    }

    fn add(&mut self, entry: &Entry) {
        let outcomes = match &entry.payload {
            Payload::Blank => Vec::new(),
            Payload::Commands(proposal) => {
                self.commands += proposal.commands.len();
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

    /// Whether it was decided on exactly these: the same place in the log, given by the same
    /// leader, holds the same entry.
    fn is_of(&self, entries: &[Entry]) -> bool {
        self.ids.iter().eq(entries.iter().map(|entry| &entry.id))
    }
}

fn decide(chunk: &mut Chunk<'_>, proposal: &Proposal) -> Vec<WriteOutcome> {
    let commands = proposal.commands.iter();
    commands.map(|command| machine::apply(chunk, proposal.time, command).unwrap_or_else(|error| stop(&error))).collect()
}

fn stop(error: &ReadError) -> ! {
    fatal::stop("the state database cannot be read while applying the log", error)
}
