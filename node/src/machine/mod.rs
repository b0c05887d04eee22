//! The deterministic state machine: command in, writes and outcome out. No clock, no randomness, no async.

use bytes::Bytes;

use crate::event::{Ticks, WriteOutcome};
use crate::store::write::Chunk;

/// Decides the command on the state as of this chunk, adds its writes to the chunk and returns the decision
/// (contract/streams 6.7 and 7).
pub fn apply(chunk: &mut Chunk<'_>, time: Ticks, command: &Bytes) -> Result<WriteOutcome, crate::store::ReadError> {
    let _ = (chunk, time, command);
    unimplemented!()
}
