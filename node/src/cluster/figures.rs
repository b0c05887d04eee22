//! Figures of this node for statistics: what waits where, and how its followers are.

use super::Cluster;
pub use crate::transport::traffic::{Connection, Ends};
use crate::transport::{NodeId, Traffic};

/// The work of this node, in numbers. Counts are of this process, positions in the log of this
/// disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Writes that wait to be proposed by this node as leader, and how many were.
    pub proposals_waiting: u64,
    /// See [`Self::proposals_waiting`].
    pub proposed: u64,
    /// Writes that wait to be sent to the leader, and how many were handed over for it.
    pub forwards_waiting: u64,
    /// See [`Self::forwards_waiting`].
    pub forwarded: u64,
    /// Entries of the log: written, and of those on disk for sure.
    pub log_written: u64,
    /// See [`Self::log_written`].
    pub log_durable: u64,
    /// Entries known committed, and of those applied to the state.
    pub committed: u64,
    /// See [`Self::committed`].
    pub applied: u64,
}

/// A node that this one, as leader, sends its log to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// Which.
    pub node_id: NodeId,
    /// Where it takes the log.
    pub raft_address: String,
    /// Entries of the log that it has not confirmed.
    pub unconfirmed_entries: u64,
}

impl Cluster {
    /// The work of this node.
    pub fn figures(&self) -> Figures {
        let inner = &self.inner;
        let applied = self.inner.store.applied().current().log_entries;
        let committed = self.seen().committed_entries.unwrap_or(0);
        // The earlier end first: read the other way round, an entry could be durable before it was
        // written.
        let log_durable = inner.log_progress.durable();
        Figures {
            proposals_waiting: inner.gate.waiting() as u64,
            proposed: inner.metrics.proposals.get(),
            forwards_waiting: inner.forwards.waiting() as u64,
            forwarded: inner.metrics.forwards_sent.get(),
            log_written: inner.log_progress.written().max(log_durable),
            log_durable,
            committed: committed.max(applied),
            applied,
        }
    }

    /// The followers of this node, in order of their server id; none unless it leads with a
    /// majority (contract/services 4.2).
    pub fn followers(&self) -> Vec<Follower> {
        if !self.leads() || self.quorum_is_silent() {
            return Vec::new();
        }
        let seen = self.seen();
        let own = self.inner.identity.node_id();
        let of = |(node_id, matched): (&NodeId, &Option<u64>)| {
            let member = self.inner.connector.addresses(*node_id, seen.members.addresses(*node_id)?);
            let matched = matched.map_or(0, |index| index + 1);
            let unconfirmed_entries = seen.log_entries.saturating_sub(matched);
            Some(Follower { node_id: *node_id, raft_address: member.raft_address, unconfirmed_entries })
        };
        let mut followers: Vec<_> =
            seen.replication.iter().flatten().filter(|(id, _)| **id != own).filter_map(of).collect();
        followers.sort_by_key(|follower| follower.node_id.server());
        followers
    }

    /// The connections with other nodes.
    pub fn traffic(&self) -> &Traffic {
        self.inner.connector.traffic()
    }
}
