//! How a node finds out that the cluster has gone on without it.
//!
//! A node that is removed while it runs knows from its log that it does not vote, but the entry
//! that removes it does not reach it any more; and a node that was away knows nothing. So each node
//! compares its own membership with the committed one that the others report.

use std::sync::Arc;
use std::time::Duration;

use headwater_proto::cluster as wire;
use tokio_util::sync::CancellationToken;

use crate::cluster::identity::Identity;
use crate::cluster::own_membership::OwnMembership;
use crate::cluster::status::peers::Peers;
use crate::raft::Consensus;
use crate::transport::NodeId;

/// How often the memberships are compared; the others are asked about as often.
const COMPARE_INTERVAL: Duration = Duration::from_millis(500);

/// So often in a row a node has to find that it was left out. A disk that is just being taken in
/// still lacks the entry that does so, and may have heard the others last before they had it.
const LOOKS: u32 = 3;

/// Looks whether this node is still a member.
pub(crate) struct Departure {
    pub(crate) membership: Arc<OwnMembership>,
    pub(crate) identity: Arc<Identity>,
    /// Their last answers hold their memberships.
    pub(crate) peers: Peers,
    /// Knows the own membership; a removed node stands for no election.
    pub(crate) consensus: Consensus,
}

impl Departure {
    /// Works until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let own = self.membership.node_id();
        let mut found = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(COMPARE_INTERVAL) => {}
            }
            found = if self.is_removed(own) { LOOKS.min(found + 1) } else { 0 };
            let is_removed = found == LOOKS;
            if !self.membership.set_removed(is_removed) {
                continue;
            }
            self.consensus.stand_for_election(!is_removed);
            if is_removed {
                tracing::warn!(target: "audit", node_id = %own, "audit: members: this node was removed from the cluster and takes no part any more; it can be stopped");
            } else {
                tracing::info!(target: "audit", node_id = %own, "audit: members: this node is a member of the cluster again");
            }
        }
    }

    fn is_removed(&self, own: NodeId) -> bool {
        if self.membership.disk_is_empty() {
            return false;
        }
        let cluster_id = self.identity.cluster_id().map(|id| id.into_bytes());
        let heard = self.peers.all_heard().into_iter().map(|heard| heard.status);
        let of_this_cluster =
            heard.filter(|status| status.cluster_id.as_deref() == cluster_id.as_ref().map(|id| &id[..]));
        let reported: Vec<_> = of_this_cluster.filter_map(|status| status.members).collect();
        let members = self.consensus.seen().members;
        let Some(known_at) = members.log_index() else { return false };
        is_left_out(own, known_at, members.addresses(own).is_some(), &reported)
    }
}

/// Whether the newest membership does not have the node: that which the node itself knows, or one
/// of those that others report. These are committed; the own one may not be, and is replaced then.
fn is_left_out(own: NodeId, known_at: u64, has_itself: bool, reported: &[wire::CommittedMembers]) -> bool {
    let newest = reported.iter().max_by_key(|members| members.log_index);
    match newest.filter(|members| members.log_index > known_at) {
        Some(newest) => !newest.node_ids.contains(&own.0),
        None => !has_itself,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_membership_says_whether_a_node_is_a_member() {
        let own = NodeId(7);
        let members = |log_index, node_ids: &[u64]| wire::CommittedMembers { log_index, node_ids: node_ids.to_vec() };
        let is_left_out = |has_itself, reported: &[_]| is_left_out(own, 10, has_itself, reported);
        assert!(!is_left_out(true, &[]));
        assert!(!is_left_out(true, &[members(10, &[1, 7]), members(9, &[1])]), "an older one does not count");
        assert!(is_left_out(true, &[members(12, &[1, 2]), members(11, &[1, 7])]));
        assert!(!is_left_out(true, &[members(12, &[1]), members(13, &[1, 7])]), "it was added again");
        assert!(is_left_out(false, &[]), "by its own log");
        assert!(!is_left_out(false, &[members(11, &[7])]));
    }
}
