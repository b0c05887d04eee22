//! Thin adapters between openraft, tonic and the rooms below.

pub mod codec;
pub mod types;

pub use types::{Member, NodeId, Proposal, TypeConfig};
