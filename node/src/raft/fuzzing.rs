//! What consensus stores and sends, fed with arbitrary bytes (docs/correctness.md, "Fuzzing").

use std::fmt::Debug;

use bytes::Bytes;
use headwater_proto::raft as wire;
use headwater_proto::stored;
use prost::Message;

use super::types::LogEntry;
use super::{codec, wire as messages};
use crate::apply::Payload;
use crate::log::Record as _;
use crate::trace::Traces;

/// A record of the log, a vote or a membership, by the first byte.
pub(crate) fn records(input: &[u8]) -> Option<()> {
    let (&kind, record) = input.split_first()?;
    match kind % 3 {
        0 => entry(record),
        1 => {
            let vote = codec::vote_from_message(&stored::Vote::decode(record).ok()?).ok()?;
            is_same(&codec::vote_from_message(&decoded(&codec::vote_to_message(&vote))).ok(), &Some(vote));
            Some(())
        }
        _ => {
            let message = stored::Membership::decode(record).ok()?;
            let membership = codec::stored_membership_from_message(message).ok()?;
            let written = codec::stored_membership_to_message(&membership);
            is_same(&codec::stored_membership_from_message(decoded(&written)).ok(), &Some(membership));
            Some(())
        }
    }
}

fn entry(record: &[u8]) -> Option<()> {
    let entry = LogEntry::decode(Bytes::copy_from_slice(record)).ok()?;
    let mut written = Vec::new();
    entry.encode(&mut written);
    let again = LogEntry::decode(written.into());
    is_same(&again.as_ref().ok(), &Some(&entry));
    if let Payload::Members(members) = codec::entry_to_apply(entry).payload {
        let message = stored::Membership::decode(&members[..]);
        assert!(message.is_ok_and(|message| codec::stored_membership_from_message(message).is_ok()));
    }
    Some(())
}

/// A message between nodes, by the first byte.
pub(crate) fn node_messages(input: &[u8]) -> Option<()> {
    let (&kind, bytes) = input.split_first()?;
    match kind % 7 {
        0 => {
            let message = wire::AppendRequest::decode(bytes).ok()?;
            let request = messages::append_request_from_message(message, &Traces::default()).ok()?;
            // A follower appends what follows on what it has, and nothing else.
            let indexes: Vec<u64> = request.entries.iter().map(|entry| entry.log_id.index).collect();
            assert!(indexes.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1])), "{indexes:?}");
            let written = messages::append_request_to_message(request);
            let again = messages::append_request_from_message(decoded(&written), &Traces::default()).ok()?;
            is_same(&messages::append_request_to_message(again), &written);
        }
        1 => {
            let result = messages::append_result_from_message(wire::AppendResponse::decode(bytes).ok()?).ok()?;
            let written = messages::append_result_to_message(&result);
            is_same(&messages::append_result_from_message(decoded(&written)).ok(), &Some(result));
        }
        2 => {
            let request = messages::vote_request_from_message(&wire::VoteRequest::decode(bytes).ok()?).ok()?;
            let written = messages::vote_request_to_message(&request);
            is_same(&messages::vote_request_from_message(&decoded(&written)).ok(), &Some(request));
        }
        3 => {
            let response = messages::vote_response_from_message(&wire::VoteResponse::decode(bytes).ok()?).ok()?;
            let written = messages::vote_response_to_message(&response);
            is_same(&messages::vote_response_from_message(&decoded(&written)).ok(), &Some(response));
        }
        4 => {
            let message = wire::TransferLeaderRequest::decode(bytes).ok()?;
            let request = messages::transfer_request_from_message(&message).ok()?;
            let written = messages::transfer_request_to_message(&request);
            is_same(&messages::transfer_request_from_message(&decoded(&written)).ok(), &Some(request));
        }
        5 => {
            let message = wire::TransferLeaderResponse::decode(bytes).ok()?;
            let response = messages::transfer_response_from_message(&message).ok()?;
            let written = messages::transfer_response_to_message(&response);
            is_same(&messages::transfer_response_from_message(&decoded(&written)).ok(), &Some(response));
        }
        _ => {
            let response = wire::SnapshotResponse::decode(bytes).ok()?;
            codec::vote_from_message(response.vote.as_ref()?).ok()?;
            is_same(&decoded(&response), &response);
        }
    }
    Some(())
}

/// A message as another node reads it.
fn decoded<M: Message + Default>(message: &M) -> M {
    let bytes = message.encode_to_vec();
    assert_eq!(bytes.len(), message.encoded_len());
    M::decode(&bytes[..]).unwrap_or_else(|error| panic!("{error}"))
}

/// By what they print: not all messages of consensus can be compared.
fn is_same<T: Debug>(one: &T, other: &T) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}
