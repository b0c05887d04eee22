//! This node's place among the members, by its configuration and by the log.

use std::sync::Arc;

use tonic::Status;
use uuid::Uuid;

use super::identity::Identity;
use crate::config::{Config, MemberConfig};
use crate::raft::Consensus;
use crate::store::Store;
use crate::transport::{Member, NodeId};

/// The member list in the form in which two nodes compare their lists.
fn canonical(members: &[MemberConfig]) -> String {
    let lines: Vec<_> = members.iter().map(|m| format!("{}={}/{}", m.id, m.raft_address, m.http_address)).collect();
    lines.join(",")
}

/// The identity of this node among the members.
pub(super) struct OwnMembership {
    /// The configured member list, and this server's id in it.
    config: Arc<Config>,
    identity: Arc<Identity>,
    /// Knows the members by the log.
    consensus: Consensus,
    store: Store,
}

impl OwnMembership {
    /// For the node with this configuration and disk.
    pub(super) fn new(config: Arc<Config>, identity: Arc<Identity>, consensus: Consensus, store: Store) -> Self {
        Self { config, identity, consensus, store }
    }

    /// This node.
    pub(super) fn node_id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// Whether this disk holds neither log entry nor vote nor state. A cluster may be founded only
    /// with such a disk.
    pub(super) fn disk_is_empty(&self) -> bool {
        let seen = self.consensus.seen();
        let applied_entries = self.store.applied().current().log_entries;
        seen.log_entries == 0 && seen.term == 0 && applied_entries == 0
    }

    /// Whether this node votes, by the membership it knows. While voters are exchanged there are
    /// two lists: a node that is only in the new one has not replaced its predecessor yet, whose
    /// vote still counts.
    pub(super) fn is_member(&self) -> bool {
        let members = self.consensus.seen().members;
        let lists = members.voter_lists();
        !lists.is_empty() && lists.iter().all(|voters| voters.contains(&self.node_id()))
    }

    /// Whether this node receives the log but is not (fully) a member.
    pub(super) fn is_learner(&self) -> bool {
        self.consensus.seen().members.addresses(self.node_id()).is_some() && !self.is_member()
    }

    /// This node in the configured list.
    pub(super) fn own_config(&self) -> MemberConfig {
        let config = &self.config;
        let own = config.members.iter().find(|m| m.id == config.server_id).cloned();
        own.unwrap_or_else(|| MemberConfig {
            id: config.server_id,
            raft_address: config.raft_listen.to_string(),
            http_address: config.http_listen.to_string(),
        })
    }

    /// The configured addresses of this node.
    pub(super) fn own_member(&self) -> Member {
        let own = self.own_config();
        Member { raft_address: own.raft_address, http_address: own.http_address }
    }

    /// The configured list, for comparison with that of another node.
    pub(crate) fn canonical_list(&self) -> String {
        canonical(&self.config.members)
    }

    /// Whether a server is in the configured list.
    pub(super) fn is_listed(&self, server: u16) -> bool {
        self.config.members.iter().any(|member| member.id == server)
    }

    /// Refuses a server that is not in the configured list.
    pub(super) fn check_listed(&self, server: u16) -> Result<(), Status> {
        if self.is_listed(server) {
            Ok(())
        } else {
            Err(Status::failed_precondition(format!("server {server} is not in this node's member list")))
        }
    }

    /// Accepts or refuses a founder that asks this node to join.
    pub(super) fn accept_founding(&self, cluster_id: Uuid, configured_members: &str) -> Result<(), Status> {
        if !self.disk_is_empty() {
            return Err(Status::failed_precondition("this node already holds a log: a cluster is founded only once"));
        }
        if configured_members != self.canonical_list() {
            return Err(Status::failed_precondition("this node has another member list"));
        }
        self.identity.set_cluster_id(cluster_id, true).map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_equal_canonical_forms() {
        let list = [
            MemberConfig { id: 1, raft_address: "a:1".into(), http_address: "a:2".into() },
            MemberConfig { id: 2, raft_address: "b:1".into(), http_address: "b:2".into() },
        ];
        assert_eq!(canonical(&list), "1=a:1/a:2,2=b:1/b:2");
        assert_ne!(canonical(&list), canonical(&list[..1]));
    }
}
