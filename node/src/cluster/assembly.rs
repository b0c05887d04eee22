//! The parts of the room and its background work, and how they are put together.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::clock::ClockWatch;
use super::connector::Connector;
use super::groups::Groups;
use super::identity::Identity;
use super::leader_end::{LeaderEnd, TURNS_PER_HEARTBEAT};
use super::leadership::{Leadership, LeadershipWatcher};
use super::lifecycle::Lifecycle;
use super::membership::changes::completion::Completion;
use super::membership::changes::leader::MemberChanges;
use super::membership::changes::request::ChangeRequests;
use super::membership::departure::Departure;
use super::membership::formation::Formation;
use super::membership::replacement::Replacement;
use super::own_membership::OwnMembership;
use super::raising::Raising;
use super::read_barrier::ReadGate;
use super::recovery::Recovery;
use super::servers::Servers;
use super::status::figures::Statistics;
use super::status::overview::Overviews;
use super::status::peers::{PeerPoll, Peers};
use super::status::report::Status;
use super::versions::Versions;
use super::writes::forward::Forwards;
use super::writes::gate::{Gate, GateWorker};
use super::writes::write::{WriteLimits, WriteParts, Writes};
use crate::config::Config;
use crate::event::Stamps;
use crate::metrics::Metrics;
use crate::raft::{Consensus, LogProgress, LogPromise};
use crate::store::Store;
use crate::trace::Traces;
use crate::transport::NodeId;

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
    /// Where spans of other nodes go on.
    pub(crate) traces: Traces,
    /// How far the log is written and synced.
    pub(crate) log_progress: LogProgress,
    /// What this disk promises about the programs that may open it.
    pub(crate) log_promise: LogPromise,
    /// Nodes whose streams of entries were cut off.
    pub(crate) broken_streams: broadcast::Receiver<NodeId>,
    /// Number of entries that the log held at the start.
    pub(crate) log_entries_at_start: u64,
}

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
    pub(super) groups: Arc<Groups>,
    pub(super) replacement: Arc<Replacement>,
    pub(super) requests: ChangeRequests,
    pub(super) versions: Arc<Versions>,
    pub(super) peers: Peers,
    pub(super) status: Arc<Status>,
    pub(super) overviews: Overviews,
    pub(super) statistics: Arc<Statistics>,
}

impl ClusterParts {
    /// The parts, and what works on them. Nothing happens until the background work is started.
    pub(super) fn new(dependencies: Dependencies) -> (Self, Background) {
        let (parts, gate) = dependencies.parts();
        let background = Background::new(dependencies, &parts, gate);
        (parts, background)
    }
}

impl Dependencies {
    /// The parts, and the worker of the gate.
    fn parts(&self) -> (ClusterParts, GateWorker) {
        let Self { config, identity, consensus, store, connector, .. } = self;
        let lifecycle = Arc::<Lifecycle>::default();
        if identity.is_restored() && config.members.len() > 1 {
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
        let groups = Arc::new(Groups::new(leadership.clone(), connector.clone()));
        let versions = Arc::new(self.versions(&membership, &peers));
        let (writes, gate_worker) = self.writes(&leadership, &groups, &versions, membership.removals());
        let replacement = Arc::new(Replacement::new(
            identity.clone(),
            consensus.clone(),
            leadership.clone(),
            barrier.clone(),
            peers.clone(),
            servers,
            versions.clone(),
        ));
        let changes = self.changes(&leadership, &barrier, &peers, &writes, &replacement, &versions);
        let (leaders, removed) = (leadership.clone(), membership.removals());
        let requests = ChangeRequests { leadership: leaders, changes, writes: writes.clone(), removed };
        let status = self.status(&membership, &peers, &leadership, &lifecycle, &versions);
        let overviews = Overviews { status: status.clone(), membership: membership.clone(), peers: peers.clone() };
        let statistics = self.statistics(&leadership, &writes);
        let (identity, store, connector) = (identity.clone(), store.clone(), connector.clone());
        let parts = ClusterParts {
            identity,
            store,
            connector,
            membership,
            lifecycle,
            leadership,
            barrier,
            writes,
            groups,
            replacement,
            requests,
            versions,
            peers,
            status,
            overviews,
            statistics,
        };
        (parts, gate_worker)
    }

    fn versions(&self, membership: &Arc<OwnMembership>, peers: &Peers) -> Versions {
        let Self { config, consensus, store, log_promise, .. } = self;
        let (membership, consensus, store) = (membership.clone(), consensus.clone(), store.clone());
        Versions::new(config.max_cluster_version, membership, consensus, store, peers.clone(), log_promise.clone())
    }

    fn writes(
        &self,
        leadership: &Arc<Leadership>,
        groups: &Arc<Groups>,
        versions: &Arc<Versions>,
        removed: watch::Receiver<bool>,
    ) -> (Arc<Writes>, GateWorker) {
        let Self { config, consensus, store, stamps, metrics, traces, connector, .. } = self;
        let (gate, worker) = Gate::new(consensus.clone(), stamps.clone(), metrics.clone(), leadership.changes());
        let parts = WriteParts {
            leadership: leadership.clone(),
            consensus: consensus.clone(),
            groups: groups.clone(),
            store: store.clone(),
            versions: versions.clone(),
            metrics: metrics.clone(),
            traces: traces.clone(),
            removed,
        };
        let forwards = Forwards::new(connector.clone(), metrics.clone());
        let limits = WriteLimits { deadline: config.write_timeout, leader_wait: config.leader_wait };
        let writes = Writes::new(parts, gate, forwards, limits);
        (Arc::new(writes), worker)
    }

    fn changes(
        &self,
        leadership: &Arc<Leadership>,
        barrier: &Arc<ReadGate>,
        peers: &Peers,
        writes: &Arc<Writes>,
        replacement: &Replacement,
        versions: &Arc<Versions>,
    ) -> Arc<MemberChanges> {
        Arc::new(MemberChanges {
            identity: self.identity.clone(),
            consensus: self.consensus.clone(),
            leadership: leadership.clone(),
            barrier: barrier.clone(),
            peers: peers.clone(),
            connector: self.connector.clone(),
            writes: writes.clone(),
            turn: replacement.turn(),
            versions: versions.clone(),
        })
    }

    fn status(
        &self,
        membership: &Arc<OwnMembership>,
        peers: &Peers,
        leadership: &Arc<Leadership>,
        lifecycle: &Arc<Lifecycle>,
        versions: &Arc<Versions>,
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
            priority: self.config.live.now().node_priority.into(),
            connector: self.connector.clone(),
            versions: versions.clone(),
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
    raising: Raising,
    recovery: Recovery,
}

impl Background {
    /// What works on these parts.
    fn new(dependencies: Dependencies, parts: &ClusterParts, gate: GateWorker) -> Self {
        let Dependencies { config, identity, consensus, stamps, metrics, connector, broken_streams, .. } = dependencies;
        Self {
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
            raising: Raising {
                versions: parts.versions.clone(),
                leadership: parts.leadership.clone(),
                barrier: parts.barrier.clone(),
                writes: parts.writes.clone(),
                turn: parts.replacement.turn(),
            },
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
                versions: parts.versions.clone(),
            },
            recovery: Recovery::new(consensus, parts.lifecycle.clone(), dependencies.log_entries_at_start),
        }
    }

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
        tokio::spawn(self.raising.run(stop.clone()));
        tokio::spawn(self.recovery.run(stop.clone()));
    }
}
