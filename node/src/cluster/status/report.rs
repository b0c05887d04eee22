//! Readiness, and the role of each member.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::SystemTime;

use headwater_proto::cluster as wire;
use uuid::Uuid;

use super::peers::{Heard, Peers};
use crate::cluster::connector::Connector;
use crate::cluster::identity::Identity;
use crate::cluster::leadership::{Leader, LeaderHint, Leadership};
use crate::cluster::lifecycle::Lifecycle;
use crate::cluster::own_membership::OwnMembership;
use crate::cluster::versions::Versions;
use crate::config::{Config, MemberConfig};
use crate::deliberate::{self, Fault};
use crate::event::{Position, Ticks};
use crate::raft::{Consensus, Seen, ServerState};
use crate::store::{self, Store};
use crate::transport::{Member, NodeId};

/// The role of a node; names in the API follow contract/services 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Opening, recovering or not yet part of a cluster.
    Starting,
    /// No leader is known.
    Unknown,
    /// Receives the log, but does not vote or is too far behind.
    CatchingUp,
    /// Up to date, and never votes.
    Replica,
    /// A voter that is up to date.
    Follower,
    /// Leads and has applied the first entry of its term.
    Leader,
    /// Shutting down.
    Stopping,
}

/// One member as this node sees it.
#[derive(Debug, Clone)]
pub(crate) struct MemberStatus {
    /// Its node id; `None` until a configured member has been reached.
    pub(crate) node_id: Option<NodeId>,
    /// Its id in the configured list.
    pub(crate) server: u16,
    /// Its addresses in the list of members.
    pub(crate) member: Member,
    /// The address at which clients reach it.
    pub(crate) advertised_http: String,
    /// Random id of the member's process, new at each start; nil until it has been reached.
    pub(crate) process_id: Uuid,
    /// Whether it answered lately; always true for this node.
    pub(crate) is_alive: bool,
    /// When it last answered.
    pub(crate) last_heard: Ticks,
    /// Its role, as it reported it last.
    pub(crate) role: Role,
    /// Its Raft term.
    pub(crate) term: u64,
    /// Number of log entries it knows to be committed.
    pub(crate) committed_entries: u64,
    /// Number of log entries it has applied.
    pub(crate) applied_entries: u64,
    /// Number of events it has applied.
    pub(crate) next_position: Position,
    /// Where the next leader is chosen, the highest goes first.
    pub(crate) priority: i32,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone)]
pub(crate) struct ClusterStatus {
    /// This node; also in `members`.
    pub(crate) local: MemberStatus,
    /// Every member of the list, this node included, in order of their server id.
    pub(crate) members: Vec<MemberStatus>,
    /// Whether this node may serve reads and writes: it has recovered, knows a leader, and lags no
    /// further behind than the limit.
    pub(crate) ready: bool,
    /// Why it is not ready, for people.
    pub(crate) not_ready_reason: Option<String>,
}

/// Reports the state of this node and of its peers.
pub(crate) struct Status {
    /// The member list, and the limits for readiness.
    pub(crate) config: Arc<Config>,
    /// New at each start of the process.
    pub(crate) process_id: Uuid,
    /// This node among the members.
    pub(crate) membership: Arc<OwnMembership>,
    /// The last answers of the peers.
    pub(crate) peers: Peers,
    /// The leader.
    pub(crate) leadership: Arc<Leadership>,
    /// The stages this process has reached.
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// How far the log is committed.
    pub(crate) consensus: Consensus,
    /// How far the state is applied.
    pub(crate) store: Store,
    /// The cluster of this disk.
    pub(crate) identity: Arc<Identity>,
    /// The priority of this node; at first the one of the configuration.
    pub(crate) priority: AtomicI32,
    /// Knows the addresses to use for members.
    pub(crate) connector: Connector,
    /// Knows what this node can apply, and what all can.
    pub(crate) versions: Arc<Versions>,
}

impl Status {
    /// The members and their health.
    pub(crate) fn of_cluster(&self) -> ClusterStatus {
        let local = self.member_status(&self.membership.own_config(), Some((self.on_wire(), SystemTime::now())), true);
        let mut members = vec![local.clone()];
        for other in self.peers.others() {
            let heard = self.peers.heard(other.id);
            let alive = heard.as_ref().is_some_and(|h| h.is_alive());
            members.push(self.member_status(&other, heard.map(|h| (h.status, h.at)), alive));
        }
        members.sort_by_key(|member| member.server);
        let not_ready_reason = self.not_ready_reason();
        ClusterStatus { local, members, ready: not_ready_reason.is_none(), not_ready_reason }
    }

    /// What this node reports about itself to its peers.
    pub(crate) fn on_wire(&self) -> wire::StatusResponse {
        let seen = self.consensus.seen();
        let applied = self.store.applied().current();
        let ready = self.not_ready_reason().is_none();
        wire::StatusResponse {
            node_id: self.membership.node_id().0,
            cluster_id: self.identity.cluster_id().map(|id| id.as_bytes().to_vec().into()),
            empty: self.membership.disk_is_empty(),
            configured_members: self.membership.canonical_list(),
            term: seen.term,
            leader_node_id: seen.leader.map(|id| id.0),
            role: self.role(seen.state, ready).into(),
            applied_index: applied.log_entries,
            committed_index: seen.committed_entries.unwrap_or(applied.log_entries),
            next_position: applied.next_position,
            ready,
            http_address: self.advertised_http(self.config.server_id, &self.membership.own_config().http_address),
            process_id: self.process_id.as_bytes().to_vec().into(),
            state_format: store::FORMAT_VERSION,
            priority: self.priority.load(Ordering::Relaxed),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log_entries: seen.log_entries,
            waits_to_be_added: self.membership.waits_to_be_added(),
            members: committed_members(&seen),
            restored_for: self.identity.restored_for(),
            newest_cluster_version: self.versions.newest().0,
            cluster_version: self.versions.in_force().0,
            promised_cluster_version: self.versions.promised().0,
        }
    }

    /// Whether every member can read a state with removed events, as far as this node has heard: it
    /// has heard of all of them.
    pub(crate) fn knows_removals_everywhere(&self) -> bool {
        let knows = |heard: &Heard| heard.status.state_format >= store::FIRST_FORMAT_WITH_HOLES;
        self.peers.others().iter().all(|other| self.peers.heard(other.id).as_ref().is_some_and(knows))
    }

    /// Where a member is.
    pub(super) fn places(&self, id: NodeId, member: &Member) -> Member {
        self.connector.addresses(id, member)
    }

    /// The address at which clients reach the leader.
    pub(crate) fn clients_address(&self, leader: &LeaderHint) -> String {
        self.advertised_http(leader.node_id.server(), &leader.member.http_address)
    }

    fn member_status(
        &self,
        config: &MemberConfig,
        heard: Option<(wire::StatusResponse, SystemTime)>,
        is_alive: bool,
    ) -> MemberStatus {
        let member = Member::at(config.raft_address.as_str(), config.http_address.as_str());
        let advertised_http = self.advertised_http(config.id, &config.http_address);
        let Some((status, at)) = heard else {
            return MemberStatus {
                node_id: None,
                server: config.id,
                member,
                advertised_http,
                process_id: Uuid::nil(),
                is_alive: false,
                last_heard: Ticks::default(),
                role: Role::Unknown,
                term: 0,
                committed_entries: 0,
                applied_entries: 0,
                next_position: 0,
                priority: 0,
            };
        };
        MemberStatus {
            node_id: Some(NodeId(status.node_id)),
            server: config.id,
            member,
            advertised_http,
            process_id: Uuid::from_slice(&status.process_id).unwrap_or_default(),
            is_alive,
            last_heard: Ticks::from_system_time(at),
            role: role_from_wire(status.role()),
            term: status.term,
            committed_entries: status.committed_index,
            applied_entries: status.applied_index,
            next_position: status.next_position,
            priority: status.priority,
        }
    }

    /// Why this node should not receive requests, for people; `None` when it may.
    fn not_ready_reason(&self) -> Option<String> {
        if self.lifecycle.is_stopping() {
            return Some("stopping".to_owned());
        }
        if self.membership.waits_to_be_added() {
            return Some(self.membership.how_to_add());
        }
        if self.membership.is_removed() {
            return Some("this node was removed from the cluster; it can be stopped".to_owned());
        }
        if let Some(rival) = self.lifecycle.rival() {
            return Some(rival);
        }
        if !self.lifecycle.has_recovered() {
            let formation = || self.lifecycle.formation().map(|waits| format!("not part of a cluster yet: {waits}"));
            let recovering = || "recovering: waiting until the cluster confirms what this node had stored".to_owned();
            return Some(self.membership.how_to_move().or_else(formation).unwrap_or_else(recovering));
        }
        if !self.membership.is_member() && !self.membership.is_replica() {
            // If the operator took this node for healthy, the next wiped disk could cost the
            // majority.
            return Some("this node is not (fully) a member of the cluster yet".to_owned());
        }
        if !self.lifecycle.users_exist() {
            return Some("waiting for the leader to create the first users".to_owned());
        }
        if deliberate::is(Fault::ReadyWhileLagging) {
            return None;
        }
        match self.leadership.leader() {
            Leader::Unknown => Some("no leader is known".to_owned()),
            Leader::Local => {
                self.leadership.quorum_is_silent().then(|| "this node leads, but no majority answers".to_owned())
            }
            Leader::Remote(hint) => {
                let leader = self.peers.heard(hint.node_id.server()).filter(|heard| heard.is_alive());
                let Some(leader) = leader else {
                    return Some(format!("the leader {} does not answer", hint.node_id));
                };
                // Measured in events, because a log entry may carry one command or a thousand.
                let behind = leader.status.next_position.saturating_sub(self.store.applied().current().next_position);
                (behind > self.config.live.now().ready_lag_events).then(|| format!("{behind} events behind the leader"))
            }
        }
    }

    /// The address at which clients reach a server: the one it reports itself, or else the one in
    /// the list of members.
    fn advertised_http(&self, server: u16, listed: &str) -> String {
        let reported = if server == self.config.server_id {
            self.config.advertise_http.clone()
        } else {
            self.peers.heard(server).map(|heard| heard.status.http_address)
        };
        reported.filter(|address| !address.is_empty()).unwrap_or_else(|| listed.to_owned())
    }

    /// Whether the known leader answers.
    fn hears_leader(&self) -> bool {
        match self.leadership.leader() {
            Leader::Remote(hint) => self.peers.heard(hint.node_id.server()).is_some_and(|heard| heard.is_alive()),
            Leader::Local => true,
            Leader::Unknown => false,
        }
    }

    /// The role of this node (contract/services 5.1).
    fn role(&self, state: ServerState, ready: bool) -> wire::Role {
        let has_recovered = self.lifecycle.has_recovered();
        if self.lifecycle.is_stopping() {
            return wire::Role::Stopping;
        }
        match (state, self.leadership.leader()) {
            (ServerState::Leader, _) if ready => wire::Role::Leader,
            // It serves no reads yet, and consensus may name a leader from before the start.
            _ if !has_recovered && !self.hears_leader() => wire::Role::Starting,
            (ServerState::Candidate, _) => wire::Role::Candidate,
            (_, Leader::Unknown) if self.membership.disk_is_empty() => wire::Role::Starting,
            (_, Leader::Unknown) => wire::Role::Unknown,
            (ServerState::Learner, _) if ready => wire::Role::Replica,
            (ServerState::Learner, _) => wire::Role::Learner,
            (ServerState::Follower, _) if ready => wire::Role::Follower,
            (ServerState::Follower, _) if has_recovered => wire::Role::Unknown,
            (ServerState::Follower, _) => wire::Role::Learner,
            (ServerState::Leader | ServerState::Ended, _) => wire::Role::Unknown,
        }
    }
}

/// The members, if it is known that they are committed: otherwise another leader may undo the entry
/// that sets them.
fn committed_members(seen: &Seen) -> Option<wire::CommittedMembers> {
    let log_index = seen.members.log_index().filter(|index| Some(*index) < seen.committed_entries)?;
    let node_ids = seen.members.all().map(|(id, _)| id.0).collect();
    Some(wire::CommittedMembers { log_index, node_ids })
}

pub(super) fn role_from_wire(role: wire::Role) -> Role {
    match role {
        wire::Role::Starting => Role::Starting,
        wire::Role::Unknown | wire::Role::Candidate => Role::Unknown,
        wire::Role::Learner => Role::CatchingUp,
        wire::Role::Replica => Role::Replica,
        wire::Role::Follower => Role::Follower,
        wire::Role::Leader => Role::Leader,
        wire::Role::Stopping => Role::Stopping,
    }
}
