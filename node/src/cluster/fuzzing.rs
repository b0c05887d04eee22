//! What nodes tell each other, and the identity of a disk, fed with arbitrary bytes
//! (docs/correctness.md, "Fuzzing").

use headwater_proto::cluster as messages;
use headwater_proto::stored::command::Kind;
use headwater_proto::stored::{Append, Command, Purpose};
use prost::Message;

use super::membership::changes::wire as changes;
use super::{Permission, identity, wire};

/// A message between nodes, by the first byte.
pub(crate) fn node_messages(input: &[u8]) -> Option<()> {
    let (&kind, bytes) = input.split_first()?;
    match kind % 12 {
        0 => forward_request(bytes),
        1 => forward_response(bytes),
        2 => {
            let message = messages::ChangeMembersRequest::decode(bytes).ok()?;
            let change = changes::from_message(message.change)?;
            assert_eq!(changes::from_message(Some(changes::to_message(&change))), Some(change));
            Some(())
        }
        3 => {
            let outcome = changes::outcome_from_message(messages::ChangeMembersResponse::decode(bytes).ok()?);
            let written = changes::outcome_to_message(outcome);
            is_stable(&written)
        }
        4 => is_stable(&messages::StatusResponse::decode(bytes).ok()?),
        5 => is_stable(&messages::JoinRequest::decode(bytes).ok()?),
        6 => is_stable(&messages::RejoinRequest::decode(bytes).ok()?),
        7 => is_stable(&messages::GroupRequest::decode(bytes).ok()?),
        8 => is_stable(&messages::GroupResponse::decode(bytes).ok()?),
        9 => is_stable(&messages::ConsumeRequest::decode(bytes).ok()?),
        10 => is_stable(&messages::ReadIndexResponse::decode(bytes).ok()?),
        _ => is_stable(&messages::JoinResponse::decode(bytes).ok()?),
    }
}

/// A forwarded command: what the leader finds its right for is what is applied.
fn forward_request(bytes: &[u8]) -> Option<()> {
    let request = messages::ForwardRequest::decode(bytes).ok()?;
    let permission = Permission::of(&request.command);
    if let Ok(command) = Command::decode(request.command.clone())
        && permission != Permission::Unknown
    {
        assert_eq!(Some(permission), needed(command));
    }
    let requester = wire::requester_from_wire(request.requester.clone())?;
    let written = wire::requester_to_wire(&requester);
    let again = wire::requester_from_wire(written.clone());
    assert_eq!(format!("{again:?}"), format!("{:?}", Some(requester)));
    is_stable(&request)
}

/// The right that a command needs, found a second time.
fn needed(command: Command) -> Option<Permission> {
    let purpose = Purpose::try_from(command.purpose).ok()?;
    let streams = |appends: Vec<Append>| appends.into_iter().map(|append| append.stream).collect();
    Some(match (command.kind?, purpose) {
        (Kind::Append(append), Purpose::Streams | Purpose::Unspecified) => Permission::Append(vec![append.stream]),
        (Kind::Delete(delete), Purpose::Streams | Purpose::Unspecified) => Permission::Delete(delete.stream),
        (Kind::AppendAll(all), Purpose::Streams) => Permission::Append(streams(all.appends)),
        (Kind::AppendAll(all), Purpose::Users | Purpose::Unspecified) => {
            let with_events = all.appends.into_iter().filter(|append| !append.events.is_empty());
            Permission::ManageUsers(streams(with_events.collect()))
        }
        (Kind::Scavenge(_) | Kind::Redact(_) | Kind::Import(_) | Kind::RaiseVersion(_), Purpose::Maintenance) => {
            Permission::Maintain
        }
        _ => return None,
    })
}

fn forward_response(bytes: &[u8]) -> Option<()> {
    let response = messages::ForwardResponse::decode(bytes).ok()?;
    let id = response.request_id;
    let written = wire::forward_response(id, wire::proposed_from_wire(response));
    assert_eq!(wire::forward_response(id, wire::proposed_from_wire(written.clone())), written);
    is_stable(&written)
}

/// A message that is encoded and decoded is the same.
fn is_stable<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M) -> Option<()> {
    let bytes = message.encode_to_vec();
    assert_eq!(bytes.len(), message.encoded_len());
    assert!(M::decode(&bytes[..]).is_ok_and(|again| again == *message), "{message:?}");
    Some(())
}

/// The file that says whose disk it is; without its checksum if the first byte is even, so that
/// more than the checksum is tried.
pub(crate) fn identity(input: &[u8]) -> Option<()> {
    let (&has_checksum, file) = input.split_first()?;
    let record = if has_checksum % 2 == 0 {
        let mut whole = file.to_vec();
        whole.extend(crc32c::crc32c(file).to_le_bytes());
        identity::decode(&whole)?
    } else {
        identity::decode(file)?
    };
    assert_eq!(identity::decode(&identity::encode(&record)), Some(record));
    Some(())
}
