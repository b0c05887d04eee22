//! Writes: from the request to the decision, here or at the leader.
//!
//! [`write`] is the loop that finds the leader and repeats interrupted attempts; [`gate`] batches
//! what this node proposes as leader; [`forward`] and [`receive`] are the two ends of the streams
//! that carry writes to the leader; [`authorization`] is the leader's check, and [`permission`]
//! tells what a command needs permission for.

pub(crate) mod authorization;
pub(crate) mod forward;
pub(crate) mod gate;
pub(crate) mod permission;
pub(super) mod receive;
pub(super) mod write;
