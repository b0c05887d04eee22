//! The handle on the room, and how its parts are put together.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::clock::ClockWatch;
use super::connector::Connector;
use super::identity::Identity;
use super::leader_end::LeaderEnd;
use super::leadership::{Leader, LeaderHint, LeaderTerm, Leadership, LeadershipWatcher};
use super::lifecycle::Lifecycle;
use super::membership::changes::completion::Completion;
use super::membership::changes::decision::Change;
use super::membership::changes::leader::MemberChanges;
use super::membership::changes::request::{ChangeMembersError, ChangeRequests};
use super::membership::departure::Departure;
use super::membership::formation::Formation;
use super::membership::replacement::Replacement;
use super::own_membership::OwnMembership;
use super::read_barrier::{BarrierError, ReadGate};
use super::recovery::Recovery;
use super::servers::Servers;
use super::status::figures::{Figures, Follower, Statistics};
use super::status::overview::{Overview, Overviews};
use super::status::peers::{PeerPoll, Peers};
use super::status::report::{ClusterStatus, Status};
use super::writes::authorization::{Authorizer, Requester};
use super::writes::forward::Forwards;
use super::writes::gate::{Gate, GateWorker};
use super::writes::write::{Write, WriteError, WriteLimits, Writes};
use crate::config::{Config, LeaderRedirect};
use crate::event::{Position, Stamps, WriteOutcome};
use crate::metrics::Metrics;
use crate::raft::{Consensus, LogProgress};
use crate::store::{ReadError, Store};
use crate::transport::{NodeId, Traffic};

/// Handle on the cluster as this node takes part in it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(super) parts: Arc<ClusterParts>,
}

/// Nodes that stand for election, one after the other, in the time of one heartbeat. Operators
/// raise the interval of heartbeats for slow networks, on which votes take longer, too.
const TURNS_PER_HEARTBEAT: u32 = 3;

/// What the requester of upkeep can do while [`Cluster::takes_upkeep`] says no.
pub(crate) const UPKEEP_HAS_TO_WAIT: &str = "wait until every member of the cluster answers and runs this version";

/// The parts of the room.
pub(super) struct ClusterParts {
    pub(super) identity: Arc<Identity>,
    pub(super) store: Store,
    pub(super) connector: Connector,
    pub(super) membership: Arc<OwnMembership>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) leadership: Arc<Leadership>,
    pub(super) barrier: Arc<ReadGate>,
    pub(super) writes: Arc<Writes>,
    pub(super) replacement: Arc<Replacement>,
    pub(super) requests: ChangeRequests,
    pub(super) peers: Peers,
    pub(super) status: Arc<Status>,
    pub(super) overviews: Overviews,
    pub(super) statistics: Arc<Statistics>,
}

/// The parts below this room that it is built on.
pub(crate) struct Dependencies {
    /// The effective configuration.
    pub(crate) config: Arc<Config>,
    /// The node id and cluster id of this disk.
    pub(crate) identity: Arc<Identity>,
    /// Consensus, built but perhaps not running yet.
    pub(crate) consensus: Consensus,
    /// The local copy of the state.
    pub(crate) store: Store,
    /// What writes are stamped with.
    pub(crate) stamps: Arc<Stamps>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Connections to peers.
    pub(crate) connector: Connector,
    /// How far the log is written and synced.
    pub(crate) log_progress: LogProgress,
    /// Nodes whose streams of entries were cut off.
    pub(crate) broken_streams: broadcast::Receiver<NodeId>,
    /// Number of entries that the log held at the start.
    pub(crate) log_entries_at_start: u64,
}

/// The background work of the room, not yet started.
pub(crate) struct Background {
    gate: GateWorker,
    clock: ClockWatch,
    peers: PeerPoll,
    leadership: LeadershipWatcher,
    leader_end: LeaderEnd,
    formation: Formation,
    departure: Departure,
    completion: Completion,
    recovery: Recovery,
}

impl Background {
    /// Starts all of it. `stop` ends everything but the gate, which works until the last handle on
    /// the room is gone: writes queued before a stop are still answered.
    pub(crate) fn start(self, stop: &CancellationToken) {
        tokio::spawn(self.gate.run());
        tokio::spawn(self.clock.run(stop.clone()));
        tokio::spawn(self.peers.run(stop.clone()));
        tokio::spawn(self.leadership.run(stop.clone()));
        tokio::spawn(self.leader_end.run(stop.clone()));
        tokio::spawn(self.formation.run(stop.clone()));
        tokio::spawn(self.departure.run(stop.clone()));
        tokio::spawn(self.completion.run(stop.clone()));
        tokio::spawn(self.recovery.run(stop.clone()));
    }
}

impl ClusterParts {
    /// The parts, and the worker of the gate.
    fn new(dependencies: &Dependencies) -> (Self, GateWorker) {
        let Dependencies { config, identity, consensus, store, connector, .. } = dependencies;
        let lifecycle = Arc::<Lifecycle>::default();
        if dependencies.identity.is_restored() && dependencies.config.members.len() > 1 {
            let reason = "restored: this node asks the other listed servers whether they belong to another cluster";
            lifecycle.set_rival(Some(reason.to_owned()));
        }
        let leadership = Arc::new(Leadership::new(identity.node_id(), consensus.clone(), config.election_timeout_max));
        let membership =
            Arc::new(OwnMembership::new(config.clone(), identity.clone(), consensus.clone(), store.clone()));
        let servers = Arc::new(Servers::new(config.clone(), consensus.clone(), connector.clone()));
        let peers = Peers::new(connector.clone(), servers.clone());
        let barrier = Arc::new(ReadGate {
            leadership: leadership.clone(),
            consensus: consensus.clone(),
            connector: connector.clone(),
            store: store.clone(),
            read_wait: config.read_wait,
            leader_redirect: config.leader_redirect,
        });
        let (writes, gate_worker) = dependencies.writes(&leadership);
        let replacement = Arc::new(Replacement::new(
            identity.clone(),
            consensus.clone(),
            leadership.clone(),
            barrier.clone(),
            peers.clone(),
            servers,
        ));
        let requests = dependencies.requests(&leadership, &barrier, &peers, &writes, &replacement);
        let status = dependencies.status(&membership, &peers, &leadership, &lifecycle);
        let overviews = Overviews { status: status.clone(), membership: membership.clone(), peers: peers.clone() };
        let statistics = dependencies.statistics(&leadership, &writes);
        let (identity, store, connector) = (identity.clone(), store.clone(), connector.clone());
        let parts = Self {
            identity,
            store,
            connector,
            membership,
            lifecycle,
            leadership,
            barrier,
            writes,
            replacement,
            requests,
            peers,
            status,
            overviews,
            statistics,
        };
        (parts, gate_worker)
    }
}

impl Dependencies {
    fn writes(&self, leadership: &Arc<Leadership>) -> (Arc<Writes>, GateWorker) {
        let Self { config, consensus, store, stamps, metrics, connector, .. } = self;
        let (gate, worker) = Gate::new(consensus.clone(), stamps.clone(), metrics.clone(), leadership.changes());
        let writes = Writes::new(
            leadership.clone(),
            gate,
            Forwards::new(connector.clone(), metrics.clone()),
            store.clone(),
            metrics.clone(),
            WriteLimits { deadline: config.write_timeout, leader_wait: config.leader_wait },
        );
        (Arc::new(writes), worker)
    }

    fn requests(
        &self,
        leadership: &Arc<Leadership>,
        barrier: &Arc<ReadGate>,
        peers: &Peers,
        writes: &Arc<Writes>,
        replacement: &Replacement,
    ) -> ChangeRequests {
        let changes = Arc::new(MemberChanges {
            identity: self.identity.clone(),
            consensus: self.consensus.clone(),
            leadership: leadership.clone(),
            barrier: barrier.clone(),
            peers: peers.clone(),
            connector: self.connector.clone(),
            writes: writes.clone(),
            turn: replacement.turn(),
        });
        ChangeRequests { leadership: leadership.clone(), changes, writes: writes.clone() }
    }

    fn status(
        &self,
        membership: &Arc<OwnMembership>,
        peers: &Peers,
        leadership: &Arc<Leadership>,
        lifecycle: &Arc<Lifecycle>,
    ) -> Arc<Status> {
        Arc::new(Status {
            config: self.config.clone(),
            process_id: Uuid::new_v4(),
            membership: membership.clone(),
            peers: peers.clone(),
            leadership: leadership.clone(),
            lifecycle: lifecycle.clone(),
            consensus: self.consensus.clone(),
            store: self.store.clone(),
            identity: self.identity.clone(),
            priority: self.config.node_priority.into(),
            connector: self.connector.clone(),
        })
    }

    fn statistics(&self, leadership: &Arc<Leadership>, writes: &Arc<Writes>) -> Arc<Statistics> {
        Arc::new(Statistics {
            own: self.identity.node_id(),
            writes: writes.clone(),
            log_progress: self.log_progress.clone(),
            consensus: self.consensus.clone(),
            store: self.store.clone(),
            leadership: leadership.clone(),
            connector: self.connector.clone(),
            metrics: self.metrics.clone(),
        })
    }
}

impl Cluster {
    /// Puts the parts together. Nothing happens until the background work is started.
    pub(crate) fn new(dependencies: Dependencies) -> (Self, Background) {
        let (parts, gate) = ClusterParts::new(&dependencies);
        let Dependencies { config, identity, consensus, stamps, metrics, connector, broken_streams, .. } = dependencies;
        let background = Background {
            gate,
            clock: ClockWatch::new(stamps, &metrics),
            peers: PeerPoll { peers: parts.peers.clone(), statistics: parts.statistics.clone() },
            leadership: LeadershipWatcher {
                leadership: parts.leadership.clone(),
                connector: connector.clone(),
                metrics: metrics.clone(),
                removed: parts.membership.removals(),
            },
            completion: Completion { changes: parts.requests.changes.clone() },
            departure: Departure {
                membership: parts.membership.clone(),
                identity: identity.clone(),
                peers: parts.peers.clone(),
                consensus: consensus.clone(),
            },
            leader_end: LeaderEnd {
                own: identity.node_id(),
                leadership: parts.leadership.clone(),
                consensus: consensus.clone(),
                status: parts.status.clone(),
                metrics,
                broken: broken_streams,
                turn: config.heartbeat_interval / TURNS_PER_HEARTBEAT,
                round: config.election_timeout_min / 2,
            },
            formation: Formation {
                config,
                identity,
                membership: parts.membership.clone(),
                consensus: consensus.clone(),
                peers: parts.peers.clone(),
                connector,
                lifecycle: parts.lifecycle.clone(),
                replacement: parts.replacement.clone(),
            },
            recovery: Recovery::new(consensus, parts.lifecycle.clone(), dependencies.log_entries_at_start),
        };
        (Self { parts: Arc::new(parts) }, background)
    }

    /// The local copy of the state.
    pub(crate) fn store(&self) -> &Store {
        &self.parts.store
    }

    /// Id of the cluster; `None` before it was founded.
    pub(crate) fn cluster_id(&self) -> Option<Uuid> {
        self.parts.identity.cluster_id()
    }
}

/// Leadership.
impl Cluster {
    /// The leader, as far as this node knows.
    pub(crate) fn leader(&self) -> Leader {
        self.parts.leadership.leader()
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.parts.leadership.is_local()
    }

    /// The leader, to wait for its next change.
    pub(crate) fn leader_changes(&self) -> watch::Receiver<Leader> {
        self.parts.leadership.changes()
    }

    /// The leader, unless it has been silent for so long that it may be gone. While leadership
    /// moves, the next leader is waited for.
    pub(crate) async fn living_leader(&self) -> Leader {
        self.parts.barrier.living_leader().await
    }

    /// The address at which clients reach the leader.
    pub(crate) fn clients_address(&self, leader: &LeaderHint) -> String {
        self.parts.status.clients_address(leader)
    }
}

/// Writes.
impl Cluster {
    /// Registers the rules that decide on writes while this node leads. No write is made before.
    pub(crate) fn authorize_with(&self, authorizer: Box<dyn Authorizer>) {
        self.parts.writes.authorize_with(authorizer);
    }

    /// The term in which this node leads, for [`Write::authorized_in`]: take it before checking the
    /// permission.
    pub(crate) fn leader_term(&self) -> Option<LeaderTerm> {
        self.parts.leadership.term()
    }

    /// Whether a permission that was checked in that term still counts: this node leads in it.
    pub(crate) fn is_authorized(&self, authorized_in: Option<LeaderTerm>) -> bool {
        self.parts.leadership.leads_in(authorized_in)
    }

    /// Commits a write and returns the decision, once it is on disk on a majority and applied on
    /// this node. Always returns by the configured deadline.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub(crate) async fn write(&self, write: Write) -> Result<WriteOutcome, WriteError> {
        if self.parts.lifecycle.has_rival() {
            return Err(WriteError::NoLeader);
        }
        self.parts.writes.write(write).await
    }
}

/// Reads.
impl Cluster {
    /// Whether this node has caught up with what it knew before it was started, and no other
    /// cluster claims its place. Otherwise it serves no reads, and makes no decisions by its own
    /// state, because they would be based on older facts.
    pub(crate) fn has_recovered(&self) -> bool {
        self.parts.lifecycle.has_recovered() && !self.parts.lifecycle.has_rival()
    }

    /// Whether clients that demand the leader are sent to it.
    pub(crate) fn redirects_to_leader(&self) -> bool {
        self.parts.barrier.leader_redirect == LeaderRedirect::Redirect
    }

    /// Returns once a read on this node, which must lead if clients are sent to the leader, sees
    /// everything acknowledged anywhere before the call.
    ///
    /// # Errors
    /// See [`BarrierError`].
    pub(crate) async fn linearize(&self) -> Result<(), BarrierError> {
        self.parts.barrier.linearize().await
    }

    /// Returns once a read on this node, leader or not, sees everything acknowledged anywhere
    /// before the call.
    ///
    /// # Errors
    /// See [`BarrierError`].
    pub(crate) async fn catch_up(&self) -> Result<(), BarrierError> {
        self.parts.barrier.catch_up().await
    }

    /// Waits up to the configured time until this node has applied the event at `position`.
    ///
    /// # Errors
    /// [`BarrierError::Behind`].
    pub(crate) async fn wait_for_position(&self, position: Position) -> Result<(), BarrierError> {
        self.parts.barrier.wait_for_position(position).await
    }
}

/// Members.
impl Cluster {
    /// Changes the members, whichever node leads, and returns a sentence about what is done.
    ///
    /// # Errors
    /// See [`ChangeMembersError`].
    pub(crate) async fn change_members(
        &self,
        change: &Change,
        requester: Requester,
    ) -> Result<String, ChangeMembersError> {
        self.parts.requests.request(change, requester).await
    }
}

/// Status.
impl Cluster {
    /// The members and their health.
    pub(crate) fn status(&self) -> ClusterStatus {
        self.parts.status.of_cluster()
    }

    /// The cluster as operators look at it.
    pub(crate) fn overview(&self) -> Overview {
        self.parts.overviews.of_cluster()
    }

    /// Reports that there are users. The node is not ready before.
    pub(crate) fn set_users_exist(&self) {
        self.parts.lifecycle.set_users_exist();
    }

    /// Whether every member of the cluster can apply commands of upkeep: removals, redactions,
    /// imports. Once a node has holes in its log, such a command was applied, so no older member is
    /// left. Before that, every member has to say that it can read a state with removed events.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(crate) async fn takes_upkeep(&self) -> Result<bool, ReadError> {
        let has_holes = self.store().read(|view| Ok(view.has_holes())).await?;
        Ok(has_holes || self.parts.status.knows_removals_everywhere())
    }

    /// Figures of the work of this node.
    pub(crate) fn figures(&self) -> Figures {
        self.parts.statistics.figures()
    }

    /// The followers of this node, in order of their server id; none unless it leads with a
    /// majority (contract/services 4.2).
    pub(crate) fn followers(&self) -> Vec<Follower> {
        self.parts.statistics.followers()
    }

    /// The connections with other nodes.
    pub(crate) fn traffic(&self) -> &Traffic {
        self.parts.statistics.traffic()
    }
}
