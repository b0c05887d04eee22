//! What clients send and what is shown to them, fed with arbitrary bytes (docs/correctness.md,
//! "Fuzzing"). Each function takes one input and says with `Some` that it was accepted.

mod bodies;
mod documents;
mod events;
mod forwarded;
mod heads;
mod paths;

pub(crate) use bodies::{json, xml};
pub(crate) use documents::{group_settings, users_and_members};
pub(crate) use events::rendered;
pub(crate) use forwarded::forwarded;
pub(crate) use heads::heads;
pub(crate) use paths::{filters, paths};
