//! The memory that large requests may take together. Each purpose has a budget of its own, so that
//! requests that wait for one budget do not keep others from theirs. docs/adr/0020 says which type
//! of [`crate::budget`] to take when.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::budget::{Arriving, MemoryBudget, Pool};
use crate::http::limits::{
    BODY_TIMEOUT, MAX_ANSWERS_BYTES, MAX_BODY_BYTES, MAX_GROWN_EVENTS_BYTES, MAX_LARGE_BODIES_BYTES, MAX_PARSED_LISTS,
    MAX_REQUESTS_BYTES, MAX_WAITING_ANSWERS,
};

/// The budgets of the HTTP API. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Budgets {
    /// Large bodies that are being read or written, which take their room as they come.
    pub(crate) arriving: Arriving,
    /// Heads, and bodies as far as they are small.
    pub(crate) requests: Arc<Pool>,
    /// Answers that wait to be sent.
    pub(crate) answers: Arc<Pool>,
    /// Places for answers that wait to be counted among them.
    pub(crate) waiting_answers: Arc<Semaphore>,
    /// Large lists of events that are being parsed. Each takes as much as the largest body: parsed
    /// events and their indented text take a multiple of their length in the body.
    pub(crate) lists: MemoryBudget,
    /// Events that are much longer than their body was. They exist already and would be held while
    /// they wait, so that they are refused when there is no memory for them.
    pub(crate) grown_events: MemoryBudget,
}

impl Default for Budgets {
    /// All of it free.
    fn default() -> Self {
        Self {
            arriving: Arriving::new(MAX_LARGE_BODIES_BYTES),
            requests: Pool::new(MAX_REQUESTS_BYTES),
            answers: Pool::new(MAX_ANSWERS_BYTES),
            waiting_answers: Arc::new(Semaphore::new(MAX_WAITING_ANSWERS)),
            lists: MemoryBudget::new(MAX_PARSED_LISTS * MAX_BODY_BYTES, BODY_TIMEOUT),
            grown_events: MemoryBudget::new(MAX_GROWN_EVENTS_BYTES, Duration::ZERO),
        }
    }
}
