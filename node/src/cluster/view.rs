//! What doors see of the cluster: which node leads, the members, the figures; and what they may ask
//! of it: a change of the members. A door neither reads the state nor writes through it: that is
//! for the rooms which know the rules.

use uuid::Uuid;

use super::Cluster;
use super::Requester;
pub(crate) use super::figures::{Connection, Ends, Figures, Follower};
pub(crate) use super::hand_over::HandOverError;
pub(crate) use super::leadership::{Leader, LeaderHint};
pub(crate) use super::membership::changes::decision::Change;
pub(crate) use super::membership::changes::request::ChangeMembersError;
pub(crate) use super::status::overview::{Condition, MemberOverview, Overview, Part, Progress};
pub(crate) use super::status::report::{ClusterStatus, MemberStatus, Role};
pub(crate) use super::versions::Gated;
use crate::event::Caller;
pub(crate) use crate::transport::Member;
use crate::transport::Traffic;

/// A look at the cluster, and what operators may ask of the node in it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClusterView {
    cluster: Cluster,
}

impl Cluster {
    /// What doors see of it.
    pub(crate) fn view(&self) -> ClusterView {
        ClusterView { cluster: self.clone() }
    }
}

impl ClusterView {
    /// Id of the cluster; `None` before it was founded.
    pub(crate) fn cluster_id(&self) -> Option<Uuid> {
        self.cluster.cluster_id()
    }

    /// The leader, as far as this node knows.
    pub(crate) fn leader(&self) -> Leader {
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

    /// Whether the cluster has gone on without this node: clients should go elsewhere.
    pub(crate) fn is_removed(&self) -> bool {
        self.cluster.is_removed()
    }

    /// Returns once [`Self::is_removed`].
    pub(crate) async fn removed(&self) {
        self.cluster.removed().await;
    }

    /// The members and their health.
    pub(crate) fn status(&self) -> ClusterStatus {
        self.cluster.status()
    }

    /// The cluster as operators look at it.
    pub(crate) fn overview(&self) -> Overview {
        self.cluster.overview()
    }

    /// Changes the members on behalf of the caller, whichever node leads, and returns a sentence
    /// about what is done. The leader decides whether the caller may ask for it.
    ///
    /// # Errors
    /// See [`ChangeMembersError`].
    pub(crate) async fn change_members(&self, change: &Change, caller: &Caller) -> Result<String, ChangeMembersError> {
        self.cluster.change_members(change, Requester::Caller(caller.clone())).await
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
