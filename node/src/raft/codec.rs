//! Raft's types as the messages that are stored and sent (`proto/proto/stored.proto`), and back.
//!
//! These are functions, not `From` impls, because both sides are foreign to this crate. Encoding
//! cannot fail. Decoding checks what openraft takes for granted, since its input comes from a disk
//! or a peer.

use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::stored;
use openraft::entry::RaftEntry;
use openraft::{EntryPayload, RaftTypeConfig};
use prost::Message;

use super::types::{LogEntry, LogId, Member, NodeId, Proposal, StoredMembership, TypeConfig, Vote};
use crate::apply::{self, EntryId, Payload};
use crate::event::Ticks;

/// Voters and learners as openraft keeps them, without the log id of the entry that set them.
pub(crate) type Membership = openraft::Membership<NodeId, Member>;

type LeaderId = <TypeConfig as RaftTypeConfig>::LeaderId;

/// Why a message cannot be decoded: it is damaged, or was not written by Headwater.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    /// The bytes are not a message of the expected kind.
    #[error("not a protobuf message of the expected kind: {0}")]
    Encoding(#[from] prost::DecodeError),
    /// A field that every version writes is absent.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A member is described twice, or a voter has no address.
    #[error("impossible membership: {0}")]
    Membership(String),
}

/// The message of a log id.
pub(crate) fn log_id_to_message(log_id: &LogId) -> stored::LogId {
    stored::LogId { term: log_id.leader_id.term, index: log_id.index }
}

/// The log id of a message.
pub(crate) fn log_id_from_message(message: &stored::LogId) -> LogId {
    LogId::new(message.term.into(), message.index)
}

/// The message of a vote.
pub(crate) fn vote_to_message(vote: &Vote) -> stored::Vote {
    stored::Vote { term: vote.leader_id.term, node_id: Some(vote.leader_id.voted_for.0), committed: vote.committed }
}

/// The vote of a message; a vote always names a candidate.
pub(crate) fn vote_from_message(message: &stored::Vote) -> Result<Vote, CodecError> {
    let voted_for = NodeId(message.node_id.ok_or(CodecError::Missing("Vote.node_id"))?);
    Ok(Vote { leader_id: LeaderId { term: message.term, voted_for }, committed: message.committed })
}

/// The message of one member.
pub(crate) fn member_to_message(id: NodeId, member: &Member) -> stored::Member {
    stored::Member {
        node_id: id.0,
        raft_address: member.raft_address.clone(),
        http_address: member.http_address.clone(),
        joined: member.joined,
        replica: member.replica,
        changed: member.changed,
        replaces: member.replaces.map_or(0, |id| id.0),
    }
}

/// The member of a message.
pub(crate) fn member_from_message(message: stored::Member) -> (NodeId, Member) {
    let stored::Member { node_id, raft_address, http_address, joined, replica, changed, replaces } = message;
    let replaces = (replaces != 0).then_some(NodeId(replaces));
    (NodeId(node_id), Member { raft_address, http_address, joined, replica, changed, replaces })
}

/// The message of a membership together with the log id of the entry that set it.
pub(crate) fn stored_membership_to_message(membership: &StoredMembership) -> stored::Membership {
    stored::Membership {
        log_id: membership.log_id().as_ref().map(log_id_to_message),
        ..membership_to_message(membership.membership())
    }
}

/// The reverse of [`stored_membership_to_message`].
pub(crate) fn stored_membership_from_message(message: stored::Membership) -> Result<StoredMembership, CodecError> {
    let log_id = message.log_id.as_ref().map(log_id_from_message);
    Ok(StoredMembership::new(log_id, membership_from_message(message)?))
}

/// The message of a membership inside a log entry, whose log id is the entry's own.
pub(crate) fn membership_to_message(membership: &Membership) -> stored::Membership {
    let configs = membership.get_joint_config().iter();
    stored::Membership {
        configs: configs.map(|ids| stored::VoterSet { node_ids: ids.iter().map(|id| id.0).collect() }).collect(),
        members: membership.nodes().map(|(id, member)| member_to_message(*id, member)).collect(),
        log_id: None,
    }
}

/// The reverse of [`membership_to_message`]; refuses voters without an address and members
/// described twice.
pub(crate) fn membership_from_message(message: stored::Membership) -> Result<Membership, CodecError> {
    let mut members = BTreeMap::new();
    for member in message.members {
        let (id, member) = member_from_message(member);
        if members.insert(id, member).is_some() {
            return Err(CodecError::Membership(format!("member {id} is listed twice")));
        }
    }
    let configs: Vec<BTreeSet<NodeId>> =
        message.configs.into_iter().map(|set| set.node_ids.into_iter().map(NodeId).collect()).collect();
    Membership::new(configs, members).map_err(|error| CodecError::Membership(error.to_string()))
}

/// The message of a log entry. The commands' bytes are shared, not copied.
pub(crate) fn entry_to_message(entry: &LogEntry) -> stored::Entry {
    use stored::entry::Payload;
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank(stored::Blank {}),
        EntryPayload::Normal(proposal) => {
            Payload::Proposal(stored::Proposal { time_ticks: proposal.time.0, commands: proposal.commands.to_vec() })
        }
        EntryPayload::Membership(membership) => Payload::Membership(membership_to_message(membership)),
    };
    stored::Entry { log_id: Some(log_id_to_message(&entry.log_id)), payload: Some(payload) }
}

/// A log entry in the form that the apply thread takes. The commands are shared, not copied.
pub(crate) fn entry_to_apply(entry: LogEntry) -> apply::Entry {
    let log_id = entry.log_id;
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(proposal) => Payload::Commands(proposal),
        EntryPayload::Membership(members) => {
            let stored = StoredMembership::new(Some(log_id), members);
            Payload::Members(stored_membership_to_message(&stored).encode_to_vec())
        }
    };
    apply::Entry { id: EntryId { term: log_id.leader_id.term, index: log_id.index }, payload }
}

/// The log entry of a message. The command's bytes are shared, not copied.
pub(crate) fn entry_from_message(message: stored::Entry) -> Result<LogEntry, CodecError> {
    use stored::entry::Payload;
    let log_id = log_id_from_message(message.log_id.as_ref().ok_or(CodecError::Missing("Entry.log_id"))?);
    let payload = match message.payload.ok_or(CodecError::Missing("Entry.payload"))? {
        Payload::Blank(stored::Blank {}) => EntryPayload::Blank,
        Payload::Proposal(proposal) => {
            let (time, commands) = (Ticks(proposal.time_ticks), proposal.commands.into());
            EntryPayload::Normal(Proposal { time, commands, trace: None })
        }
        Payload::Membership(membership) => EntryPayload::Membership(membership_from_message(membership)?),
    };
    Ok(LogEntry::new(log_id, payload))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn log_ids() -> impl Strategy<Value = LogId> {
        (any::<u64>(), any::<u64>()).prop_map(|(term, index)| LogId::new(term.into(), index))
    }

    fn members() -> impl Strategy<Value = Member> {
        let marks = (any::<[bool; 3]>(), proptest::option::of(1..u64::MAX));
        ("[a-z0-9.:]{0,30}", "[a-z0-9.:]{0,30}", marks).prop_map(|(raft_address, http_address, (marks, replaces))| {
            let [joined, replica, changed] = marks;
            Member { raft_address, http_address, joined, replica, changed, replaces: replaces.map(NodeId) }
        })
    }

    fn memberships() -> impl Strategy<Value = Membership> {
        let voters = vec(btree_set(1..8_u64, 1..5), 0..3);
        (voters, btree_set(1..12_u64, 0..5), members()).prop_map(|(configs, learners, member)| {
            let configs: Vec<BTreeSet<_>> =
                configs.into_iter().map(|set| set.into_iter().map(NodeId).collect()).collect();
            let ids = configs.iter().flatten().copied().chain(learners.into_iter().map(NodeId));
            let nodes: BTreeMap<_, _> = ids
                .map(|id| (id, Member { http_address: format!("{}{}", member.http_address, id), ..member.clone() }))
                .collect();
            Membership::new(configs, nodes).unwrap()
        })
    }

    fn entries() -> impl Strategy<Value = LogEntry> {
        let payload = prop_oneof![
            Just(EntryPayload::Blank),
            (any::<u64>(), vec(vec(any::<u8>(), 0..50), 0..5)).prop_map(|(time, commands)| {
                let commands = commands.into_iter().map(Bytes::from).collect();
                EntryPayload::Normal(Proposal { time: Ticks(time), commands, trace: None })
            }),
            memberships().prop_map(EntryPayload::Membership),
        ];
        (log_ids(), payload).prop_map(|(log_id, payload)| LogEntry::new(log_id, payload))
    }

    proptest! {
        #[test]
        fn entries_survive_the_round_trip(entry in entries()) {
            let bytes = Bytes::from(entry_to_message(&entry).encode_to_vec());
            let back = entry_from_message(stored::Entry::decode(bytes).unwrap()).unwrap();
            prop_assert_eq!(back, entry);
        }

        #[test]
        fn memberships_survive_the_round_trip(log_id in proptest::option::of(log_ids()), membership in memberships()) {
            let membership = StoredMembership::new(log_id, membership);
            let bytes = stored_membership_to_message(&membership).encode_to_vec();
            let back = stored_membership_from_message(stored::Membership::decode(&bytes[..]).unwrap()).unwrap();
            prop_assert_eq!(back, membership);
        }

        #[test]
        fn votes_survive_the_round_trip(term: u64, node: u64, committed: bool) {
            let vote = Vote { leader_id: LeaderId { term, voted_for: NodeId(node) }, committed };
            let bytes = vote_to_message(&vote).encode_to_vec();
            prop_assert_eq!(vote_from_message(&stored::Vote::decode(&bytes[..]).unwrap()).unwrap(), vote);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
            if let Ok(message) = stored::Entry::decode(&bytes[..]) {
                let _ = entry_from_message(message);
            }
        }
    }

    #[test]
    fn a_membership_that_was_never_set_survives() {
        let never = StoredMembership::default();
        assert_eq!(stored_membership_from_message(stored_membership_to_message(&never)).unwrap(), never);
    }

    #[test]
    fn voters_without_an_address_are_refused() {
        let message =
            stored::Membership { configs: vec![stored::VoterSet { node_ids: vec![1] }], members: vec![], log_id: None };
        assert!(matches!(membership_from_message(message), Err(CodecError::Membership(_))));
    }

    #[test]
    fn members_listed_twice_are_refused() {
        let member = member_to_message(NodeId(1), &Member::default());
        let message = stored::Membership { configs: vec![], members: vec![member.clone(), member], log_id: None };
        assert!(matches!(membership_from_message(message), Err(CodecError::Membership(_))));
    }

    #[test]
    fn entries_and_votes_with_missing_parts_are_refused() {
        let no_id = stored::Entry { log_id: None, payload: Some(stored::entry::Payload::Blank(stored::Blank {})) };
        assert!(matches!(entry_from_message(no_id), Err(CodecError::Missing("Entry.log_id"))));
        let no_payload = stored::Entry { log_id: Some(stored::LogId { term: 1, index: 1 }), payload: None };
        assert!(matches!(entry_from_message(no_payload), Err(CodecError::Missing("Entry.payload"))));
        let for_nobody = stored::Vote { term: 1, node_id: None, committed: false };
        assert!(matches!(vote_from_message(&for_nobody), Err(CodecError::Missing("Vote.node_id"))));
    }
}
