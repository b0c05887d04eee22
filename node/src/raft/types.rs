//! The types openraft is instantiated with.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Ticks, WriteOutcome};

openraft::declare_raft_types!(
    /// Headwater's choice of types for openraft.
    pub TypeConfig:
        D = Proposal,
        R = Outcomes,
        NodeId = NodeId,
        Node = Member,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

/// One life of one server's disk: the configured server id in the upper 16 bits, a random instance number below.
///
/// Consensus is lost when a node comes back under an id with less than it had acknowledged (a wiped disk could vote
/// a committed entry away). So an empty disk always gets a new instance number and is a stranger
/// until the cluster gives it the place of its predecessor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u64);

impl NodeId {
    const INSTANCE_BITS: u32 = 48;

    /// A node id for server `server` that was never used before.
    pub fn generate(server: u16) -> Self {
        let random = uuid::Uuid::new_v4().as_u128() as u64;
        Self(u64::from(server) << Self::INSTANCE_BITS | random & ((1 << Self::INSTANCE_BITS) - 1))
    }

    /// The id in the member list of the configuration.
    pub fn server(self) -> u16 {
        (self.0 >> Self::INSTANCE_BITS) as u16
    }
}

impl From<u64> for NodeId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:012x}", self.server(), self.0 & ((1 << Self::INSTANCE_BITS) - 1))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a member of the cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// `host:port` of node-to-node gRPC.
    pub raft_address: String,
    /// `host:port` of the HTTP API as clients reach it.
    pub http_address: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raft {} http {}", self.raft_address, self.http_address)
    }
}

/// Clients' commands with the leader's time: the data of a normal log entry. Commands that arrive together share an entry, because
/// most of what an entry costs on its way through consensus and log it costs once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// When the leader proposed it.
    pub time: Ticks,
    /// Each an encoded [`headwater_proto::stored::Command`]. Shared: replication and apply clone entries.
    pub commands: Arc<[Bytes]>,
}

impl Proposal {
    /// What a command occupies beside its bytes, in memory and on disk, about.
    const COMMAND_OVERHEAD_BYTES: usize = 32;

    /// Bytes of all commands, with their overhead.
    pub fn weight(&self) -> usize {
        self.commands.iter().map(|command| command.len() + Self::COMMAND_OVERHEAD_BYTES).sum()
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands of {} bytes", self.commands.len(), self.weight())
    }
}

/// The decisions on the commands of one entry, in their order; none for an entry without commands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcomes(pub Vec<WriteOutcome>);

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// Shorthands for openraft's generic types.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// See [`Entry`].
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// See [`Entry`].
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// See [`Entry`].
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
