//! The proof that a caller may run the cluster, or parts of it. What passes by access lists, or
//! works for operators, takes the proof as an argument: no door can forget the check.

use super::rules::{OPERATORS, Right};
use super::{Access, Caller, ReadError};
use crate::event::stream_name::GROUPS;

/// A caller that was an administrator or an operator just now.
#[derive(Debug)]
pub(crate) struct Operator(());

/// A caller that was an administrator just now.
#[derive(Debug)]
pub(crate) struct Administrator(());

#[cfg(test)]
impl Administrator {
    /// For tests of what lies behind the check.
    pub(crate) fn assumed() -> Self {
        Self(())
    }
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoProof {
    /// This node may have forgotten the newest users, and has to hear of them first.
    #[error("the node is not ready")]
    NotReady,
    /// The caller is none, or not any more.
    #[error("the caller may not do this")]
    Denied,
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] ReadError),
}

impl Access {
    /// # Errors
    /// See [`NoProof`].
    pub(crate) async fn operator(&self, caller: &Caller) -> Result<Operator, NoProof> {
        let caller = self.recovered(caller).await?;
        if caller.is_admin() || caller.has_role(OPERATORS) { Ok(Operator(())) } else { Err(NoProof::Denied) }
    }

    /// # Errors
    /// See [`NoProof`].
    pub(crate) async fn administrator(&self, caller: &Caller) -> Result<Administrator, NoProof> {
        let caller = self.recovered(caller).await?;
        if caller.is_admin() { Ok(Administrator(())) } else { Err(NoProof::Denied) }
    }

    /// Whether the caller may manage groups of consumers: it has the right to write their document
    /// by its own access list, or, where that does not say who writes, is an administrator or an
    /// operator. The lists of `$settings` do not count: they are about streams.
    ///
    /// # Errors
    /// See [`NoProof`].
    pub(crate) async fn manager_of_groups(&self, caller: &Caller) -> Result<(), NoProof> {
        let current = self.recovered(caller).await?;
        let lists = &self.inner.lists;
        let own = lists.of_stream(GROUPS).await?;
        if own.is_some_and(|list| list.write.is_some()) {
            let is_allowed = lists.allow(&current, GROUPS, Right::Write).await?;
            return if is_allowed { Ok(()) } else { Err(NoProof::Denied) };
        }
        self.operator(&current).await.map(|Operator(())| ())
    }

    /// The caller as it is now.
    async fn recovered(&self, caller: &Caller) -> Result<Caller, NoProof> {
        if !self.inner.cluster.has_recovered() {
            return Err(NoProof::NotReady);
        }
        self.caller_now(caller).await?.ok_or(NoProof::Denied)
    }
}
