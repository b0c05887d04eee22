//! One write from this node's point of view: to the leader, through changes of leadership, until it
//! has an answer or no time left.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use headwater_proto::cluster as wire;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::authorization::{Authorizer, LeaderCheck, Requester};
use super::forward::Forwards;
use super::gate::{Gate, Proposed, Respond};
use crate::cluster::leadership::{Leader, LeaderTerm, Leadership};
use crate::cluster::wire::requester_from_wire;
use crate::event::WriteOutcome;
use crate::metrics::Metrics;
use crate::store::Store;

/// How long to wait for news of a new leader before trying the known one again.
const RETRY_INTERVAL: Duration = Duration::from_millis(25);

/// A write and what decides whether it may be made.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    /// An encoded [`headwater_proto::stored::Command`].
    pub(crate) command: Bytes,
    /// On whose behalf.
    pub(crate) requester: Requester,
    /// The term in which this node, as leader, found just now that the requester may make the
    /// write. With `None` the leader decides when the write reaches it.
    pub(crate) authorized_in: Option<LeaderTerm>,
}

/// Why a write has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    /// Surely not written: no leader was found in time, or the node is starting or stopping. 503
    /// 'Server Is Not Ready'.
    #[error("no leader is known")]
    NoLeader,
    /// Surely not written: a queue is full. 503 'Server Is Too Busy'.
    #[error("too many writes in flight")]
    Busy,
    /// May have been written, or may still be; repeating it with the same ids is exact. 500 'Write
    /// timeout'.
    #[error("the outcome is not known")]
    Unknown,
    /// Surely not written: by the leader's state the requester may not make it. 401.
    #[error("not allowed")]
    Denied,
}

/// How long a write may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteLimits {
    /// Until it has an answer.
    pub(crate) deadline: Duration,
    /// Until it has reached a leader; after that it is refused as surely not written.
    pub(crate) leader_wait: Duration,
}

/// The writes of this node: its own, and those of others while it leads.
pub(crate) struct Writes {
    leadership: Arc<Leadership>,
    check: LeaderCheck,
    /// Where this node proposes as leader.
    gate: Gate,
    /// Where it sends writes while another node leads.
    forwards: Forwards,
    /// The local copy, which has to apply a write before it is answered.
    store: Store,
    metrics: Arc<Metrics>,
    limits: WriteLimits,
}

impl Writes {
    /// Accepts writes; they are refused until there is a leader and an authorizer.
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        gate: Gate,
        forwards: Forwards,
        store: Store,
        metrics: Arc<Metrics>,
        limits: WriteLimits,
    ) -> Self {
        let check = LeaderCheck::new(leadership.clone());
        Self { leadership, check, gate, forwards, store, metrics, limits }
    }

    /// Registers what decides on writes while this node leads. Before that no write is made.
    pub(crate) fn authorize_with(&self, authorizer: Box<dyn Authorizer>) {
        self.check.register(authorizer);
    }

    /// Commits a write and returns the decision, once it is on disk on a majority and applied on
    /// this node. Always returns by the configured deadline. At each try the leader decides whether
    /// the write may be made.
    ///
    /// A command is repeated when its first try was cut off: event ids make a repetition exact,
    /// wherever the first one got to.
    pub(crate) async fn write(&self, write: Write) -> Result<WriteOutcome, WriteError> {
        let Write { command, requester, authorized_in } = write;
        let started = Instant::now();
        let deadline = started + self.limits.deadline;
        let give_up_unsent = started + self.limits.leader_wait.min(self.limits.deadline);
        let mut may_be_written = false;
        let mut is_repetition = false;
        let mut leader_changes = self.leadership.changes();
        loop {
            let leader = leader_changes.borrow_and_update().clone();
            let proposed = match &leader {
                // The gate itself keeps the deadline and watches leadership, once for a whole
                // batch.
                Leader::Local if !is_repetition && self.leadership.leads_in(authorized_in) => {
                    self.propose(command.clone(), deadline).await.unwrap_or(Proposed::Unknown)
                }
                Leader::Local => match timeout_at(deadline, self.check.refusal(requester.clone(), &command)).await {
                    Err(_) => Proposed::NotLeader,
                    Ok(Some(refusal)) => refusal,
                    // It has less time left than the writes before it in the queue, and the gate
                    // looks at a command when its turn comes.
                    Ok(None) => {
                        let answer = timeout_at(deadline, self.propose(command.clone(), deadline)).await;
                        answer.map_or(Proposed::Unknown, |answer| answer.unwrap_or(Proposed::Unknown))
                    }
                },
                Leader::Remote(hint) => tokio::select! {
                    answer = self.forwards.send(hint, command.clone(), requester.clone(), deadline) => {
                        answer.unwrap_or(Proposed::Unknown)
                    }
                    // The node that was asked no longer leads (it may be frozen and never answer):
                    // ask the next one.
                    _ = leader_changes.changed() => Proposed::Unknown,
                    () = tokio::time::sleep_until(deadline) => Proposed::Unknown,
                },
                Leader::Unknown => Proposed::NotLeader,
            };
            match proposed {
                // A copy that was cut off may have been stored, and the stream deleted after that,
                // or may still be under way and find another state than this one.
                Proposed::Done {
                    outcome: WriteOutcome::StreamDeleted | WriteOutcome::WrongExpectedVersion { .. },
                    ..
                } if may_be_written => {
                    return self.unknown();
                }
                Proposed::Done { log_index, outcome } => {
                    let applied = self.store.applied().wait_for_log_index(log_index);
                    return match timeout_at(deadline, applied).await {
                        Ok(()) => Ok(outcome),
                        Err(_) => self.unknown(),
                    };
                }
                // The right may have been withdrawn after the first copy was stored.
                Proposed::Denied if may_be_written => return self.unknown(),
                Proposed::Denied => return Err(WriteError::Denied),
                Proposed::Busy if !may_be_written => return Err(WriteError::Busy),
                Proposed::Busy | Proposed::NotLeader => {}
                Proposed::Unknown => may_be_written = true,
            }
            let now = Instant::now();
            if may_be_written && now >= deadline {
                return self.unknown();
            }
            if !may_be_written && now >= give_up_unsent {
                return Err(WriteError::NoLeader);
            }
            let _ = timeout_at(deadline.min(now + RETRY_INTERVAL), leader_changes.changed()).await;
            is_repetition = true;
        }
    }

    /// Puts a write of another node into the gate, if by the state of this one it may be made.
    pub(super) fn propose_forwarded(&self, request: wire::ForwardRequest, respond: Respond) {
        self.metrics.forwards_received.inc();
        let wire::ForwardRequest { deadline_ms, command, requester, .. } = request;
        if !self.leadership.is_local() {
            return respond(Proposed::NotLeader);
        }
        // A kind of requester that only later versions know.
        let Some(requester) = requester_from_wire(requester) else { return respond(Proposed::Denied) };
        let deadline = Instant::now() + Duration::from_millis(u64::from(deadline_ms));
        let mut refusal = self.check.refusal(requester, &command);
        let gate = self.gate.clone();
        let enter = move |refusal: Option<Proposed>| match refusal {
            None => gate.propose(command, deadline, respond),
            Some(refusal) => respond(refusal),
        };
        // As a rule memory knows. A check that needs the disk must not hold up the other writes; as
        // many may as there are places.
        match (&mut refusal).now_or_never() {
            Some(refusal) => enter(refusal),
            None => {
                tokio::spawn(async move {
                    // Too late, it was surely not written.
                    let refusal = timeout_at(deadline, refusal).await;
                    enter(refusal.unwrap_or(Some(Proposed::NotLeader)));
                });
            }
        }
    }

    /// Commands that wait to be proposed by this node as leader.
    pub(crate) fn waiting_proposals(&self) -> usize {
        self.gate.waiting()
    }

    /// Commands that wait to be sent to the leader.
    pub(crate) fn waiting_forwards(&self) -> usize {
        self.forwards.waiting()
    }

    fn propose(&self, command: Bytes, deadline: Instant) -> oneshot::Receiver<Proposed> {
        let (sender, receiver) = oneshot::channel();
        let respond = move |proposed| {
            let _ = sender.send(proposed);
        };
        self.gate.propose(command, deadline, Box::new(respond));
        receiver
    }

    fn unknown(&self) -> Result<WriteOutcome, WriteError> {
        self.metrics.unknown_outcomes.inc();
        Err(WriteError::Unknown)
    }
}
