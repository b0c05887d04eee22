//! What doors see of the cluster: which node leads, the members, the figures. A door neither reads
//! the state nor writes through it: that is for the rooms which know the rules.

use uuid::Uuid;

use super::Cluster;
pub(crate) use super::figures::{Connection, Ends, Figures, Follower};
pub(crate) use super::hand_over::HandOverError;
pub use super::leadership::{Leader, LeaderHint};
pub use super::status::report::{ClusterStatus, MemberStatus, Role};
use crate::transport::Traffic;

/// A look at the cluster, and what operators may ask of the node in it. Cheap to clone.
#[derive(Clone)]
pub struct ClusterView {
    cluster: Cluster,
}

impl Cluster {
    /// What doors see of it.
    pub fn view(&self) -> ClusterView {
        ClusterView { cluster: self.clone() }
    }
}

impl ClusterView {
    /// Id of the cluster; `None` before it was founded.
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.cluster.cluster_id()
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Leader {
        self.cluster.leader()
    }

    /// Where clients reach the leader.
    pub(crate) fn clients_address(&self, leader: &LeaderHint) -> String {
        self.cluster.clients_address(leader)
    }

    /// Hands leadership over, if this node leads.
    ///
    /// # Errors
    /// See [`HandOverError`].
    pub(crate) async fn resign(&self) -> Result<(), HandOverError> {
        self.cluster.hand_over().await
    }

    /// Changes the priority of this node, for as long as this process runs.
    pub(crate) fn set_priority(&self, priority: i32) {
        self.cluster.set_priority(priority);
    }

    /// The members and their health.
    pub fn status(&self) -> ClusterStatus {
        self.cluster.status()
    }

    /// The work of this node.
    pub(crate) fn figures(&self) -> Figures {
        self.cluster.figures()
    }

    /// The followers of this node, in order of their server id; none unless it leads with a
    /// majority (contract/services 4.2).
    pub(crate) fn followers(&self) -> Vec<Follower> {
        self.cluster.followers()
    }

    /// The connections with other nodes.
    pub(crate) fn traffic(&self) -> &Traffic {
        self.cluster.traffic()
    }
}
