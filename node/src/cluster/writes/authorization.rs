//! The requester of a write, and the leader's decision whether the write is allowed
//! (contract/services 5.2).
//!
//! The node that receives a request decides by its own state, which may be behind. So a write
//! travels with its requester, and the leader, whose state contains everything acknowledged,
//! decides again before it proposes the write. The rules are in the room `access`, which registers
//! them here.

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use tokio::time::timeout;

use super::gate::Proposed;
use super::permission::Permission;
use crate::cluster::leadership::Leadership;
use crate::cluster::read_barrier::ASK_DEADLINE;
use crate::event::Caller;
use crate::raft::Consensus;

/// The party on whose behalf a write is made. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Requester {
    /// The node itself: the first users, the renewed hash of a password.
    Node,
    /// The sender of a request.
    Caller(Caller),
}

/// The decision on a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// The requester may make the write.
    Granted,
    /// The requester may not make it.
    Denied,
    /// The state of this node cannot be read at the moment.
    Undecided,
}

/// Decides on writes by the newest state of this node.
pub(crate) trait Authorizer: Send + Sync {
    /// Whether the requester has the permission.
    fn authorize(&self, requester: Requester, permission: Permission) -> BoxFuture<'static, Authorization>;
}

/// The leader's check of every write that was not authorized in the current term.
pub(super) struct LeaderCheck {
    leadership: Arc<Leadership>,
    /// Confirms that this node leads.
    consensus: Consensus,
    /// Holds the rules. Registered when the node is put together; no write is made before.
    authorizer: OnceLock<Box<dyn Authorizer>>,
}

impl LeaderCheck {
    /// A check without rules.
    pub(super) fn new(leadership: Arc<Leadership>, consensus: Consensus) -> Self {
        Self { leadership, consensus, authorizer: OnceLock::new() }
    }

    /// Registers the rules, once.
    pub(super) fn register(&self, authorizer: Box<dyn Authorizer>) {
        let is_first = self.authorizer.set(authorizer).is_ok();
        debug_assert!(is_first, "an authorizer is already registered");
    }

    /// Decides as leader whether the write may enter the gate: `None` if it may, otherwise the
    /// answer. A write that is let in proves by its commit that this node led; before it denies
    /// one, the node asks a quorum, for it may have been deposed and not know what was granted
    /// since (docs/adr/0008-the-leader-decides-again.md).
    pub(super) fn refusal(&self, requester: Requester, command: &[u8]) -> BoxFuture<'static, Option<Proposed>> {
        self.refusal_of(requester, Permission::of(command))
    }

    /// The same for a permission.
    pub(super) fn refusal_of(
        &self,
        requester: Requester,
        permission: Permission,
    ) -> BoxFuture<'static, Option<Proposed>> {
        let term = self.leadership.term();
        let Some(authorizer) = self.authorizer.get().filter(|_| term.is_some()) else {
            return Box::pin(std::future::ready(Some(Proposed::NotLeader)));
        };
        let (leadership, consensus) = (self.leadership.clone(), self.consensus.clone());
        let decision = authorizer.authorize(requester, permission);
        Box::pin(async move {
            match decision.await {
                Authorization::Granted if leadership.leads_in(term) => None,
                Authorization::Denied if leadership.leads_in(term) => {
                    let confirmed = timeout(ASK_DEADLINE, consensus.confirm_leadership()).await;
                    Some(if matches!(confirmed, Ok(Ok(()))) { Proposed::Denied } else { Proposed::NotLeader })
                }
                Authorization::Granted | Authorization::Denied | Authorization::Undecided => Some(Proposed::NotLeader),
            }
        })
    }
}
