//! Thin adapters between openraft, tonic and the rooms below.

pub mod codec;
mod log_record;
pub mod log_storage;
pub mod types;

pub use types::{Member, NodeId, Proposal, TypeConfig};
