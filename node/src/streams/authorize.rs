//! The right of a caller to an operation. Every operation asks here before it does anything.

use super::Streams;
use super::refusal::Refusal;
use crate::access::{Caller, Policy, Right};
use crate::cluster::LeaderTerm;
use crate::event::StreamName;

/// The right of a caller to a write, as far as this node can tell. Nothing is written without one.
#[derive(Debug)]
pub(super) struct Grant<'a> {
    pub(super) caller: &'a Caller,
    stream: &'a StreamName,
    right: Right,
    /// The term in which this node, as leader, found the right in its own state; `None` if only the
    /// leader can tell.
    pub(super) authorized_in: Option<LeaderTerm>,
}

impl Streams {
    /// Refuses a read that the caller may not make.
    pub(crate) async fn authorize_read(&self, caller: &Caller, stream: &str) -> Result<(), Refusal> {
        if self.allows(caller, stream, Right::Read).await? { Ok(()) } else { Err(Refusal::Denied) }
    }

    /// What a look at the store decides with: the caller as it is now. Taken anew for every look,
    /// since much may have changed while the request waited. Refuses a caller whose login is no
    /// longer valid.
    pub(crate) async fn policy(&self, caller: &Caller) -> Result<Policy, Refusal> {
        let caller = self.access.caller_now(caller).await?.ok_or(Refusal::Denied)?;
        Ok(self.access.policy(&caller))
    }

    /// Refuses a write that the caller may not make.
    ///
    /// A node that does not lead, or was deposed and does not know it, may not have heard yet of a
    /// right that was granted: what its own lists and groups refuse is for a leader to decide that
    /// a quorum confirms, as is every write that is passed on
    /// (docs/adr/0008-the-leader-decides-again.md).
    pub(super) async fn authorize_write<'a>(
        &self,
        caller: &'a Caller,
        stream: &'a StreamName,
        right: Right,
    ) -> Result<Grant<'a>, Refusal> {
        let term = self.cluster.leader_term();
        if self.allows(caller, stream.as_str(), right).await? {
            return Ok(Grant { caller, stream, right, authorized_in: term });
        }
        if !self.access.may_be_allowed_elsewhere(caller, stream.as_str(), right).await? {
            return Err(Refusal::Denied);
        }
        Ok(Grant { caller, stream, right, authorized_in: None })
    }

    /// Makes sure of a right that only the leader can tell, before a caller hears what is wrong
    /// with its write: a caller without the right is told so first.
    pub(super) async fn confirm(&self, grant: &Grant<'_>) -> Result<(), Refusal> {
        if grant.authorized_in.is_some() {
            return Ok(());
        }
        // Rare, and larger than all the rest of a write.
        Box::pin(self.cluster.catch_up()).await.map_err(|_| Refusal::NotReady)?;
        let is_allowed = self.access.allows(grant.caller, grant.stream.as_str(), grant.right).await?;
        if is_allowed { Ok(()) } else { Err(Refusal::Denied) }
    }

    /// Whether the caller has the right by the state of this node. A node that was just started may
    /// have forgotten the newest lists, and waits until it knows them again.
    async fn allows(&self, caller: &Caller, stream: &str, right: Right) -> Result<bool, Refusal> {
        if !self.cluster.has_recovered() {
            return Err(Refusal::NotReady);
        }
        Ok(self.access.allows(caller, stream, right).await?)
    }
}
