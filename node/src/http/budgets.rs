//! The memory that large requests and large answers may take together, one budget for each purpose:
//! those who wait for one do not keep others from theirs.

use std::time::Duration;

use crate::budget::MemoryBudget;
use crate::http::limits::{
    BODY_TIMEOUT, KEEP_ALIVE_INTERVAL, LARGE_PIECE_BYTES, MAX_BODY_BYTES, MAX_GROWN_EVENTS_BYTES,
    MAX_LARGE_ANSWERS_BYTES, MAX_LARGE_BODIES_BYTES, MAX_LARGE_PIECES, MAX_PARSED_LISTS,
};

/// The budgets of the HTTP API. Clones share them.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Bodies that are being read or written.
    pub bodies: MemoryBudget,
    /// Large lists of events that are being parsed. Each takes as much as the largest body: parsed
    /// events and their indented text take a multiple of their length in the body.
    pub lists: MemoryBudget,
    /// Events that are much longer than their body was. They exist already and would be held while
    /// they wait, so that they are refused when there is no memory for them.
    pub grown_events: MemoryBudget,
    /// Answers that are being read, written and sent.
    pub answers: MemoryBudget,
    /// Large pieces of live answers that clients have not taken yet.
    pub live_pieces: MemoryBudget,
}

impl Budgets {
    /// All of it free. A first part of an answer waits for its memory as long as a read may wait.
    pub fn new(read_wait: Duration) -> Self {
        Self {
            bodies: MemoryBudget::new(MAX_LARGE_BODIES_BYTES, BODY_TIMEOUT),
            lists: MemoryBudget::new(MAX_PARSED_LISTS * MAX_BODY_BYTES, BODY_TIMEOUT),
            grown_events: MemoryBudget::new(MAX_GROWN_EVENTS_BYTES, Duration::ZERO),
            answers: MemoryBudget::new(MAX_LARGE_ANSWERS_BYTES, read_wait),
            live_pieces: MemoryBudget::new(MAX_LARGE_PIECES * LARGE_PIECE_BYTES, KEEP_ALIVE_INTERVAL),
        }
    }
}
