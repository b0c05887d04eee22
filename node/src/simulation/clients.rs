//! The clients of a simulated cluster: what they write and read, and what they are answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use headwater_proto::stored;
use parking_lot::Mutex;
use prost::Message;
use rand::RngExt;
use rand::rngs::StdRng;

use super::facts::{Checked, Facts, Write};
use super::flaw::Flaw;
use super::node::Node;
use super::trace::Trace;
use crate::event::{Position, WriteOutcome};
use crate::raft::{EntryResult, Proposal, ServerState};

/// A client gives up after this time, and does not know what became of its write.
const PATIENCE_MS: u64 = 4_000;

/// Streams that are written to.
const STREAMS: usize = 4;

/// Writes that were given up and wait for another attempt.
const MAX_WAITING: usize = 8;

type OperationId = u64;

/// What a client asks for.
#[derive(Clone)]
enum Request {
    /// Writes that share a log entry.
    Write { writes: Vec<Write>, commands: Arc<[Bytes]>, is_repeated: bool },
    /// How many events there are, as of the last acknowledged write.
    Read { before: Position },
}

struct Pending {
    request: Request,
    until: u64,
}

enum Answer {
    Written(Option<EntryResult>),
    Read(Option<Position>),
}

/// All clients together.
pub(super) struct Clients {
    rng: StdRng,
    flaw: Option<Flaw>,
    next: OperationId,
    pending: BTreeMap<OperationId, Pending>,
    unknown: VecDeque<Request>,
    answers: Arc<Mutex<Vec<(OperationId, Answer)>>>,
    /// Acknowledged writes, and answered reads.
    pub(super) succeeded: (u64, u64),
}

impl Clients {
    pub(super) fn new(rng: StdRng, flaw: Option<Flaw>) -> Self {
        let answers = Arc::default();
        Self { rng, flaw, next: 0, pending: BTreeMap::new(), unknown: VecDeque::new(), answers, succeeded: (0, 0) }
    }

    /// Operations so far.
    pub(super) fn operations(&self) -> u64 {
        self.next
    }

    /// Whether an answer is still to come.
    pub(super) fn are_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Begins an operation on a node.
    pub(super) fn begin(&mut self, node: &Node, now: u64, facts: &Facts, trace: &Trace) {
        let request = match self.rng.random_range(0..10) {
            0..2 => Request::Read { before: facts.shown },
            2..5 if !self.unknown.is_empty() => self.unknown.pop_front().unwrap_or(Request::Read { before: 0 }),
            _ => self.write(facts),
        };
        self.ask(node, now, request, trace);
    }

    /// Begins a write.
    pub(super) fn begin_write(&mut self, node: &Node, now: u64, facts: &Facts, trace: &Trace) {
        let request = self.write(facts);
        self.ask(node, now, request, trace);
    }

    fn ask(&mut self, node: &Node, now: u64, request: Request, trace: &Trace) {
        let Some(parts) = node.parts() else { return };
        let id = self.next;
        self.next += 1;
        let (answers, consensus) = (self.answers.clone(), parts.consensus());
        match &request {
            Request::Write { commands, writes, .. } => {
                let clock = node.time_of_day(now);
                let time = if self.flaw == Some(Flaw::BareClock) { clock } else { parts.stamps.next(clock) };
                trace.note(format_args!("client {id} writes {} by {}", writes.len(), node.number));
                let proposal = Proposal { time, commands: commands.clone(), trace: None };
                node.spawn(async move {
                    let results: Vec<_> = consensus.propose(vec![proposal]).collect().await;
                    answers.lock().push((id, Answer::Written(results.into_iter().next())));
                });
            }
            Request::Read { .. } => {
                trace.note(format_args!("client {id} reads by {}", node.number));
                let (store, has_barrier) = (parts.store.clone(), self.flaw != Some(Flaw::NoBarrier));
                node.spawn(async move {
                    let read = async {
                        if has_barrier {
                            let index = consensus.read_index().await?;
                            store.applied().wait_for_log_index(index).await;
                        } else if consensus.seen().state != ServerState::Leader {
                            return None;
                        }
                        store.read(|view| view.next_position()).await.ok()
                    };
                    let next_position = read.await;
                    answers.lock().push((id, Answer::Read(next_position)));
                });
            }
        }
        self.pending.insert(id, Pending { request, until: now + PATIENCE_MS });
    }

    fn write(&mut self, facts: &Facts) -> Request {
        let count = if self.rng.random_range(0..4) == 0 { 3 } else { 1 };
        let first_id = (u128::from(self.next) + 1) << 16;
        let (writes, commands): (Vec<_>, Vec<_>) =
            (0..count).map(|place| self.append(facts, first_id + (place << 8))).unzip();
        Request::Write { writes, commands: commands.into(), is_repeated: false }
    }

    fn append(&mut self, facts: &Facts, first_id: u128) -> (Write, Bytes) {
        let stream = format!("stream-{}", self.rng.random_range(0..STREAMS));
        let expected = match self.rng.random_range(0..4) {
            0 => facts.last_number(&stream).map_or(-1, |last| last as i64),
            _ => -2,
        };
        let ids: Vec<u128> = (0..self.rng.random_range(1..=3)).map(|place| first_id + place).collect();
        let bytes = [self.rng.random_range(0..100), self.rng.random_range(100..4_000)][self.rng.random_range(0..2)];
        let event = |id: &u128| stored::NewEvent {
            event_id: id.to_be_bytes().to_vec().into(),
            event_type: "simulated".to_owned(),
            is_json: false,
            data: (0..bytes).map(|at| (at as u128 * 31 + id) as u8).collect::<Vec<u8>>().into(),
            metadata: Bytes::new(),
        };
        let append = stored::Append {
            stream: stream.clone(),
            expected_version: expected,
            events: ids.iter().map(event).collect(),
            ..stored::Append::default()
        };
        let command = stored::Command::of_streams(stored::command::Kind::Append(append));
        (Write { stream, ids, expected }, command.encode_to_vec().into())
    }

    /// Takes the answers that have come, and gives up what takes too long.
    pub(super) fn take_answers(&mut self, now: u64, facts: &mut Facts, trace: &Trace) -> Checked {
        let answers = std::mem::take(&mut *self.answers.lock());
        for (id, answer) in answers {
            let pending = self.pending.remove(&id);
            self.take(id, answer, pending.map(|pending| pending.request), facts, trace)?;
        }
        let is_late = |pending: &Pending| pending.until <= now;
        let late: Vec<OperationId> =
            self.pending.iter().filter(|(_, pending)| is_late(pending)).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(pending) = self.pending.remove(&id) {
                trace.note(format_args!("client {id} gives up"));
                self.try_again(pending.request);
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        id: OperationId,
        answer: Answer,
        request: Option<Request>,
        facts: &mut Facts,
        trace: &Trace,
    ) -> Checked {
        // Nobody waits for it any more.
        let Some(request) = request else { return Ok(()) };
        match (answer, request) {
            (
                Answer::Written(Some(EntryResult::Applied { index, outcomes })),
                Request::Write { writes, is_repeated, .. },
            ) => {
                trace.note(format_args!("client {id} is told {index} {outcomes:?}"));
                self.succeeded.0 += 1;
                for (write, outcome) in writes.into_iter().zip(&outcomes) {
                    match outcome {
                        WriteOutcome::Appended { .. } => facts.acknowledge(write, outcome)?,
                        // An earlier attempt may be stored.
                        _ if is_repeated => {}
                        _ => facts.refuse(&write)?,
                    }
                }
            }
            (Answer::Written(Some(EntryResult::NotLeader)), Request::Write { writes, is_repeated, .. }) => {
                trace.note(format_args!("client {id} is refused"));
                if !is_repeated {
                    writes.iter().try_for_each(|write| facts.refuse(write))?;
                }
            }
            (Answer::Written(_), request) => {
                trace.note(format_args!("client {id} is told nothing"));
                self.try_again(request);
            }
            (Answer::Read(Some(next_position)), Request::Read { before }) => {
                trace.note(format_args!("client {id} reads {next_position}"));
                self.succeeded.1 += 1;
                facts.see_read(next_position, before)?;
            }
            (Answer::Read(_), _) => trace.note(format_args!("client {id} cannot read")),
        }
        Ok(())
    }

    fn try_again(&mut self, request: Request) {
        if let Request::Write { writes, commands, .. } = request
            && self.unknown.len() < MAX_WAITING
        {
            self.unknown.push_back(Request::Write { writes, commands, is_repeated: true });
        }
    }
}
