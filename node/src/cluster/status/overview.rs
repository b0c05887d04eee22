//! The cluster as operators look at it: what each member is, how far it has come, and what is
//! wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_proto::cluster as wire;
use uuid::Uuid;

use super::peers::Peers;
use super::report::{Role, Status, role_from_wire};
use crate::cluster::leadership::Leader;
use crate::cluster::own_membership::OwnMembership;
use crate::cluster::versions::Gated;
use crate::event::ClusterVersion;
use crate::raft::{Members, Seen};
use crate::transport::{Member, NodeId};

/// What a member is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A voter that leads.
    Leader,
    /// Counts in majorities.
    Voter,
    /// Receives the log and will vote when it has caught up.
    Learner,
    /// Receives the log and never votes.
    Replica,
    /// Not a member (yet).
    None,
}

/// How well a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// There is a leader, and every member answers and has caught up.
    Healthy,
    /// Writes are taken, but something is not as it should be.
    Degraded,
    /// No writes are taken.
    Unavailable,
}

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct MemberOverview {
    /// Its node id; `None` until a server of the list has been reached.
    pub(crate) node_id: Option<NodeId>,
    /// Its server id.
    pub(crate) server: u16,
    /// Its addresses for other nodes and for clients.
    pub(crate) places: Member,
    /// What it is for.
    pub(crate) part: Part,
    /// The state that it reports.
    pub(crate) state: Role,
    /// Whether it answered lately.
    pub(crate) is_alive: bool,
    /// What it reported last; `None` if it never answered since this node was started.
    pub(crate) progress: Option<Progress>,
}

/// How far a member has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Its term.
    pub(crate) term: u64,
    /// Entries of its log; `None` in versions that do not say.
    pub(crate) log_entries: Option<u64>,
    /// Entries that it has applied.
    pub(crate) applied_entries: u64,
    /// Entries of the leader's log that it has not applied; `None` while no leader answers.
    pub(crate) lag_entries: Option<u64>,
    /// Version of its program; `None` in versions that do not say.
    pub(crate) version: Option<String>,
    /// The newest cluster version that it can apply.
    pub(crate) newest_cluster_version: ClusterVersion,
}

/// The cluster, as the node that was asked sees it.
#[derive(Debug, Clone)]
pub(crate) struct Overview {
    /// Id of the cluster; `None` before it was founded or joined.
    pub(crate) cluster_id: Option<Uuid>,
    /// The node that was asked.
    pub(crate) asked: NodeId,
    /// The server that leads.
    pub(crate) leader: Option<u16>,
    /// The newest term that the asked node knows.
    pub(crate) term: u64,
    /// Voters, how many of them answer, and how many have to.
    pub(crate) quorum: Quorum,
    /// Whether the members were changed while the cluster ran, so that lists no longer count.
    pub(crate) is_changed: bool,
    /// The members, in order of their server id.
    pub(crate) members: Vec<MemberOverview>,
    /// The cluster version in force.
    pub(crate) cluster_version: ClusterVersion,
    /// Later versions that the asked node can apply, and what they wait for.
    pub(crate) gated: Vec<Gated>,
    /// How well the cluster is.
    pub(crate) condition: Condition,
    /// What is not as it should be, for people.
    pub(crate) problems: Vec<String>,
}

/// The voters of one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quorum {
    /// How many there are.
    pub(crate) voters: usize,
    /// How many of them answer.
    pub(crate) alive: usize,
    /// How many have to.
    pub(crate) needed: usize,
}

impl Quorum {
    /// Of these voters.
    pub(crate) fn of(voters: &BTreeSet<NodeId>, is_alive: impl Fn(NodeId) -> bool) -> Self {
        let alive = voters.iter().filter(|id| is_alive(**id)).count();
        Self { voters: voters.len(), alive, needed: voters.len() / 2 + 1 }
    }

    /// Whether enough of them answer.
    pub(crate) fn is_there(self) -> bool {
        self.alive >= self.needed
    }
}

/// Looks at the cluster.
pub(crate) struct Overviews {
    pub(crate) status: Arc<Status>,
    pub(crate) membership: Arc<OwnMembership>,
    pub(crate) peers: Peers,
}

impl Overviews {
    /// The cluster at this moment.
    pub(crate) fn of_cluster(&self) -> Overview {
        let seen = self.status.consensus.seen();
        let leader = self.leader();
        let members = self.members(&seen.members, leader);
        let own = self.membership.node_id();
        let is_alive = |id: NodeId| id == own || self.peers.is_alive(id);
        let newest = seen.members.newest_voters();
        let lists = seen.members.voter_lists();
        let has_quorum = !lists.is_empty() && lists.iter().all(|list| Quorum::of(list, is_alive).is_there());
        let problems = self.problems(&seen, leader, &members, has_quorum);
        let condition = match (leader, problems.is_empty()) {
            (None, _) => Condition::Unavailable,
            (Some(_), _) if !has_quorum => Condition::Unavailable,
            (Some(_), false) => Condition::Degraded,
            (Some(_), true) => Condition::Healthy,
        };
        Overview {
            cluster_id: self.status.identity.cluster_id(),
            asked: own,
            leader: leader.map(NodeId::server),
            term: seen.term,
            quorum: Quorum::of(&newest, is_alive),
            is_changed: seen.members.are_changed(),
            members,
            cluster_version: self.status.versions.in_force(),
            gated: self.status.versions.gated(),
            condition,
            problems,
        }
    }

    /// The leader, if it answers.
    fn leader(&self) -> Option<NodeId> {
        match self.status.leadership.leader() {
            Leader::Local => Some(self.membership.node_id()),
            Leader::Remote(hint) => Some(hint.node_id).filter(|id| self.peers.is_alive(*id)),
            Leader::Unknown => None,
        }
    }

    fn members(&self, members: &Members, leader: Option<NodeId>) -> Vec<MemberOverview> {
        let end = leader.and_then(|id| Some(self.heard_of(id)?.0.log_entries));
        let mut rows: Vec<MemberOverview> = members
            .all()
            .map(|(id, member)| {
                let places = self.status.places(id, member);
                self.row(id.server(), Some(id), places, part_of(members, id, member, leader), end)
            })
            .collect();
        if rows.is_empty() {
            // Not part of a cluster: the list, which the founding needs.
            let own = self.membership.own_config();
            for server in self.peers.others().into_iter().chain([own]) {
                let is_own = server.id == self.membership.node_id().server();
                let heard = self.peers.heard(server.id).map(|heard| NodeId(heard.status.node_id));
                let node_id = if is_own { Some(self.membership.node_id()) } else { heard };
                rows.push(self.row(
                    server.id,
                    node_id,
                    Member::at(server.raft_address, server.http_address),
                    Part::None,
                    end,
                ));
            }
        }
        rows.sort_by_key(|row| (row.server, row.node_id));
        rows
    }

    /// What the node with this id reported last, and whether that was lately.
    fn heard_of(&self, id: NodeId) -> Option<(wire::StatusResponse, bool)> {
        if id == self.membership.node_id() {
            return Some((self.status.on_wire(), true));
        }
        self.peers.heard_of(id).map(|heard| (heard.status.clone(), heard.is_alive()))
    }

    fn row(
        &self,
        server: u16,
        node_id: Option<NodeId>,
        places: Member,
        part: Part,
        end: Option<u64>,
    ) -> MemberOverview {
        let heard = node_id.and_then(|id| self.heard_of(id));
        let progress = heard.as_ref().map(|(status, _)| {
            let says_more = !status.version.is_empty();
            Progress {
                term: status.term,
                log_entries: says_more.then_some(status.log_entries),
                applied_entries: status.applied_index,
                lag_entries: end.map(|end| end.saturating_sub(status.applied_index)),
                version: says_more.then(|| status.version.clone()),
                newest_cluster_version: ClusterVersion::reported(status.newest_cluster_version),
            }
        });
        let state = heard.as_ref().map_or(Role::Unknown, |(status, _)| role_from_wire(status.role()));
        let is_alive = heard.is_some_and(|(_, is_alive)| is_alive);
        MemberOverview { node_id, server, places, part, state, is_alive, progress }
    }

    fn problems(
        &self,
        seen: &Seen,
        leader: Option<NodeId>,
        members: &[MemberOverview],
        has_quorum: bool,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        if self.membership.waits_to_be_added() {
            problems.push(self.membership.how_to_add());
        } else if self.membership.is_removed() {
            problems.push(format!("server {} was removed from the cluster", self.membership.node_id().server()));
        } else if seen.members.voter_lists().is_empty() {
            problems.push("the server that was asked is not part of a cluster".to_owned());
        } else if !has_quorum {
            problems.push("no majority of the voters answers: writes are refused".to_owned());
        }
        if leader.is_none() {
            problems.push("no leader is known".to_owned());
        }
        if seen.members.are_exchanging() {
            problems.push("voters are being exchanged".to_owned());
        }
        for member in members.iter().filter(|member| member.part != Part::None) {
            let server = member.server;
            if !member.is_alive {
                problems.push(format!(
                    "server {server} does not answer: start it, or replace it (headwater cluster replace {server} ...)"
                ));
            } else if member.part == Part::Learner {
                let lag = member.progress.as_ref().and_then(|progress| progress.lag_entries).unwrap_or_default();
                problems.push(format!("server {server} is catching up: {lag} entries to go; it will vote then"));
            } else if matches!(member.state, Role::Starting | Role::Unknown | Role::CatchingUp | Role::Stopping) {
                problems.push(format!("server {server} is not ready"));
            }
        }
        problems
    }
}

fn part_of(members: &Members, id: NodeId, member: &Member, leader: Option<NodeId>) -> Part {
    match members.voters().contains(&id) {
        true if leader == Some(id) => Part::Leader,
        true => Part::Voter,
        false if member.replica => Part::Replica,
        false => Part::Learner,
    }
}
