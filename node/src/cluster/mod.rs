//! What handlers call: writes (local or forwarded), read barriers, status, leader hints,
//! membership.

pub mod authorization;
pub mod connector;
pub mod figures;
pub mod formation;
pub mod forward;
pub mod gate;
pub mod identity;
mod membership;
pub mod peers;
mod read_barrier;
mod recovery;
mod reminder;
pub mod service;
mod status;
mod wire;
mod write;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Config;
use crate::event::Position;
use crate::metrics::Metrics;
use crate::raft::{Consensus, LogProgress};
use crate::store::Store;
pub use crate::transport::{Member, NodeId};
use authorization::Authorizer;
pub use authorization::{LeaderTerm, Requester, Write};
use connector::Connector;
use forward::Forwards;
use gate::Gate;
use identity::Identity;
use peers::Peers;
use recovery::Recovery;

/// Handle on this node's part in the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Config>,
    identity: Arc<Identity>,
    /// New at each start of the process.
    process_id: Uuid,
    consensus: Consensus,
    store: Store,
    metrics: Arc<Metrics>,
    connector: Connector,
    log_progress: LogProgress,
    gate: Gate,
    forwards: Forwards,
    peers: Peers,
    /// Who leads, as far as this node knows.
    leadership: watch::Sender<Leadership>,
    /// The term in which this node leads, 0 while it does not.
    leader_term: AtomicU64,
    /// Decides whether a write may be made.
    authorizer: OnceLock<Box<dyn Authorizer>>,
    /// Whether this node has recovered what it had acknowledged before it was started.
    recovered: AtomicBool,
    /// Whether there are users; without them nobody can log in.
    users_exist: AtomicBool,
    /// Whether an ordered shutdown has begun.
    stopping: AtomicBool,
    /// Replaced disks that this node is bringing back as leader.
    promoting: Mutex<HashSet<NodeId>>,
    /// Held while this node changes the members as leader: one change at a time.
    changing_members: tokio::sync::Mutex<()>,
}

/// Why a write has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Surely not written: no leader was found in time, or the node is starting or stopping. 503
    /// 'Server Is Not Ready'.
    #[error("no leader is known")]
    NoLeader,
    /// Surely not written: a queue is full. 503 'Server Is Too Busy'.
    #[error("too many writes in flight")]
    Busy,
    /// May have been written, or may still be; repeating it with the same ids is exact. 500 'Write
    /// timeout'.
    #[error("the outcome is not known")]
    Unknown,
    /// Surely not written: by the leader's state the requester may not do it. 401.
    #[error("not allowed")]
    Denied,
}

/// Why a read cannot be answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// Another node leads.
    #[error("not the leader")]
    NotLeader(LeaderHint),
    /// No leader, or no quorum confirmed this one in time.
    #[error("no leader confirmed in time")]
    NoLeader,
    /// The position was not applied in time.
    #[error("position not applied in time")]
    Behind,
}

/// Who leads and where its clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader.
    pub node_id: NodeId,
    /// Its addresses.
    pub member: Member,
}

/// What this node knows about leadership at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// This node leads and has applied all that its predecessors acknowledged: it may decide on
    /// writes.
    Local,
    /// Another node leads.
    Remote(LeaderHint),
    /// Nobody is known to lead.
    None,
}

/// The part a node plays; names in the API follow contract/services 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opening, recovering or not yet part of a cluster.
    Starting,
    /// No leader known.
    Unknown,
    /// Receives the log, does not vote, or is too far behind.
    CatchingUp,
    /// Up to date voter.
    Follower,
    /// Leads and has applied its own first entry.
    Leader,
    /// Leaving.
    Stopping,
}

/// One member as this node sees it.
#[derive(Debug, Clone)]
pub struct MemberStatus {
    /// Who; `None` while a configured member has not been met yet.
    pub node_id: Option<NodeId>,
    /// Id in the configured list.
    pub server: u16,
    /// Where, by the list of members.
    pub member: Member,
    /// Where clients reach it.
    pub advertised_http: String,
    /// Random id of the member's process, new at each start; nil while not met.
    pub process_id: uuid::Uuid,
    /// Whether it answered lately (this node itself: always).
    pub is_alive: bool,
    /// When it was heard last.
    pub last_heard: crate::event::Ticks,
    /// Its part, as it said itself when last heard.
    pub role: Role,
    /// Its Raft term.
    pub term: u64,
    /// Number of log entries it knows committed / has applied.
    pub committed_entries: u64,
    /// See [`Self::committed_entries`].
    pub applied_entries: u64,
    /// Number of events it has applied.
    pub next_position: Position,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone)]
pub struct ClusterStatus {
    /// This node; also in `members`.
    pub local: MemberStatus,
    /// Every member of the list, this node included, in order of their server id.
    pub members: Vec<MemberStatus>,
    /// Leadership as this node sees it.
    pub leadership: Leadership,
    /// Whether reads and writes may be served: recovered, leader known, not lagging beyond the
    /// limit.
    pub ready: bool,
    /// Why not ready, for people.
    pub not_ready_reason: Option<String>,
}

/// What a [`Cluster`] is made of.
pub struct Parts {
    /// The effective configuration.
    pub config: Arc<Config>,
    /// Who this disk is.
    pub identity: Arc<Identity>,
    /// Consensus, built and perhaps not yet running.
    pub consensus: Consensus,
    /// The local copy of the state.
    pub store: Store,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Connections to peers.
    pub connector: Connector,
    /// How far the log is.
    pub log_progress: LogProgress,
}

impl Cluster {
    /// Puts the parts together. Nothing runs until [`Self::run`].
    pub fn new(parts: Parts) -> (Self, impl Future<Output = ()> + Send) {
        let Parts { config, identity, consensus, store, metrics, connector, log_progress } = parts;
        let others = config.members.iter().filter(|m| m.id != config.server_id).cloned().collect();
        let leadership = watch::Sender::new(Leadership::None);
        let (gate, gate_task) = Gate::new(consensus.clone(), metrics.clone(), leadership.subscribe());
        let inner = Inner {
            process_id: Uuid::new_v4(),
            forwards: Forwards::new(connector.clone(), metrics.clone()),
            peers: Peers::new(connector.clone(), others),
            leadership,
            leader_term: AtomicU64::new(0),
            authorizer: OnceLock::new(),
            recovered: AtomicBool::new(false),
            users_exist: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            promoting: Mutex::default(),
            changing_members: tokio::sync::Mutex::default(),
            config,
            identity,
            consensus,
            store,
            metrics,
            connector,
            log_progress,
            gate,
        };
        (Self { inner: Arc::new(inner) }, gate_task)
    }

    /// Starts the background work: watching leadership, asking peers, taking part, recovering. Ends
    /// with `stop`.
    pub fn run(&self, stop: &CancellationToken, log_end_at_start: u64) {
        let peers = self.inner.peers.clone();
        let observer = self.clone();
        tokio::spawn(peers.run(stop.clone(), move || observer.observe_replication()));
        tokio::spawn(self.clone().watch_leadership(stop.clone()));
        tokio::spawn(self.clone().take_part(stop.clone()));
        tokio::spawn(self.clone().recover(stop.clone(), log_end_at_start));
    }

    /// The local copy of the state.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Id of the cluster; `None` before it was founded.
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.inner.identity.cluster_id()
    }

    /// Who leads, as far as this node knows.
    pub fn leadership(&self) -> Leadership {
        self.inner.leadership.borrow().clone()
    }

    /// Whether this node leads, as far as it knows.
    pub fn leads(&self) -> bool {
        matches!(*self.inner.leadership.borrow(), Leadership::Local)
    }

    /// The same, to wait for its next change.
    pub fn leadership_changes(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Reports that there are users. The node is not ready before.
    pub fn set_users_exist(&self) {
        self.inner.users_exist.store(true, Ordering::Release);
    }

    /// Whether this node knows again what it knew before it was started: what it decides by its own
    /// state is not older than that.
    pub fn has_recovered(&self) -> bool {
        self.inner.recovered.load(Ordering::Acquire)
    }

    /// Whether this node has recovered what it had acknowledged, so that reads may be served.
    pub fn may_serve_reads(&self) -> bool {
        self.has_recovered() && !self.inner.stopping.load(Ordering::Relaxed)
    }

    /// Keeps `leadership` up to date with what consensus knows.
    async fn watch_leadership(self, stop: CancellationToken) {
        let mut elections = self.inner.consensus.elections();
        let mut progress = self.inner.consensus.progress();
        let own = self.inner.identity.node_id();
        loop {
            let settled_term = self.settled_term();
            let mut is_settling = false;
            let elected = elections.elected();
            let news = match (elected.leader, elected.addresses) {
                (Some(id), _) if id == own => match settled_term.filter(|term| *term == elected.term) {
                    Some(_) => Leadership::Local,
                    None => {
                        is_settling = true;
                        Leadership::None
                    }
                },
                (Some(node_id), Some(member)) => {
                    let member = self.inner.connector.addresses(node_id, &member);
                    Leadership::Remote(LeaderHint { node_id, member })
                }
                (Some(_), None) | (None, _) => Leadership::None,
            };
            let leader_term = settled_term.filter(|_| news == Leadership::Local).unwrap_or_default();
            self.inner.leader_term.store(leader_term, Ordering::Release);
            let changed = self.inner.leadership.send_if_modified(|known| {
                let changed = *known != news;
                *known = news.clone();
                changed
            });
            if changed {
                self.inner.metrics.leader_changes.inc();
                match &news {
                    Leadership::Local => tracing::info!("this node leads"),
                    Leadership::Remote(hint) => {
                        tracing::info!(leader = %hint.node_id, http = %hint.member.http_address, "following a leader")
                    }
                    Leadership::None => tracing::info!("no leader is known"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = elections.changed() => if changed.is_err() { return },
                changed = progress.changed(), if is_settling => if changed.is_err() { return },
            }
        }
    }

    /// The term in which this node leads, once it has applied the first entry of it and so
    /// everything that was acknowledged before: until then its users and access lists may be out of
    /// date.
    fn settled_term(&self) -> Option<u64> {
        let seen = self.seen();
        let leads = seen.leader == Some(self.inner.identity.node_id());
        (leads && seen.applied_term == Some(seen.term)).then_some(seen.term)
    }

    /// Opens the gate for reads once this node has recovered.
    async fn recover(self, stop: CancellationToken, log_end_at_start: u64) {
        let mut progress = self.inner.consensus.progress();
        let mut recovery = Recovery::new(log_end_at_start);
        loop {
            let seen = self.seen();
            if recovery.is_over(seen.committed_entries.unwrap_or(0), seen.log_entries, seen.applied_entries) {
                self.inner.recovered.store(true, Ordering::Release);
                tracing::info!("recovered; reads are served");
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = progress.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Hands leadership to the most advanced living peer, if this node leads and has one. Returns
    /// when another node leads or in vain after `deadline`.
    pub async fn hand_over(&self, deadline: Duration) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        if !self.leads() {
            return;
        }
        let own = self.inner.identity.node_id();
        let seen = self.seen();
        let voters = seen.members.voters();
        let alive =
            |id: &NodeId| self.inner.peers.heard(id.server()).is_some_and(|h| h.is_alive() && h.status.node_id == id.0);
        let successor = seen
            .replication
            .iter()
            .flatten()
            .filter(|(id, _)| **id != own && voters.contains(id) && alive(id))
            .max_by_key(|(_, matched)| **matched)
            .map(|(id, _)| *id);
        let Some(successor) = successor else { return };
        tracing::info!(%successor, "handing over leadership");
        if self.inner.consensus.transfer_leadership(successor).await.is_err() {
            return;
        }
        let mut leadership = self.inner.leadership.subscribe();
        let handed_over = leadership.wait_for(|leader| matches!(leader, Leadership::Remote(_)));
        let _ = tokio::time::timeout(deadline, handed_over).await;
    }
}
