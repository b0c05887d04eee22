//! What appends and deletes have in common: the leader may have to take them, each commits one
//! command, and what can come of that.

use super::Streams;
use super::authorize::Grant;
use super::refusal::Refusal;
use crate::cluster::{EncodedCommand, Leader, Requester, UPKEEP_HAS_TO_WAIT, Write, WriteError};
use crate::event::WriteOutcome;
use crate::timing::{self, Phase};

/// Why a write was not made, or nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// Surely not written: this node or the leader does not take the write.
    #[error(transparent)]
    Refused(Refusal),
    /// May have been written, or may still be. Repeating an append with the same event ids is
    /// exact.
    #[error("the outcome is not known")]
    Unknown,
    /// The stream has another last number than expected.
    #[error("the stream is at {current}")]
    WrongExpectedVersion {
        /// The last number ever committed in the stream, -1 for none.
        current: i64,
    },
    /// The stream is deleted for good, or deleted where it was expected to exist.
    #[error("the stream is deleted")]
    StreamDeleted,
    /// No state would allow this write.
    #[error("{reason}")]
    Rejected {
        /// A sentence for the client.
        reason: String,
    },
    /// The answer is one to something else.
    #[error("a write was answered by: {0}")]
    Answer(WriteOutcome),
}

impl<E: Into<Refusal>> From<E> for CommitError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl From<WriteError> for CommitError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoLeader => Self::Refused(Refusal::NotReady),
            WriteError::Busy => Self::Refused(Refusal::Busy),
            WriteError::Denied => Self::Refused(Refusal::Denied),
            WriteError::NotYet(reason) => Self::Rejected { reason },
            WriteError::Unknown => Self::Unknown,
        }
    }
}

impl CommitError {
    /// The error for an outcome that is not the one that the operation wants.
    pub(super) fn of(outcome: WriteOutcome) -> Self {
        match outcome {
            WriteOutcome::WrongExpectedVersion { current } => Self::WrongExpectedVersion { current },
            WriteOutcome::StreamDeleted => Self::StreamDeleted,
            WriteOutcome::Rejected { reason } => Self::Rejected { reason },
            WriteOutcome::Appended { .. }
            | WriteOutcome::Deleted { .. }
            | WriteOutcome::Scavenged { .. }
            | WriteOutcome::Redacted { .. }
            | WriteOutcome::Imported { .. }
            | WriteOutcome::NotImported(_)
            | WriteOutcome::VersionRaised { .. } => Self::Answer(outcome),
        }
    }
}

impl Streams {
    /// Refuses a write that demands the leader, unless this node leads (contract/streams 16). Where
    /// no client is sent to the leader, such a write is forwarded like every other.
    pub(super) async fn write_barrier(&self, require_leader: bool) -> Result<(), Refusal> {
        if !require_leader || !self.cluster.redirects_to_leader() {
            return Ok(());
        }
        // Rare, and larger than all the rest of a write.
        match Box::pin(self.cluster.living_leader()).await {
            Leader::Local => Ok(()),
            Leader::Remote(hint) => Err(Refusal::NotLeader(hint)),
            Leader::Unknown => Err(Refusal::NotReady),
        }
    }

    /// Refuses upkeep that an older member of the cluster could not apply.
    pub(super) async fn upkeep_barrier(&self) -> Result<(), CommitError> {
        if self.cluster.takes_upkeep().await.map_err(Refusal::Store)? {
            return Ok(());
        }
        Err(CommitError::Rejected { reason: UPKEEP_HAS_TO_WAIT.to_owned() })
    }

    /// Commits a command on behalf of the caller that has the right to it.
    pub(super) async fn commit(&self, grant: Grant<'_>, command: EncodedCommand) -> Result<WriteOutcome, WriteError> {
        let _phase = timing::phase(Phase::Commit);
        let requester = Requester::Caller(grant.caller.clone());
        self.cluster.write(Write { command, requester, authorized_in: grant.authorized_in }).await
    }
}
