//! Changes of the members at the leader: a replaced disk takes the place of its predecessor.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::Status;
use uuid::Uuid;

use super::catching_up::has_caught_up;
use super::commit::in_time;
use crate::cluster::identity::Identity;
use crate::cluster::leadership::Leadership;
use crate::cluster::read_barrier::ReadGate;
use crate::cluster::servers::Servers;
use crate::cluster::status::peers::Peers;
use crate::cluster::versions::Versions;
use crate::event::ClusterVersion;
use crate::raft::{ChangeError, Consensus, Members};
use crate::transport::{Member, NodeId};

/// How long catching up may take before the leader gives up; the node then asks again by itself.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(3_600);
/// How often the leader checks whether the new member has caught up.
const CATCH_UP_POLL: Duration = Duration::from_millis(100);

/// Gives replaced disks the place of their predecessors, while this node leads.
pub(crate) struct Replacement {
    identity: Arc<Identity>,
    consensus: Consensus,
    leadership: Arc<Leadership>,
    /// Confirms that a majority still follows this leader, before it changes the members.
    barrier: Arc<ReadGate>,
    /// Whether the predecessor of a disk is still running.
    peers: Peers,
    /// Disks that are catching up.
    promoting: Mutex<HashSet<NodeId>>,
    /// Held while the members are changed: one change at a time.
    changing_members: Arc<tokio::sync::Mutex<()>>,
    /// Which servers have a place that a disk could take.
    servers: Arc<Servers>,
    /// What a member has to be able to apply.
    versions: Arc<Versions>,
}

impl Replacement {
    /// Starts without a replacement under way.
    pub(crate) fn new(
        identity: Arc<Identity>,
        consensus: Consensus,
        leadership: Arc<Leadership>,
        barrier: Arc<ReadGate>,
        peers: Peers,
        servers: Arc<Servers>,
        versions: Arc<Versions>,
    ) -> Self {
        let (promoting, changing_members) = (Mutex::default(), Arc::default());
        Self { identity, consensus, leadership, barrier, peers, promoting, changing_members, servers, versions }
    }

    /// The turn of changes of members.
    pub(crate) fn turn(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.changing_members.clone()
    }

    /// Adds `node_id` as a learner in place of the former disk of the same server, and lets it vote
    /// once it has caught up. Repeating the request is harmless.
    pub(crate) async fn replace(
        self: &Arc<Self>,
        node_id: NodeId,
        addresses: Member,
        newest: ClusterVersion,
    ) -> Result<Uuid, Status> {
        let cluster_id = self.identity.cluster_id().ok_or_else(|| Status::unavailable("not part of a cluster"))?;
        if !self.leadership.is_local() {
            return Err(Status::unavailable("not the leader"));
        }
        if !self.servers.knows(node_id.server()) {
            return Err(Status::failed_precondition(format!(
                "server {} is not in the member list, or was removed from the cluster",
                node_id.server()
            )));
        }
        let members = self.consensus.seen().members;
        let addresses = described_as_before(&members, node_id.server(), addresses)?;
        let voters = members.voters();
        if voters.contains(&node_id) {
            // A former leader may have begun the exchange without finishing it.
            if members.are_exchanging() {
                self.promote_in_background(node_id);
            }
            return Ok(cluster_id);
        }
        if let Some(former) = self.peers.heard(node_id.server()).filter(|heard| heard.is_alive())
            && voters.contains(&NodeId(former.status.node_id))
        {
            return Err(Status::failed_precondition(format!(
                "server {} is still running with its former disk ({})",
                node_id.server(),
                NodeId(former.status.node_id)
            )));
        }
        // The node asks several times a second until it votes, and every change is a log entry.
        if members.addresses(node_id).is_some_and(|known| known.has_places_of(&addresses)) {
            self.promote_in_background(node_id);
            return Ok(cluster_id);
        }
        // A new leader that no majority has confirmed must not change the members.
        if self.barrier.linearize().await.is_err() {
            return Err(Status::unavailable("the leader has no majority at the moment"));
        }
        let add = async {
            let _one_at_a_time = self.changing_members.lock().await;
            // No other version is put in force before the node is a member.
            if let Err(refusal) = self.versions.check_newcomer(node_id.server(), newest) {
                return Ok(Err(Status::failed_precondition(refusal)));
            }
            self.consensus.add_learner(node_id, addresses).await.map(Ok)
        };
        in_time(add).await.map_err(|error| Status::unavailable(error.to_string()))??;
        self.promote_in_background(node_id);
        Ok(cluster_id)
    }

    /// Lets a member vote once it has caught up.
    pub(super) fn promote_in_background(self: &Arc<Self>, node_id: NodeId) {
        if self.promoting.lock().insert(node_id) {
            tracing::info!(target: "audit", %node_id, "audit: members: took in a replaced disk; it will vote once it has caught up");
            tokio::spawn(self.clone().promote(node_id));
        }
    }

    /// Waits until the learner has caught up, then exchanges it for its predecessor in one change.
    async fn promote(self: Arc<Self>, node_id: NodeId) {
        self.promote_when_caught_up(node_id).await;
        self.promoting.lock().remove(&node_id);
    }

    async fn promote_when_caught_up(&self, node_id: NodeId) {
        let deadline = tokio::time::Instant::now() + CATCH_UP_DEADLINE;
        // What prevented the last attempt; logged when it changes, not ten times a second.
        let mut obstacle = None;
        loop {
            if !self.leadership.is_local() || tokio::time::Instant::now() > deadline {
                tracing::info!(%node_id, "no longer promoting the replaced disk");
                return;
            }
            if has_caught_up(&self.consensus.seen(), node_id) && self.barrier.linearize().await.is_ok() {
                match self.exchange_voter(node_id).await {
                    Ok(()) => {
                        tracing::info!(target: "audit", %node_id, "audit: members: the replaced disk has caught up and votes");
                        return;
                    }
                    Err(error) if Some(&error) != obstacle.as_ref() => {
                        tracing::warn!(%node_id, %error, "cannot make the replaced disk a voter yet");
                        obstacle = Some(error);
                    }
                    Err(_) => {}
                }
            }
            tokio::time::sleep(CATCH_UP_POLL).await;
        }
    }

    async fn exchange_voter(&self, node_id: NodeId) -> Result<(), ChangeError> {
        // Two disks may be replaced at the same time: no other change may come between reading the
        // members and changing them.
        let _one_at_a_time = self.changing_members.lock().await;
        let members = self.consensus.seen().members;
        // If an exchange was left unfinished, the newer list counts.
        let mut voters = members.newest_voters();
        voters.retain(|id| id.server() != node_id.server());
        voters.insert(node_id);
        // The predecessor never comes back.
        in_time(self.consensus.replace_voters(voters, &members)).await?;
        let is_leftover = |id: &NodeId| id.server() == node_id.server() && *id != node_id;
        let leftovers: BTreeSet<NodeId> = self.consensus.seen().members.learners().filter(is_leftover).collect();
        if leftovers.is_empty() {
            return Ok(());
        }
        in_time(self.consensus.remove_learners(leftovers)).await
    }
}

/// The new disk of a server as the cluster describes the old one. A replica has no vote to give.
fn described_as_before(members: &Members, server: u16, addresses: Member) -> Result<Member, Status> {
    let of_server: Vec<&Member> =
        members.all().filter(|(id, _)| id.server() == server).map(|(_, member)| member).collect();
    if !of_server.is_empty() && of_server.iter().all(|member| member.replica) {
        return Err(Status::failed_precondition(format!(
            "server {server} is a replica: remove it from the cluster, and add it again with --join"
        )));
    }
    Ok(Member { joined: of_server.iter().any(|member| member.joined), ..addresses })
}
