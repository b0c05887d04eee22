//! openraft's traits and types, and thin adapters between them, tonic and the rooms below. None of
//! them leaves this room: the rooms above see [`Consensus`].
//!
//! [`build`] puts them together. In order: log and state are opened; then the snapshots (leftovers
//! of a crash are removed); the apply thread starts; openraft is built and re-applies what the last
//! state flush did not cover. Consensus does not run yet: the caller serves [`Parts::service`] and
//! only then calls [`Parts::run`], so that a node takes part in elections only when peers can reach
//! it. At the end: stop accepting, transfer leadership, then [`Parts::stop`].

mod build;
pub mod codec;
mod consensus;
mod log_record;
pub mod log_storage;
pub mod network;
mod parts;
mod restored;
pub mod service;
pub mod settings;
pub mod state_machine;
pub mod types;
pub mod wire;

pub use build::{Founding, StartError, build, log_directory};
pub use consensus::{
    ChangeError, Consensus, ConsensusEnded, Elected, Elections, EntryResult, Members, MembersStep, NotConfirmed,
    Progress, Replication, Seen, ServerState,
};
pub use parts::{LogProgress, Parts};
pub use restored::{check_entry, create_log, membership_of_nobody, membership_of_one};
pub use state_machine::StateMachine;
pub use types::{Member, NodeId, Outcomes, Proposal, TypeConfig};

/// openraft's handle.
pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
