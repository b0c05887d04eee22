//! The servers that this node knows, and where they are: those of the configured list, until the
//! members were changed while the cluster ran (docs/adr/0024); from then on those of the
//! membership.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::connector::Connector;
use crate::config::{Config, MemberConfig};
use crate::raft::{Consensus, Members};
use crate::transport::{Member, NodeId};

/// Knows the servers of the cluster.
pub(crate) struct Servers {
    config: Arc<Config>,
    /// Knows the membership.
    consensus: Consensus,
    /// Knows which of two addresses of a server counts.
    connector: Connector,
}

impl Servers {
    /// By the list and the membership of this node.
    pub(super) fn new(config: Arc<Config>, consensus: Consensus, connector: Connector) -> Self {
        Self { config, consensus, connector }
    }

    /// Every server but this one, ascending by id.
    pub(super) fn others(&self) -> Vec<MemberConfig> {
        let members = self.consensus.seen().members;
        let mut servers = if members.are_changed() { self.of(&members) } else { self.config.members.clone() };
        servers.retain(|server| server.id != self.config.server_id);
        servers
    }

    /// Whether a server is one of the cluster, or of the list while that counts.
    pub(super) fn knows(&self, server: u16) -> bool {
        server == self.config.server_id || self.others().iter().any(|other| other.id == server)
    }

    /// The servers of the membership, each where its disk that [counts](precedence) is.
    fn of(&self, members: &Members) -> Vec<MemberConfig> {
        let voters = members.voters();
        let rank = |id: NodeId, member: &Member| precedence(voters.contains(&id), member.replica);
        let mut servers: BTreeMap<u16, (NodeId, &Member)> = BTreeMap::new();
        for (id, member) in members.all() {
            let known = servers.entry(id.server()).or_insert((id, member));
            if rank(id, member) > rank(known.0, known.1) {
                *known = (id, member);
            }
        }
        let server = |(id, (node_id, member)): (u16, (NodeId, &Member))| {
            let places = self.connector.addresses(node_id, member);
            MemberConfig { id, raft_address: places.raft_address, http_address: places.http_address }
        };
        servers.into_iter().map(server).collect()
    }
}

/// A server may have two disks in the membership. The one of higher precedence counts: while one
/// takes the place of the other the new one, and afterwards the one that votes.
pub(super) fn precedence(votes: bool, is_replica: bool) -> u8 {
    match (votes, is_replica) {
        (false, false) => 2,
        (true, _) => 1,
        (false, true) => 0,
    }
}
