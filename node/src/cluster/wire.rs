//! Who asks, and outcomes, on their way between nodes.

use std::sync::Arc;

use bytes::Bytes;
use headwater_proto::cluster as wire;

use super::admission::Asker;
use super::gate::Proposed;
use crate::event::{Caller, Credential, Principal, WriteOutcome};

/// `None` for somebody who did not say.
pub fn asker_to_wire(asker: &Asker) -> Option<wire::Asker> {
    use wire::asker::Who;
    let who = match asker {
        Asker::Caller(Caller::Anonymous) => return None,
        Asker::Node => Who::Node(wire::Node {}),
        Asker::Caller(Caller::User(principal)) if principal.is_vouched_for() => {
            Who::Vouched(wire::Vouched { login: principal.login().to_owned(), groups: principal.groups().to_vec() })
        }
        Asker::Caller(Caller::User(principal)) => {
            let credentials = principal.credentials().map(|Credential(bytes)| Bytes::copy_from_slice(&bytes)).collect();
            Who::User(wire::User { login: principal.login().to_owned(), credentials })
        }
    };
    Some(wire::Asker { who: Some(who) })
}

/// A user comes without its groups: the leader knows them better. `None` for one this version does not know.
pub fn asker_from_wire(asker: Option<wire::Asker>) -> Option<Asker> {
    use wire::asker::Who;
    let Some(asker) = asker else { return Some(Asker::Caller(Caller::Anonymous)) };
    let principal = match asker.who? {
        Who::Node(_) => return Some(Asker::Node),
        Who::Vouched(vouched) => Principal::vouched_for(vouched.login, vouched.groups),
        Who::User(user) => {
            let mut credentials =
                user.credentials.iter().map(|bytes| <[u8; 16]>::try_from(&bytes[..]).ok().map(Credential));
            let principal = Principal::new(user.login, Vec::new(), credentials.next()??);
            if let Some(renewed) = credentials.next() {
                principal.renew(renewed?);
            }
            principal
        }
    };
    Some(Asker::Caller(Caller::User(Arc::new(principal))))
}

/// The answer to a forwarded write.
pub fn forward_response(request_id: u64, proposed: Proposed) -> wire::ForwardResponse {
    use wire::forward_response::Result as Answer;
    let (log_index, result) = match proposed {
        Proposed::Done { log_index, outcome } => (Some(log_index), Answer::Outcome(outcome_to_wire(outcome))),
        Proposed::NotLeader => (None, Answer::NotLeader(wire::NotLeader {})),
        Proposed::Busy => (None, Answer::Busy(wire::Busy {})),
        Proposed::Unknown => (None, Answer::Unknown(wire::Unknown {})),
        Proposed::Denied => (None, Answer::Denied(wire::Denied {})),
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
    fn the_caller_is_the_same_behind_the_wire() {
        let user = |renewed: Option<u8>| {
            let principal = Principal::new("ann", Vec::new(), Credential([1; 16]));
            renewed.map(|byte| principal.renew(Credential([byte; 16])));
            Asker::Caller(Caller::User(Arc::new(principal)))
        };
        let vouched = Principal::vouched_for("bob", vec!["g".into(), "h".into()]);
        let vouched = Asker::Caller(Caller::User(Arc::new(vouched)));
        for asker in [Asker::Node, Asker::Caller(Caller::Anonymous), user(None), user(Some(2)), vouched] {
            assert_eq!(asker_from_wire(asker_to_wire(&asker)), Some(asker));
        }
        let unknown = wire::Asker { who: None };
        let short = wire::User { login: "ann".into(), credentials: vec![Bytes::from_static(b"x")] };
        let none = wire::User { login: "ann".into(), credentials: Vec::new() };
        let user = |user| wire::Asker { who: Some(wire::asker::Who::User(user)) };
        for asker in [unknown, user(short), user(none)] {
            assert_eq!(asker_from_wire(Some(asker)), None);
        }
    }

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
