//! Requesters and outcomes as messages between nodes.

use std::sync::Arc;

use bytes::Bytes;
use headwater_proto::cluster as wire;

use super::writes::authorization::Requester;
use super::writes::gate::Proposed;
use crate::event::{Caller, ClusterVersion, Credential, ImportConflict, ImportRefusal, Principal, WriteOutcome};

/// `None` for an anonymous caller.
pub(crate) fn requester_to_wire(requester: &Requester) -> Option<wire::Requester> {
    use wire::requester::Kind;
    let kind = match requester {
        Requester::Caller(Caller::Anonymous) => return None,
        Requester::Node => Kind::Node(wire::Node {}),
        Requester::Caller(Caller::User(principal)) if principal.is_vouched_for() => {
            Kind::Vouched(wire::Vouched { login: principal.login().to_owned(), groups: principal.groups().to_vec() })
        }
        Requester::Caller(Caller::User(principal)) => {
            let credentials = principal.credentials().map(|Credential(bytes)| Bytes::copy_from_slice(&bytes)).collect();
            Kind::User(wire::User { login: principal.login().to_owned(), credentials })
        }
    };
    Some(wire::Requester { kind: Some(kind) })
}

/// A user comes without groups: the leader has the newer ones. `None` for a requester that this
/// version does not know.
pub(crate) fn requester_from_wire(requester: Option<wire::Requester>) -> Option<Requester> {
    use wire::requester::Kind;
    let Some(requester) = requester else { return Some(Requester::Caller(Caller::Anonymous)) };
    let principal = match requester.kind? {
        Kind::Node(_) => return Some(Requester::Node),
        Kind::Vouched(vouched) => Principal::vouched_for(vouched.login, vouched.groups),
        Kind::User(user) => {
            let mut credentials =
                user.credentials.iter().map(|bytes| <[u8; 16]>::try_from(&bytes[..]).ok().map(Credential));
            let principal = Principal::new(user.login, Vec::new(), credentials.next()??);
            if let Some(renewed) = credentials.next() {
                principal.renew(renewed?);
            }
            principal
        }
    };
    Some(Requester::Caller(Caller::User(Arc::new(principal))))
}

/// The answer to a forwarded write.
pub(super) fn forward_response(request_id: u64, proposed: Proposed) -> wire::ForwardResponse {
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

/// A leader's answer to a forwarded write. An answer that this version does not know leaves the
/// outcome unknown.
pub(super) fn proposed_from_wire(answer: wire::ForwardResponse) -> Proposed {
    use wire::forward_response::Result as Answer;
    match (answer.result, answer.log_index) {
        (Some(Answer::Outcome(outcome)), Some(log_index)) => match outcome_from_wire(outcome) {
            Some(outcome) => Proposed::Done { log_index, outcome },
            None => Proposed::Unknown,
        },
        (Some(Answer::NotLeader(_)), _) => Proposed::NotLeader,
        (Some(Answer::Busy(_)), _) => Proposed::Busy,
        (Some(Answer::Denied(_)), _) => Proposed::Denied,
        _ => Proposed::Unknown,
    }
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
        WriteOutcome::Scavenged { events, bytes, finished_streams } => {
            Kind::Scavenged(wire::Scavenged { events, bytes, finished_streams })
        }
        WriteOutcome::Redacted { position } => Kind::Redacted(wire::Redacted { position }),
        WriteOutcome::VersionRaised { version } => Kind::VersionRaised(wire::VersionRaised { version: version.0 }),
        WriteOutcome::Rejected { reason } => Kind::Rejected(wire::Rejected { reason }),
        WriteOutcome::Imported { stored, present, position } => {
            Kind::Imported(wire::Imported { stored, present, position, refusal: None })
        }
        WriteOutcome::NotImported(refusal) => {
            Kind::Imported(wire::Imported { refusal: Some(refusal_to_wire(refusal)), ..wire::Imported::default() })
        }
    };
    wire::WriteOutcome { kind: Some(kind) }
}

/// `None` for an outcome this version does not know.
fn outcome_from_wire(outcome: wire::WriteOutcome) -> Option<WriteOutcome> {
    use wire::write_outcome::Kind;
    Some(match outcome.kind? {
        Kind::Appended(a) => {
            WriteOutcome::Appended { first_number: a.first_number, position: a.position, repeated: a.repeated_request }
        }
        Kind::Deleted(d) => WriteOutcome::Deleted { position: d.position },
        Kind::WrongExpectedVersion(current) => WriteOutcome::WrongExpectedVersion { current },
        Kind::StreamDeleted(_) => WriteOutcome::StreamDeleted,
        Kind::Scavenged(s) => {
            WriteOutcome::Scavenged { events: s.events, bytes: s.bytes, finished_streams: s.finished_streams }
        }
        Kind::Redacted(r) => WriteOutcome::Redacted { position: r.position },
        Kind::VersionRaised(raised) => WriteOutcome::VersionRaised { version: ClusterVersion(raised.version) },
        Kind::Rejected(r) => WriteOutcome::Rejected { reason: r.reason },
        Kind::Imported(wire::Imported { refusal: Some(refusal), .. }) => {
            WriteOutcome::NotImported(refusal_from_wire(refusal)?)
        }
        Kind::Imported(wire::Imported { stored, present, position, refusal: None }) => {
            WriteOutcome::Imported { stored, present, position }
        }
    })
}

fn refusal_to_wire(refusal: ImportRefusal) -> wire::ImportRefusal {
    let ImportRefusal { stream, number, current, conflict } = refusal;
    let conflict = match conflict {
        ImportConflict::OtherEvent => wire::ImportConflict::OtherEvent,
        ImportConflict::Missing => wire::ImportConflict::Missing,
        ImportConflict::Deleted => wire::ImportConflict::Deleted,
        ImportConflict::OutOfOrder => wire::ImportConflict::OutOfOrder,
        ImportConflict::TooManyGaps => wire::ImportConflict::TooManyGaps,
    };
    wire::ImportRefusal { stream, number, current, conflict: conflict.into() }
}

/// `None` for a conflict this version does not know.
fn refusal_from_wire(refusal: wire::ImportRefusal) -> Option<ImportRefusal> {
    let conflict = match refusal.conflict() {
        wire::ImportConflict::OtherEvent => ImportConflict::OtherEvent,
        wire::ImportConflict::Missing => ImportConflict::Missing,
        wire::ImportConflict::Deleted => ImportConflict::Deleted,
        wire::ImportConflict::OutOfOrder => ImportConflict::OutOfOrder,
        wire::ImportConflict::TooManyGaps => ImportConflict::TooManyGaps,
        wire::ImportConflict::Unspecified => return None,
    };
    let wire::ImportRefusal { stream, number, current, .. } = refusal;
    Some(ImportRefusal { stream, number, current, conflict })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requester_is_the_same_behind_the_wire() {
        let user = |renewed: Option<u8>| {
            let principal = Principal::new("ann", Vec::new(), Credential([1; 16]));
            renewed.map(|byte| principal.renew(Credential([byte; 16])));
            Requester::Caller(Caller::User(Arc::new(principal)))
        };
        let vouched = Principal::vouched_for("bob", vec!["g".into(), "h".into()]);
        let vouched = Requester::Caller(Caller::User(Arc::new(vouched)));
        for requester in [Requester::Node, Requester::Caller(Caller::Anonymous), user(None), user(Some(2)), vouched] {
            assert_eq!(requester_from_wire(requester_to_wire(&requester)), Some(requester));
        }
        let unknown = wire::Requester { kind: None };
        let short = wire::User { login: "ann".into(), credentials: vec![Bytes::from_static(b"x")] };
        let none = wire::User { login: "ann".into(), credentials: Vec::new() };
        let user = |user| wire::Requester { kind: Some(wire::requester::Kind::User(user)) };
        for requester in [unknown, user(short), user(none)] {
            assert_eq!(requester_from_wire(Some(requester)), None);
        }
    }

    #[test]
    fn every_outcome_survives_the_wire() {
        for outcome in [
            WriteOutcome::Appended { first_number: 7, position: 9, repeated: true },
            WriteOutcome::Deleted { position: 3 },
            WriteOutcome::WrongExpectedVersion { current: -1 },
            WriteOutcome::StreamDeleted,
            WriteOutcome::Scavenged { events: 4, bytes: 300, finished_streams: 2 },
            WriteOutcome::Redacted { position: 5 },
            WriteOutcome::VersionRaised { version: ClusterVersion(2) },
            WriteOutcome::Rejected { reason: "no".into() },
            WriteOutcome::Imported { stored: 3, present: 4, position: 5 },
            WriteOutcome::NotImported(ImportRefusal {
                stream: "s".into(),
                number: 6,
                current: -1,
                conflict: ImportConflict::OtherEvent,
            }),
        ] {
            assert_eq!(outcome_from_wire(outcome_to_wire(outcome.clone())), Some(outcome));
        }
        assert_eq!(outcome_from_wire(wire::WriteOutcome { kind: None }), None);
    }
}
