//! What appends and deletes have in common: the leader may have to take them, and each commits one
//! command.

use bytes::Bytes;

use super::Streams;
use super::authorize::Grant;
use crate::cluster::{Leader, LeaderHint, Requester, Write, WriteError};
use crate::event::WriteOutcome;

/// Why this node does not do what the leader, or a node that has applied more, would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaderError {
    /// Another node leads.
    #[error("another node leads")]
    NotLeader(LeaderHint),
    /// No leader is known, or this node is not as far as it has to be.
    #[error("this node is not ready")]
    NotReady,
}

impl Streams {
    /// Refuses a write that demands the leader, unless this node leads (contract/streams 16).
    pub(super) async fn write_barrier(&self, require_leader: bool) -> Result<(), LeaderError> {
        if !require_leader {
            return Ok(());
        }
        // Rare, and larger than all the rest of a write.
        match Box::pin(self.cluster.living_leader()).await {
            Leader::Local => Ok(()),
            Leader::Remote(hint) => Err(LeaderError::NotLeader(hint)),
            Leader::Unknown => Err(LeaderError::NotReady),
        }
    }

    /// Commits an encoded command on behalf of the caller that has the right to it.
    pub(super) async fn commit(&self, grant: Grant<'_>, command: Bytes) -> Result<WriteOutcome, WriteError> {
        let requester = Requester::Caller(grant.caller.clone());
        self.cluster.write(Write { command, requester, authorized_in: grant.authorized_in }).await
    }
}
