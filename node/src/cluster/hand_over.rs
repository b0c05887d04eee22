//! How a node gives its work to the others: leadership, and before it stops its clients.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, ClusterStatus, MemberStatus, NodeId, Role};

/// Why leadership was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandOverError {
    /// No other voter answers and goes on running.
    #[error("no other voter of the cluster can lead")]
    NoSuccessor,
    /// No other node has become leader in time.
    #[error("no other node has become leader in time")]
    NotTaken,
}

/// How long a hand-over of leadership may take.
pub(crate) const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);

impl Cluster {
    /// Begins an ordered shutdown: from now on this node tells clients and nodes that it is not
    /// ready. It goes on serving.
    pub(crate) fn begin_stop(&self) {
        self.parts.lifecycle.set_stopping();
    }

    /// Whether another member can serve the clients of this node, as far as is known.
    pub(crate) fn has_ready_peer(&self) -> bool {
        let ClusterStatus { local, members, .. } = self.status();
        let mut others = members.iter().filter(|member| member.server != local.server);
        others.any(|member| member.is_alive && matches!(member.role, Role::Leader | Role::Follower | Role::Replica))
    }

    /// Changes the priority of this node, for as long as this process runs.
    pub(crate) fn set_priority(&self, priority: i32) {
        self.parts.status.priority.store(priority, Ordering::Relaxed);
    }

    /// Hands leadership to another voter, if this node leads: to a node that is ready, if there is
    /// one, of these to the one with the highest priority, and then to the one with the most of the
    /// log. Writes wait meanwhile, and those that were begun before are answered first, so that the
    /// outcome of each is known. Returns when another node leads.
    ///
    /// # Errors
    /// This node may lead after [`HandOverError::NotTaken`] or not.
    pub(crate) async fn hand_over(&self) -> Result<(), HandOverError> {
        if !self.leads() {
            return Ok(());
        }
        let deadline = Instant::now() + HAND_OVER_DEADLINE;
        let leadership = &self.parts.leadership;
        let members = self.status().members;
        let successor = leadership.successor(|id| rank(&members, id)).ok_or(HandOverError::NoSuccessor)?;
        if self.parts.writes.hand_over(successor, deadline).await { Ok(()) } else { Err(HandOverError::NotTaken) }
    }
}

/// How well a voter would lead: better when it is ready, and then by its priority. `None` for one
/// that is gone or stopping.
fn rank(members: &[MemberStatus], id: NodeId) -> Option<(bool, i32)> {
    let member = members.iter().find(|member| member.node_id == Some(id))?;
    let stays = member.is_alive && member.role != Role::Stopping;
    stays.then_some((member.role == Role::Follower, member.priority))
}
