//! The members of the cluster in plain values, and the steps by which they change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::{ChangeMembers, Precondition};

use super::types::{Member, NodeId, StoredMembership, TypeConfig};

/// The members of the cluster by the newest log entry that sets them, committed or not. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub(crate) struct Members(Arc<StoredMembership>);

impl Members {
    pub(super) fn of(stored: Arc<StoredMembership>) -> Self {
        Self(stored)
    }

    /// That the members are still these.
    pub(super) fn are_unchanged(&self) -> Precondition<TypeConfig> {
        Precondition::LastMembershipLogId { last_membership_log_id: *self.0.log_id() }
    }

    /// All voters.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.0.membership().voter_ids().collect()
    }

    /// The lists of voters; each of them needs a majority. There are two while one is exchanged for
    /// the other, the newer one last.
    pub(crate) fn voter_lists(&self) -> &[BTreeSet<NodeId>] {
        self.0.membership().get_joint_config()
    }

    /// Whether one list of voters is being exchanged for another.
    pub(crate) fn are_exchanging(&self) -> bool {
        self.voter_lists().len() > 1
    }

    /// The voters by the newest list; none before there was one.
    pub(crate) fn newest_voters(&self) -> BTreeSet<NodeId> {
        self.voter_lists().last().cloned().unwrap_or_default()
    }

    /// The members that receive the log and have no vote.
    pub(crate) fn learners(&self) -> impl Iterator<Item = NodeId> {
        self.0.membership().learner_ids()
    }

    /// All members, with or without a vote.
    pub(crate) fn all(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.0.membership().nodes().map(|(id, member)| (*id, member))
    }

    /// Whether the members were changed while the cluster ran, so that they, and no list in a
    /// configuration, say which servers there are.
    pub(crate) fn are_changed(&self) -> bool {
        self.all().any(|(_, member)| member.changed)
    }

    /// Index of the log entry that sets the members; `None` before there was one.
    pub(crate) fn log_index(&self) -> Option<u64> {
        self.0.log_id().as_ref().map(|log_id| log_id.index)
    }

    /// The addresses of a member; `None` for a node that is not a member.
    pub(crate) fn addresses(&self, node_id: NodeId) -> Option<&Member> {
        self.0.membership().get_node(&node_id)
    }
}

/// A step of a change of members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MembersStep {
    /// These become members that receive the log and have no vote.
    Add(BTreeMap<NodeId, Member>),
    /// These members are described anew.
    Describe(BTreeMap<NodeId, Member>),
    /// These members become the voters. Those that voted before stay members.
    Vote(BTreeSet<NodeId>),
    /// These members, which have no vote, are members no more.
    Remove(BTreeSet<NodeId>),
}

impl MembersStep {
    pub(super) fn into_change(self) -> ChangeMembers<NodeId, Member> {
        match self {
            Self::Add(members) => ChangeMembers::AddNodes(members),
            Self::Describe(members) => ChangeMembers::SetNodes(members),
            Self::Vote(voters) => ChangeMembers::ReplaceAllVoters(voters),
            Self::Remove(members) => ChangeMembers::RemoveNodes(members),
        }
    }
}
