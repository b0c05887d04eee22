//! One write as its receiving node sees it: to the leader, through changes of leadership, until it
//! has an answer or its time is up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use headwater_proto::cluster as wire;
use headwater_proto::stored::Command;
use prost::Message;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::authorization::{Authorizer, LeaderCheck, Requester};
use super::forward::Forwards;
use super::gate::{Gate, Proposed, Respond, Shut};
use super::permission::Permission;
use crate::cluster::groups::Groups;
use crate::cluster::leadership::{Leader, LeaderTerm, Leadership};
use crate::cluster::versions::Versions;
use crate::cluster::wire::requester_from_wire;
use crate::deliberate::{self, Fault};
use crate::event::{ClusterVersion, WriteOutcome};
use crate::metrics::Metrics;
use crate::raft::Consensus;
use crate::store::Store;
use crate::timing;
use crate::trace::{Kind, Span, Traces, Tracked};
use crate::transport::NodeId;

/// How long to wait for a change of leader before trying the known leader again.
const RETRY_INTERVAL: Duration = Duration::from_millis(25);

/// A command in the bytes that are forwarded, logged and applied.
#[derive(Debug, Clone)]
pub(crate) struct EncodedCommand {
    bytes: Bytes,
    /// The cluster version that has to be in force.
    needs: ClusterVersion,
}

impl EncodedCommand {
    /// Encodes a command, once.
    pub(crate) fn of(command: &Command) -> Self {
        let needs = command.kind.as_ref().map_or(ClusterVersion::FIRST, |kind| ClusterVersion(kind.needed_version()));
        Self { bytes: command.encode_to_vec().into(), needs }
    }
}

/// A write and the facts that decide whether it is allowed.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    /// What is to be written.
    pub(crate) command: EncodedCommand,
    /// The party on whose behalf the write is made.
    pub(crate) requester: Requester,
    /// The term in which this node, as leader, has just found that the requester may make the
    /// write. With `None` the leader decides when the write reaches it.
    pub(crate) authorized_in: Option<LeaderTerm>,
}

/// Why a write has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    /// Certainly not written: no leader was found in time, or the node is starting or stopping. 503
    /// 'Server Is Not Ready'.
    #[error("no leader is known")]
    NoLeader,
    /// Certainly not written: a queue is full. 503 'Server Is Too Busy'.
    #[error("too many writes in flight")]
    Busy,
    /// Perhaps written, or still to be written; repeating it with the same ids is exact. 500 'Write
    /// timeout'.
    #[error("the outcome is not known")]
    Unknown,
    /// Certainly not written: by the leader's state the requester may not make it. 401.
    #[error("not allowed")]
    Denied,
    /// Certainly not written: a member may not be able to apply it. A sentence that names it.
    #[error("{0}")]
    NotYet(String),
}

/// The parts of the room, and below it, that writes need.
pub(crate) struct WriteParts {
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) consensus: Consensus,
    pub(crate) groups: Arc<Groups>,
    pub(crate) store: Store,
    pub(crate) versions: Arc<Versions>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Traces,
    pub(crate) removed: watch::Receiver<bool>,
}

/// How long a write may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteLimits {
    /// Until the write has an answer.
    pub(crate) deadline: Duration,
    /// Until the write has reached a leader; after that it is refused as certainly not written.
    pub(crate) leader_wait: Duration,
}

/// The writes of this node: its own, and those of others while it leads.
pub(crate) struct Writes {
    leadership: Arc<Leadership>,
    /// They have something to store before leadership is handed over.
    groups: Arc<Groups>,
    check: LeaderCheck,
    /// Proposes writes while this node leads.
    gate: Gate,
    /// Sends writes to the leader while another node leads.
    forwards: Forwards,
    /// The local copy, which has to apply a write before it is answered.
    store: Store,
    /// Know what every member can apply.
    versions: Arc<Versions>,
    metrics: Arc<Metrics>,
    /// Where spans of other nodes go on.
    traces: Traces,
    /// Whether the cluster has gone on without this node.
    removed: watch::Receiver<bool>,
    limits: WriteLimits,
}

impl Writes {
    /// Refuses writes until there is a leader and an authorizer.
    pub(crate) fn new(parts: WriteParts, gate: Gate, forwards: Forwards, limits: WriteLimits) -> Self {
        let WriteParts { leadership, consensus, groups, store, versions, metrics, traces, removed } = parts;
        let check = LeaderCheck::new(leadership.clone(), consensus);
        Self { leadership, groups, check, gate, forwards, store, versions, metrics, traces, removed, limits }
    }

    /// Registers the rules that decide on writes while this node leads. No write is made before.
    pub(crate) fn authorize_with(&self, authorizer: Box<dyn Authorizer>) {
        self.check.register(authorizer);
    }

    /// Decides as leader whether the requester may do upkeep of the whole cluster: `None` if it
    /// may.
    pub(crate) async fn refusal_of_upkeep(&self, requester: Requester) -> Option<Proposed> {
        self.check.refusal_of(requester, Permission::Maintain).await
    }

    /// Commits a write and returns the decision, once it is on disk on a majority and applied on
    /// this node. Always returns by the configured deadline. At each attempt the leader decides
    /// whether the write is allowed.
    ///
    /// A command is repeated when its first attempt was cut off: event ids make a repetition exact,
    /// however far the first one got.
    pub(crate) async fn write(&self, write: Write) -> Result<WriteOutcome, WriteError> {
        // The leader may be of an older version and could only call the command unknown. A version
        // that is in force here is in force for all.
        self.versions.check(write.command.needs).map_err(WriteError::NotYet)?;
        let started = Instant::now();
        let deadline = started + self.limits.deadline;
        let give_up_unsent = started + self.limits.leader_wait.min(self.limits.deadline);
        let mut may_be_written = false;
        let mut is_repetition = false;
        let mut leader_changes = self.leadership.changes();
        let span = timing::current_span();
        loop {
            let proposed = self.attempt(&write, is_repetition, deadline, &span, &mut leader_changes).await;
            match proposed {
                // An interrupted copy may have been stored, and the stream deleted after that. Or
                // it may still be under way and meet another state than this copy.
                Proposed::Done {
                    outcome: WriteOutcome::StreamDeleted | WriteOutcome::WrongExpectedVersion { .. },
                    ..
                } if may_be_written => {
                    return self.unknown();
                }
                Proposed::Done { outcome, .. } if deliberate::is(Fault::AnswerBeforeApplying) => return Ok(outcome),
                Proposed::Done { log_index, outcome } => {
                    let _wait = span.as_ref().map(|span| span.child("apply.wait", Kind::Internal));
                    return match timeout_at(deadline, self.applied_or_removed(log_index)).await {
                        Ok(()) => Ok(outcome),
                        Err(_) => self.unknown(),
                    };
                }
                // The permission may have been withdrawn after the first copy was stored.
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
            let wait = span.as_ref().map(|span| span.child("leader.wait", Kind::Internal));
            let _ = timeout_at(deadline.min(now + RETRY_INTERVAL), leader_changes.changed()).await;
            drop(wait);
            is_repetition = true;
        }
    }

    /// Returns once this node has applied the entry. A node that the cluster has gone on without
    /// never does; what the leader has said stands all the same, and clients read it elsewhere.
    async fn applied_or_removed(&self, log_index: u64) {
        tokio::select! {
            biased;
            () = self.store.applied().wait_for_log_index(log_index) => {}
            Ok(()) = async { self.removed.clone().wait_for(|is_removed| *is_removed).await.map(drop) } => {}
        }
    }

    /// Proposes the write here or sends it to the leader, once.
    async fn attempt(
        &self,
        write: &Write,
        is_repetition: bool,
        deadline: Instant,
        span: &Option<Tracked>,
        leader_changes: &mut watch::Receiver<Leader>,
    ) -> Proposed {
        let Write { command: EncodedCommand { bytes: command, .. }, requester, authorized_in } = write;
        let leader = leader_changes.borrow_and_update().clone();
        match &leader {
            // The gate keeps the deadline and watches leadership itself, once for a whole batch.
            Leader::Local if !is_repetition && self.leadership.leads_in(*authorized_in) => {
                self.propose(command.clone(), deadline, span.clone()).await.unwrap_or(Proposed::Unknown)
            }
            Leader::Local => match timeout_at(deadline, self.check.refusal(requester.clone(), command)).await {
                Err(_) => Proposed::NotLeader,
                Ok(Some(refusal)) => refusal,
                // This write has less time left than those before it in the queue, and the gate
                // checks the deadline of a command only when its turn comes.
                Ok(None) => {
                    let answer = timeout_at(deadline, self.propose(command.clone(), deadline, span.clone())).await;
                    answer.map_or(Proposed::Unknown, |answer| answer.unwrap_or(Proposed::Unknown))
                }
            },
            Leader::Remote(hint) => {
                let span = span.as_ref().map(|span| span.child("forward", Kind::Client));
                let tracked = span.as_ref().map(Span::tracked);
                tokio::select! {
                    answer = self.forwards.send(hint, command.clone(), requester.clone(), deadline, tracked) => {
                        answer.unwrap_or(Proposed::Unknown)
                    }
                    // The node that was asked no longer leads (it may be frozen and never answer):
                    // ask the next leader.
                    _ = leader_changes.changed() => Proposed::Unknown,
                    () = tokio::time::sleep_until(deadline) => Proposed::Unknown,
                }
            }
            Leader::Unknown => Proposed::NotLeader,
        }
    }

    /// Queues a write of another node in the gate, if by the state of this node it is allowed.
    pub(super) fn propose_forwarded(&self, request: wire::ForwardRequest, respond: Respond) {
        self.metrics.forwards_received.inc();
        let wire::ForwardRequest { deadline_ms, command, requester, span, .. } = request;
        let span = self.traces.of_other_node(&span).map(|sender| sender.child("forwarded", Kind::Server));
        let tracked = span.as_ref().map(Span::tracked);
        let respond: Respond = match span {
            None => respond,
            Some(span) => Box::new(move |proposed| {
                drop(span);
                respond(proposed);
            }),
        };
        if !self.leadership.is_local() {
            return respond(Proposed::NotLeader);
        }
        // Only a later version knows this kind of requester.
        let Some(requester) = requester_from_wire(requester) else { return respond(Proposed::Denied) };
        let deadline = Instant::now() + Duration::from_millis(u64::from(deadline_ms));
        let mut refusal = self.check.refusal(requester, &command);
        let gate = self.gate.clone();
        let enter = move |refusal: Option<Proposed>| match refusal {
            None => gate.propose(command, deadline, tracked, respond),
            Some(refusal) => respond(refusal),
        };
        // Memory usually has the answer. A check that needs the disk must not delay other writes;
        // there may be as many such checks as the peer has slots.
        match (&mut refusal).now_or_never() {
            Some(refusal) => enter(refusal),
            None => {
                tokio::spawn(async move {
                    // Beyond the deadline the write is certainly not written.
                    let refusal = timeout_at(deadline, refusal).await;
                    enter(refusal.unwrap_or(Some(Proposed::NotLeader)));
                });
            }
        }
    }

    /// Hands leadership to this voter. Writes wait meanwhile, and those that were begun before are
    /// answered first, so that the outcome of each is known. Returns whether another node leads, at
    /// the latest at `deadline`.
    pub(crate) async fn hand_over(&self, successor: NodeId, deadline: Instant) -> bool {
        let _ = timeout_at(deadline, self.groups.rest()).await;
        let is_handed_over = self.hand_over_at_rest(successor, deadline).await;
        if !is_handed_over {
            self.groups.go_on();
        }
        is_handed_over
    }

    async fn hand_over_at_rest(&self, successor: NodeId, deadline: Instant) -> bool {
        // Without a quorum the writes under way have no end, and no voter can take over either.
        let Ok(_paused) = timeout_at(deadline, self.pause()).await else { return false };
        self.leadership.hand_over(successor, deadline.saturating_duration_since(Instant::now())).await
    }

    /// Returns once no write of this node as leader is under way; none begins while the value
    /// lives. Writes that arrive meanwhile wait, each within its deadline.
    async fn pause(&self) -> Shut {
        self.gate.shut().await
    }

    /// Commands that wait to be proposed by this node as leader.
    pub(crate) fn waiting_proposals(&self) -> usize {
        self.gate.waiting()
    }

    /// Commands that wait to be sent to the leader.
    pub(crate) fn waiting_forwards(&self) -> usize {
        self.forwards.waiting()
    }

    fn propose(&self, command: Bytes, deadline: Instant, write: Option<Tracked>) -> oneshot::Receiver<Proposed> {
        let (sender, receiver) = oneshot::channel();
        let respond = move |proposed| {
            let _ = sender.send(proposed);
        };
        self.gate.propose(command, deadline, write, Box::new(respond));
        receiver
    }

    fn unknown(&self) -> Result<WriteOutcome, WriteError> {
        if deliberate::is(Fault::UnknownAsRefused) {
            return Err(WriteError::NoLeader);
        }
        self.metrics.unknown_outcomes.inc();
        Err(WriteError::Unknown)
    }
}
