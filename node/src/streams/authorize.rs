//! The right of a caller to an operation. Every operation asks here before it does anything.

use super::Streams;
use crate::access::{Caller, Policy, Right};
use crate::store::ReadError;

/// Why a caller does not get its right.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// The access lists do not give the right to the caller, or its login is no longer valid.
    #[error("not allowed")]
    Denied,
    /// This node cannot tell: it does not know yet what it knew before it was started.
    #[error("this node is not ready")]
    NotReady,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] ReadError),
}

impl Streams {
    /// Refuses a read that the caller may not make.
    pub async fn authorize_read(&self, caller: &Caller, stream: &str) -> Result<(), AuthorizeError> {
        if self.allows(caller, stream, Right::Read).await? { Ok(()) } else { Err(AuthorizeError::Denied) }
    }

    /// What a look at the store decides with: the caller as it is now. Taken anew for every look, since much may have changed while
    /// the request waited. Refuses a caller whose login is no longer valid.
    pub async fn policy(&self, caller: &Caller) -> Result<Policy, AuthorizeError> {
        let present = self.access.present(caller).await?.ok_or(AuthorizeError::Denied)?;
        Ok(self.access.policy(&present))
    }

    /// Whether the caller has the right by the state of this node. A node that was just started may have forgotten the newest lists,
    /// and waits until it knows them again.
    async fn allows(&self, caller: &Caller, stream: &str, right: Right) -> Result<bool, AuthorizeError> {
        if !self.cluster.has_recovered() {
            return Err(AuthorizeError::NotReady);
        }
        Ok(self.access.allows(caller, stream, right).await?)
    }
}
