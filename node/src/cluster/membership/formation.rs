//! How a node becomes part of a cluster: it already is a member, it takes part in the founding, or
//! it replaces a lost disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_proto::cluster as wire;
use headwater_proto::cluster::cluster_client::ClusterClient;
use headwater_proto::stored;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::asked::{Answer, Asked};
use super::join::{Invitation, join};
use crate::cluster::connector::Connector;
use crate::cluster::identity::Identity;
use crate::cluster::lifecycle::Lifecycle;
use crate::cluster::log_reminder::LogReminder;
use crate::cluster::membership::replacement::Replacement;
use crate::cluster::own_membership::OwnMembership;
use crate::cluster::status::peers::Peers;
use crate::cluster::versions::Versions;
use crate::config::{Config, MemberConfig};
use crate::event::ClusterVersion;
use crate::raft::Consensus;
use crate::transport::{Member, NodeId};

/// How often an unfinished formation is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How long one call to another node may take.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// How often the log repeats what a node is waiting for.
const REMIND_INTERVAL: Duration = Duration::from_secs(30);

/// The result of one attempt.
pub(super) enum Round {
    /// This node is part of a cluster.
    Done,
    /// Not yet part of a cluster; the reason, for the operator.
    Waiting(String),
    /// Not until the operator corrects the configuration; the problem, for the operator.
    Misconfigured(String),
}

/// Makes this node part of a cluster.
///
/// A cluster is founded once: by the listed server with the smallest id, when every listed server
/// answers, is empty and has the same list. A node that has taken part in a cluster has a log or a
/// vote, so it is not empty and founds nothing.
pub(crate) struct Formation {
    /// The member list, this server's id in it, and whether the node may ask to rejoin with a new
    /// disk.
    pub(crate) config: Arc<Config>,
    /// Receives the cluster id.
    pub(crate) identity: Arc<Identity>,
    /// Whether this node is a member already.
    pub(crate) membership: Arc<OwnMembership>,
    /// Founds the cluster.
    pub(crate) consensus: Consensus,
    /// The other listed servers.
    pub(crate) peers: Peers,
    /// Reaches the other servers.
    pub(crate) connector: Connector,
    /// Learns of servers that belong to another cluster.
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// Lets members of a restored cluster vote that have caught up.
    pub(crate) replacement: Arc<Replacement>,
    /// Whether this node can apply what is in force in the cluster.
    pub(crate) versions: Arc<Versions>,
}

impl Formation {
    /// Works until this node is part of a cluster, or until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut reminder = LogReminder::every(REMIND_INTERVAL);
        if let Some(problem) = self.membership.how_to_move() {
            tracing::warn!("{problem}");
        }
        loop {
            let (reason, is_mistake) = match self.round().await {
                Round::Done => return self.lifecycle.set_formation(None),
                Round::Waiting(reason) => (reason, false),
                Round::Misconfigured(reason) => (reason, true),
            };
            match (reminder.is_due(&reason, Instant::now()), is_mistake) {
                (true, true) => tracing::warn!("not part of a cluster yet: {reason}"),
                (true, false) => tracing::info!("not part of a cluster yet: {reason}"),
                (false, _) => {}
            }
            self.lifecycle.set_formation(Some(reason));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
            }
        }
    }

    async fn round(&self) -> Round {
        if self.membership.is_member() {
            return if self.identity.is_restored() { self.grow().await } else { self.be_as_any_other() };
        }
        if self.membership.waits_to_be_added() {
            return Round::Waiting(self.membership.how_to_add());
        }
        if let Some(own) = self.membership.untouched_copy() {
            return self.wait_to_be_taken_in(&own).await;
        }
        let others = self.peers.others();
        let Asked { heard, silent, misplaced } = Asked::all(&self.peers, &others.iter().collect::<Vec<_>>()).await;
        if let Some(reason) = misplaced {
            return Round::Misconfigured(reason);
        }
        if !self.membership.disk_is_empty() {
            return self.come_back(&heard).await;
        }
        if let Some((member, status)) = heard.iter().find(|(_, status)| !status.empty) {
            return self.meet_existing_cluster(member, status, &heard).await;
        }
        let own_list = self.membership.canonical_list();
        if let Some((member, status)) = heard.iter().find(|(_, status)| status.configured_members != own_list) {
            return Round::Misconfigured(format!(
                "server {} has another member list ({}) than this node ({own_list}); give every node the same list and restart it",
                member.id, status.configured_members
            ));
        }
        if !silent.is_empty() {
            return Round::Waiting(format!(
                "every listed server must answer once to found the cluster; silent: {}",
                silent.join(", ")
            ));
        }
        if self.founder() != Some(self.config.server_id) {
            return Round::Waiting("waiting for the server with the smallest id to found the cluster".to_owned());
        }
        match self.found_cluster(&heard).await {
            Ok(()) => Round::Done,
            Err(reason) => Round::Waiting(reason),
        }
    }

    /// This disk has data, and by what it knows this node does not vote.
    async fn come_back(&self, heard: &[Answer<'_>]) -> Round {
        if self.membership.is_learner() && !self.membership.is_led_in() {
            // This node was added as a learner before. The leader that was to promote it may have
            // lost leadership, or may have stopped half way.
            self.ask_to_rejoin(heard).await
        } else if self.identity.is_restored() || self.membership.restored_copy().is_some() {
            Round::Waiting("this restored disk does not know yet whether it votes".to_owned())
        } else {
            // The node was a member before: consensus does the rest.
            Round::Done
        }
    }

    /// The listed server that founds the cluster.
    pub(super) fn founder(&self) -> Option<u16> {
        self.config.members.iter().map(|member| member.id).min()
    }

    /// Founds the cluster. Repeating it after a crash at any point is harmless while every node is
    /// still empty.
    async fn found_cluster(&self, others: &[Answer<'_>]) -> Result<(), String> {
        let identity = &self.identity;
        let cluster_id = identity.cluster_id().unwrap_or_else(Uuid::new_v4);
        identity.set_cluster_id(cluster_id, true).map_err(|error| error.to_string())?;
        let own = self.membership.own_member();
        let mut members = BTreeMap::from([(identity.node_id(), own)]);
        for (member, status) in others {
            let node_id = NodeId(status.node_id);
            let invitation = Invitation::ToListed {
                canonical_list: self.membership.canonical_list(),
                restored_backup: Bytes::new(),
            };
            // A cluster begins with the first version, whatever its founders can apply.
            join(&self.connector, member, node_id, cluster_id, ClusterVersion::FIRST, invitation).await?;
            let addresses = Member::at(member.raft_address.as_str(), member.http_address.as_str());
            members.insert(node_id, addresses);
        }
        let size = members.len();
        self.consensus.initialize(members).await.map_err(|error| format!("cannot found the cluster: {error}"))?;
        tracing::info!(target: "audit", %cluster_id, members = size, "audit: members: founded the cluster");
        Ok(())
    }

    /// This disk is empty, but a listed server belongs to a cluster. Either the founding is under
    /// way and the leader will send its log, or this server's former disk is lost.
    async fn meet_existing_cluster(
        &self,
        member: &MemberConfig,
        status: &wire::StatusResponse,
        heard: &[Answer<'_>],
    ) -> Round {
        let own_cluster = self.identity.cluster_id();
        let their_cluster = status.cluster_id.as_ref().and_then(|id| Uuid::from_slice(id).ok());
        if !self.config.rejoin && own_cluster.is_some() && own_cluster == their_cluster {
            return Round::Waiting(format!(
                "waiting for the leader's log; if it does not come and the disk of server {} was lost, start it with --rejoin",
                self.config.server_id
            ));
        }
        if !self.config.rejoin {
            return Round::Waiting(format!(
                "this disk is empty, but server {} already belongs to a cluster; if that one was restored from a backup, it takes this one in by itself \
                 once all listed servers answer; if the disk of server {} was lost, start it once with --rejoin",
                member.id, self.config.server_id
            ));
        }
        self.ask_to_rejoin(heard).await
    }

    /// Asks the leader to let this disk replace the lost one of this server.
    async fn ask_to_rejoin(&self, heard: &[Answer<'_>]) -> Round {
        let leader = heard.iter().find(|(_, status)| status.leader_node_id == Some(status.node_id));
        let Some((leader, status)) = leader else {
            return Round::Waiting("the cluster to rejoin has no leader at the moment".to_owned());
        };
        // The cluster id is stored before the request: the leader sends its log as soon as it
        // agrees, and a node without a cluster refuses every log.
        if let Err(reason) = self.adopt_cluster(status.cluster_id.as_deref().unwrap_or_default()) {
            return Round::Waiting(format!("server {} cannot take this node back: {reason}", leader.id));
        }
        // Its entries may be of that version, and come as soon as the leader agrees.
        if let Err(refused) = self.versions.promise_to_join(ClusterVersion::reported(status.cluster_version)).await {
            return Round::Misconfigured(refused.message().to_owned());
        }
        let own = self.membership.own_member();
        let request = wire::RejoinRequest {
            newest_cluster_version: self.versions.newest().0,
            member: Some(stored::Member {
                node_id: self.identity.node_id().0,
                raft_address: own.raft_address,
                http_address: own.http_address,
                ..stored::Member::default()
            }),
        };
        let answer = self.call(leader, async |mut client| client.rejoin(request).await).await;
        let accepted = answer
            .map_err(|status| status.message().to_owned())
            .and_then(|answer| self.adopt_cluster(&answer.cluster_id));
        match accepted {
            Ok(()) => Round::Waiting(format!(
                "server {} gives this node the place of its lost disk once it has caught up",
                leader.id
            )),
            Err(reason) => Round::Waiting(format!("server {} cannot take this node back yet: {reason}", leader.id)),
        }
    }

    /// Makes this disk part of the cluster. The id of another cluster is given up only while the
    /// disk holds nothing else.
    fn adopt_cluster(&self, cluster_id: &[u8]) -> Result<(), String> {
        let cluster_id = Uuid::from_slice(cluster_id).map_err(|_| "it names no cluster".to_owned())?;
        let may_replace = self.membership.disk_is_empty();
        self.identity.set_cluster_id(cluster_id, may_replace).map_err(|error| error.to_string())
    }

    async fn call<T>(
        &self,
        member: &MemberConfig,
        call: impl AsyncFnOnce(ClusterClient<tonic::transport::Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, tonic::Status> {
        let client = self.connector.client(member.id, &member.raft_address)?;
        let answer = tokio::time::timeout(CALL_DEADLINE, call(client)).await;
        Ok(answer.map_err(|_| tonic::Status::deadline_exceeded("no answer in time"))??.into_inner())
    }
}
