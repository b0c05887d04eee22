//! Status: what this node knows about itself and its peers.
//!
//! [`report`] gives readiness and the role of each member; [`overview`] is what operators look at;
//! [`peers`] asks the other nodes; [`figures`] counts the work of this node.

pub(crate) mod figures;
pub(super) mod overview;
pub(super) mod peers;
pub(super) mod report;
