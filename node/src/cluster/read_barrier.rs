//! Reads that must not be stale.

use std::sync::Arc;
use std::time::Duration;

use headwater_proto::cluster as wire;
use tokio::time::{Instant, timeout, timeout_at};

use super::connector::Connector;
use super::leadership::{Leader, LeaderHint, Leadership};
use crate::config::LeaderRedirect;
use crate::deliberate::{self, Fault};
use crate::event::Position;
use crate::raft::{Consensus, NotConfirmed};
use crate::store::Store;

/// How long a leader may take to confirm that it leads, and so one request for its read index: it
/// needs a round of heartbeats.
pub(super) const ASK_DEADLINE: Duration = Duration::from_millis(1_000);
/// How long to wait for a change of leader before asking the known leader again.
const RETRY_INTERVAL: Duration = Duration::from_millis(25);

/// Why a read cannot be answered as the client asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BarrierError {
    /// Another node leads.
    #[error("not the leader")]
    NotLeader(LeaderHint),
    /// There is no leader, or no quorum confirmed this one in time.
    #[error("no leader confirmed in time")]
    NoLeader,
    /// The position was not applied in time.
    #[error("position not applied in time")]
    Behind,
}

/// Makes a read wait until this node may answer it.
pub(super) struct ReadGate {
    /// Names the node to ask.
    pub(super) leadership: Arc<Leadership>,
    /// Confirms that this node leads.
    pub(super) consensus: Consensus,
    /// Reaches the leader.
    pub(super) connector: Connector,
    /// The local copy that has to catch up.
    pub(super) store: Store,
    /// How long a read may wait.
    pub(super) read_wait: Duration,
    /// What is done with reads for the leader while another node leads.
    pub(super) leader_redirect: LeaderRedirect,
}

impl ReadGate {
    /// Returns once a read on this node sees everything acknowledged anywhere before the call.
    /// Where clients cannot be sent to the leader, any node answers such a read, after
    /// [`Self::catch_up`].
    pub(super) async fn linearize(&self) -> Result<(), BarrierError> {
        match self.leader_redirect {
            LeaderRedirect::Redirect => self.linearize_as_leader().await,
            LeaderRedirect::Proxy => self.catch_up().await,
        }
    }

    /// The same for a node that has to lead. It asks a quorum whether it still leads (read index),
    /// so that a deposed leader that does not know it yet refuses.
    async fn linearize_as_leader(&self) -> Result<(), BarrierError> {
        let deadline = Instant::now() + self.read_wait;
        let mut leader = self.leadership.changes();
        assert!(!deliberate::now_and_then(Fault::PanicInTask), "a deliberate fault");
        let led = deliberate::is(Fault::StaleLeaderReads) && self.leadership.is_local();
        if led || deliberate::is_armed(Fault::LeaseTooLong) {
            return Ok(());
        }
        loop {
            leader.mark_unchanged();
            match self.leadership.living_leader(deadline).await {
                Leader::Local => {}
                Leader::Remote(hint) => return Err(BarrierError::NotLeader(hint)),
                Leader::Unknown => return Err(BarrierError::NoLeader),
            }
            match timeout_at(deadline, self.consensus.confirm_leadership()).await {
                Ok(Ok(())) => {
                    deliberate::arm(Fault::LeaseTooLong);
                    return Ok(());
                }
                // Leadership moves at this moment.
                Ok(Err(NotConfirmed::NotLeader)) => {}
                Ok(Err(NotConfirmed::Unavailable)) | Err(_) => return Err(BarrierError::NoLeader),
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(BarrierError::NoLeader);
            }
            let _ = timeout_at(deadline.min(now + RETRY_INTERVAL), leader.changed()).await;
        }
    }

    /// The leader, unless it may be gone. While leadership moves, the next leader is waited for as
    /// long as a read may wait.
    pub(super) async fn living_leader(&self) -> Leader {
        self.leadership.living_leader(Instant::now() + self.read_wait).await
    }

    /// Returns once a read on this node, leader or not, sees everything acknowledged anywhere
    /// before the call. The leader names the index up to which the log has to be applied, and
    /// confirms with a quorum that it leads.
    pub(super) async fn catch_up(&self) -> Result<(), BarrierError> {
        let deadline = Instant::now() + self.read_wait;
        let mut leader = self.leadership.changes();
        loop {
            leader.mark_unchanged();
            let asked = match self.leadership.living_leader(deadline).await {
                Leader::Unknown => return Err(BarrierError::NoLeader),
                Leader::Local if self.leadership.quorum_is_silent() => return Err(BarrierError::NoLeader),
                Leader::Local => timeout_at(deadline, self.own_read_index()).await.ok().flatten(),
                Leader::Remote(hint) => tokio::select! {
                    index = timeout_at(deadline, self.read_index_of(&hint)) => index.ok().flatten(),
                    // The node that was asked no longer leads (it may be frozen and never answer):
                    // ask the next leader.
                    _ = leader.changed() => None,
                },
            };
            if let Some(index) = asked {
                let applied = self.store.applied().wait_for_log_index(index);
                return timeout_at(deadline, applied).await.map_err(|_| BarrierError::Behind);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(BarrierError::NoLeader);
            }
            let _ = timeout_at(deadline.min(now + RETRY_INTERVAL), leader.changed()).await;
        }
    }

    /// The log index that covers everything acknowledged so far, if this node leads and a quorum
    /// confirms it in time.
    pub(super) async fn own_read_index(&self) -> Option<u64> {
        timeout(ASK_DEADLINE, self.consensus.read_index()).await.ok().flatten()
    }

    async fn read_index_of(&self, leader: &LeaderHint) -> Option<u64> {
        let ask = async {
            let mut client = self.connector.client(leader.node_id.server(), &leader.member.raft_address)?;
            client.read_index(self.connector.request(leader.node_id, wire::ReadIndexRequest {})?).await
        };
        let answer = timeout(ASK_DEADLINE, ask).await.ok()?;
        answer
            .inspect_err(|status| tracing::debug!(%status, "the leader did not give its read index"))
            .ok()?
            .into_inner()
            .log_index
    }

    /// Waits up to the configured time until this node has applied the event at `position`.
    pub(super) async fn wait_for_position(&self, position: Position) -> Result<(), BarrierError> {
        if deliberate::is(Fault::IgnoreMinPosition) {
            return Ok(());
        }
        let applied = self.store.applied().wait_for_position(position);
        timeout(self.read_wait, applied).await.map_err(|_| BarrierError::Behind)
    }
}
