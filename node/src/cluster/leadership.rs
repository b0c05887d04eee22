//! Leadership: which node leads the cluster, as far as this one knows, and in which term it leads
//! itself.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connector::Connector;
use crate::metrics::Metrics;
use crate::raft::Consensus;
use crate::transport::{Member, NodeId};

/// How long consensus may take to report when it last heard its leader.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// The leader, as far as this node knows at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leader {
    /// This node, and it has applied everything that its predecessors acknowledged: it may decide
    /// on writes.
    Local,
    /// Another node.
    Remote(LeaderHint),
    /// No node is known to lead.
    Unknown,
}

/// Another node that leads, and where its clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaderHint {
    /// The leader.
    pub(crate) node_id: NodeId,
    /// Its addresses.
    pub(crate) member: Member,
}

/// A term in which this node leads. Only then is its state certain to contain everything
/// acknowledged before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaderTerm(NonZeroU64);

/// What this node knows about leadership. [`LeadershipWatcher`] keeps it up to date.
pub(crate) struct Leadership {
    /// The id of this node.
    own: NodeId,
    consensus: Consensus,
    /// The leader, to look up and to wait for.
    leader: watch::Sender<Leader>,
    /// The term in which this node leads, 0 while it does not.
    term: AtomicU64,
    /// The longest election timeout. A leader that has been silent for this long may be gone, and a
    /// leader that hears no majority for this long may have been replaced.
    lease: Duration,
}

impl Leadership {
    /// No leader is known until the watcher runs.
    pub(super) fn new(own: NodeId, consensus: Consensus, lease: Duration) -> Self {
        Self { own, consensus, leader: watch::Sender::new(Leader::Unknown), term: AtomicU64::new(0), lease }
    }

    /// The leader, as far as this node knows.
    pub(super) fn leader(&self) -> Leader {
        self.leader.borrow().clone()
    }

    /// Whether this node leads.
    pub(super) fn is_local(&self) -> bool {
        matches!(*self.leader.borrow(), Leader::Local)
    }

    /// The leader, to wait for its next change.
    pub(super) fn changes(&self) -> watch::Receiver<Leader> {
        self.leader.subscribe()
    }

    /// The term in which this node leads.
    pub(super) fn term(&self) -> Option<LeaderTerm> {
        NonZeroU64::new(self.term.load(Ordering::Acquire)).map(LeaderTerm)
    }

    /// Whether this node still leads in that term.
    pub(super) fn leads_in(&self, term: Option<LeaderTerm>) -> bool {
        term.is_some() && term == self.term()
    }

    /// The leader, unless it has been silent for so long that it may be gone. Consensus names a
    /// leader until it has another; a client that is redirected to a dead leader may wait for ever.
    /// While leadership moves, the next leader is waited for until `deadline`.
    pub(super) async fn living_leader(&self, deadline: Instant) -> Leader {
        let mut leader = self.changes();
        let _ = timeout_at(deadline, leader.wait_for(|leader| *leader != Leader::Unknown)).await;
        match self.leader() {
            Leader::Remote(_) if self.leader_is_silent().await => Leader::Unknown,
            leader => leader,
        }
    }

    /// Whether the leader's lease has expired. Every message of the leader renews it, heartbeats
    /// included.
    async fn leader_is_silent(&self) -> bool {
        match timeout(ASK_DEADLINE, self.consensus.age_of_lease()).await {
            Ok(Some(age)) => age > self.lease,
            // Nothing was heard since the start, or consensus has stopped.
            Ok(None) | Err(_) => true,
        }
    }

    /// Whether this leader has heard no majority for longer than its lease. False on a node that
    /// consensus has deposed: whoever reads there waits for the next leader.
    pub(super) fn quorum_is_silent(&self) -> bool {
        let seen = self.consensus.seen();
        // A cluster of one has no peers that could confirm.
        seen.members.voters().len() > 1 && seen.quorum_silence.is_some_and(|silence| silence > self.lease)
    }

    /// Whether this node leads and has heard a majority within its lease. A leader that was deposed
    /// does not, also before [`Self::is_local`] says so: consensus knows that earlier.
    pub(super) fn leads_majority(&self) -> bool {
        self.is_local() && self.consensus.seen().leads_majority(self.lease)
    }

    /// The voter with the highest rank that should lead after this node; `rank` gives `None` for a
    /// node that cannot. Of equal ones it is the one with the most of the log.
    pub(super) fn successor<R: Ord>(&self, rank: impl Fn(NodeId) -> Option<R>) -> Option<NodeId> {
        let seen = self.consensus.seen();
        let voters = seen.members.voters();
        let others = seen.replication.iter().flatten().filter(|(id, _)| **id != self.own && voters.contains(*id));
        let ranked = others.filter_map(|(id, matched)| Some(((rank(*id)?, *matched), *id)));
        ranked.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, id)| id)
    }

    /// Hands leadership over. Returns whether another node leads, after `deadline` at the latest.
    pub(super) async fn hand_over(&self, successor: NodeId, deadline: Duration) -> bool {
        tracing::info!(%successor, "handing over leadership");
        let mut leader = self.changes();
        if self.consensus.transfer_leadership(successor).await.is_err() {
            return false;
        }
        let handed_over = leader.wait_for(|leader| matches!(leader, Leader::Remote(_)));
        timeout(deadline, handed_over).await.is_ok_and(|leader| leader.is_ok())
    }
}

/// Publishes what consensus reports about leadership.
pub(super) struct LeadershipWatcher {
    /// The state to keep up to date.
    pub(super) leadership: Arc<Leadership>,
    /// Knows the address to use for a leader.
    pub(super) connector: Connector,
    /// Counts changes of leader.
    pub(super) metrics: Arc<Metrics>,
    /// Whether the cluster has gone on without this node, which then follows no leader.
    pub(super) removed: watch::Receiver<bool>,
}

impl LeadershipWatcher {
    /// Runs until `stop`, or until consensus ends.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut elections = self.leadership.consensus.elections();
        let mut progress = self.leadership.consensus.progress();
        loop {
            let settled_term = self.settled_term();
            let mut is_settling = false;
            let elected = elections.elected();
            let is_removed = *self.removed.borrow_and_update();
            let leader = match (elected.leader, elected.addresses) {
                // Consensus names the leader that it had last. A write that is sent there would be
                // made, but never be applied here.
                _ if is_removed => Leader::Unknown,
                (Some(id), _) if id == self.leadership.own => {
                    if settled_term == Some(elected.term) {
                        Leader::Local
                    } else {
                        is_settling = true;
                        Leader::Unknown
                    }
                }
                (Some(node_id), Some(member)) => {
                    let member = self.connector.addresses(node_id, &member);
                    Leader::Remote(LeaderHint { node_id, member })
                }
                (Some(_), None) | (None, _) => Leader::Unknown,
            };
            self.publish(leader, settled_term);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = elections.changed() => if changed.is_err() { return },
                changed = self.removed.changed() => if changed.is_err() { return },
                changed = progress.changed(), if is_settling => if changed.is_err() { return },
            }
        }
    }

    /// The term in which this node leads, once it has applied the first entry of that term and so
    /// everything acknowledged before. Until then its users and access lists may be out of date.
    fn settled_term(&self) -> Option<u64> {
        let seen = self.leadership.consensus.seen();
        let leads = seen.leader == Some(self.leadership.own);
        (leads && seen.applied_term == Some(seen.term)).then_some(seen.term)
    }

    fn publish(&self, leader: Leader, settled_term: Option<u64>) {
        let term = settled_term.filter(|_| leader == Leader::Local).unwrap_or_default();
        self.leadership.term.store(term, Ordering::Release);
        let changed = self.leadership.leader.send_if_modified(|known| {
            let changed = *known != leader;
            if changed {
                known.clone_from(&leader);
            }
            changed
        });
        if !changed {
            return;
        }
        self.metrics.leader_changes.inc();
        match leader {
            Leader::Local => tracing::info!("this node leads"),
            Leader::Remote(hint) => {
                tracing::info!(leader = %hint.node_id, http = %hint.member.http_address, "following a leader");
            }
            Leader::Unknown => tracing::info!("no leader is known"),
        }
    }
}
