//! The state of consensus at one moment, in plain values.

use std::time::Duration;

use openraft::RaftMetrics;
use openraft::async_runtime::Instant as _;

use super::members::Members;
use super::types::{LogId, NodeId, TypeConfig};
use crate::snapshot::Replication;

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
    pub(super) fn of(metrics: &RaftMetrics<TypeConfig>) -> Self {
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
            members: Members::of(metrics.membership_config.clone()),
            replication: metrics.replication.as_ref().map(|all| all.iter().map(matched).collect()),
        }
    }

    /// Whether this node leads, and a majority has acknowledged a message that it sent within that
    /// time. Its own vote is enough where nobody else votes.
    pub(crate) fn leads_majority(&self, within: Duration) -> bool {
        let is_heard = self.quorum_silence.is_some_and(|silence| silence <= within);
        self.state == ServerState::Leader && (is_heard || self.members.voters().len() == 1)
    }

    /// As leader: how many entries of the log a member has confirmed; `None` if it confirmed none.
    pub(crate) fn confirmed_by(&self, id: NodeId) -> Option<u64> {
        self.replication.as_ref()?.get(&id).copied().flatten().map(|index| index + 1)
    }

    /// As leader: how many entries of its log a member has not confirmed; `None` if it confirmed
    /// none.
    pub(crate) fn lag_of(&self, id: NodeId) -> Option<u64> {
        Some(self.log_entries.saturating_sub(self.confirmed_by(id)?))
    }
}
