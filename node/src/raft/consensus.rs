//! Consensus as the rooms above see it: its operations and its state, in plain values.
//!
//! Nothing here has a deadline of its own: callers bring theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::raft::{TransferLeaderRequest, WriteResult};
use openraft::{ChangeMembers, RaftMetrics, ReadPolicy};

use super::Raft;
use super::members::{Members, MembersStep};
use super::seen::Seen;
use super::types::{Member, NodeId, Proposal, TypeConfig};
use crate::event::WriteOutcome;
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
        let change = ChangeMembers::ReplaceAllVoters(voters);
        let keep_as_learners = false;
        let changed = self.raft.change_membership_if(change, keep_as_learners, [unchanged.are_unchanged()]).await;
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
        let change = ChangeMembers::Batch(steps.into_iter().map(MembersStep::into_change).collect());
        let keep_as_learners = true;
        let changed = self.raft.change_membership_if(change, keep_as_learners, [unchanged.are_unchanged()]).await;
        changed.map(drop).map_err(ChangeError::of)
    }

    /// Completes an exchange of voters that a former leader began, if the members are still those
    /// of `unchanged`.
    pub(crate) async fn complete_exchange(&self, unchanged: &Members) -> Result<(), ChangeError> {
        self.change_members(vec![MembersStep::Vote(unchanged.newest_voters())], unchanged).await
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
