//! Reads that must not be old.

use std::time::Duration;

use headwater_proto::cluster as wire;
use tokio::time::{Instant, timeout, timeout_at};

use super::{BarrierError, Cluster, LeaderHint, Leadership};
use crate::event::Position;
use crate::raft::NotConfirmed;

/// How long one question about the read index may take; a leader that confirms needs a heartbeat's
/// round.
const ASK_DEADLINE: Duration = Duration::from_millis(1_000);
/// How long to wait for news of a new leader before asking the known one again.
const RETRY_AFTER: Duration = Duration::from_millis(25);

impl Cluster {
    /// Who leads, as far as there is reason to believe it. Consensus names a leader until it has
    /// another one; a leader that has not been heard for the longest election timeout may be gone,
    /// and whoever is sent to it may wait for ever.
    pub async fn living_leader(&self) -> Leadership {
        match self.leadership() {
            Leadership::Remote(_) if self.leader_is_silent().await => Leadership::None,
            leadership => leadership,
        }
    }

    /// Whether the lease that the leader renews with every message, heartbeats included, has run
    /// out.
    async fn leader_is_silent(&self) -> bool {
        match timeout(ASK_DEADLINE, self.inner.consensus.age_of_lease()).await {
            Ok(Some(age)) => age > self.inner.config.election_timeout_max,
            // Nothing was heard since the start, or consensus itself has stopped.
            Ok(None) | Err(_) => true,
        }
    }

    /// Returns once a read on this node sees everything acknowledged anywhere before the call. Only
    /// the leader can: it asks a quorum whether it still leads (read index), so that a deposed
    /// leader that does not know it yet refuses.
    pub async fn linearize(&self) -> Result<(), BarrierError> {
        match self.living_leader().await {
            Leadership::Local => {}
            Leadership::Remote(hint) => return Err(BarrierError::NotLeader(hint)),
            Leadership::None => return Err(BarrierError::NoLeader),
        }
        match timeout(self.inner.config.read_wait, self.inner.consensus.confirm_leadership()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(NotConfirmed::NotLeader)) => match self.living_leader().await {
                Leadership::Remote(hint) => Err(BarrierError::NotLeader(hint)),
                Leadership::Local | Leadership::None => Err(BarrierError::NoLeader),
            },
            Ok(Err(NotConfirmed::Unavailable)) | Err(_) => Err(BarrierError::NoLeader),
        }
    }

    /// Returns once a read on this node, whatever its part, sees everything acknowledged anywhere
    /// before the call: the leader says how far the log has to be applied, and confirms with a
    /// quorum that it leads.
    pub async fn catch_up(&self) -> Result<(), BarrierError> {
        let deadline = Instant::now() + self.inner.config.read_wait;
        let mut leadership = self.inner.leadership.subscribe();
        loop {
            leadership.mark_unchanged();
            let asked = match self.living_leader().await {
                Leadership::None => return Err(BarrierError::NoLeader),
                Leadership::Local if self.quorum_is_silent() => return Err(BarrierError::NoLeader),
                Leadership::Local => timeout_at(deadline, self.own_read_index()).await.ok().flatten(),
                Leadership::Remote(hint) => tokio::select! {
                    index = timeout_at(deadline, self.read_index_of(&hint)) => index.ok().flatten(),
                    // Whoever was asked leads no more (it may be frozen and never answer): ask the
                    // next one.
                    _ = leadership.changed() => None,
                },
            };
            if let Some(index) = asked {
                let applied = self.inner.store.applied().wait_for_log_index(index);
                return timeout_at(deadline, applied).await.map_err(|_| BarrierError::Behind);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(BarrierError::NoLeader);
            }
            let _ = timeout_at(deadline.min(now + RETRY_AFTER), leadership.changed()).await;
        }
    }

    /// The index in the log up to which everything acknowledged so far is, if this node leads and a
    /// quorum confirms it in time.
    pub(super) async fn own_read_index(&self) -> Option<u64> {
        timeout(ASK_DEADLINE, self.inner.consensus.read_index()).await.ok().flatten()
    }

    async fn read_index_of(&self, leader: &LeaderHint) -> Option<u64> {
        let ask = async {
            let mut client = self.inner.connector.client(leader.node_id.server(), &leader.member.raft_address)?;
            client.read_index(self.inner.connector.request(leader.node_id, wire::ReadIndexRequest {})?).await
        };
        let answer = timeout(ASK_DEADLINE, ask).await.ok()?;
        answer
            .inspect_err(|status| tracing::debug!(%status, "the leader was asked in vain for its read index"))
            .ok()?
            .into_inner()
            .log_index
    }

    /// Waits up to the configured time until this node has applied the event at `position`.
    pub async fn wait_for_position(&self, position: Position) -> Result<(), BarrierError> {
        let applied = self.inner.store.applied().wait_for_position(position);
        timeout(self.inner.config.read_wait, applied).await.map_err(|_| BarrierError::Behind)
    }
}
