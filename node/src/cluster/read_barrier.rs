//! Reads that must not be old.

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::timeout;

use super::{BarrierError, Cluster, Leadership};
use crate::event::Position;

impl Cluster {
    /// Returns once a read on this node sees everything acknowledged anywhere before the call. Only the leader can: it asks a quorum
    /// whether it still leads (read index), so that a deposed leader that does not know it yet refuses.
    pub async fn linearize(&self) -> Result<(), BarrierError> {
        match self.leadership() {
            Leadership::Local => {}
            Leadership::Remote(hint) => return Err(BarrierError::NotLeader(hint)),
            Leadership::None => return Err(BarrierError::NoLeader),
        }
        let confirmed = self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match timeout(self.inner.config.read_wait, confirmed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => match self.leadership() {
                Leadership::Remote(hint) => Err(BarrierError::NotLeader(hint)),
                _ => Err(BarrierError::NoLeader),
            },
            Ok(Err(_)) | Err(_) => Err(BarrierError::NoLeader),
        }
    }

    /// Waits up to the configured time until this node has applied the event at `position`.
    pub async fn wait_for_position(&self, position: Position) -> Result<(), BarrierError> {
        let applied = self.inner.store.applied().wait_for_position(position);
        timeout(self.inner.config.read_wait, applied).await.map_err(|_| BarrierError::Behind)
    }
}
