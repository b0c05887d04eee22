//! What a read demands of the node that answers it.

use super::Streams;
use super::refusal::Refusal;
use crate::event::Position;
use crate::timing::{self, Phase};

/// How new the state has to be that a read sees. Without a demand, this node answers from what it
/// has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReadBarrier {
    /// The leader itself has to answer, once it has made sure that it still leads; or what it would
    /// answer, where this node sends no client to it.
    pub(crate) require_leader: bool,
    /// The event at this position has to be applied.
    pub(crate) min_position: Option<Position>,
}

impl Streams {
    /// Waits until this node may answer a read as it was asked for. Every read begins here.
    pub(crate) async fn read_barrier(&self, barrier: ReadBarrier) -> Result<(), Refusal> {
        if !self.cluster.has_recovered() {
            return Err(Refusal::NotReady);
        }
        if barrier == ReadBarrier::default() {
            return Ok(());
        }
        let _phase = timing::phase(Phase::Barrier);
        if barrier.require_leader {
            // Rare, and ten times as large as all the rest of a read.
            Box::pin(self.cluster.linearize()).await?;
        }
        if let Some(position) = barrier.min_position {
            self.cluster.wait_for_position(position).await?;
        }
        Ok(())
    }
}
