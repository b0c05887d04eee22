//! Figures of this node for statistics: the lengths of queues, and how far its followers are.

use std::sync::Arc;

pub(crate) use crate::transport::traffic::{Connection, Ends};

use crate::cluster::connector::Connector;
use crate::cluster::leadership::Leadership;
use crate::cluster::writes::write::Writes;
use crate::metrics::{Metrics, Peer};
use crate::raft::{Consensus, LogProgress, Seen};
use crate::store::Store;
use crate::transport::{NodeId, Traffic};

/// The work of this node in numbers. Counts are of this process, log positions of this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Writes that wait to be proposed by this node as leader.
    pub(crate) proposals_waiting: u64,
    /// Writes that were proposed by this node as leader.
    pub(crate) proposed: u64,
    /// Writes that wait to be sent to the leader.
    pub(crate) forwards_waiting: u64,
    /// Writes that were queued to be sent to the leader.
    pub(crate) forwarded: u64,
    /// Entries of the log that were written.
    pub(crate) log_written: u64,
    /// Entries of the log that are certainly on disk.
    pub(crate) log_durable: u64,
    /// Entries known to be committed.
    pub(crate) committed: u64,
    /// Entries that were applied to the state.
    pub(crate) applied: u64,
}

/// A node to which this one, as leader, sends its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Follower {
    /// The id of its disk.
    pub(crate) node_id: NodeId,
    /// The address at which it receives the log.
    pub(crate) raft_address: String,
    /// Log entries that it has not confirmed.
    pub(crate) unconfirmed_entries: u64,
}

/// Counts the work of this node.
pub(crate) struct Statistics {
    /// The id of this node.
    pub(crate) own: NodeId,
    /// Knows the waiting writes.
    pub(crate) writes: Arc<Writes>,
    /// How far the log is written and synced.
    pub(crate) log_progress: LogProgress,
    /// How far the followers are.
    pub(crate) consensus: Consensus,
    /// How far the state is.
    pub(crate) store: Store,
    /// Only a leader has followers.
    pub(crate) leadership: Arc<Leadership>,
    /// Knows the addresses to use for followers.
    pub(crate) connector: Connector,
    /// Counters of this process.
    pub(crate) metrics: Arc<Metrics>,
}

impl Statistics {
    /// The work of this node.
    pub(crate) fn figures(&self) -> Figures {
        let applied = self.store.applied().current().log_entries;
        let committed = self.consensus.seen().committed_entries.unwrap_or(0);
        // The smaller figure is read first. In the other order an entry could appear durable before
        // it was written.
        let log_durable = self.log_progress.durable();
        Figures {
            proposals_waiting: self.writes.waiting_proposals() as u64,
            proposed: self.metrics.proposals.get(),
            forwards_waiting: self.writes.waiting_forwards() as u64,
            forwarded: self.metrics.forwards_sent.get(),
            log_written: self.log_progress.written().max(log_durable),
            log_durable,
            committed: committed.max(applied),
            applied,
        }
    }

    /// The followers of this node, in order of their server id; none unless it leads with a
    /// majority (contract/services 4.2).
    pub(crate) fn followers(&self) -> Vec<Follower> {
        if !self.leadership.is_local() || self.leadership.quorum_is_silent() {
            return Vec::new();
        }
        let seen = self.consensus.seen();
        let of = |node_id| {
            let member = self.connector.addresses(node_id, seen.members.addresses(node_id)?);
            let unconfirmed_entries = unconfirmed_entries(&seen, node_id);
            Some(Follower { node_id, raft_address: member.raft_address, unconfirmed_entries })
        };
        let mut followers: Vec<_> = self.others(&seen).filter_map(of).collect();
        followers.sort_by_key(|follower| follower.node_id.server());
        followers
    }

    /// The connections with other nodes.
    pub(crate) fn traffic(&self) -> &Traffic {
        self.connector.traffic()
    }

    /// Updates the gauges that consensus feeds.
    pub(crate) fn update_gauges(&self) {
        let seen = self.consensus.seen();
        self.metrics.cluster_version.set(self.store.cluster_version().0.into());
        self.metrics.committed_entries.set(seen.committed_entries.unwrap_or(0) as i64);
        self.metrics.replication_lag.clear();
        for peer in self.others(&seen) {
            let lag = self.metrics.replication_lag.get_or_create(&Peer { peer: peer.server() });
            lag.set(unconfirmed_entries(&seen, peer) as i64);
        }
    }

    /// The other members, while this node leads.
    fn others<'a>(&self, seen: &'a Seen) -> impl Iterator<Item = NodeId> + use<'a> {
        let own = self.own;
        seen.replication.iter().flatten().map(|(id, _)| *id).filter(move |id| *id != own)
    }
}

/// Entries of the leader's log that a member has not confirmed: all, while it has confirmed none.
fn unconfirmed_entries(seen: &Seen, id: NodeId) -> u64 {
    seen.lag_of(id).unwrap_or(seen.log_entries)
}
