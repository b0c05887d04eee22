//! Appends to several streams in one step: all of them or none.

use headwater_proto::stored::{Append, AppendAll};

use super::append::{self, Attempt, Decision};
use super::state::{Batch, View};
use super::{expected_version, rejected};
use crate::event::{Position, StreamNameRef, Ticks, WriteOutcome};

/// One append of the command, checked.
struct Part<Stream> {
    stream: Stream,
    /// The stream whose metadata it writes.
    described: Option<Stream>,
    attempt: Attempt,
    command: Append,
}

/// Decides every append on the state before the command, so each must name a different stream. If
/// all may be stored, they are stored in order; otherwise the outcome is that of the first refused
/// append. A command whose events are already stored is a repetition, whatever has happened to the
/// expected versions since.
pub(super) fn apply<S: Batch>(state: &mut S, time: Ticks, command: AppendAll) -> Result<WriteOutcome, S::Error> {
    let mut parts: Vec<Part<_>> = Vec::with_capacity(command.appends.len());
    for command in command.appends {
        let part = match check(state, command)? {
            Ok(part) => part,
            Err(refusal) => return Ok(refusal),
        };
        if parts.iter().any(|other| other.stream == part.stream) {
            return Ok(rejected("a command appends to one stream twice"));
        }
        parts.push(part);
    }
    let mut outcome = rejected("there is no event");
    if parts.iter().all(|part| part.command.events.is_empty()) {
        return Ok(outcome);
    }
    let mut refusal = None;
    let mut repeated: Option<WriteOutcome> = None;
    for part in &parts {
        let outcome = match append::decide(state, part.stream, &part.attempt)? {
            _ if part.described.is_some_and(|described| state.head(described).tombstone.is_some()) => {
                WriteOutcome::StreamDeleted
            }
            Decision::Ok => continue,
            Decision::Idempotent { first_number, position } => {
                let earlier = repeated.as_ref().and_then(WriteOutcome::position);
                let position = earlier.map_or(position, |earlier: Position| earlier.max(position));
                repeated = Some(WriteOutcome::Appended { first_number, position, repeated: true });
                continue;
            }
            Decision::Refused(outcome) => outcome,
        };
        refusal.get_or_insert(outcome);
    }
    if let Some(decided) = repeated.or(refusal) {
        return Ok(decided);
    }
    let with_events = parts.into_iter().filter(|part| !part.command.events.is_empty());
    for Part { stream, described, attempt, command } in with_events {
        outcome = append::store(state, time, stream, described, &attempt, command.events)?;
    }
    Ok(outcome)
}

fn check<S: View>(state: &mut S, command: Append) -> Result<Result<Part<S::Stream>, WriteOutcome>, S::Error> {
    let checked = if command.events.is_empty() {
        expected_version(command.expected_version).map(Attempt::of_version)
    } else {
        append::check(&command)
    };
    let attempt = match checked {
        Ok(checked) => checked,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let stream = state.stream(&command.stream)?;
    let described = StreamNameRef::new(&command.stream).described();
    let described = described.map(|name| state.stream(name.as_str())).transpose()?;
    Ok(Ok(Part { stream, described, attempt, command }))
}
