//! The handle on the room: what the rooms above ask of its parts.

use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use super::assembly::{Background, ClusterParts, Dependencies};
use super::leadership::{Leader, LeaderHint, LeaderTerm};
use super::membership::changes::decision::Change;
use super::membership::changes::request::ChangeMembersError;
use super::read_barrier::BarrierError;
use super::status::figures::{Figures, Follower};
use super::status::overview::Overview;
use super::status::report::ClusterStatus;
use super::writes::authorization::{Authorizer, Requester};
use super::writes::write::{Write, WriteError};
use crate::config::LeaderRedirect;
use crate::event::{ClusterVersion, Position, WriteOutcome};
use crate::store::{ReadError, Store};
use crate::transport::Traffic;

/// Handle on the cluster as this node takes part in it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(super) parts: Arc<ClusterParts>,
}

/// What the requester of upkeep can do while [`Cluster::takes_upkeep`] says no.
pub(crate) const UPKEEP_HAS_TO_WAIT: &str = "wait until every member of the cluster answers and runs this version";

impl Cluster {
    /// The room, and its background work, which is not started yet.
    pub(crate) fn new(dependencies: Dependencies) -> (Self, Background) {
        let (parts, background) = ClusterParts::new(dependencies);
        (Self { parts: Arc::new(parts) }, background)
    }

    /// The local copy of the state.
    pub(crate) fn store(&self) -> &Store {
        &self.parts.store
    }

    /// Id of the cluster; `None` before it was founded.
    pub(crate) fn cluster_id(&self) -> Option<Uuid> {
        self.parts.identity.cluster_id()
    }
}

/// Leadership.
impl Cluster {
    /// The leader, as far as this node knows.
    pub(crate) fn leader(&self) -> Leader {
        self.parts.leadership.leader()
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.parts.leadership.is_local()
    }

    /// The leader, to wait for its next change.
    pub(crate) fn leader_changes(&self) -> watch::Receiver<Leader> {
        self.parts.leadership.changes()
    }

    /// The leader, unless it has been silent for so long that it may be gone. While leadership
    /// moves, the next leader is waited for.
    pub(crate) async fn living_leader(&self) -> Leader {
        self.parts.barrier.living_leader().await
    }

    /// The address at which clients reach the leader.
    pub(crate) fn clients_address(&self, leader: &LeaderHint) -> String {
        self.parts.status.clients_address(leader)
    }
}

/// Writes.
impl Cluster {
    /// Registers the rules that decide on writes while this node leads. No write is made before.
    pub(crate) fn authorize_with(&self, authorizer: Box<dyn Authorizer>) {
        self.parts.writes.authorize_with(authorizer);
    }

    /// The term in which this node leads, for [`Write::authorized_in`]: take it before checking the
    /// permission.
    pub(crate) fn leader_term(&self) -> Option<LeaderTerm> {
        self.parts.leadership.term()
    }

    /// Whether a permission that was checked in that term still counts: this node leads in it.
    pub(crate) fn is_authorized(&self, authorized_in: Option<LeaderTerm>) -> bool {
        self.parts.leadership.leads_in(authorized_in)
    }

    /// Commits a write and returns the decision, once it is on disk on a majority and applied on
    /// this node. Always returns by the configured deadline.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub(crate) async fn write(&self, write: Write) -> Result<WriteOutcome, WriteError> {
        if self.parts.lifecycle.has_rival() || self.is_removed() {
            return Err(WriteError::NoLeader);
        }
        self.parts.writes.write(write).await
    }
}

/// Reads.
impl Cluster {
    /// Whether this node has caught up with what it knew before it was started, and no other
    /// cluster claims its place. Otherwise it serves no reads, and makes no decisions by its own
    /// state, because they would be based on older facts.
    pub(crate) fn has_recovered(&self) -> bool {
        self.parts.lifecycle.has_recovered() && !self.parts.lifecycle.has_rival()
    }

    /// Whether clients that demand the leader are sent to it.
    pub(crate) fn redirects_to_leader(&self) -> bool {
        self.parts.barrier.leader_redirect == LeaderRedirect::Redirect
    }

    /// Returns once a read on this node, which must lead if clients are sent to the leader, sees
    /// everything acknowledged anywhere before the call.
    ///
    /// # Errors
    /// See [`BarrierError`].
    pub(crate) async fn linearize(&self) -> Result<(), BarrierError> {
        self.parts.barrier.linearize().await
    }

    /// Returns once a read on this node, leader or not, sees everything acknowledged anywhere
    /// before the call.
    ///
    /// # Errors
    /// See [`BarrierError`].
    pub(crate) async fn catch_up(&self) -> Result<(), BarrierError> {
        self.parts.barrier.catch_up().await
    }

    /// Waits up to the configured time until this node has applied the event at `position`.
    ///
    /// # Errors
    /// [`BarrierError::Behind`].
    pub(crate) async fn wait_for_position(&self, position: Position) -> Result<(), BarrierError> {
        self.parts.barrier.wait_for_position(position).await
    }
}

/// Members.
impl Cluster {
    /// Whether the cluster has gone on without this node: clients should go elsewhere.
    pub(crate) fn is_removed(&self) -> bool {
        self.parts.membership.is_removed()
    }

    /// Returns once [`Self::is_removed`].
    pub(crate) async fn removed(&self) {
        // The parts, which this handle holds, own the other end.
        let _ = self.parts.membership.removals().wait_for(|is_removed| *is_removed).await;
    }

    /// Changes the members, whichever node leads, and returns a sentence about what is done.
    ///
    /// # Errors
    /// See [`ChangeMembersError`].
    pub(crate) async fn change_members(
        &self,
        change: &Change,
        requester: Requester,
    ) -> Result<String, ChangeMembersError> {
        self.parts.requests.request(change, requester).await
    }
}

/// Status.
impl Cluster {
    /// The members and their health.
    pub(crate) fn status(&self) -> ClusterStatus {
        self.parts.status.of_cluster()
    }

    /// The cluster as operators look at it.
    pub(crate) fn overview(&self) -> Overview {
        self.parts.overviews.of_cluster()
    }

    /// Reports that there are users. The node is not ready before.
    pub(crate) fn set_users_exist(&self) {
        self.parts.lifecycle.set_users_exist();
    }

    /// Whether every member of the cluster can apply commands of upkeep: removals, redactions,
    /// imports. Once a node has holes in its log, such a command was applied, so no older member is
    /// left; a later cluster version than the first says so, too. Before that, every member has to
    /// say that it can read a state with removed events.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(crate) async fn takes_upkeep(&self) -> Result<bool, ReadError> {
        let has_holes = self.store().read(|view| Ok(view.has_holes())).await?;
        let is_raised = self.store().cluster_version() > ClusterVersion::FIRST;
        Ok(has_holes || is_raised || self.parts.status.knows_removals_everywhere())
    }

    /// Figures of the work of this node.
    pub(crate) fn figures(&self) -> Figures {
        self.parts.statistics.figures()
    }

    /// The followers of this node, in order of their server id; none unless it leads with a
    /// majority (contract/services 4.2).
    pub(crate) fn followers(&self) -> Vec<Follower> {
        self.parts.statistics.followers()
    }

    /// The connections with other nodes.
    pub(crate) fn traffic(&self) -> &Traffic {
        self.parts.statistics.traffic()
    }
}
