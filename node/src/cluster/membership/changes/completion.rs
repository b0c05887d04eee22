//! What changes of members leave to be done later, by whichever node leads then. The membership
//! itself says what that is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::leader::MemberChanges;
use crate::cluster::log_reminder::LogReminder;
use crate::cluster::membership::catching_up::has_caught_up;
use crate::cluster::membership::commit::in_time;
use crate::raft::{ChangeError, Members, MembersStep, Seen};
use crate::transport::{Member, NodeId};

/// How often the leader looks whether there is something to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the log repeats why something cannot be done yet.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);

/// One thing that is left to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Left {
    /// A former leader began to exchange one list of voters for another.
    Exchange,
    /// A member has caught up, so it votes in the place of these.
    Vote { id: NodeId, instead_of: BTreeSet<NodeId> },
    /// A member whose place another one has taken is still there.
    Leftover { id: NodeId },
}

/// Completes changes, while this node leads.
pub(crate) struct Completion {
    pub(crate) changes: Arc<MemberChanges>,
}

impl Completion {
    /// Works until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut reminder = LogReminder::every(REMIND_INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            if !self.changes.leadership.is_local() {
                continue;
            }
            if let Err(error) = self.step().await
                && reminder.is_due(&error.to_string(), Instant::now())
            {
                tracing::warn!(%error, "a change of members cannot be completed yet");
            }
        }
    }

    async fn step(&self) -> Result<(), ChangeError> {
        if left(&self.changes.consensus.seen()).is_none() || self.changes.barrier.linearize().await.is_err() {
            return Ok(());
        }
        // Whoever holds it changes the members at this moment.
        let Ok(_turn) = self.changes.turn.try_lock() else { return Ok(()) };
        let seen = self.changes.consensus.seen();
        let members = &seen.members;
        match left(&seen) {
            None => Ok(()),
            Some(Left::Exchange) => {
                in_time(self.changes.consensus.complete_exchange(members)).await?;
                tracing::info!(target: "audit", "audit: members: completed the exchange of voters of a former leader");
                Ok(())
            }
            Some(Left::Vote { id, instead_of }) => {
                self.let_vote(members, id, &instead_of).await?;
                tracing::info!(target: "audit", node_id = %id, ?instead_of, "audit: members: a server has caught up and votes");
                Ok(())
            }
            Some(Left::Leftover { id }) => {
                self.changes.drop_member(members, id).await?;
                tracing::info!(target: "audit", node_id = %id, "audit: members: removed a member whose place another one has taken");
                Ok(())
            }
        }
    }

    async fn let_vote(&self, members: &Members, id: NodeId, instead_of: &BTreeSet<NodeId>) -> Result<(), ChangeError> {
        let mut voters = members.newest_voters();
        voters.retain(|voter| !instead_of.contains(voter));
        voters.insert(id);
        let mut described = self.changes.described(members);
        // Otherwise it would be the next to be made a voter again.
        for old in instead_of {
            described.entry(*old).and_modify(|member| member.replica = true);
        }
        let steps = vec![MembersStep::Describe(described), MembersStep::Vote(voters)];
        self.changes.commit(steps, members).await
    }
}

/// What is left to be done first, by the membership and the progress of the log.
fn left(seen: &Seen) -> Option<Left> {
    let members = &seen.members;
    if !members.are_changed() {
        return None;
    }
    if members.are_exchanging() {
        return Some(Left::Exchange);
    }
    let voters = members.voters();
    let is_near = |id: NodeId| has_caught_up(seen, id);
    let all: Vec<(NodeId, &Member)> = members.all().collect();
    to_do(&all, &voters, is_near)
}

/// See [`left`]; no exchange is under way.
fn to_do(all: &[(NodeId, &Member)], voters: &BTreeSet<NodeId>, is_near: impl Fn(NodeId) -> bool) -> Option<Left> {
    for (id, member) in all {
        let is_on_its_way = member.changed && !member.replica && !voters.contains(id);
        if is_on_its_way && is_near(*id) {
            let is_replaced = |old: &&NodeId| old.server() == id.server() || member.replaces == Some(**old);
            let instead_of = voters.iter().filter(is_replaced).copied().collect();
            return Some(Left::Vote { id: *id, instead_of });
        }
        let has_its_place = voters.contains(id) || (member.replica && is_near(*id));
        let is_leftover = |(old, was): &&(NodeId, &Member)| {
            let is_other_disk = voters.contains(id) && old.server() == id.server() && was.replica;
            old != id && !voters.contains(old) && (is_other_disk || member.replaces == Some(*old))
        };
        if has_its_place && let Some((old, _)) = all.iter().find(is_leftover) {
            return Some(Left::Leftover { id: *old });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(server: u16, instance: u64) -> NodeId {
        NodeId(u64::from(server) << 48 | instance)
    }

    fn member() -> Member {
        Member { changed: true, ..Member::default() }
    }

    fn left_of(all: &[(NodeId, Member)], voters: &[NodeId], near: &[NodeId]) -> Option<Left> {
        let all: Vec<(NodeId, &Member)> = all.iter().map(|(id, member)| (*id, member)).collect();
        to_do(&all, &voters.iter().copied().collect(), |id| near.contains(&id))
    }

    #[test]
    fn a_member_on_its_way_votes_when_it_has_caught_up_and_a_replica_never_does() {
        let (one, two, three) = (id(1, 1), id(2, 1), id(3, 1));
        let all = [(one, member()), (two, member()), (three, Member { replica: true, ..member() })];
        assert_eq!(left_of(&all, &[one], &[]), None);
        let votes = Left::Vote { id: two, instead_of: BTreeSet::new() };
        assert_eq!(left_of(&all, &[one], &[two, three]), Some(votes));
        assert_eq!(left_of(&all, &[one, two], &[two, three]), None);
    }

    #[test]
    fn a_member_that_asked_to_rejoin_is_left_to_the_leader_it_asked() {
        let (one, two) = (id(1, 1), id(2, 1));
        let all = [(one, member()), (two, Member::default())];
        assert_eq!(left_of(&all, &[one], &[two]), None);
    }

    #[test]
    fn a_new_server_takes_the_vote_of_the_one_it_replaces_which_then_goes() {
        let (one, old, new) = (id(1, 1), id(2, 1), id(4, 1));
        let all = |old_is_replica| {
            let old_member = Member { replica: old_is_replica, ..member() };
            [(one, member()), (old, old_member), (new, Member { replaces: Some(old), ..member() })]
        };
        assert_eq!(left_of(&all(false), &[one, old], &[]), None, "not before it has caught up");
        let votes = Left::Vote { id: new, instead_of: BTreeSet::from([old]) };
        assert_eq!(left_of(&all(false), &[one, old], &[new]), Some(votes));
        assert_eq!(left_of(&all(true), &[one, new], &[new]), Some(Left::Leftover { id: old }));
    }

    #[test]
    fn a_new_disk_takes_the_vote_of_the_old_one_of_its_server() {
        let (one, old, new) = (id(1, 1), id(2, 1), id(2, 2));
        let all = [(one, member()), (old, member()), (new, member())];
        let votes = Left::Vote { id: new, instead_of: BTreeSet::from([old]) };
        assert_eq!(left_of(&all, &[one, old], &[new]), Some(votes));
        let gone = [(one, member()), (old, Member { replica: true, ..member() }), (new, member())];
        assert_eq!(left_of(&gone, &[one, new], &[new]), Some(Left::Leftover { id: old }));
    }

    #[test]
    fn a_replica_is_replaced_by_a_replica() {
        let (one, old, new) = (id(1, 1), id(2, 1), id(4, 1));
        let replica = Member { replica: true, ..member() };
        let all = [(one, member()), (old, replica.clone()), (new, Member { replaces: Some(old), ..replica })];
        assert_eq!(left_of(&all, &[one], &[]), None);
        assert_eq!(left_of(&all, &[one], &[new]), Some(Left::Leftover { id: old }));
    }
}
