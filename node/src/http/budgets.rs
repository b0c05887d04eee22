//! The memory that large requests may take together, one budget for each purpose:
//! those who wait for one do not keep others from theirs.

use std::time::Duration;

use crate::budget::MemoryBudget;
use crate::http::limits::{
    BODY_TIMEOUT, MAX_BODY_BYTES, MAX_GROWN_EVENTS_BYTES, MAX_LARGE_BODIES_BYTES, MAX_PARSED_LISTS,
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
}

impl Default for Budgets {
    /// All of it free.
    fn default() -> Self {
        Self {
            bodies: MemoryBudget::new(MAX_LARGE_BODIES_BYTES, BODY_TIMEOUT),
            lists: MemoryBudget::new(MAX_PARSED_LISTS * MAX_BODY_BYTES, BODY_TIMEOUT),
            grown_events: MemoryBudget::new(MAX_GROWN_EVENTS_BYTES, Duration::ZERO),
        }
    }
}
