//! The proposal gate: what arrives while one batch is being committed goes as the next batch.
//!
//! Group commit without a timer: alone, a write is proposed at once; under load the batches grow by themselves, and with them
//! the syncs and the wake-ups are shared.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::errors::ClientWriteError;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::event::{Ticks, WriteOutcome};
use crate::metrics::Metrics;
use crate::raft::{Proposal, Raft};

/// Writes waiting for the next batch. Beyond it a write is refused as busy: nothing is lost, nothing waits for ever.
pub const QUEUED_PROPOSALS: usize = 16_384;
/// Commands in one batch.
const BATCH_COMMANDS: usize = 1_024;
/// Batches that may be committing at once; more than one only when the oldest is slow (see [`SLOW_BATCH`]).
const BATCHES_IN_FLIGHT: usize = 8;
/// A batch older than this no longer holds back the next one, so that a slow disk or network costs latency, not throughput.
const SLOW_BATCH: Duration = Duration::from_millis(10);

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
    pub fn new(raft: Raft, metrics: Arc<Metrics>) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, requests) = mpsc::channel(QUEUED_PROPOSALS);
        (Self { queue }, run(raft, metrics, requests))
    }

    /// Queues a command; `answer` is called exactly once, at the latest a little after `deadline`.
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

async fn run(raft: Raft, metrics: Arc<Metrics>, mut requests: mpsc::Receiver<Request>) {
    let mut in_flight = FuturesUnordered::new();
    let mut newest_start = Instant::now();
    let mut waiting = Vec::with_capacity(BATCH_COMMANDS);
    loop {
        let may_start =
            in_flight.is_empty() || (in_flight.len() < BATCHES_IN_FLIGHT && newest_start.elapsed() >= SLOW_BATCH);
        tokio::select! {
            received = requests.recv_many(&mut waiting, BATCH_COMMANDS), if may_start => {
                if received == 0 {
                    break;
                }
                newest_start = Instant::now();
                in_flight.push(commit(raft.clone(), metrics.clone(), std::mem::take(&mut waiting)));
                waiting.reserve(received);
            }
            _ = in_flight.next(), if !in_flight.is_empty() => {}
            () = tokio::time::sleep_until(newest_start + SLOW_BATCH), if !may_start && in_flight.len() < BATCHES_IN_FLIGHT => {}
        }
    }
    while in_flight.next().await.is_some() {}
}

/// Proposes one batch and hands out its answers in order.
async fn commit(raft: Raft, metrics: Arc<Metrics>, requests: Vec<Request>) {
    let now = Instant::now();
    let time = Ticks::from_system_time(SystemTime::now());
    let mut answers = Vec::with_capacity(requests.len());
    let mut proposals = Vec::with_capacity(requests.len());
    let mut latest_deadline = now;
    for request in requests {
        if request.deadline <= now {
            (request.answer)(Proposed::Busy);
            continue;
        }
        latest_deadline = latest_deadline.max(request.deadline);
        proposals.push(Proposal { time, command: request.command });
        answers.push(request.answer);
    }
    if answers.is_empty() {
        return;
    }
    metrics.proposals.inc_by(answers.len() as u64);
    metrics.proposal_batch.observe(answers.len() as f64);

    let mut answers = answers.into_iter();
    // Neither the call nor the stream has a time-out of its own: without a quorum they wait for ever.
    let propose = async {
        let Ok(mut results) = raft.client_write_many(proposals).await else {
            return;
        };
        while let Some(Ok(result)) = results.next().await {
            let Some(answer) = answers.next() else { return };
            answer(match result {
                Ok(written) => Proposed::Done { log_index: written.log_id.index, outcome: written.response },
                Err(ClientWriteError::ForwardToLeader(_)) => Proposed::NotLeader,
                // Discarded here, but it may have reached the new leader through another follower.
                Err(_) => Proposed::Unknown,
            });
        }
    };
    let _ = tokio::time::timeout_at(latest_deadline, propose).await;
    for answer in answers {
        answer(Proposed::Unknown);
    }
}
