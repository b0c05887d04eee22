//! The state machine, fed with arbitrary commands (docs/correctness.md, "Fuzzing"). A command that
//! ends one node ends every node that applies it, again after each start.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use headwater_proto::raft::AppendRequest;
use headwater_proto::stored::command::Kind;
use headwater_proto::stored::{Command, entry::Payload};
use prost::Message;

use super::apply;
use super::memory::Memory;
use super::state::View as _;
use crate::event::{
    EventNumber, MAX_IMPORTED_NUMBER, MAX_NUMBER, RecordedEvent, TOMBSTONE_EVENT_TYPE, Ticks, WriteOutcome,
};

/// The entries that a leader sends, applied one after the other: accepted when one stores anything.
pub(crate) fn commands(input: &[u8]) -> Option<()> {
    let request = AppendRequest::decode(input).ok()?;
    // Two nodes that apply the same log.
    let (mut state, mut other) = (Memory::default(), Memory::default());
    let mut time = Ticks(0);
    for entry in request.entries {
        let Some(Payload::Proposal(proposal)) = entry.payload else { continue };
        time = time.max(Ticks(proposal.time_ticks));
        for command in &proposal.commands {
            let kind = Command::decode(command.clone()).ok().and_then(|command| command.kind);
            if kind.as_ref().is_some_and(goes_to_the_end_of_numbers) {
                continue;
            }
            let before = state.next_position();
            let outcome = apply(&mut state, time, command);
            let of_other = apply(&mut other, time, command);
            let (Ok(outcome), Ok(of_other)) = (outcome, of_other) else {
                // The only command that may end a node: a later program has raised the version.
                assert!(matches!(kind, Some(Kind::RaiseVersion(_))), "{kind:?}");
                return None;
            };
            assert_eq!(outcome, of_other);
            check(&outcome, before, state.next_position());
            is_known_when_repeated(&mut state, &mut other, time, command, kind, &outcome);
        }
    }
    let log = state.log();
    assert_eq!(log, other.log());
    check_numbers(&log);
    (!log.is_empty()).then_some(())
}

/// Whether it is an import that is refused before it becomes a command.
fn goes_to_the_end_of_numbers(kind: &Kind) -> bool {
    let Kind::Import(import) = kind else { return false };
    let is_far = |number: &EventNumber| (MAX_IMPORTED_NUMBER + 1..=MAX_NUMBER).contains(number);
    import.events.iter().any(|event| is_far(&event.number) && event.number != MAX_NUMBER)
        || import.ends.iter().any(|end| is_far(&end.next_number))
}

/// What an outcome says of the log, which had and has so many events.
fn check(outcome: &WriteOutcome, before: u64, after: u64) {
    match outcome {
        WriteOutcome::Appended { position, repeated, .. } => {
            assert!(*position < after && (*position >= before) != *repeated, "{outcome}");
        }
        WriteOutcome::Deleted { position } | WriteOutcome::Redacted { position } => assert!(*position < after),
        WriteOutcome::Imported { stored, .. } => assert!(after - before >= *stored),
        WriteOutcome::Scavenged { .. } | WriteOutcome::VersionRaised { .. } => assert_eq!(before, after),
        WriteOutcome::WrongExpectedVersion { .. }
        | WriteOutcome::StreamDeleted
        | WriteOutcome::NotImported(_)
        | WriteOutcome::Rejected { .. } => assert_eq!(before, after, "refused and stored: {outcome}"),
    }
}

/// A write that is sent again because its answer was lost is not stored again.
fn is_known_when_repeated(
    state: &mut Memory,
    other: &mut Memory,
    time: Ticks,
    command: &Bytes,
    kind: Option<Kind>,
    outcome: &WriteOutcome,
) {
    let ids_differ = match &kind {
        Some(Kind::Append(append)) => {
            let ids: BTreeSet<&Bytes> = append.events.iter().map(|event| &event.event_id).collect();
            ids.len() == append.events.len()
        }
        Some(Kind::Import(_)) => true,
        _ => false,
    };
    if !ids_differ {
        return;
    }
    let again = apply(state, time, command).ok();
    assert_eq!(again, apply(other, time, command).ok());
    match (outcome, again) {
        (WriteOutcome::Appended { first_number: one, .. }, Some(again)) => {
            let is_same =
                matches!(again, WriteOutcome::Appended { first_number, repeated: true, .. } if first_number == *one);
            assert!(is_same, "{outcome}, and repeated {again}");
        }
        (WriteOutcome::Imported { .. }, Some(again)) => {
            assert!(matches!(again, WriteOutcome::Imported { stored: 0, .. }), "{outcome}, and repeated {again}");
        }
        _ => {}
    }
}

/// Numbers of a stream ascend, and none but that of the tombstone is the last that there is.
fn check_numbers(log: &[RecordedEvent]) {
    let mut last: BTreeMap<&str, EventNumber> = BTreeMap::new();
    for event in log {
        if event.number >= MAX_NUMBER {
            assert_eq!((event.number, event.event_type.as_str()), (MAX_NUMBER, TOMBSTONE_EVENT_TYPE));
            assert!(event.data.is_empty() && event.metadata.is_empty());
            continue;
        }
        let before = last.insert(&event.stream, event.number);
        assert!(before.is_none_or(|before| before < event.number), "{event:?}");
    }
}
