//! What any operation can be refused for. The steps that operations share end in a [`Refusal`],
//! each operation's error takes it over as it is, and a door answers it in one place.

use super::filters::StepError;
use crate::access::NoProof;
use crate::budget::Exhausted;
use crate::cluster::{BarrierError, LeaderHint};
use crate::store::ReadError;

/// Why this node does not do what it was asked for, whatever that is. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The leader has to do this.
    #[error("another node leads")]
    NotLeader(LeaderHint),
    /// No leader is known, or this node is not as far as it has to be. After a start it does not
    /// know yet what it knew before.
    #[error("this node is not ready")]
    NotReady,
    /// Queues are full, or no memory became free in time.
    #[error("too busy")]
    Busy,
    /// The access lists do not give the right to the caller, or its login is no longer valid.
    #[error("not allowed")]
    Denied,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] ReadError),
}

impl From<NoProof> for Refusal {
    fn from(error: NoProof) -> Self {
        match error {
            NoProof::NotReady => Self::NotReady,
            NoProof::Denied => Self::Denied,
            NoProof::Store(error) => Self::Store(error),
        }
    }
}

impl From<BarrierError> for Refusal {
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::NotLeader(hint) => Self::NotLeader(hint),
            BarrierError::NoLeader | BarrierError::Behind => Self::NotReady,
        }
    }
}

impl From<StepError> for Refusal {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Busy(exhausted) => exhausted.into(),
            StepError::Store(error) => error.into(),
        }
    }
}

impl From<Exhausted> for Refusal {
    fn from(_: Exhausted) -> Self {
        Self::Busy
    }
}
