//! Changes of members and their outcomes as messages between nodes.

use headwater_proto::cluster as wire;
use headwater_proto::cluster::change_members_request::Change as Message;
use headwater_proto::cluster::change_members_response::Result as Answer;

use super::decision::Change;
use super::leader::Outcome;
use crate::transport::Member;

/// The message of a change.
pub(in crate::cluster) fn to_message(change: &Change) -> Message {
    match change.clone() {
        Change::Add { server, places, replica } => Message::Add(wire::AddMember {
            server: server.into(),
            raft_address: places.raft_address,
            http_address: places.http_address,
            replica,
        }),
        Change::Remove { server } => Message::Remove(wire::RemoveMember { server: server.into() }),
        Change::Promote { server } => Message::Promote(wire::PromoteMember { server: server.into() }),
        Change::Demote { server } => Message::Demote(wire::DemoteMember { server: server.into() }),
        Change::Replace { server, by, places } => Message::Replace(wire::ReplaceMember {
            server: server.into(),
            by: by.into(),
            raft_address: places.raft_address,
            http_address: places.http_address,
        }),
        Change::Transfer { to } => Message::Transfer(wire::TransferLeadership { to: to.map(u32::from) }),
    }
}

/// The change of a message; `None` for one that this version does not know.
pub(in crate::cluster) fn from_message(message: Option<Message>) -> Option<Change> {
    let server = |id: u32| u16::try_from(id).ok().filter(|id| *id > 0);
    Some(match message? {
        Message::Add(add) => Change::Add {
            server: server(add.server)?,
            places: Member::at(add.raft_address, add.http_address),
            replica: add.replica,
        },
        Message::Remove(remove) => Change::Remove { server: server(remove.server)? },
        Message::Promote(promote) => Change::Promote { server: server(promote.server)? },
        Message::Demote(demote) => Change::Demote { server: server(demote.server)? },
        Message::Replace(replace) => Change::Replace {
            server: server(replace.server)?,
            by: server(replace.by)?,
            places: Member::at(replace.raft_address, replace.http_address),
        },
        Message::Transfer(transfer) => Change::Transfer {
            to: match transfer.to {
                Some(to) => Some(server(to)?),
                None => None,
            },
        },
    })
}

/// The message of an outcome.
pub(in crate::cluster) fn outcome_to_message(outcome: Outcome) -> wire::ChangeMembersResponse {
    let result = match outcome {
        Outcome::Done(sentence) => Answer::Done(sentence),
        Outcome::Refused(reason) => Answer::Refused(reason),
        Outcome::NotLeader => Answer::NotLeader(wire::NotLeader {}),
        Outcome::Denied => Answer::Denied(wire::Denied {}),
        Outcome::Unknown => Answer::Unknown(wire::Unknown {}),
    };
    wire::ChangeMembersResponse { result: Some(result) }
}

/// The outcome of a message; one that this version does not know leaves it open.
pub(in crate::cluster) fn outcome_from_message(message: wire::ChangeMembersResponse) -> Outcome {
    match message.result {
        Some(Answer::Done(sentence)) => Outcome::Done(sentence),
        Some(Answer::Refused(reason)) => Outcome::Refused(reason),
        Some(Answer::NotLeader(_)) => Outcome::NotLeader,
        Some(Answer::Denied(_)) => Outcome::Denied,
        Some(Answer::Unknown(_)) | None => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_and_every_outcome_survives_the_wire() {
        let places = Member::at("a:1", "a:2");
        for change in [
            Change::Add { server: 4, places: places.clone(), replica: true },
            Change::Remove { server: 65_535 },
            Change::Promote { server: 4 },
            Change::Demote { server: 4 },
            Change::Replace { server: 4, by: 5, places },
            Change::Transfer { to: None },
            Change::Transfer { to: Some(3) },
        ] {
            assert_eq!(from_message(Some(to_message(&change))), Some(change));
        }
        for outcome in [
            Outcome::Done("d".into()),
            Outcome::Refused("r".into()),
            Outcome::NotLeader,
            Outcome::Denied,
            Outcome::Unknown,
        ] {
            assert_eq!(outcome_from_message(outcome_to_message(outcome.clone())), outcome);
        }
    }

    #[test]
    fn a_change_without_a_possible_server_is_none() {
        for server in [0, 65_536] {
            assert_eq!(from_message(Some(Message::Remove(wire::RemoveMember { server }))), None);
        }
        assert_eq!(from_message(None), None);
        assert_eq!(outcome_from_message(wire::ChangeMembersResponse { result: None }), Outcome::Unknown);
    }
}
