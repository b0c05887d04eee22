//! Status: what this node knows about itself and its peers.
//!
//! [`report`] gives readiness and the role of each member; [`peers`] asks the other nodes;
//! [`figures`] counts the work of this node.

pub(crate) mod figures;
pub(super) mod peers;
pub(super) mod report;
