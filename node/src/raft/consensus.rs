//! Consensus as the rooms above see it: its operations and its state, in plain values.
//!
//! Nothing here has a deadline of its own: callers bring theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::raft::{TransferLeaderRequest, WriteResult};
use openraft::{ChangeMembers, Precondition, RaftMetrics, ReadPolicy};

use super::Raft;
use super::types::{LogId, Member, NodeId, Proposal, StoredMembership, TypeConfig};
use crate::event::WriteOutcome;
pub(crate) use crate::snapshot::Replication;
use crate::snapshot::{LogMarks, SnapshotConsensus};

/// Handle on this node's consensus. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Consensus {
    raft: Raft,
}

/// The fate of a proposed log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryResult {
    /// Committed and applied on this node.
    Applied {
        /// Its index in the log.
        index: u64,
        /// The decisions on its commands, in their order.
        outcomes: Vec<WriteOutcome>,
    },
    /// Certainly not written: this node does not lead.
    NotLeader,
    /// Perhaps written, or still to be written.
    Unknown,
}

/// Why leadership was not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotConfirmed {
    /// This node does not lead.
    NotLeader,
    /// Consensus has ended, or no majority answers.
    Unavailable,
}

/// Why the members were not changed, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ChangeError(String);

impl ChangeError {
    fn of(error: impl ToString) -> Self {
        Self(error.to_string())
    }

    /// The change was not committed in time, and may be later.
    pub(crate) fn late() -> Self {
        Self("not committed in time".to_owned())
    }
}

/// Consensus has ended on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("consensus has ended on this node")]
pub(crate) struct ConsensusEnded;

impl Consensus {
    pub(super) fn new(raft: Raft) -> Self {
        Self { raft }
    }

    /// Proposes log entries, as one message. The results come in the order of the proposals. The
    /// stream ends early when consensus ends; entries without a result may have been written.
    pub(crate) fn propose(&self, proposals: Vec<Proposal>) -> impl Stream<Item = EntryResult> {
        let results = stream::once(self.raft.client_write_many(proposals)).try_flatten();
        results.scan((), |(), result| std::future::ready(result.ok().map(EntryResult::from)))
    }

    /// Asks a majority whether this node still leads.
    pub(crate) async fn confirm_leadership(&self) -> Result<(), NotConfirmed> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(NotConfirmed::NotLeader),
            Err(_) => Err(NotConfirmed::Unavailable),
        }
    }

    /// The log index that covers everything acknowledged so far, once a majority has confirmed that
    /// this node leads; `None` when it does not, or when consensus has ended.
    pub(crate) async fn read_index(&self) -> Option<u64> {
        let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
        Some(linearizer.read_log_id().log_id().index)
    }

    /// How long ago the leader renewed its lease, which every message does, heartbeats included;
    /// `None` when nothing was heard since the start, or when consensus has ended.
    pub(crate) async fn age_of_lease(&self) -> Option<Duration> {
        let renewed = self.raft.with_raft_state(|state| state.vote_last_modified()).await.ok().flatten()?;
        Some(renewed.elapsed())
    }

    /// Founds a cluster of these members. All their disks must be empty.
    pub(crate) async fn initialize(&self, members: BTreeMap<NodeId, Member>) -> Result<(), ChangeError> {
        self.raft.initialize(members).await.map_err(ChangeError::of)
    }

    /// Adds a member that receives the log but has no vote. Returns when the change is committed.
    pub(crate) async fn add_learner(&self, node_id: NodeId, addresses: Member) -> Result<(), ChangeError> {
        let catch_up_first = false;
        self.raft.add_learner(node_id, addresses, catch_up_first).await.map(drop).map_err(ChangeError::of)
    }

    /// Adds several such members by one entry of the log.
    pub(crate) async fn add_learners(&self, members: BTreeMap<NodeId, Member>) -> Result<(), ChangeError> {
        let keep_the_others = true;
        let added = self.raft.change_membership(ChangeMembers::AddNodes(members), keep_the_others).await;
        added.map(drop).map_err(ChangeError::of)
    }

    /// Makes these nodes the voters, if the members are still those of `unchanged`. A node that no
    /// longer votes is no longer a member.
    pub(crate) async fn replace_voters(
        &self,
        voters: BTreeSet<NodeId>,
        unchanged: &Members,
    ) -> Result<(), ChangeError> {
        let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: *unchanged.0.log_id() };
        let change = ChangeMembers::ReplaceAllVoters(voters);
        let keep_as_learners = false;
        let changed = self.raft.change_membership_if(change, keep_as_learners, [unchanged]).await;
        changed.map(drop).map_err(ChangeError::of)
    }

    /// Removes members that do not vote.
    pub(crate) async fn remove_learners(&self, learners: BTreeSet<NodeId>) -> Result<(), ChangeError> {
        let removed = self.raft.change_membership(ChangeMembers::RemoveNodes(learners), false).await;
        removed.map(drop).map_err(ChangeError::of)
    }

    /// Makes one change out of several steps, if the members are still those of `unchanged`. Voters
    /// are exchanged through a list of both, which this completes as well.
    pub(crate) async fn change_members(&self, steps: Vec<MembersStep>, unchanged: &Members) -> Result<(), ChangeError> {
        let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: *unchanged.0.log_id() };
        let change = ChangeMembers::Batch(steps.into_iter().map(MembersStep::into_change).collect());
        let keep_as_learners = true;
        let changed = self.raft.change_membership_if(change, keep_as_learners, [unchanged]).await;
        changed.map(drop).map_err(ChangeError::of)
    }

    /// Completes an exchange of voters that a former leader began, if the members are still those
    /// of `unchanged`.
    pub(crate) async fn complete_exchange(&self, unchanged: &Members) -> Result<(), ChangeError> {
        let newest = unchanged.voter_lists().last().cloned().unwrap_or_default();
        self.change_members(vec![MembersStep::Vote(newest)], unchanged).await
    }

    /// Whether this node may stand for election. It may from the start.
    pub(crate) fn stand_for_election(&self, may_stand: bool) {
        self.raft.runtime_config().elect(may_stand);
    }

    /// Begins to hand leadership over to another voter. From here on this node proposes nothing
    /// until there is a new leader.
    pub(crate) async fn transfer_leadership(&self, to: NodeId) -> Result<(), ConsensusEnded> {
        self.raft.trigger().transfer_leader(to).await.map_err(|_| ConsensusEnded)
    }

    /// Lets this node vote before the lease of `leader` is over, because the process of `leader`
    /// has ended. Nodes that have not found so keep the lease, so another leader needs a majority
    /// that has.
    pub(crate) async fn end_lease(&self, leader: NodeId) -> Result<(), ConsensusEnded> {
        #[expect(clippy::disallowed_methods, reason = "copied in one statement")]
        let vote = self.raft.metrics().borrow_watched().vote;
        if vote.leader_id.voted_for != leader {
            return Ok(());
        }
        // With this message a leader that hands over tells all voters that its lease is over. Here
        // it names no node that could be the next one.
        let resigned = TransferLeaderRequest::new(vote, leader, None);
        self.raft.handle_transfer_leader(resigned).await.map(drop).map_err(|_| ConsensusEnded)
    }

    /// Stands for election if a majority would vote for this node at this moment; changes nothing
    /// otherwise.
    pub(crate) async fn campaign(&self) -> Result<(), ConsensusEnded> {
        let ask_first = true;
        self.raft.trigger().elect(ask_first).await.map_err(|_| ConsensusEnded)
    }

    /// The state of consensus at this moment.
    #[expect(clippy::disallowed_methods, reason = "copied at once, without another borrow or an await")]
    pub(crate) fn seen(&self) -> Seen {
        Seen::of(&self.raft.metrics().borrow_watched())
    }

    /// Waits for the next change of anything in [`Self::seen`]: several thousand times a second
    /// under load.
    pub(crate) fn progress(&self) -> Progress {
        Progress(self.raft.metrics())
    }

    /// Waits for the next change of leader, term or members.
    pub(crate) fn elections(&self) -> Elections {
        Elections(self.raft.server_metrics())
    }
}

impl SnapshotConsensus for Consensus {
    type Error = ConsensusEnded;

    fn log_marks(&self) -> LogMarks {
        let Seen { snapshot_index, purged_index, applied_entries, replication, .. } = self.seen();
        LogMarks {
            snapshot: snapshot_index,
            applied: applied_entries.checked_sub(1),
            purged: purged_index,
            replication,
        }
    }

    async fn purge_log(&self, index: u64) -> Result<(), ConsensusEnded> {
        self.raft.trigger().purge_log(index).await.map_err(|_| ConsensusEnded)
    }

    async fn adopt_snapshot(&self) -> Result<(), ConsensusEnded> {
        self.raft.trigger().snapshot().await.map_err(|_| ConsensusEnded)
    }
}

impl From<WriteResult<TypeConfig>> for EntryResult {
    fn from(result: WriteResult<TypeConfig>) -> Self {
        match result {
            Ok(written) => Self::Applied { index: written.log_id.index, outcomes: written.response.0 },
            Err(ClientWriteError::ForwardToLeader(_)) => Self::NotLeader,
            // Discarded here, but the entry may have reached the new leader through another
            // follower. Any other error does not concern commands.
            Err(
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            ) => Self::Unknown,
        }
    }
}

/// A step of a change of members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MembersStep {
    /// These become members that receive the log and have no vote.
    Add(BTreeMap<NodeId, Member>),
    /// These members are described anew.
    Describe(BTreeMap<NodeId, Member>),
    /// These members become the voters. Those that voted before stay members.
    Vote(BTreeSet<NodeId>),
    /// These members, which have no vote, are members no more.
    Remove(BTreeSet<NodeId>),
}

impl MembersStep {
    fn into_change(self) -> ChangeMembers<NodeId, Member> {
        match self {
            Self::Add(members) => ChangeMembers::AddNodes(members),
            Self::Describe(members) => ChangeMembers::SetNodes(members),
            Self::Vote(voters) => ChangeMembers::ReplaceAllVoters(voters),
            Self::Remove(members) => ChangeMembers::RemoveNodes(members),
        }
    }
}

/// The role of a node in elections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// Receives the log and has no vote.
    Learner,
    /// Receives the log and votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Consensus has ended.
    Ended,
}

impl From<openraft::ServerState> for ServerState {
    fn from(state: openraft::ServerState) -> Self {
        match state {
            openraft::ServerState::Learner => Self::Learner,
            openraft::ServerState::Follower => Self::Follower,
            openraft::ServerState::Candidate => Self::Candidate,
            openraft::ServerState::Leader => Self::Leader,
            openraft::ServerState::Shutdown => Self::Ended,
        }
    }
}

/// The state of consensus at one moment.
///
/// A copy on purpose. openraft hands out a read lock. A second read lock taken while the first is
/// held waits for ever if consensus wants to publish in between, and then the whole node stands
/// still. So no lock leaves this room.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The role of this node.
    pub(crate) state: ServerState,
    /// The newest term that this node knows.
    pub(crate) term: u64,
    /// The leader of that term.
    pub(crate) leader: Option<NodeId>,
    /// Number of entries that the log has ever had: the index after the last entry.
    pub(crate) log_entries: u64,
    /// Number of entries known to be committed by the cluster; `None` while none is known.
    pub(crate) committed_entries: Option<u64>,
    /// Number of entries applied to the state.
    pub(crate) applied_entries: u64,
    /// Term of the last entry applied.
    pub(crate) applied_term: Option<u64>,
    /// Index of the last entry in the newest snapshot.
    pub(crate) snapshot_index: Option<u64>,
    /// Index of the last entry purged from the log.
    pub(crate) purged_index: Option<u64>,
    /// As leader: how long ago the newest message that a majority has acknowledged was sent.
    pub(crate) quorum_silence: Option<Duration>,
    /// The members.
    pub(crate) members: Members,
    /// As leader: how far the followers are.
    pub(crate) replication: Option<Replication>,
}

impl Seen {
    fn of(metrics: &RaftMetrics<TypeConfig>) -> Self {
        let index = |last: &Option<LogId>| last.as_ref().map(|log_id| log_id.index);
        let entries = |last: &Option<LogId>| last.as_ref().map(|log_id| log_id.index + 1);
        let matched = |(id, matched): (&NodeId, &Option<LogId>)| (*id, index(matched));
        Self {
            state: metrics.state.into(),
            term: metrics.current_term,
            leader: metrics.current_leader,
            log_entries: metrics.last_log_index.map_or(0, |index| index + 1),
            committed_entries: entries(&metrics.cluster_committed),
            applied_entries: entries(&metrics.last_applied).unwrap_or(0),
            applied_term: metrics.last_applied.as_ref().map(|log_id| log_id.committed_leader_id().term),
            snapshot_index: index(&metrics.snapshot),
            purged_index: index(&metrics.purged),
            quorum_silence: metrics.last_quorum_acked.map(|at| at.elapsed()),
            members: Members(metrics.membership_config.clone()),
            replication: metrics.replication.as_ref().map(|all| all.iter().map(matched).collect()),
        }
    }
}

/// The members of the cluster by the newest log entry that sets them, committed or not. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub(crate) struct Members(Arc<StoredMembership>);

impl Members {
    /// All voters.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.0.membership().voter_ids().collect()
    }

    /// The lists of voters; each of them needs a majority. There are two while one is exchanged for
    /// the other, the newer one last.
    pub(crate) fn voter_lists(&self) -> &[BTreeSet<NodeId>] {
        self.0.membership().get_joint_config()
    }

    /// The members that receive the log and have no vote.
    pub(crate) fn learners(&self) -> impl Iterator<Item = NodeId> {
        self.0.membership().learner_ids()
    }

    /// All members, with or without a vote.
    pub(crate) fn all(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.0.membership().nodes().map(|(id, member)| (*id, member))
    }

    /// Whether the members were changed while the cluster ran, so that they, and no list in a
    /// configuration, say which servers there are.
    pub(crate) fn are_changed(&self) -> bool {
        self.all().any(|(_, member)| member.changed)
    }

    /// Index of the log entry that sets the members; `None` before there was one.
    pub(crate) fn log_index(&self) -> Option<u64> {
        self.0.log_id().as_ref().map(|log_id| log_id.index)
    }

    /// The addresses of a member; `None` for a node that is not a member.
    pub(crate) fn addresses(&self, node_id: NodeId) -> Option<&Member> {
        self.0.membership().get_node(&node_id)
    }
}

/// See [`Consensus::progress`].
pub(crate) struct Progress(WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>);

impl Progress {
    /// Returns after the next change.
    pub(crate) async fn changed(&mut self) -> Result<(), ConsensusEnded> {
        self.0.changed().await.map_err(|_| ConsensusEnded)
    }
}

/// The leader, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elected {
    /// The term that this node has stored.
    pub(crate) term: u64,
    /// The leader of that term.
    pub(crate) leader: Option<NodeId>,
    /// The addresses of the leader, if it is a member.
    pub(crate) addresses: Option<Member>,
}

/// See [`Consensus::elections`].
pub(crate) struct Elections(WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>);

impl Elections {
    /// Returns after the next change.
    pub(crate) async fn changed(&mut self) -> Result<(), ConsensusEnded> {
        self.0.changed().await.map_err(|_| ConsensusEnded)
    }

    /// The newest state.
    #[expect(clippy::disallowed_methods, reason = "copied at once, without another borrow or an await")]
    pub(crate) fn elected(&self) -> Elected {
        let metrics = self.0.borrow_watched();
        let leader = metrics.current_leader;
        let addresses = leader.and_then(|id| metrics.membership_config.membership().get_node(&id).cloned());
        Elected { term: metrics.vote.leader_id.term, leader, addresses }
    }
}
