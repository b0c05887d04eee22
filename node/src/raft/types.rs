//! The types openraft is instantiated with.

use std::fmt;

pub(crate) use crate::apply::Proposal;
use crate::event::WriteOutcome;
pub(crate) use crate::transport::{Member, NodeId};

openraft::declare_raft_types!(
    /// Headwater's choice of types for openraft.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Outcomes,
        NodeId = NodeId,
        Node = Member,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>,
        AsyncRuntime = super::runtime::Runtime,
);

/// The decisions on the commands of one entry, in order; empty for an entry without commands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcomes(pub(crate) Vec<WriteOutcome>);

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// Shorthands for openraft's generic types.
pub(crate) type LogEntry = openraft::alias::EntryOf<TypeConfig>;
/// See [`LogEntry`].
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// See [`LogEntry`].
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
/// See [`LogEntry`].
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
