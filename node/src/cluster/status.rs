//! What this node knows of itself and of its peers.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use headwater_proto::cluster as wire;
use uuid::Uuid;

use super::formation::canonical;
use super::{Cluster, ClusterStatus, LeaderHint, Leadership, Member, MemberStatus, NodeId, Role};
use crate::config::MemberConfig;
use crate::event::Ticks;
use crate::metrics::Peer;
use crate::raft::{Seen, ServerState};

impl Cluster {
    /// The members and their health.
    pub fn status(&self) -> ClusterStatus {
        let local =
            self.member_status(&self.own_config(), Some((self.local_status_on_wire(), SystemTime::now())), true);
        let mut members = vec![local.clone()];
        for other in self.inner.peers.others() {
            let heard = self.inner.peers.heard(other.id);
            let alive = heard.as_ref().is_some_and(|h| h.is_alive());
            members.push(self.member_status(other, heard.map(|h| (h.status, h.at)), alive));
        }
        members.sort_by_key(|member| member.server);
        let not_ready_reason = self.not_ready_reason();
        ClusterStatus {
            local,
            members,
            leadership: self.leadership(),
            ready: not_ready_reason.is_none(),
            not_ready_reason,
        }
    }

    fn member_status(
        &self,
        config: &MemberConfig,
        heard: Option<(wire::StatusResponse, SystemTime)>,
        is_alive: bool,
    ) -> MemberStatus {
        let member = Member { raft_address: config.raft_address.clone(), http_address: config.http_address.clone() };
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
        }
    }

    /// Why this node should not be sent requests, for people; `None` when it should.
    fn not_ready_reason(&self) -> Option<String> {
        if self.inner.stopping.load(Ordering::Relaxed) {
            return Some("stopping".to_owned());
        }
        if !self.may_serve_reads() {
            return Some("recovering: waiting until the cluster confirms what this node had stored".to_owned());
        }
        if !self.is_member() {
            // Who takes this node for healthy might wipe another one, and the majority would be
            // lost.
            return Some("this node is not (fully) a member of the cluster yet".to_owned());
        }
        if !self.inner.users_exist.load(Ordering::Acquire) {
            return Some("waiting for the leader to create the first users".to_owned());
        }
        match self.leadership() {
            Leadership::None => Some("no leader is known".to_owned()),
            Leadership::Local => match self.quorum_is_silent() {
                true => Some("this node leads, but no majority answers".to_owned()),
                false => None,
            },
            Leadership::Remote(hint) => {
                let leader = self.inner.peers.heard(hint.node_id.server()).filter(|heard| heard.is_alive());
                let Some(leader) = leader else {
                    return Some(format!("the leader {} does not answer", hint.node_id));
                };
                // In events, because a log entry may carry one command or a thousand.
                let behind =
                    leader.status.next_position.saturating_sub(self.inner.store.applied().current().next_position);
                (behind > self.inner.config.ready_lag_events).then(|| format!("{behind} events behind the leader"))
            }
        }
    }

    /// What consensus says of itself at this moment.
    pub(super) fn seen(&self) -> Seen {
        self.inner.consensus.seen()
    }

    /// Whether this leader has not heard a majority for longer than its lease.
    pub(super) fn quorum_is_silent(&self) -> bool {
        let seen = self.seen();
        // A cluster of one asks nobody, so nobody confirms.
        seen.members.voters().len() > 1
            && seen.quorum_silence.is_some_and(|silence| silence > self.inner.config.election_timeout_max)
    }

    /// Where clients reach a server: where it says itself, or else where the list of members has
    /// it.
    fn advertised_http(&self, server: u16, listed: &str) -> String {
        let said = match server == self.inner.config.server_id {
            true => self.inner.config.advertise_http.clone(),
            false => self.inner.peers.heard(server).map(|heard| heard.status.http_address),
        };
        said.filter(|address| !address.is_empty()).unwrap_or_else(|| listed.to_owned())
    }

    /// Where clients reach the leader.
    pub fn clients_address(&self, leader: &LeaderHint) -> String {
        self.advertised_http(leader.node_id.server(), &leader.member.http_address)
    }

    /// Whether the node that leads, as far as this one knows, answers.
    fn hears_leader(&self) -> bool {
        match self.leadership() {
            Leadership::Remote(hint) => {
                self.inner.peers.heard(hint.node_id.server()).is_some_and(|heard| heard.is_alive())
            }
            Leadership::Local => true,
            Leadership::None => false,
        }
    }

    fn applied_entries(&self) -> u64 {
        self.inner.store.applied().current().log_entries
    }

    /// What this node tells others about itself.
    pub(super) fn local_status_on_wire(&self) -> wire::StatusResponse {
        let seen = self.seen();
        let applied = self.inner.store.applied().current();
        let ready = self.not_ready_reason().is_none();
        wire::StatusResponse {
            node_id: self.inner.identity.node_id().0,
            cluster_id: self.inner.identity.cluster_id().map(|id| id.as_bytes().to_vec().into()),
            empty: seen.log_entries == 0 && seen.term == 0 && applied.log_entries == 0,
            configured_members: canonical(&self.inner.config.members),
            term: seen.term,
            leader_node_id: seen.leader.map(|id| id.0),
            role: self.role(seen.state, ready).into(),
            applied_index: applied.log_entries,
            committed_index: seen.committed_entries.unwrap_or(applied.log_entries),
            next_position: applied.next_position,
            ready,
            http_address: self.advertised_http(self.inner.config.server_id, &self.own_config().http_address),
            process_id: self.inner.process_id.as_bytes().to_vec().into(),
        }
    }

    /// The part this node plays (contract/services 5.1).
    fn role(&self, state: ServerState, ready: bool) -> wire::Role {
        if self.inner.stopping.load(Ordering::Relaxed) {
            return wire::Role::Stopping;
        }
        match (state, self.leadership()) {
            (ServerState::Leader, _) if ready => wire::Role::Leader,
            // It serves no reads yet, and consensus may name a leader of before the start.
            _ if !self.may_serve_reads() && !self.hears_leader() => wire::Role::Starting,
            (ServerState::Candidate, _) => wire::Role::Candidate,
            (_, Leadership::None) if self.disk_is_empty() => wire::Role::Starting,
            (_, Leadership::None) => wire::Role::Unknown,
            (ServerState::Learner, _) => wire::Role::Learner,
            (ServerState::Follower, _) if ready => wire::Role::Follower,
            (ServerState::Follower, _) if self.may_serve_reads() => wire::Role::Unknown,
            (ServerState::Follower, _) => wire::Role::Learner,
            _ => wire::Role::Unknown,
        }
    }

    /// Whether this disk holds neither log entry nor vote nor state: only then may a cluster be
    /// founded with it.
    pub(super) fn disk_is_empty(&self) -> bool {
        let seen = self.seen();
        seen.log_entries == 0 && seen.term == 0 && self.applied_entries() == 0
    }

    /// Whether this node votes, by the membership it knows. While voters are being exchanged there
    /// are two lists: a node that is only in the new one has not the place of its predecessor yet,
    /// whose vote still counts.
    pub(super) fn is_member(&self) -> bool {
        let own = self.inner.identity.node_id();
        let members = self.seen().members;
        let lists = members.voter_lists();
        !lists.is_empty() && lists.iter().all(|voters| voters.contains(&own))
    }

    /// Whether this node receives the log, but is not (fully) a member.
    pub(super) fn is_candidate_for_membership(&self) -> bool {
        let own = self.inner.identity.node_id();
        self.seen().members.addresses(own).is_some() && !self.is_member()
    }

    fn own_config(&self) -> MemberConfig {
        let config = &self.inner.config;
        let own = config.members.iter().find(|m| m.id == config.server_id).cloned();
        own.unwrap_or_else(|| MemberConfig {
            id: config.server_id,
            raft_address: config.raft_listen.to_string(),
            http_address: config.http_listen.to_string(),
        })
    }

    pub(super) fn own_member(&self) -> Member {
        let own = self.own_config();
        Member { raft_address: own.raft_address, http_address: own.http_address }
    }

    /// Updates the gauges that consensus knows.
    pub(super) fn observe_replication(&self) {
        let seen = self.seen();
        self.inner.metrics.committed_entries.set(seen.committed_entries.unwrap_or(0) as i64);
        let own = self.inner.identity.node_id();
        self.inner.metrics.replication_lag.clear();
        for (peer, matched) in seen.replication.iter().flatten().filter(|(peer, _)| **peer != own) {
            let matched = matched.map_or(0, |index| index + 1);
            let lag = self.inner.metrics.replication_lag.get_or_create(&Peer { peer: peer.server() });
            lag.set(seen.log_entries.saturating_sub(matched) as i64);
        }
    }
}

fn role_from_wire(role: wire::Role) -> Role {
    match role {
        wire::Role::Starting => Role::Starting,
        wire::Role::Unknown | wire::Role::Candidate => Role::Unknown,
        wire::Role::Learner => Role::CatchingUp,
        wire::Role::Follower => Role::Follower,
        wire::Role::Leader => Role::Leader,
        wire::Role::Stopping => Role::Stopping,
    }
}
