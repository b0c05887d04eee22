//! What handlers call: writes (local or forwarded), read barriers, status, leader hints, membership.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::event::{Position, WriteOutcome};
pub use crate::raft::{Member, NodeId};
use crate::store::Store;

/// Handle on this node's part in the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<()>,
}

/// Why a write has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Surely not written: no leader was found in time, or the node is starting or stopping. 503 'Server Is Not Ready'.
    #[error("no leader is known")]
    NoLeader,
    /// Surely not written: a queue is full. 503 'Server Is Too Busy'.
    #[error("too many writes in flight")]
    Busy,
    /// May have been written, or may still be; repeating it with the same ids is exact. 500 'Write timeout'.
    #[error("the outcome is not known")]
    Unknown,
}

/// Why a read cannot be answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// Another node leads.
    #[error("not the leader")]
    NotLeader(LeaderHint),
    /// No leader, or no quorum confirmed this one in time.
    #[error("no leader confirmed in time")]
    NoLeader,
    /// The position was not applied in time.
    #[error("position not applied in time")]
    Behind,
}

/// Who leads and where its clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader.
    pub node_id: NodeId,
    /// Its addresses.
    pub member: Member,
}

/// What this node knows about leadership at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// This node leads and may write.
    Local,
    /// Another node leads.
    Remote(LeaderHint),
    /// Nobody is known to lead.
    None,
}

/// The part a node plays; names in the API follow contract/services 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opening, recovering or not yet part of a cluster.
    Starting,
    /// No leader known.
    Unknown,
    /// Receives the log, does not vote, or is too far behind.
    CatchingUp,
    /// Up to date voter.
    Follower,
    /// Leads and has applied its own first entry.
    Leader,
    /// Leaving.
    Stopping,
}

/// One member as this node sees it.
#[derive(Debug, Clone)]
pub struct MemberStatus {
    /// Who; `None` while a configured member has not been met yet.
    pub node_id: Option<NodeId>,
    /// Id in the configured list.
    pub server: u16,
    /// Where.
    pub member: Member,
    /// Random id of the member's process, new at each start; nil while not met.
    pub process_id: uuid::Uuid,
    /// Whether it answered lately (this node itself: always).
    pub is_alive: bool,
    /// When it was heard last.
    pub last_heard: crate::event::Ticks,
    /// Its part, as it said itself when last heard.
    pub role: Role,
    /// Its Raft term.
    pub term: u64,
    /// Number of log entries it knows committed / has applied.
    pub committed_entries: u64,
    /// See [`Self::committed_entries`].
    pub applied_entries: u64,
    /// Number of events it has applied.
    pub next_position: Position,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone)]
pub struct ClusterStatus {
    /// This node; also in `members`.
    pub local: MemberStatus,
    /// Every member of the list, this node included, in order of their server id.
    pub members: Vec<MemberStatus>,
    /// Leadership as this node sees it.
    pub leadership: Leadership,
    /// Whether reads and writes may be served: recovered, leader known, not lagging beyond the limit.
    pub ready: bool,
    /// Why not ready, for people.
    pub not_ready_reason: Option<String>,
}

impl Cluster {
    /// The local copy of the state.
    pub fn store(&self) -> &Store {
        let _ = &self.inner;
        unimplemented!()
    }

    /// Commits an encoded [`headwater_proto::stored::Command`] and returns the decision, once it is on disk on a majority
    /// and applied on this node. Goes through leader changes by itself within the write deadline; always returns by then.
    pub async fn write(&self, command: Bytes) -> Result<WriteOutcome, WriteError> {
        let _ = command;
        unimplemented!()
    }

    /// Returns once a read on this node sees everything acknowledged anywhere before the call. Only the leader can.
    pub async fn linearize(&self) -> Result<(), BarrierError> {
        unimplemented!()
    }

    /// Waits up to the configured time until this node has applied the event at `position`.
    pub async fn wait_for_position(&self, position: Position) -> Result<(), BarrierError> {
        let _ = position;
        unimplemented!()
    }

    /// Who leads, as far as this node knows.
    pub fn leadership(&self) -> Leadership {
        unimplemented!()
    }

    /// Whether this node has recovered what it had acknowledged, so that reads may be served.
    pub fn may_serve_reads(&self) -> bool {
        unimplemented!()
    }

    /// The members and their health.
    pub fn status(&self) -> ClusterStatus {
        unimplemented!()
    }

    /// Seconds to put into `Retry-After`.
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(1)
    }
}
