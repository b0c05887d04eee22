//! The deterministic state machine: command in, writes and outcome out. No clock, no randomness, no
//! async and no database: [`state`] describes all that it needs.

mod append;
mod append_all;
mod delete;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod import;
#[cfg(any(test, fuzzing))]
mod memory;
mod metadata;
mod on_store;
mod raise_version;
mod redact;
mod scavenge;
mod state;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use headwater_proto::stored::{Command, command};
use prost::Message;
use uuid::Uuid;

use crate::event::{ClusterVersion, ExpectedVersion, Ticks, WriteOutcome};
use state::Batch;

/// Decides the command on the state as of this batch, adds the writes to the batch and returns the
/// decision (contract/streams 6.7 and 7).
///
/// A command that no node sends (undecodable, without events, with an invalid id, for a stream that
/// cannot be written) is [`WriteOutcome::Rejected`]. An error means a damaged database: nothing of
/// the batch may be committed then.
pub(crate) fn apply<S: Batch>(state: &mut S, time: Ticks, command: &Bytes) -> Result<WriteOutcome, S::Error> {
    let command = match Command::decode(command.clone()) {
        Ok(command) => command,
        Err(error) => return Ok(rejected(&format!("the command cannot be read: {error}"))),
    };
    let Some(kind) = command.kind else { return Ok(rejected("the command is of an unknown kind")) };
    if let Err(refusal) = check_version(state.cluster_version(), ClusterVersion(kind.needed_version())) {
        return Ok(refusal);
    }
    match kind {
        command::Kind::Append(command) => append::apply(state, time, command),
        command::Kind::Delete(command) => delete::apply(state, time, command),
        command::Kind::AppendAll(command) => append_all::apply(state, time, command),
        command::Kind::Scavenge(command) => scavenge::apply(state, time, &command),
        command::Kind::Redact(command) => redact::apply(state, &command),
        command::Kind::Import(command) => import::apply(state, time, command),
        command::Kind::RaiseVersion(command) => raise_version::apply(state, &command),
    }
}

/// Refuses a command of a later cluster version than the one in force. Older programs refuse it as
/// one of an unknown kind, so the state is the same everywhere, whoever proposed it.
fn check_version(in_force: ClusterVersion, needed: ClusterVersion) -> Result<(), WriteOutcome> {
    if needed <= in_force {
        return Ok(());
    }
    Err(rejected(&format!("the command needs cluster version {needed}, and version {in_force} is in force")))
}

fn rejected(reason: &str) -> WriteOutcome {
    WriteOutcome::Rejected { reason: reason.to_owned() }
}

/// An expected version as stored in a command.
fn expected_version(number: i64) -> Result<ExpectedVersion, WriteOutcome> {
    ExpectedVersion::from_number(number).ok_or_else(|| rejected("the expected version has no meaning"))
}

/// An event id as stored in a command.
fn event_id(bytes: &[u8]) -> Result<Uuid, WriteOutcome> {
    match Uuid::from_slice(bytes) {
        Ok(id) if !id.is_nil() => Ok(id),
        _ => Err(rejected("an event id is zero or not of 16 bytes")),
    }
}
