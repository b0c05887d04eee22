//! Outcomes on their way between nodes.

use headwater_proto::cluster as wire;

use super::gate::Proposed;
use crate::event::WriteOutcome;

/// The answer to a forwarded write.
pub fn forward_response(request_id: u64, proposed: Proposed) -> wire::ForwardResponse {
    use wire::forward_response::Result as Answer;
    let (log_index, result) = match proposed {
        Proposed::Done { log_index, outcome } => (Some(log_index), Answer::Outcome(outcome_to_wire(outcome))),
        Proposed::NotLeader => (None, Answer::NotLeader(wire::NotLeader {})),
        Proposed::Busy => (None, Answer::Busy(wire::Busy {})),
        Proposed::Unknown => (None, Answer::Unknown(wire::Unknown {})),
    };
    wire::ForwardResponse { request_id, log_index, result: Some(result) }
}

fn outcome_to_wire(outcome: WriteOutcome) -> wire::WriteOutcome {
    use wire::write_outcome::Kind;
    let kind = match outcome {
        WriteOutcome::Appended { first_number, position, repeated } => {
            Kind::Appended(wire::Appended { first_number, position, repeated_request: repeated })
        }
        WriteOutcome::Deleted { position } => Kind::Deleted(wire::Deleted { position }),
        WriteOutcome::WrongExpectedVersion { current } => Kind::WrongExpectedVersion(current),
        WriteOutcome::StreamDeleted => Kind::StreamDeleted(wire::StreamDeleted {}),
        WriteOutcome::Rejected { reason } => Kind::Rejected(wire::Rejected { reason }),
    };
    wire::WriteOutcome { kind: Some(kind) }
}

/// `None` for an outcome this version does not know.
pub fn outcome_from_wire(outcome: wire::WriteOutcome) -> Option<WriteOutcome> {
    use wire::write_outcome::Kind;
    Some(match outcome.kind? {
        Kind::Appended(a) => {
            WriteOutcome::Appended { first_number: a.first_number, position: a.position, repeated: a.repeated_request }
        }
        Kind::Deleted(d) => WriteOutcome::Deleted { position: d.position },
        Kind::WrongExpectedVersion(current) => WriteOutcome::WrongExpectedVersion { current },
        Kind::StreamDeleted(_) => WriteOutcome::StreamDeleted,
        Kind::Rejected(r) => WriteOutcome::Rejected { reason: r.reason },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_survives_the_wire() {
        for outcome in [
            WriteOutcome::Appended { first_number: 7, position: 9, repeated: true },
            WriteOutcome::Deleted { position: 3 },
            WriteOutcome::WrongExpectedVersion { current: -1 },
            WriteOutcome::StreamDeleted,
            WriteOutcome::Rejected { reason: "no".into() },
        ] {
            assert_eq!(outcome_from_wire(outcome_to_wire(outcome.clone())), Some(outcome));
        }
        assert_eq!(outcome_from_wire(wire::WriteOutcome { kind: None }), None);
    }
}
