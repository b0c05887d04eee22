//! openraft's traits and types, and thin adapters between them, tonic and the rooms below. None of
//! them leaves this room: the rooms above see [`Consensus`].
//!
//! [`build`] puts them together. In order: log and state are opened; then the snapshots (leftovers
//! of a crash are removed); the apply thread starts; openraft is built and re-applies what the last
//! state flush did not cover. Consensus does not run yet: the caller serves [`Parts::service`] and
//! only then calls [`Parts::run`], so that a node takes part in elections only when peers can reach
//! it. At the end: stop accepting, transfer leadership, then [`Parts::stop`].

mod build;
mod codec;
mod consensus;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod log_record;
mod log_storage;
mod members;
mod network;
mod parts;
mod restored;
mod runtime;
mod seen;
pub(crate) mod service;
mod settings;
mod state_machine;
#[cfg(test)]
mod tests;
mod types;
mod wire;

pub(crate) use build::{Founding, StartError, build, check_members_of_snapshot, log_directory};
pub(crate) use consensus::{ChangeError, Consensus, EntryResult, NotConfirmed};
pub(crate) use members::{Members, MembersStep};
pub(crate) use parts::{LogProgress, LogPromise, Parts};
pub(crate) use restored::{check_entry, create_log, membership_of_nobody, membership_of_one};
pub(crate) use seen::{Seen, ServerState};
pub(crate) use state_machine::StateMachine;
pub(crate) use types::{Proposal, TypeConfig};

/// openraft's handle.
pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
