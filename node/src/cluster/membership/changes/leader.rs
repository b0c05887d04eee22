//! Changes of the members on the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::cluster as wire;
use tokio::time::{Instant, timeout};
use tonic::Code;
use uuid::Uuid;

use super::decision::{self, Change, Known, Plan, Refusal, Situation};
use crate::cluster::connector::Connector;
use crate::cluster::hand_over::HAND_OVER_DEADLINE;
use crate::cluster::identity::Identity;
use crate::cluster::leadership::{Leader, Leadership};
use crate::cluster::membership::commit::in_time;
use crate::cluster::membership::join::{Invitation, join};
use crate::cluster::read_barrier::ReadGate;
use crate::cluster::status::peers::{Peers, reason_of};
use crate::cluster::versions::Versions;
use crate::cluster::writes::write::Writes;
use crate::config::MemberConfig;
use crate::event::ClusterVersion;
use crate::raft::{ChangeError, Consensus, Members, MembersStep, Seen};
use crate::transport::{Member, NodeId};

/// How long a change waits for another one that is just being committed.
const TURN_DEADLINE: Duration = Duration::from_secs(2);
/// How long the leader waits for a server that it removes to learn that it votes no more.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(3);
/// How often it looks meanwhile.
const FAREWELL_POLL: Duration = Duration::from_millis(20);

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is made, or goes on by itself; a sentence.
    Done(String),
    /// It is not made, for this reason.
    Refused(String),
    /// It is not made: this node does not lead (any more), so the next leader has to be asked.
    NotLeader,
    /// It is not made: the requester may not ask for it.
    Denied,
    /// It may have been made, in part or as a whole.
    Unknown,
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}

/// Why a plan is not carried out to its end.
enum Failure {
    Refused(String),
    Unknown,
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        tracing::warn!(%error, "a change of members was not committed");
        Self::Unknown
    }
}

/// Changes the members, while this node leads.
pub(crate) struct MemberChanges {
    pub(crate) identity: Arc<Identity>,
    pub(crate) consensus: Consensus,
    pub(crate) leadership: Arc<Leadership>,
    /// Confirms that a majority still follows this leader, before it changes the members.
    pub(crate) barrier: Arc<ReadGate>,
    /// Which members answer.
    pub(crate) peers: Peers,
    /// Reaches new servers, and knows which of two addresses counts.
    pub(crate) connector: Connector,
    /// Pauses while leadership is handed over.
    pub(crate) writes: Arc<Writes>,
    /// Held while the members are changed: one change at a time.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// What a member has to be able to apply.
    pub(crate) versions: Arc<Versions>,
}

impl MemberChanges {
    /// Makes a change, if this node leads and nothing is in its way.
    pub(crate) async fn make(&self, change: &Change) -> Outcome {
        // A new leader that no majority has confirmed must not change the members.
        if !self.leadership.is_local() || self.barrier.linearize().await.is_err() {
            return Outcome::NotLeader;
        }
        let Ok(_turn) = timeout(TURN_DEADLINE, self.turn.lock()).await else {
            return Refusal::Exchanging.into();
        };
        let seen = self.consensus.seen();
        let plan = match decision::decide(&self.situation(&seen), change) {
            Ok(plan) => plan,
            Err(refusal) => return refusal.into(),
        };
        let done = match plan {
            Plan::Add { server, member } => self.add(&seen.members, server, member).await,
            Plan::Remove { id, votes } => self.remove(&seen.members, id, votes).await,
            Plan::Promote { id } => self.promote(&seen.members, id).await,
            Plan::Demote { id } => self.demote(&seen.members, id).await,
            Plan::HandOver { to } => self.hand_over(to).await,
            Plan::HandOverFirst { to } => {
                return match self.hand_over(to).await {
                    Ok(_) => Outcome::NotLeader,
                    Err(Failure::Refused(reason)) => Outcome::Refused(reason),
                    Err(Failure::Unknown) => Outcome::Unknown,
                };
            }
        };
        match done {
            Ok(sentence) => {
                tracing::info!(target: "audit", "audit: members: {sentence}");
                Outcome::Done(sentence)
            }
            Err(Failure::Refused(reason)) => Outcome::Refused(reason),
            Err(Failure::Unknown) => Outcome::Unknown,
        }
    }

    /// What this leader knows.
    fn situation(&self, seen: &Seen) -> Situation {
        let own = self.identity.node_id();
        let newest = seen.members.newest_voters();
        let known = |(id, member): (NodeId, &Member)| {
            let heard = self.peers.heard_of(id);
            Known {
                id,
                member: member.moved_to(&self.connector.addresses(id, member)),
                votes: newest.contains(&id),
                is_alive: id == own || heard.as_ref().is_some_and(|heard| heard.is_alive()),
                lag: if id == own { Some(0) } else { seen.lag_of(id) },
                knows_changes: id == own || heard.is_some_and(|heard| knows_changes(&heard.status)),
            }
        };
        Situation {
            leader: own,
            members: seen.members.all().map(known).collect(),
            is_exchanging: seen.members.are_exchanging(),
            is_changed: seen.members.are_changed() || self.versions.in_force() >= ClusterVersion::MEMBER_CHANGES,
        }
    }

    /// All members as they are described from now on: at the places that this leader uses, and with
    /// the mark that the membership counts, and no list.
    pub(super) fn described(&self, members: &Members) -> BTreeMap<NodeId, Member> {
        let describe = |(id, member): (NodeId, &Member)| {
            let places = self.connector.addresses(id, member);
            (id, Member { changed: true, ..member.moved_to(&places) })
        };
        members.all().map(describe).collect()
    }

    /// Commits steps as one change.
    pub(super) async fn commit(&self, steps: Vec<MembersStep>, members: &Members) -> Result<(), ChangeError> {
        in_time(self.consensus.change_members(steps, members)).await
    }

    async fn add(&self, members: &Members, server: u16, member: Member) -> Result<String, Failure> {
        let node_id = self.take_in(members, server, &member).await.map_err(Failure::Refused)?;
        let becomes = match (member.replica, member.replaces) {
            (true, None) => "is a replica".to_owned(),
            (false, None) => "receives the log, and votes when it has caught up".to_owned(),
            (_, Some(old)) => format!("receives the log, and takes the place of node {old} when it has caught up"),
        };
        let steps =
            vec![MembersStep::Describe(self.described(members)), MembersStep::Add(BTreeMap::from([(node_id, member)]))];
        self.commit(steps, members).await?;
        Ok(format!("server {server} ({node_id}) {becomes}"))
    }

    /// Makes the server part of this cluster, so that it accepts the log; gives its node id.
    async fn take_in(&self, members: &Members, server: u16, places: &Member) -> Result<NodeId, String> {
        let Member { raft_address, http_address, .. } = places.clone();
        let address = MemberConfig { id: server, raft_address, http_address };
        let status = self.peers.ask(&address).await.map_err(|status| match status.code() {
            Code::FailedPrecondition => {
                format!("server {server} does not run at {}: another one does", address.raft_address)
            }
            _ => format!(
                "server {server} does not answer at {}: {}; was it started with --join, and is this its address for other \
                 nodes?",
                address.raft_address,
                reason_of(&status)
            ),
        })?;
        self.versions.check_newcomer(server, ClusterVersion::reported(status.newest_cluster_version))?;
        if !knows_changes(&status) {
            return Err(format!("server {server} runs a version that cannot be added to a running cluster"));
        }
        let node_id = NodeId(status.node_id);
        if members.addresses(node_id).is_some() {
            return Err(format!("node {node_id} at {} is a member already", address.raft_address));
        }
        let cluster_id = self.identity.cluster_id().unwrap_or_else(Uuid::nil);
        join(&self.connector, &address, node_id, cluster_id, self.versions.in_force(), Invitation::ToRunning).await?;
        Ok(node_id)
    }

    async fn promote(&self, members: &Members, id: NodeId) -> Result<String, Failure> {
        let mut described = self.described(members);
        described.entry(id).and_modify(|member| member.replica = false);
        self.commit(vec![MembersStep::Describe(described)], members).await?;
        Ok(format!("server {} votes when it has caught up", id.server()))
    }

    async fn demote(&self, members: &Members, id: NodeId) -> Result<String, Failure> {
        self.take_vote(members, id).await?;
        Ok(format!("server {} is a replica", id.server()))
    }

    async fn take_vote(&self, members: &Members, id: NodeId) -> Result<(), Failure> {
        let mut described = self.described(members);
        described.entry(id).and_modify(|member| member.replica = true);
        let mut voters = members.newest_voters();
        voters.remove(&id);
        let steps = vec![MembersStep::Describe(described), MembersStep::Vote(voters)];
        Ok(self.commit(steps, members).await?)
    }

    async fn remove(&self, members: &Members, id: NodeId, votes: bool) -> Result<String, Failure> {
        if votes {
            self.take_vote(members, id).await?;
            self.let_it_learn(id).await;
        }
        let members = self.consensus.seen().members;
        self.drop_member(&members, id).await?;
        Ok(format!("server {} ({id}) is no member any more", id.server()))
    }

    /// Removes a member that has no vote.
    pub(super) async fn drop_member(&self, members: &Members, id: NodeId) -> Result<(), ChangeError> {
        let mut described = self.described(members);
        described.remove(&id);
        for member in described.values_mut().filter(|member| member.replaces == Some(id)) {
            member.replaces = None;
        }
        let steps = vec![MembersStep::Describe(described), MembersStep::Remove(BTreeSet::from([id]))];
        self.commit(steps, members).await
    }

    /// Waits until a member that answers has the newest entry of the log, by which it votes no
    /// more: as a voter that hears no leader it would ask for votes.
    async fn let_it_learn(&self, id: NodeId) {
        let end = self.consensus.seen().log_entries;
        let deadline = Instant::now() + FAREWELL_DEADLINE;
        while self.peers.is_alive(id) && Instant::now() < deadline {
            if self.consensus.seen().confirmed_by(id) >= Some(end) {
                return;
            }
            tokio::time::sleep(FAREWELL_POLL).await;
        }
    }

    /// Hands leadership to this voter.
    async fn hand_over(&self, to: NodeId) -> Result<String, Failure> {
        let not_taken = || Failure::Refused(format!("server {} did not take over", to.server()));
        self.writes.hand_over(to, Instant::now() + HAND_OVER_DEADLINE).await;
        match self.leadership.leader() {
            Leader::Remote(hint) if hint.node_id == to => Ok(format!("server {} leads", to.server())),
            Leader::Local => Err(not_taken()),
            Leader::Remote(_) | Leader::Unknown => Err(Failure::Unknown),
        }
    }
}

/// Whether the node has said that it knows changes of members.
fn knows_changes(status: &wire::StatusResponse) -> bool {
    ClusterVersion::reported(status.newest_cluster_version) >= ClusterVersion::MEMBER_CHANGES
}
