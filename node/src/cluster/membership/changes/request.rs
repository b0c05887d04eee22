//! The way of a change of members from the node that was asked to the leader.

use std::sync::Arc;
use std::time::Duration;

use headwater_proto::cluster as wire;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Code;

use super::decision::Change;
use super::leader::{MemberChanges, Outcome};
use super::wire::{from_message, outcome_from_message, outcome_to_message, to_message};
use crate::cluster::leadership::{Leader, LeaderHint, Leadership};
use crate::cluster::wire::{requester_from_wire, requester_to_wire};
use crate::cluster::writes::authorization::Requester;
use crate::cluster::writes::gate::Proposed;
use crate::cluster::writes::write::Writes;

/// How long a change may take until it is answered. What takes longer goes on by itself.
const CHANGE_DEADLINE: Duration = Duration::from_secs(30);
/// How long to wait for a change of leader before asking the known leader again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeMembersError {
    /// Something is in its way.
    #[error("{0}")]
    Refused(String),
    /// The requester may not ask for it.
    #[error("the requester may not change the members")]
    Denied,
    /// There is no leader that a majority has confirmed.
    #[error("no leader in time")]
    NoLeader,
    /// It may have been made, in part or as a whole.
    #[error("the outcome of the change is unknown")]
    Unknown,
}

/// Takes changes to the leader.
pub(crate) struct ChangeRequests {
    pub(crate) leadership: Arc<Leadership>,
    /// Makes them where this node leads.
    pub(crate) changes: Arc<MemberChanges>,
    /// Knows whether a requester may ask for them.
    pub(crate) writes: Arc<Writes>,
    /// Whether the cluster has gone on without this node, which then knows no leader.
    pub(crate) removed: watch::Receiver<bool>,
}

impl ChangeRequests {
    /// Has the change made, whichever node leads.
    ///
    /// # Errors
    /// See [`ChangeMembersError`].
    pub(crate) async fn request(&self, change: &Change, requester: Requester) -> Result<String, ChangeMembersError> {
        let deadline = Instant::now() + CHANGE_DEADLINE;
        let mut leader = self.leadership.changes();
        let mut removed = self.removed.clone();
        loop {
            leader.mark_unchanged();
            let living_leader = tokio::select! {
                living_leader = self.leadership.living_leader(deadline) => living_leader,
                // Nothing was asked of anybody, or whoever was asked has not done it.
                Ok(_) = removed.wait_for(|is_removed| *is_removed) => {
                    return Err(ChangeMembersError::Refused("this node was removed from the cluster: ask a member".to_owned()));
                }
            };
            let outcome = match living_leader {
                Leader::Local => timeout_at(deadline, self.make(change, requester.clone())).await,
                Leader::Remote(hint) => timeout_at(deadline, self.ask(&hint, change, &requester)).await,
                Leader::Unknown => Ok(Outcome::NotLeader),
            };
            match outcome.unwrap_or(Outcome::Unknown) {
                Outcome::Done(sentence) => return Ok(sentence),
                Outcome::Refused(reason) => return Err(ChangeMembersError::Refused(reason)),
                Outcome::Denied => return Err(ChangeMembersError::Denied),
                Outcome::Unknown => return Err(ChangeMembersError::Unknown),
                Outcome::NotLeader => {}
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(ChangeMembersError::NoLeader);
            }
            let _ = timeout_at(deadline.min(now + RETRY_INTERVAL), leader.changed()).await;
        }
    }

    /// Makes the change as leader, if the requester may ask for it.
    async fn make(&self, change: &Change, requester: Requester) -> Outcome {
        match self.writes.refusal_of_upkeep(requester).await {
            None => self.changes.make(change).await,
            Some(Proposed::Denied) => Outcome::Denied,
            Some(_) => Outcome::NotLeader,
        }
    }

    /// Answers another node.
    pub(crate) async fn serve(&self, request: wire::ChangeMembersRequest) -> wire::ChangeMembersResponse {
        let outcome = match (from_message(request.change), requester_from_wire(request.requester)) {
            (Some(change), Some(requester)) => self.make(&change, requester).await,
            (None, _) => Outcome::Refused("the leader runs a version that does not know this change".to_owned()),
            (_, None) => Outcome::Denied,
        };
        outcome_to_message(outcome)
    }

    async fn ask(&self, leader: &LeaderHint, change: &Change, requester: &Requester) -> Outcome {
        let connector = &self.changes.connector;
        let message =
            wire::ChangeMembersRequest { requester: requester_to_wire(requester), change: Some(to_message(change)) };
        let ask = async {
            let mut client = connector.client(leader.node_id.server(), &leader.member.raft_address)?;
            client.change_members(connector.request(leader.node_id, message)?).await
        };
        match timeout(CHANGE_DEADLINE, ask).await {
            Ok(Ok(answer)) => outcome_from_message(answer.into_inner()),
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                Outcome::Refused("the leader runs a version that does not know changes of members".to_owned())
            }
            // It was not for that node: another one leads, or there.
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => Outcome::NotLeader,
            Ok(Err(status)) => {
                tracing::warn!(%status, "the leader did not answer a change of members");
                Outcome::Unknown
            }
            Err(_) => Outcome::Unknown,
        }
    }
}
