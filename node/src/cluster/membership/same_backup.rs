//! The same backup on every server: one restored disk begins the cluster, and the others wait for
//! it with the same state and a log that begins after the same entry.
//!
//! Whatever the leader writes follows that entry, so the others need no copy of the state. None of
//! them has made a promise under its node id before, so a restore can be repeated on any of them.

use headwater_proto::cluster as wire;
use headwater_proto::stored::RestoredFor;

use super::asked::Asked;
use super::formation::{Formation, Round};
use super::growth::cluster_of;
use crate::config::MemberConfig;

impl Formation {
    /// One step of a restored disk that no cluster has taken in: it looks whether something is in
    /// the way.
    pub(super) async fn wait_to_be_taken_in(&self, own: &RestoredFor) -> Round {
        let others = self.peers.others();
        let Asked { heard, silent, misplaced } = Asked::all(&self.peers, &others.iter().collect::<Vec<_>>()).await;
        let difference = heard.iter().find_map(|(member, status)| self.difference(own, member, status));
        let round = match misplaced.or(difference) {
            Some(problem) => Round::Misconfigured(problem),
            None if !silent.is_empty() => Round::Waiting(format!(
                "every listed server must answer once to begin the restored cluster; silent: {}",
                silent.join(", ")
            )),
            None => {
                Round::Waiting("waiting for the server with the smallest id to begin the restored cluster".to_owned())
            }
        };
        if let Round::Waiting(reason) | Round::Misconfigured(reason) = &round {
            self.lifecycle.set_rival(Some(reason.clone()));
        }
        round
    }

    /// Why this restored disk and a listed server cannot begin one cluster.
    pub(super) fn difference(
        &self,
        own: &RestoredFor,
        member: &MemberConfig,
        status: &wire::StatusResponse,
    ) -> Option<String> {
        let id = member.id;
        if self.identity.cluster_id().is_some_and(|own| cluster_of(status) == Some(own)) {
            return None;
        }
        match &status.restored_for {
            Some(theirs) if theirs.backup != own.backup => Some(format!(
                "server {id} was restored from another backup or up to another end ({}) than this server ({}), so no \
                 server begins the cluster: stop all, empty the data directories and restore the same on each",
                described(theirs),
                described(own)
            )),
            Some(_) if status.configured_members != own.members => Some(format!(
                "server {id} has another member list ({}) than this node ({}); give every node the list that was \
                 restored for",
                status.configured_members, own.members
            )),
            Some(_) => None,
            None if !status.empty => Some(format!(
                "server {id} holds data of another cluster, or of this one since it began: where the cluster runs, \
                 empty this data directory and start this server with --rejoin; otherwise restore the same backup there"
            )),
            None if Some(id) == self.founder() => Some(format!(
                "server {id} is to begin the restored cluster, but its disk is empty: restore the same backup there"
            )),
            // It joins with its empty disk.
            None => None,
        }
    }

    /// This node votes, and waits for nobody: from here on its disk is one like any other.
    pub(super) fn be_as_any_other(&self) -> Round {
        if self.identity.is_restored() || self.identity.restored_for().is_some() {
            if let Err(error) = self.identity.has_joined() {
                return Round::Waiting(error.to_string());
            }
            self.lifecycle.set_rival(None);
        }
        Round::Done
    }
}

fn described(restored: &RestoredFor) -> String {
    format!("taken at {}, restored up to position {}", restored.taken_at, restored.next_position)
}
