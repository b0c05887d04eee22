//! Status: what this node knows of itself and of the others.
//!
//! [`report`] says whether it is ready, and what part each member plays; [`peers`] asks the others;
//! [`figures`] counts the work of this node.

pub(crate) mod figures;
pub(super) mod peers;
pub(super) mod report;
