//! The proof that a caller may run the cluster. What passes by access lists, or works for
//! operators, takes the proof as an argument: no door can forget the check.

use super::rules::OPERATORS;
use super::{Access, Caller, ReadError};

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

    /// The caller as it is now.
    async fn recovered(&self, caller: &Caller) -> Result<Caller, NoProof> {
        if !self.inner.cluster.has_recovered() {
            return Err(NoProof::NotReady);
        }
        self.caller_now(caller).await?.ok_or(NoProof::Denied)
    }
}
