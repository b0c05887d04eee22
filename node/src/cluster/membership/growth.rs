//! The growth of a restored cluster: it begins on the restored disk alone, and takes in the other
//! listed servers as soon as all of them answer with empty disks.

use std::collections::BTreeMap;

use headwater_proto::cluster as wire;
use uuid::Uuid;

use super::asked::Asked;
use super::formation::{Formation, Round};
use super::join::{Invitation, join};
use crate::config::MemberConfig;
use crate::raft::{Members, ServerState};
use crate::transport::{Member, NodeId};

impl Formation {
    /// One step: joins what is empty, lets those vote that have caught up, and ends when every
    /// listed server votes. Repeating it after a crash at any point is harmless.
    pub(super) async fn grow(&self) -> Round {
        let seen = self.consensus.seen();
        let voters = seen.members.voters();
        let others = self.peers.others();
        let missing: Vec<&MemberConfig> =
            others.iter().filter(|member| !voters.iter().any(|id| id.server() == member.id)).collect();
        if missing.is_empty() {
            return match self.identity.all_have_joined() {
                Ok(()) => Round::Done,
                Err(error) => Round::Waiting(error.to_string()),
            };
        }
        if seen.state != ServerState::Leader {
            return Round::Waiting("this restored node does not lead its cluster at the moment".to_owned());
        }
        let Asked { heard, silent, misplaced } = Asked::all(&self.peers, &missing).await;
        let rival = self.rival(&heard);
        self.lifecycle.set_rival(rival.clone());
        if let Some(rival) = rival {
            return Round::Misconfigured(rival);
        }
        if let Some(reason) = misplaced {
            return Round::Misconfigured(reason);
        }
        if !silent.is_empty() {
            return Round::Waiting(format!(
                "this cluster was restored on this server alone, which decides alone until the others join with empty \
                 disks; silent: {}",
                silent.join(", ")
            ));
        }
        match self.take_in(&heard, &seen.members).await {
            Ok(()) => Round::Waiting("the other servers receive the restored state".to_owned()),
            Err(problem) => Round::Misconfigured(problem),
        }
    }

    /// A listed server with data of another cluster.
    fn rival(&self, heard: &[(&MemberConfig, wire::StatusResponse)]) -> Option<String> {
        let own = self.identity.cluster_id();
        let cluster_of = |status: &wire::StatusResponse| Uuid::from_slice(status.cluster_id.as_deref()?).ok();
        let is_rival = |status: &wire::StatusResponse| !status.empty && cluster_of(status) != own;
        let (member, _) = heard.iter().find(|(_, status)| is_rival(status))?;
        Some(format!(
            "server {} holds data of another cluster, so neither serves: restore one server only; stop the other one, \
             empty its data directory and start it again",
            member.id
        ))
    }

    /// Adds those that are not members yet by one entry, so that every node of the cluster knows
    /// all of its servers, and lets the others vote.
    async fn take_in(&self, heard: &[(&MemberConfig, wire::StatusResponse)], members: &Members) -> Result<(), String> {
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

    /// Makes an empty disk part of this cluster.
    async fn join(&self, member: &MemberConfig, status: &wire::StatusResponse) -> Result<(), String> {
        let cluster_id = self.identity.cluster_id().unwrap_or_else(Uuid::nil);
        if !status.empty {
            return Err(format!(
                "server {} holds data of another cluster; a server joins a restored cluster with an empty data directory",
                member.id
            ));
        }
        let invitation = Invitation::ToListed { canonical_list: self.membership.canonical_list() };
        join(&self.connector, member, NodeId(status.node_id), cluster_id, invitation).await
    }
}
