//! The end of the leader's process, noticed before its silence is long enough.
//!
//! The kernel closes the connections and the port of a process that ends, however it ends. A
//! follower whose stream of entries is cut off tries the leader's port. Where the port refuses, it
//! no longer counts the leader's lease, and the followers stand for election one after the other.
//! A follower that is alone with this finding changes nothing: it asks the others first, and while
//! their lease is not over they would not vote for it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::leadership::{Leader, LeaderHint, Leadership};
use super::status::report::Status;
use crate::metrics::Metrics;
use crate::raft::Consensus;
use crate::transport::{NodeId, dialer};

/// Rounds of elections before the election timeouts are left to go on.
const ROUNDS: u32 = 5;

/// Nodes that stand for election, one after the other, in the time of one heartbeat. Operators
/// raise the interval of heartbeats for slow networks, on which votes take longer, too.
pub(super) const TURNS_PER_HEARTBEAT: u32 = 3;

/// Elects another leader when the process of the leader has ended.
pub(super) struct LeaderEnd {
    /// The id of this node.
    pub(super) own: NodeId,
    /// Names the leader.
    pub(super) leadership: Arc<Leadership>,
    /// Elects.
    pub(super) consensus: Consensus,
    /// Knows which nodes live, and their priorities.
    pub(super) status: Arc<Status>,
    /// Counts what was found.
    pub(super) metrics: Arc<Metrics>,
    /// Nodes whose streams of entries were cut off.
    pub(super) broken: broadcast::Receiver<NodeId>,
    /// A node stands this much later than the one before it, so that its votes are counted when
    /// the next one would ask for them.
    pub(super) turn: Duration,
    /// How long an election may take before it is tried again.
    pub(super) round: Duration,
}

impl LeaderEnd {
    /// Works until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let until = stop.clone();
        let work = async {
            loop {
                match self.broken.recv().await {
                    Ok(peer) => self.check(peer).await,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        };
        until.run_until_cancelled(work).await;
    }

    /// Looks whether the leader has ended, if `peer` is the leader.
    async fn check(&self, peer: NodeId) {
        let Leader::Remote(leader) = self.leadership.leader() else { return };
        if leader.node_id != peer {
            return;
        }
        let has_ended = dialer::is_refused(&leader.member.raft_address).await;
        self.metrics.leader_ends.inc_by(u64::from(has_ended));
        self.metrics.leader_checks.inc();
        if !has_ended {
            return;
        }
        tracing::info!(leader = %leader.node_id, "the process of the leader has ended");
        self.elect_another(&leader).await;
    }

    /// Stands for election when its turn comes, until another node leads.
    async fn elect_another(&self, gone: &LeaderHint) {
        if self.consensus.end_lease(gone.node_id).await.is_err() {
            return;
        }
        let Some(place) = self.place_after(gone.node_id) else { return };
        let mut leader = self.leadership.changes();
        let is_another = |leader: &Leader| match leader {
            Leader::Local => true,
            Leader::Remote(hint) => hint.node_id != gone.node_id,
            Leader::Unknown => false,
        };
        for _ in 0..ROUNDS {
            if timeout(self.turn * place, leader.wait_for(is_another)).await.is_ok() {
                return;
            }
            if self.consensus.campaign().await.is_err() {
                return;
            }
            if timeout(self.round, leader.wait_for(is_another)).await.is_ok() {
                return;
            }
        }
    }

    /// How many voters stand before this node: those that live, by priority and then by id. `None`
    /// if this node has no vote.
    fn place_after(&self, gone: NodeId) -> Option<u32> {
        let members = self.status.of_cluster().members;
        let priority = |id: NodeId| {
            let member = members.iter().find(|member| member.node_id == Some(id) && member.is_alive)?;
            Some((Reverse(member.priority), id))
        };
        let voters = self.consensus.seen().members.voters();
        let mut places: Vec<_> = voters.into_iter().filter(|id| *id != gone).filter_map(priority).collect();
        places.sort_unstable();
        places.iter().position(|(_, id)| *id == self.own).map(|place| place as u32)
    }
}
