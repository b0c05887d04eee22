//! The proposal gate: commands that arrive while a batch is being committed form the next batch.
//!
//! Group commit without a timer. A lone write is proposed at once; under load the batches grow by
//! themselves, and share syncs and wake-ups. A batch starts when the requests that the workers are
//! reading at that moment have arrived too: the processor would be busy with them anyway. A batch
//! is one log entry, unless it is large (ADR 12).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::cluster::leadership::Leader;
use crate::deliberate::{self, Fault};
use crate::event::{Stamps, Ticks, WriteOutcome};
use crate::metrics::Metrics;
use crate::raft::{Consensus, EntryResult, Proposal};
use crate::trace::{EntryTrace, Kind, Span, Tracked};

/// Writes waiting for the next batch. Beyond this a write is refused as busy: it is certainly not
/// written, and no write waits for ever.
pub(crate) const QUEUED_PROPOSALS: usize = 16_384;
/// Commands in one batch.
const BATCH_COMMANDS: usize = 1_024;
/// Bytes of commands in one log entry, unless a single command is larger. Replication sends as much
/// at once.
const ENTRY_BYTES: usize = 1 << 20;
/// Batches that may be committing at once; more than one only when the oldest is slow (see
/// [`SLOW_BATCH`]).
const BATCHES_IN_FLIGHT: usize = 8;
/// A batch older than this no longer holds back the next one, so that a slow disk or network costs
/// latency, not throughput.
const SLOW_BATCH: Duration = Duration::from_millis(10);
/// Writes that the span of a batch names besides the first.
const MAX_LINKS: usize = 127;
/// How many times the gate yields before it starts a batch, as long as each time brings more
/// writes. A worker returns to the gate when it has nothing else to do, or after some sixty tasks.
const YIELDS_BEFORE_BATCH: usize = 8;

/// The fate of a proposed write, proposed here or by the leader to which it was forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proposed {
    /// Committed and applied, with this decision at this index of the log.
    Done {
        /// Index of the log entry.
        log_index: u64,
        /// The decision.
        outcome: WriteOutcome,
    },
    /// Certainly not written: that node does not lead (any more).
    NotLeader,
    /// Certainly not written: too many writes are waiting, or this one waited beyond its deadline.
    Busy,
    /// Perhaps written, or still to be written.
    Unknown,
    /// Certainly not written: the requester may not make it.
    Denied,
}

/// Receives the result of a proposal; runs on the gate's task and must not block.
pub(crate) type Respond = Box<dyn FnOnce(Proposed) + Send>;

/// A command in the queue.
struct QueuedCommand {
    command: Bytes,
    deadline: Instant,
    /// Its write is traced.
    trace: Option<Box<QueuedTrace>>,
    respond: Respond,
}

/// The span of a write that waits, and since when.
struct QueuedTrace {
    write: Tracked,
    since: std::time::Instant,
}

/// Handle on the gate. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate {
    queue: mpsc::Sender<QueuedCommand>,
    /// Shared by the batches under way, and held alone by whoever keeps the gate shut.
    door: Arc<RwLock<()>>,
}

/// While this lives no batch starts; commands wait in the queue, each until its deadline.
pub(crate) struct Shut {
    _door: OwnedRwLockWriteGuard<()>,
}

impl Gate {
    /// A gate and the worker behind it.
    pub(crate) fn new(
        consensus: Consensus,
        stamps: Arc<Stamps>,
        metrics: Arc<Metrics>,
        leader: watch::Receiver<Leader>,
    ) -> (Self, GateWorker) {
        let (queue, queued) = mpsc::channel(QUEUED_PROPOSALS);
        let door = Arc::<RwLock<()>>::default();
        let proposer = Proposer { consensus, stamps, metrics, leader, door: door.clone() };
        (Self { queue, door }, GateWorker { queued, proposer })
    }

    /// Shuts the gate and returns once no batch is under way, so that the outcome of every command
    /// that was proposed is known.
    pub(crate) async fn shut(&self) -> Shut {
        Shut { _door: self.door.clone().write_owned().await }
    }

    /// Commands that wait for the next batch.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Queues a command. `respond` is called exactly once: shortly after `deadline` at the latest,
    /// and as soon as this node no longer leads. Such a node may be cut off, and then consensus may
    /// never answer. `write` is the span of the write, if it is traced.
    pub(crate) fn propose(&self, command: Bytes, deadline: Instant, write: Option<Tracked>, respond: Respond) {
        let trace = write.map(|write| Box::new(QueuedTrace { write, since: std::time::Instant::now() }));
        if let Err(refused) = self.queue.try_send(QueuedCommand { command, deadline, trace, respond }) {
            let (queued, proposed) = match refused {
                mpsc::error::TrySendError::Full(queued) => (queued, Proposed::Busy),
                mpsc::error::TrySendError::Closed(queued) => (queued, Proposed::NotLeader),
            };
            (queued.respond)(proposed);
        }
    }
}

/// Forms batches of the queued commands and proposes them.
pub(crate) struct GateWorker {
    queued: mpsc::Receiver<QueuedCommand>,
    proposer: Proposer,
}

impl GateWorker {
    /// Works until every handle on the gate is gone.
    pub(crate) async fn run(mut self) {
        let mut in_flight = FuturesUnordered::new();
        let mut newest_start = Instant::now();
        let mut gathered = Vec::with_capacity(BATCH_COMMANDS);
        let mut yields = 0;
        loop {
            let may_start =
                in_flight.is_empty() || (in_flight.len() < BATCHES_IN_FLIGHT && newest_start.elapsed() >= SLOW_BATCH);
            tokio::select! {
                biased;
                _ = in_flight.next(), if !in_flight.is_empty() => {}
                received = self.queued.recv_many(&mut gathered, BATCH_COMMANDS), if may_start && gathered.is_empty() => {
                    if received == 0 {
                        break;
                    }
                    yields = 0;
                }
                () = tokio::task::yield_now(), if may_start && !gathered.is_empty() => {
                    yields += 1;
                    if !gather(&mut self.queued, &mut gathered) || yields == YIELDS_BEFORE_BATCH {
                        newest_start = Instant::now();
                        let size = gathered.len();
                        in_flight.push(self.proposer.clone().commit(std::mem::take(&mut gathered)));
                        gathered.reserve(size);
                    }
                }
                () = tokio::time::sleep_until(newest_start + SLOW_BATCH),
                    if !may_start && in_flight.len() < BATCHES_IN_FLIGHT => {}
            }
        }
        while in_flight.next().await.is_some() {}
    }
}

/// Takes what has arrived; false when there was nothing, or when the batch is full.
fn gather(queued: &mut mpsc::Receiver<QueuedCommand>, gathered: &mut Vec<QueuedCommand>) -> bool {
    let before = gathered.len();
    while gathered.len() < BATCH_COMMANDS
        && let Ok(command) = queued.try_recv()
    {
        gathered.push(command);
    }
    gathered.len() > before
}

/// What the commit of a batch needs.
#[derive(Clone)]
struct Proposer {
    consensus: Consensus,
    stamps: Arc<Stamps>,
    metrics: Arc<Metrics>,
    leader: watch::Receiver<Leader>,
    /// See [`Gate`].
    door: Arc<RwLock<()>>,
}

impl Proposer {
    /// Proposes one batch and hands out its answers in order.
    async fn commit(mut self, mut queued: Vec<QueuedCommand>) {
        let Some(_open) = pass(&self.door, &mut queued).await else { return };
        let clock = Ticks::from_system_time(SystemTime::now());
        let time = if deliberate::is(Fault::TimeGoesBack) { clock } else { self.stamps.next(clock) };
        let Batch { mut proposals, mut waiting, traced } = batch(queued, time);
        // Marked as seen before anything is proposed, so that no change after this is missed.
        if *self.leader.borrow_and_update() != Leader::Local {
            return waiting.into_iter().for_each(|one| one.answer(Proposed::NotLeader));
        }
        let Some(mut deadline) = earliest_deadline(&waiting) else { return };
        // Ends with the batch.
        let _span = batch_span(&traced, &mut proposals);
        self.metrics.proposals.inc_by(waiting.len() as u64);
        self.metrics.proposal_batch.observe(waiting.len() as f64);

        let mut sizes: VecDeque<usize> = proposals.iter().map(|proposal| proposal.commands.len()).collect();
        let results = self.consensus.propose(proposals);
        tokio::pin!(results);
        // Neither the call nor the stream has a timeout of its own: without a quorum they wait for
        // ever.
        loop {
            tokio::select! {
                result = results.next() => match (result, sizes.pop_front()) {
                    (Some(result), Some(size)) => hand_out(result, waiting.drain(..size)),
                    _ => break,
                },
                _ = self.leader.changed() => break,
                () = tokio::time::sleep_until(deadline) => {
                    give_up_late(&mut waiting, Instant::now());
                    match earliest_deadline(&waiting) {
                        Some(next) => deadline = next,
                        None => break,
                    }
                }
            }
        }
        if deliberate::is(Fault::CreatedOnStepDown) {
            let outcome = WriteOutcome::Appended { first_number: 0, position: 0, repeated: false };
            return waiting
                .into_iter()
                .for_each(|one| one.answer(Proposed::Done { log_index: 0, outcome: outcome.clone() }));
        }
        waiting.into_iter().for_each(|one| one.answer(Proposed::Unknown));
    }
}

/// Waits until the gate is open. Commands whose deadline passes meanwhile are answered and left
/// out; `None` when none is left.
async fn pass(door: &Arc<RwLock<()>>, queued: &mut Vec<QueuedCommand>) -> Option<OwnedRwLockReadGuard<()>> {
    if let Ok(open) = door.clone().try_read_owned() {
        return Some(open);
    }
    let passing = door.clone().read_owned();
    tokio::pin!(passing);
    loop {
        let deadline = queued.iter().map(|one| one.deadline).min()?;
        match timeout_at(deadline, passing.as_mut()).await {
            Ok(open) => return Some(open),
            Err(_) => answer_late(queued, Instant::now()),
        }
    }
}

/// Answers the commands whose deadline has passed, which are certainly not written, and leaves them
/// out.
fn answer_late(queued: &mut Vec<QueuedCommand>, now: Instant) {
    for late in queued.extract_if(.., |one| one.deadline <= now) {
        (late.respond)(Proposed::Busy);
    }
}

/// Gives the outcomes of one log entry to the waiting requests.
fn hand_out(result: EntryResult, waiting: impl Iterator<Item = Waiting>) {
    match result {
        EntryResult::Applied { index: log_index, outcomes } => {
            let mut outcomes = outcomes.into_iter();
            for one in waiting {
                let outcome = outcomes.next();
                one.answer(outcome.map_or(Proposed::Unknown, |outcome| Proposed::Done { log_index, outcome }));
            }
        }
        EntryResult::NotLeader => waiting.for_each(|one| one.answer(Proposed::NotLeader)),
        EntryResult::Unknown => waiting.for_each(|one| one.answer(Proposed::Unknown)),
    }
}

fn earliest_deadline(waiting: &VecDeque<Waiting>) -> Option<Instant> {
    waiting.iter().filter(|one| one.respond.is_some()).map(|one| one.deadline).min()
}

/// Answers the requests whose deadline has passed. Their commands may still be written.
fn give_up_late(waiting: &mut VecDeque<Waiting>, now: Instant) {
    for one in waiting.iter_mut().filter(|one| one.deadline <= now) {
        if let Some(respond) = one.respond.take() {
            respond(Proposed::Unknown);
        }
    }
}

/// A request that waits for the decision on its command.
struct Waiting {
    deadline: Instant,
    /// Absent once the request was answered.
    respond: Option<Respond>,
}

impl Waiting {
    fn answer(self, proposed: Proposed) {
        if let Some(respond) = self.respond {
            respond(proposed);
        }
    }
}

/// Log entries and the requests that wait for their commands, in the same order.
struct Batch {
    proposals: Vec<Proposal>,
    waiting: VecDeque<Waiting>,
    /// The spans of the writes that are traced.
    traced: Vec<Tracked>,
}

/// The span of a batch with traced writes. It is a child of the first of them and names the others,
/// and what becomes of its log entries on any node belongs to it.
fn batch_span(traced: &[Tracked], proposals: &mut [Proposal]) -> Option<Span> {
    let (first, others) = traced.split_first()?;
    let mut span = first.child("raft.propose", Kind::Internal);
    others.iter().take(MAX_LINKS).for_each(|other| span.link(other));
    let commands: usize = proposals.iter().map(|proposal| proposal.commands.len()).sum();
    span.set("headwater.batch.commands", commands as i64);
    span.set("headwater.batch.entries", proposals.len() as i64);
    for proposal in proposals {
        proposal.trace = Some(EntryTrace::new(span.tracked()));
    }
    Some(span)
}

/// Packs commands into entries with this time. A command whose deadline has passed is answered at
/// once.
fn batch(queued: Vec<QueuedCommand>, time: Ticks) -> Batch {
    let now = Instant::now();
    let mut batch = Batch { proposals: Vec::new(), waiting: VecDeque::with_capacity(queued.len()), traced: Vec::new() };
    let mut commands = Vec::with_capacity(queued.len());
    let mut bytes = 0;
    for QueuedCommand { command, deadline, trace, respond } in queued {
        if let Some(trace) = trace {
            trace.write.record("gate.wait", trace.since);
            batch.traced.push(trace.write);
        }
        if deadline <= now {
            respond(Proposed::Busy);
            continue;
        }
        if bytes + command.len() > ENTRY_BYTES && !commands.is_empty() {
            batch.proposals.push(Proposal { time, commands: std::mem::take(&mut commands).into(), trace: None });
            bytes = 0;
        }
        bytes += command.len();
        commands.push(command);
        batch.waiting.push_back(Waiting { deadline, respond: Some(respond) });
    }
    if !commands.is_empty() {
        batch.proposals.push(Proposal { time, commands: commands.into(), trace: None });
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const TIME: Ticks = Ticks(7);

    fn command(bytes: usize, time_left: Duration, answered: &Arc<AtomicUsize>) -> QueuedCommand {
        let answered = answered.clone();
        let respond = Box::new(move |_| {
            answered.fetch_add(1, Ordering::Relaxed);
        });
        QueuedCommand { command: vec![0; bytes].into(), deadline: Instant::now() + time_left, trace: None, respond }
    }

    fn sizes(batch: &Batch) -> Vec<usize> {
        batch.proposals.iter().map(|proposal| proposal.commands.len()).collect()
    }

    #[test]
    fn small_commands_share_an_entry_and_large_ones_get_their_own() {
        let answered = Arc::default();
        let commands = |all: &[usize]| all.iter().map(|bytes| command(*bytes, Duration::MAX / 4, &answered)).collect();
        assert_eq!(sizes(&batch(commands(&[10; 500]), TIME)), [500]);
        assert_eq!(sizes(&batch(commands(&[ENTRY_BYTES, 1]), TIME)), [1, 1]);
        assert_eq!(sizes(&batch(commands(&[1, 3 * ENTRY_BYTES, 1, 1]), TIME)), [1, 1, 2]);
        assert_eq!(sizes(&batch(commands(&[ENTRY_BYTES / 2, ENTRY_BYTES / 2, 1]), TIME)), [2, 1]);
        assert!(batch(commands(&[1, ENTRY_BYTES]), TIME).proposals.iter().all(|proposal| proposal.time == TIME));
        assert_eq!(answered.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_batch_gathers_what_has_arrived_up_to_its_size() {
        let answered = Arc::default();
        let (queue, mut commands) = mpsc::channel(QUEUED_PROPOSALS);
        let send =
            |count| (0..count).for_each(|_| queue.try_send(command(1, Duration::MAX / 4, &answered)).ok().unwrap());
        let mut gathered = Vec::new();
        assert!(!gather(&mut commands, &mut gathered));
        send(3);
        assert!(gather(&mut commands, &mut gathered));
        send(BATCH_COMMANDS);
        assert!(gather(&mut commands, &mut gathered));
        assert!(!gather(&mut commands, &mut gathered), "the batch is full");
        assert_eq!((gathered.len(), commands.len()), (BATCH_COMMANDS, 3));
    }

    #[test]
    fn commands_beyond_their_deadline_are_answered_and_left_out() {
        let answered = Arc::default();
        let late = |_| command(1, Duration::ZERO, &answered);
        let batch = batch((0..3).map(late).chain([command(1, Duration::from_secs(60), &answered)]).collect(), TIME);
        assert_eq!((sizes(&batch), batch.waiting.len()), (vec![1], 1));
        assert_eq!(answered.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn commands_wait_at_a_shut_gate_until_it_opens_or_their_deadline() {
        let (answered, door) = (Arc::default(), Arc::<RwLock<()>>::default());
        let under_way = pass(&door, &mut Vec::new()).await.unwrap();
        let mut shut = Box::pin(door.clone().write_owned());
        assert!(futures::poll!(shut.as_mut()).is_pending(), "a batch is under way");
        drop(under_way);
        let shut = shut.await;

        let mut late = vec![command(1, Duration::ZERO, &answered)];
        assert!(pass(&door, &mut late).await.is_none());
        assert_eq!(answered.load(Ordering::Relaxed), 1);
        let mut queued = vec![command(1, Duration::ZERO, &answered), command(1, Duration::from_secs(60), &answered)];
        let mut passing = Box::pin(pass(&door, &mut queued));
        while answered.load(Ordering::Relaxed) < 2 {
            assert!(futures::poll!(passing.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        drop(shut);
        assert!(passing.await.is_some());
        assert_eq!((queued.len(), answered.load(Ordering::Relaxed)), (1, 2));
    }

    #[test]
    fn a_command_that_waits_too_long_is_answered_while_others_wait_on() {
        let answered = Arc::default();
        let soon = command(1, Duration::from_secs(30), &answered);
        let Batch { mut waiting, .. } = batch(vec![soon, command(1, Duration::from_secs(60), &answered)], TIME);
        let first = earliest_deadline(&waiting).unwrap();
        give_up_late(&mut waiting, first);
        assert_eq!(answered.load(Ordering::Relaxed), 1);
        assert!(earliest_deadline(&waiting).unwrap() > first);
        waiting.into_iter().for_each(|one| one.answer(Proposed::Unknown));
        assert_eq!(answered.load(Ordering::Relaxed), 2);
    }
}
