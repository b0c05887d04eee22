//! The growth of a restored cluster: it begins on one restored disk alone, and takes in the other
//! listed servers as soon as all of them answer, with empty disks or with the same backup.

use std::collections::BTreeMap;

use headwater_proto::cluster as wire;
use uuid::Uuid;

use super::asked::{Answer, Asked};
use super::formation::{Formation, Round};
use super::join::{Invitation, join};
use crate::config::MemberConfig;
use crate::event::ClusterVersion;
use crate::raft::{Members, ServerState};
use crate::transport::{Member, NodeId};

/// The cluster that a server belongs to.
pub(super) fn cluster_of(status: &wire::StatusResponse) -> Option<Uuid> {
    Uuid::from_slice(status.cluster_id.as_deref()?).ok()
}

impl Formation {
    /// One step: joins what is empty or restored from the same backup, lets those vote that have
    /// caught up, and ends when every listed server votes. Repeating it after a crash at any point
    /// is harmless.
    pub(super) async fn grow(&self) -> Round {
        let seen = self.consensus.seen();
        let voters = seen.members.voters();
        let others = self.peers.others();
        let missing: Vec<&MemberConfig> =
            others.iter().filter(|member| !voters.iter().any(|id| id.server() == member.id)).collect();
        if missing.is_empty() {
            return self.be_as_any_other();
        }
        let most_vote = voters.len() * 2 > others.len() + 1;
        if seen.state != ServerState::Leader {
            if most_vote {
                self.lifecycle.set_rival(None);
            }
            return Round::Waiting("this restored node does not lead its cluster at the moment".to_owned());
        }
        let Asked { heard, silent, misplaced } = Asked::all(&self.peers, &missing).await;
        let rival = self.rival(&heard);
        let waits = (!most_vote).then(|| self.waits_for_most()).flatten();
        self.lifecycle.set_rival(rival.clone().or(waits));
        if let Some(rival) = rival {
            return Round::Misconfigured(rival);
        }
        if let Some(reason) = misplaced {
            return Round::Misconfigured(reason);
        }
        if !silent.is_empty() {
            return Round::Waiting(self.lacks(&silent));
        }
        match self.take_in(&heard, &seen.members).await {
            Ok(()) => Round::Waiting("the other servers join the restored cluster".to_owned()),
            Err(problem) => Round::Misconfigured(problem),
        }
    }

    /// A listed server with data of another cluster.
    fn rival(&self, heard: &[Answer<'_>]) -> Option<String> {
        let own = self.identity.cluster_id();
        let mut foreign = heard.iter().filter(|(_, status)| !status.empty && cluster_of(status) != own);
        match self.identity.restored_for() {
            Some(restored) => foreign.find_map(|(member, status)| self.difference(&restored, member, status)),
            None => foreign.next().map(|(member, _)| {
                format!(
                    "server {} holds data of another cluster, so neither serves: restore one server only, or the same \
                     backup on every server with --members; stop the other one, empty its data directory and start it \
                     again",
                    member.id
                )
            }),
        }
    }

    /// What a restore for a list of servers promises: nothing is acknowledged by this server alone.
    fn waits_for_most(&self) -> Option<String> {
        self.identity.restored_for().map(|_| {
            "restored for a list of servers: nothing is served until most of them have joined the cluster".to_owned()
        })
    }

    /// What this node does without the servers that do not answer.
    fn lacks(&self, silent: &[String]) -> String {
        let silent = silent.join(", ");
        if self.identity.restored_for().is_some() {
            return format!("every listed server must answer once to begin the restored cluster; silent: {silent}");
        }
        format!(
            "this cluster was restored on this server alone, which decides alone until the others join with empty \
             disks; silent: {silent}"
        )
    }

    /// Adds those that are not members yet by one entry, so that every node of the cluster knows
    /// all of its servers, and lets the others vote.
    async fn take_in(&self, heard: &[Answer<'_>], members: &Members) -> Result<(), String> {
        let mut joining = BTreeMap::new();
        for (member, status) in heard {
            let node_id = NodeId(status.node_id);
            if members.addresses(node_id).is_some() {
                self.replacement.promote_in_background(node_id);
                continue;
            }
            self.join(member, status).await?;
            let addresses = Member::at(member.raft_address.as_str(), member.http_address.as_str());
            joining.insert(node_id, addresses);
        }
        if joining.is_empty() {
            return Ok(());
        }
        let servers: Vec<u16> = joining.keys().map(|id| id.server()).collect();
        self.consensus.add_learners(joining).await.map_err(|error| error.to_string())?;
        tracing::info!(target: "audit", ?servers, "audit: members: took in the other servers of a restored cluster");
        Ok(())
    }

    /// Makes a disk part of this cluster that is empty or was restored from the same backup.
    async fn join(&self, member: &MemberConfig, status: &wire::StatusResponse) -> Result<(), String> {
        let cluster_id = self.identity.cluster_id().unwrap_or_else(Uuid::nil);
        let own = self.identity.restored_for();
        if !status.empty && (own.is_none() || status.restored_for.is_none()) {
            return Err(format!(
                "server {} holds data of another cluster; a server joins a restored cluster with an empty data directory",
                member.id
            ));
        }
        let newest = ClusterVersion::reported(status.newest_cluster_version);
        self.versions.check_newcomer(member.id, newest)?;
        let invitation = Invitation::ToListed {
            canonical_list: self.membership.canonical_list(),
            restored_backup: own.map(|own| own.backup).unwrap_or_default(),
        };
        let version = self.versions.in_force();
        join(&self.connector, member, NodeId(status.node_id), cluster_id, version, invitation).await
    }
}
