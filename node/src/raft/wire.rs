//! openraft's requests and answers as the messages of raft.proto, and back.

use headwater_proto::raft as wire;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::codec::{self, CodecError};
use super::types::{LogEntry, NodeId, TypeConfig, Vote};
use crate::trace::{EntryTrace, Traces};

fn vote_in(message: Option<&headwater_proto::stored::Vote>) -> Result<Vote, CodecError> {
    codec::vote_from_message(message.ok_or(CodecError::Missing("vote"))?)
}

/// See [`append_request_from_message`].
pub(crate) fn append_request_to_message(request: AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(codec::vote_to_message(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(codec::log_id_to_message),
        entries: request.entries.iter().map(codec::entry_to_message).collect(),
        leader_commit: request.leader_commit.as_ref().map(codec::log_id_to_message),
        traced: request.entries.iter().enumerate().filter_map(traced_entry).collect(),
    }
}

fn traced_entry((place, entry): (usize, &LogEntry)) -> Option<wire::TracedEntry> {
    let EntryPayload::Normal(proposal) = &entry.payload else { return None };
    Some(wire::TracedEntry { entry: place as u32, span: proposal.trace.as_ref()?.to_bytes().into() })
}

/// Gives the entries their traces back, as far as this node records any. What does not fit is left
/// out: it is not worth a refusal.
fn add_traces(entries: &mut [LogEntry], traced: &[wire::TracedEntry], traces: &Traces) {
    for wire::TracedEntry { entry, span } in traced {
        let entry = entries.get_mut(*entry as usize).map(|entry| &mut entry.payload);
        if let (Some(EntryPayload::Normal(proposal)), Some(span)) = (entry, traces.of_other_node(span)) {
            proposal.trace = Some(EntryTrace::new(span));
        }
    }
}

/// Refuses entries that are not consecutive: openraft takes that for granted.
pub(crate) fn append_request_from_message(
    message: wire::AppendRequest,
    traces: &Traces,
) -> Result<AppendEntriesRequest<TypeConfig>, CodecError> {
    let prev_log_id = message.prev_log_id.as_ref().map(codec::log_id_from_message);
    let mut entries: Vec<_> = message.entries.into_iter().map(codec::entry_from_message).collect::<Result<_, _>>()?;
    add_traces(&mut entries, &message.traced, traces);
    let mut next = prev_log_id.map_or(0, |log_id| log_id.index.saturating_add(1));
    for entry in &entries {
        if entry.log_id.index != next {
            return Err(CodecError::Missing("an entry between two others"));
        }
        next = next.saturating_add(1);
    }
    Ok(AppendEntriesRequest {
        vote: vote_in(message.vote.as_ref())?,
        prev_log_id,
        entries,
        leader_commit: message.leader_commit.as_ref().map(codec::log_id_from_message),
    })
}

/// See [`append_result_from_message`].
pub(crate) fn append_result_to_message(result: &StreamAppendResult<TypeConfig>) -> wire::AppendResponse {
    use wire::append_response::Result as Answer;
    let answer = match result {
        Ok(matched) => Answer::Matched(wire::Matched { log_id: matched.as_ref().map(codec::log_id_to_message) }),
        Err(StreamAppendError::Conflict(log_id)) => Answer::Conflict(codec::log_id_to_message(log_id)),
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(codec::vote_to_message(vote)),
    };
    wire::AppendResponse { result: Some(answer) }
}

/// The answer to one append request.
pub(crate) fn append_result_from_message(
    message: wire::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, CodecError> {
    use wire::append_response::Result as Answer;
    Ok(match message.result.ok_or(CodecError::Missing("AppendResponse.result"))? {
        Answer::Matched(matched) => Ok(matched.log_id.as_ref().map(codec::log_id_from_message)),
        Answer::Conflict(log_id) => Err(StreamAppendError::Conflict(codec::log_id_from_message(&log_id))),
        Answer::HigherVote(vote) => Err(StreamAppendError::HigherVote(codec::vote_from_message(&vote)?)),
    })
}

/// See [`vote_request_from_message`].
pub(crate) fn vote_request_to_message(request: &VoteRequest<TypeConfig>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(codec::vote_to_message(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(codec::log_id_to_message),
        leadership_transfer: request.leadership_transfer,
    }
}

/// A request for a vote or pre-vote.
pub(crate) fn vote_request_from_message(message: &wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, CodecError> {
    Ok(VoteRequest {
        vote: vote_in(message.vote.as_ref())?,
        last_log_id: message.last_log_id.as_ref().map(codec::log_id_from_message),
        leadership_transfer: message.leadership_transfer,
    })
}

/// See [`vote_response_from_message`].
pub(crate) fn vote_response_to_message(response: &VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(codec::vote_to_message(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(codec::log_id_to_message),
    }
}

/// The answer to a request for a vote or pre-vote.
pub(crate) fn vote_response_from_message(message: &wire::VoteResponse) -> Result<VoteResponse<TypeConfig>, CodecError> {
    Ok(VoteResponse {
        vote: vote_in(message.vote.as_ref())?,
        vote_granted: message.granted,
        last_log_id: message.last_log_id.as_ref().map(codec::log_id_from_message),
    })
}

/// See [`transfer_request_from_message`].
pub(crate) fn transfer_request_to_message(request: &TransferLeaderRequest<TypeConfig>) -> wire::TransferLeaderRequest {
    wire::TransferLeaderRequest {
        from: Some(codec::vote_to_message(request.from_leader())),
        to_node_id: request.to_node_id().0,
        last_log_id: request.last_log_id().map(codec::log_id_to_message),
    }
}

/// The announcement that a leader hands over leadership.
pub(crate) fn transfer_request_from_message(
    message: &wire::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, CodecError> {
    Ok(TransferLeaderRequest::new(
        vote_in(message.from.as_ref())?,
        NodeId(message.to_node_id),
        message.last_log_id.as_ref().map(codec::log_id_from_message),
    ))
}

/// See [`transfer_response_from_message`].
pub(crate) fn transfer_response_to_message(
    response: &TransferLeaderResponse<TypeConfig>,
) -> wire::TransferLeaderResponse {
    use wire::transfer_leader_response::Refusal;
    let refusal = response.as_ref().err().map(|refusal| match refusal {
        TransferLeaderError::VoteChanged { expected, actual } => Refusal::VoteChanged(wire::VoteChanged {
            expected: Some(codec::vote_to_message(expected)),
            actual: Some(codec::vote_to_message(actual)),
        }),
        TransferLeaderError::LogNotFlushed { expected, actual } => Refusal::LogNotFlushed(wire::LogNotFlushed {
            expected: expected.as_ref().map(codec::log_id_to_message),
            actual: actual.as_ref().map(codec::log_id_to_message),
        }),
    });
    wire::TransferLeaderResponse { refusal }
}

/// Whether the new leader takes over.
pub(crate) fn transfer_response_from_message(
    message: &wire::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<TypeConfig>, CodecError> {
    use wire::transfer_leader_response::Refusal;
    Ok(match &message.refusal {
        None => Ok(()),
        Some(Refusal::VoteChanged(changed)) => Err(TransferLeaderError::VoteChanged {
            expected: vote_in(changed.expected.as_ref())?,
            actual: vote_in(changed.actual.as_ref())?,
        }),
        Some(Refusal::LogNotFlushed(behind)) => Err(TransferLeaderError::LogNotFlushed {
            expected: behind.expected.as_ref().map(codec::log_id_from_message),
            actual: behind.actual.as_ref().map(codec::log_id_from_message),
        }),
    })
}

#[cfg(test)]
mod tests {
    use openraft::entry::RaftEntry;
    use openraft::vote::leader_id_std::CommittedLeaderId;

    use super::super::types::LogId;
    use super::*;

    fn log_id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(3), index)
    }

    fn request(prev: Option<u64>, indexes: &[u64]) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: Vote::new_committed(3, NodeId(1)),
            prev_log_id: prev.map(log_id),
            entries: indexes.iter().map(|index| LogEntry::new(log_id(*index), EntryPayload::Blank)).collect(),
            leader_commit: Some(log_id(1)),
        }
    }

    #[test]
    fn no_predecessor_and_predecessor_zero_are_different_things() {
        for (prev, indexes) in [(None, [0, 1]), (Some(0), [1, 2])] {
            let back =
                append_request_from_message(append_request_to_message(request(prev, &indexes)), &Traces::default())
                    .unwrap();
            assert_eq!(back.prev_log_id, prev.map(log_id));
            assert_eq!(back.entries.len(), 2);
        }
    }

    #[test]
    fn entries_with_a_gap_are_refused() {
        for (prev, indexes) in [(None, [1, 2]), (Some(4), [5, 7]), (Some(4), [6, 7])] {
            assert!(
                append_request_from_message(append_request_to_message(request(prev, &indexes)), &Traces::default())
                    .is_err()
            );
        }
    }

    #[test]
    fn a_transfer_keeps_its_mark_in_the_vote_request() {
        let mut request = VoteRequest::new(Vote::new(4, NodeId(2)), Some(log_id(9)));
        request.leadership_transfer = true;
        assert_eq!(vote_request_from_message(&vote_request_to_message(&request)).unwrap(), request);
    }

    #[test]
    fn append_answers_survive_the_round_trip() {
        let answers = [
            Ok(None),
            Ok(Some(log_id(0))),
            Err(StreamAppendError::Conflict(log_id(8))),
            Err(StreamAppendError::HigherVote(Vote::new(9, NodeId(3)))),
        ];
        for answer in answers {
            assert_eq!(append_result_from_message(append_result_to_message(&answer)).unwrap(), answer);
        }
    }
}
