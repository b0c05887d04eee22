//! Node ids and member addresses.

use std::fmt;
use std::sync::Arc;

/// The id of one disk of one server: the configured server id in the upper 16 bits, a random
/// instance number below.
///
/// Consensus is lost when a node returns under an id with less than it had acknowledged: a wiped
/// disk could vote a committed entry away. So an empty disk always gets a new instance number, and
/// is a stranger until the cluster lets it replace its predecessor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct NodeId(pub(crate) u64);

impl NodeId {
    const INSTANCE_BITS: u32 = 48;

    /// A new node id for server `server`.
    pub(crate) fn generate(server: u16) -> Self {
        let random = uuid::Uuid::new_v4().as_u128() as u64;
        Self(u64::from(server) << Self::INSTANCE_BITS | random & ((1 << Self::INSTANCE_BITS) - 1))
    }

    /// The id in the member list of the configuration.
    pub(crate) fn server(self) -> u16 {
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

/// The addresses of a member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Member {
    /// `host:port` of node-to-node gRPC.
    pub(crate) raft_address: String,
    /// `host:port` of the HTTP API as clients reach it.
    pub(crate) http_address: String,
    /// Added while the cluster ran: these addresses count before those of a list of members.
    pub(crate) joined: bool,
    /// Receives the log and never votes.
    pub(crate) replica: bool,
    /// The members were changed while the cluster ran (docs/adr/0024).
    pub(crate) changed: bool,
    /// The member whose place this one takes when it has caught up.
    pub(crate) replaces: Option<NodeId>,
}

impl Member {
    /// A member as a list of members has it.
    pub(crate) fn at(raft_address: impl Into<String>, http_address: impl Into<String>) -> Self {
        Self { raft_address: raft_address.into(), http_address: http_address.into(), ..Self::default() }
    }

    /// The same member at the places of another.
    pub(crate) fn moved_to(&self, places: &Self) -> Self {
        Self { raft_address: places.raft_address.clone(), http_address: places.http_address.clone(), ..self.clone() }
    }

    /// Whether both are at the same places.
    pub(crate) fn has_places_of(&self, other: &Self) -> bool {
        self.raft_address == other.raft_address && self.http_address == other.http_address
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raft {} http {}", self.raft_address, self.http_address)
    }
}

/// Maps the address that the membership names to the address to use: for a member that was not
/// added while the cluster ran, the configured list takes precedence over what an older
/// configuration left in the membership.
pub(crate) type Resolve = Arc<dyn Fn(NodeId, &Member) -> Member + Send + Sync>;
