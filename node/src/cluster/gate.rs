//! The proposal gate: what arrives while one batch is being committed goes as the next batch.
//!
//! Group commit without a timer: alone, a write is proposed at once; under load the batches grow by
//! themselves, and with them the syncs and the wake-ups are shared. A batch starts when the
//! requests that are being worked on at that moment have arrived too: the processor would be busy
//! with them anyway. It is one log entry, unless it is large.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Leadership;
use crate::event::{Ticks, WriteOutcome};
use crate::metrics::Metrics;
use crate::raft::{Consensus, EntryResult, Proposal};

/// Writes waiting for the next batch. Beyond it a write is refused as busy: nothing is lost,
/// nothing waits for ever.
pub const QUEUED_PROPOSALS: usize = 16_384;
/// Commands in one batch.
const BATCH_COMMANDS: usize = 1_024;
/// Bytes of commands in one log entry, unless a single command is larger: what replication sends at
/// once.
const ENTRY_BYTES: usize = 1 << 20;
/// Batches that may be committing at once; more than one only when the oldest is slow (see
/// [`SLOW_BATCH`]).
const BATCHES_IN_FLIGHT: usize = 8;
/// A batch older than this no longer holds back the next one, so that a slow disk or network costs
/// latency, not throughput.
const SLOW_BATCH: Duration = Duration::from_millis(10);

/// How often others go first before a batch starts, as long as each time brings more writes. A
/// worker comes back to the gate when it has nothing else to do, or after some sixty tasks.
const TURNS_OF_OTHERS: usize = 8;

/// What became of a proposal on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposed {
    /// Committed and applied here, with this decision at this place of the log.
    Done {
        /// Index of the log entry.
        log_index: u64,
        /// The decision.
        outcome: WriteOutcome,
    },
    /// Surely not written: this node does not lead (any more).
    NotLeader,
    /// Surely not written: too many are waiting, or this one waited beyond its deadline.
    Busy,
    /// May have been written or may still be.
    Unknown,
    /// Surely not written: the requester may not do it.
    Denied,
}

/// Receives the end of a proposal; runs on the gate's task and must not block.
pub type Answer = Box<dyn FnOnce(Proposed) + Send>;

struct Request {
    command: Bytes,
    deadline: Instant,
    answer: Answer,
}

/// Handle to the gate. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    queue: mpsc::Sender<Request>,
}

impl Gate {
    /// A gate and the task that works it; the task ends when every handle is gone.
    pub fn new(
        consensus: Consensus,
        metrics: Arc<Metrics>,
        leadership: watch::Receiver<Leadership>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, requests) = mpsc::channel(QUEUED_PROPOSALS);
        (Self { queue }, run(Proposer { consensus, metrics, leadership }, requests))
    }

    /// Commands that wait for the next batch.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Queues a command; `answer` is called exactly once, at the latest a little after `deadline`,
    /// and as soon as this node leads no more: it may be cut off, and then nobody could tell when
    /// consensus answers.
    pub fn propose(&self, command: Bytes, deadline: Instant, answer: Answer) {
        if let Err(refused) = self.queue.try_send(Request { command, deadline, answer }) {
            let (request, proposed) = match refused {
                mpsc::error::TrySendError::Full(request) => (request, Proposed::Busy),
                mpsc::error::TrySendError::Closed(request) => (request, Proposed::NotLeader),
            };
            (request.answer)(proposed);
        }
    }
}

async fn run(proposer: Proposer, mut requests: mpsc::Receiver<Request>) {
    let mut in_flight = FuturesUnordered::new();
    let mut newest_start = Instant::now();
    let mut gathered = Vec::with_capacity(BATCH_COMMANDS);
    let mut turns_of_others = 0;
    loop {
        let may_start =
            in_flight.is_empty() || (in_flight.len() < BATCHES_IN_FLIGHT && newest_start.elapsed() >= SLOW_BATCH);
        tokio::select! {
            biased;
            _ = in_flight.next(), if !in_flight.is_empty() => {}
            received = requests.recv_many(&mut gathered, BATCH_COMMANDS), if may_start && gathered.is_empty() => {
                if received == 0 {
                    break;
                }
                turns_of_others = 0;
            }
            () = tokio::task::yield_now(), if may_start && !gathered.is_empty() => {
                turns_of_others += 1;
                if !gather(&mut requests, &mut gathered) || turns_of_others == TURNS_OF_OTHERS {
                    newest_start = Instant::now();
                    let size = gathered.len();
                    in_flight.push(proposer.clone().commit(std::mem::take(&mut gathered)));
                    gathered.reserve(size);
                }
            }
            () = tokio::time::sleep_until(newest_start + SLOW_BATCH), if !may_start && in_flight.len() < BATCHES_IN_FLIGHT => {}
        }
    }
    while in_flight.next().await.is_some() {}
}

/// Takes what has arrived; false when there was nothing, or no room for it.
fn gather(requests: &mut mpsc::Receiver<Request>, gathered: &mut Vec<Request>) -> bool {
    let before = gathered.len();
    while gathered.len() < BATCH_COMMANDS
        && let Ok(request) = requests.try_recv()
    {
        gathered.push(request);
    }
    gathered.len() > before
}

/// What a batch needs on its way.
#[derive(Clone)]
struct Proposer {
    consensus: Consensus,
    metrics: Arc<Metrics>,
    leadership: watch::Receiver<Leadership>,
}

impl Proposer {
    /// Proposes one batch and hands out its answers in order.
    async fn commit(mut self, requests: Vec<Request>) {
        let Batch { proposals, mut waiting } = batch(requests);
        // Marked as seen before anything is proposed, so that no change after this is missed.
        if *self.leadership.borrow_and_update() != Leadership::Local {
            return waiting.into_iter().for_each(|one| one.tell(Proposed::NotLeader));
        }
        let Some(mut deadline) = earliest_deadline(&waiting) else { return };
        self.metrics.proposals.inc_by(waiting.len() as u64);
        self.metrics.proposal_batch.observe(waiting.len() as f64);

        let mut sizes: VecDeque<usize> = proposals.iter().map(|proposal| proposal.commands.len()).collect();
        let results = self.consensus.propose(proposals);
        tokio::pin!(results);
        // Neither the call nor the stream has a time-out of its own: without a quorum they wait for
        // ever.
        loop {
            tokio::select! {
                result = results.next() => match (result, sizes.pop_front()) {
                    (Some(result), Some(size)) => hand_out(result, waiting.drain(..size)),
                    _ => break,
                },
                _ = self.leadership.changed() => break,
                () = tokio::time::sleep_until(deadline) => {
                    give_up_late(&mut waiting, Instant::now());
                    match earliest_deadline(&waiting) {
                        Some(next) => deadline = next,
                        None => break,
                    }
                }
            }
        }
        waiting.into_iter().for_each(|one| one.tell(Proposed::Unknown));
    }
}

/// Gives the outcomes of one log entry to those who wait for them.
fn hand_out(result: EntryResult, waiting: impl Iterator<Item = Waiting>) {
    match result {
        EntryResult::Applied { index: log_index, outcomes } => {
            let mut outcomes = outcomes.into_iter();
            for one in waiting {
                let outcome = outcomes.next();
                one.tell(outcome.map_or(Proposed::Unknown, |outcome| Proposed::Done { log_index, outcome }));
            }
        }
        EntryResult::NotLeader => waiting.for_each(|one| one.tell(Proposed::NotLeader)),
        EntryResult::Unknown => waiting.for_each(|one| one.tell(Proposed::Unknown)),
    }
}

fn earliest_deadline(waiting: &VecDeque<Waiting>) -> Option<Instant> {
    waiting.iter().filter(|one| one.answer.is_some()).map(|one| one.deadline).min()
}

/// Answers those whose time is over; their commands may still be written.
fn give_up_late(waiting: &mut VecDeque<Waiting>, now: Instant) {
    for one in waiting.iter_mut().filter(|one| one.deadline <= now) {
        if let Some(answer) = one.answer.take() {
            answer(Proposed::Unknown);
        }
    }
}

/// Who waits for a command that was proposed.
struct Waiting {
    deadline: Instant,
    /// Absent once it was given up.
    answer: Option<Answer>,
}

impl Waiting {
    fn tell(self, proposed: Proposed) {
        if let Some(answer) = self.answer {
            answer(proposed);
        }
    }
}

/// Log entries and who waits for their commands, in the same order.
struct Batch {
    proposals: Vec<Proposal>,
    waiting: VecDeque<Waiting>,
}

/// Packs commands into entries. Whose time is over is answered at once.
fn batch(requests: Vec<Request>) -> Batch {
    let now = Instant::now();
    let time = Ticks::from_system_time(SystemTime::now());
    let mut batch = Batch { proposals: Vec::new(), waiting: VecDeque::with_capacity(requests.len()) };
    let mut commands = Vec::with_capacity(requests.len());
    let mut bytes = 0;
    for Request { command, deadline, answer } in requests {
        if deadline <= now {
            answer(Proposed::Busy);
            continue;
        }
        if bytes + command.len() > ENTRY_BYTES && !commands.is_empty() {
            batch.proposals.push(Proposal { time, commands: std::mem::take(&mut commands).into() });
            bytes = 0;
        }
        bytes += command.len();
        commands.push(command);
        batch.waiting.push_back(Waiting { deadline, answer: Some(answer) });
    }
    if !commands.is_empty() {
        batch.proposals.push(Proposal { time, commands: commands.into() });
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn request(bytes: usize, time_left: Duration, answered: &Arc<AtomicUsize>) -> Request {
        let answered = answered.clone();
        let answer = Box::new(move |_| {
            answered.fetch_add(1, Ordering::Relaxed);
        });
        Request { command: vec![0; bytes].into(), deadline: Instant::now() + time_left, answer }
    }

    fn sizes(batch: &Batch) -> Vec<usize> {
        batch.proposals.iter().map(|proposal| proposal.commands.len()).collect()
    }

    #[test]
    fn small_commands_share_an_entry_and_large_ones_get_their_own() {
        let answered = Arc::default();
        let requests = |all: &[usize]| all.iter().map(|bytes| request(*bytes, Duration::MAX / 4, &answered)).collect();
        assert_eq!(sizes(&batch(requests(&[10; 500]))), [500]);
        assert_eq!(sizes(&batch(requests(&[ENTRY_BYTES, 1]))), [1, 1]);
        assert_eq!(sizes(&batch(requests(&[1, 3 * ENTRY_BYTES, 1, 1]))), [1, 1, 2]);
        assert_eq!(sizes(&batch(requests(&[ENTRY_BYTES / 2, ENTRY_BYTES / 2, 1]))), [2, 1]);
        assert_eq!(answered.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_batch_gathers_what_has_arrived_up_to_its_size() {
        let answered = Arc::default();
        let (queue, mut requests) = mpsc::channel(QUEUED_PROPOSALS);
        let send =
            |count| (0..count).for_each(|_| queue.try_send(request(1, Duration::MAX / 4, &answered)).ok().unwrap());
        let mut gathered = Vec::new();
        assert!(!gather(&mut requests, &mut gathered));
        send(3);
        assert!(gather(&mut requests, &mut gathered));
        send(BATCH_COMMANDS);
        assert!(gather(&mut requests, &mut gathered));
        assert!(!gather(&mut requests, &mut gathered), "it is full");
        assert_eq!((gathered.len(), requests.len()), (BATCH_COMMANDS, 3));
    }

    #[test]
    fn commands_whose_time_is_over_are_answered_and_left_out() {
        let answered = Arc::default();
        let late = |_| request(1, Duration::ZERO, &answered);
        let batch = batch((0..3).map(late).chain([request(1, Duration::from_secs(60), &answered)]).collect());
        assert_eq!((sizes(&batch), batch.waiting.len()), (vec![1], 1));
        assert_eq!(answered.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_command_that_waits_too_long_is_answered_while_others_wait_on() {
        let answered = Arc::default();
        let soon = request(1, Duration::from_secs(30), &answered);
        let Batch { mut waiting, .. } = batch(vec![soon, request(1, Duration::from_secs(60), &answered)]);
        let first = earliest_deadline(&waiting).unwrap();
        give_up_late(&mut waiting, first);
        assert_eq!(answered.load(Ordering::Relaxed), 1);
        assert!(earliest_deadline(&waiting).unwrap() > first);
        waiting.into_iter().for_each(|one| one.tell(Proposed::Unknown));
        assert_eq!(answered.load(Ordering::Relaxed), 2);
    }
}
