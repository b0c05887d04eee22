//! This node's place among the members, by its configuration and by the log.

use std::sync::Arc;

use headwater_proto::stored;
use tokio::sync::watch;
use tonic::Status;
use uuid::Uuid;

use super::identity::Identity;
use crate::config::{Config, MemberConfig, canonical_list};
use crate::raft::Consensus;
use crate::store::Store;
use crate::transport::{Member, NodeId};

/// The identity of this node among the members.
pub(super) struct OwnMembership {
    /// The configured member list, and this server's id in it.
    config: Arc<Config>,
    identity: Arc<Identity>,
    /// Knows the members by the log.
    consensus: Consensus,
    store: Store,
    /// The cluster has gone on without this node.
    removed: watch::Sender<bool>,
}

impl OwnMembership {
    /// For the node with this configuration and disk.
    pub(super) fn new(config: Arc<Config>, identity: Arc<Identity>, consensus: Consensus, store: Store) -> Self {
        Self { config, identity, consensus, store, removed: watch::Sender::new(false) }
    }

    /// The cluster has gone on without this node, or has taken it in again; returns whether that is
    /// new.
    pub(super) fn set_removed(&self, is_removed: bool) -> bool {
        self.removed.send_if_modified(|known| std::mem::replace(known, is_removed) != is_removed)
    }

    /// Whether [`Self::set_removed`] said so last.
    pub(super) fn is_removed(&self) -> bool {
        *self.removed.borrow()
    }

    /// The same, to wait for its next change.
    pub(super) fn removals(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
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

    /// What this disk was restored from, if it waits for the server that begins the cluster of all
    /// disks that were restored for the same list.
    pub(super) fn restored_copy(&self) -> Option<stored::RestoredFor> {
        if self.identity.is_restored() { None } else { self.identity.restored_for() }
    }

    /// The same while no leader has written to this disk: it is as the restore left it, so any
    /// founder may take it in.
    pub(super) fn untouched_copy(&self) -> Option<stored::RestoredFor> {
        let seen = self.consensus.seen();
        // The restore votes in the term of the last entry that the state has; a leader comes with a
        // later one.
        let is_untouched = seen.log_entries == seen.applied_entries && seen.applied_term == Some(seen.term);
        self.restored_copy().filter(|_| is_untouched)
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

    /// Whether this node is a member that never votes.
    pub(super) fn is_replica(&self) -> bool {
        let members = self.consensus.seen().members;
        members.addresses(self.node_id()).is_some_and(|own| own.replica) && !members.voters().contains(&self.node_id())
    }

    /// Whether this node was started to be added to a running cluster, and was not added yet.
    pub(super) fn waits_to_be_added(&self) -> bool {
        self.config.join && self.disk_is_empty()
    }

    /// What an operator does with a node that [waits](Self::waits_to_be_added).
    pub(super) fn how_to_add(&self) -> String {
        let MemberConfig { id, raft_address, http_address } = self.own_config();
        let scheme = self.scheme();
        format!(
            "this node waits to be added to a running cluster: headwater cluster add {id}={raft_address}/{http_address} \
             --url {scheme}://ANY-MEMBER --user admin"
        )
    }

    /// How clients speak to this node, and to others, if all are alike.
    fn scheme(&self) -> &'static str {
        if self.config.tls.for_clients().is_some() { "https" } else { "http" }
    }

    /// What an operator does with a node that was added while the cluster ran and has another
    /// address now, at which the others do not look for it. `None` for a node that is where they
    /// look.
    pub(super) fn how_to_move(&self) -> Option<String> {
        let members = self.consensus.seen().members;
        let known = members.addresses(self.node_id()).filter(|known| known.joined)?;
        let MemberConfig { id, raft_address, http_address } = self.own_config();
        let scheme = self.scheme();
        (known.raft_address != raft_address).then(|| {
            format!(
                "the others know this server at {}, and its own list says {raft_address}: headwater cluster remove {id} \
                 --url {scheme}://ANY-OTHER-MEMBER --user admin, and then add {id}={raft_address}/{http_address}; its data \
                 stay",
                known.raft_address
            )
        })
    }

    /// Whether this node is a member that the leader lets vote when it has caught up: it was added
    /// while the cluster ran, and asks for nothing itself.
    pub(super) fn is_led_in(&self) -> bool {
        self.consensus.seen().members.addresses(self.node_id()).is_some_and(|own| own.changed)
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
        Member::at(own.raft_address, own.http_address)
    }

    /// The configured list, for comparison with that of another node.
    pub(crate) fn canonical_list(&self) -> String {
        canonical_list(&self.config.members)
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
    pub(super) fn accept_founding(
        &self,
        cluster_id: Uuid,
        configured_members: &str,
        restored_backup: &[u8],
    ) -> Result<(), Status> {
        let is_same_copy = self.untouched_copy().is_some_and(|own| own.backup == restored_backup);
        if !is_same_copy && self.restored_copy().is_some() {
            return Err(Status::failed_precondition(
                "this node was restored from another backup, or has begun another cluster since: restore the same \
                 backup on every server again",
            ));
        }
        if !self.disk_is_empty() && !is_same_copy {
            return Err(Status::failed_precondition("this node already holds a log: a cluster is founded only once"));
        }
        if self.config.join {
            return Err(Status::failed_precondition(
                "this node was started with --join, which waits for a running cluster; a cluster is founded without it",
            ));
        }
        if configured_members != self.canonical_list() {
            return Err(Status::failed_precondition("this node has another member list"));
        }
        self.identity.set_cluster_id(cluster_id, true).map_err(|error| Status::internal(error.to_string()))
    }

    /// Accepts or refuses the leader of a running cluster that takes this node in. A node that was
    /// a member before comes back with its data.
    pub(super) fn accept_joining(&self, cluster_id: Uuid) -> Result<(), Status> {
        let refused = |reason: &str| Err(Status::failed_precondition(reason.to_owned()));
        match (self.disk_is_empty(), self.identity.cluster_id()) {
            (false, Some(own)) if own == cluster_id => Ok(()),
            (false, _) => refused("it has data of another cluster; give it an empty data directory and --join"),
            (true, _) if !self.config.join => refused("it was not started with --join"),
            (true, _) => {
                self.identity.set_cluster_id(cluster_id, true).map_err(|error| Status::internal(error.to_string()))
            }
        }
    }
}
