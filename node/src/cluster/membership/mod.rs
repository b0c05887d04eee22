//! Membership: how a node becomes a member of a cluster, and how a replaced disk takes the place of
//! its predecessor.
//!
//! [`formation`] makes this node a member, by founding the cluster or by asking the leader for the
//! place of a lost disk; [`replacement`] is the leader's side of that. [`growth`] completes a
//! cluster that was restored from a backup, [`same_backup`] when that was done on every node.
//! [`changes`] adds and removes members while the cluster runs, and [`departure`] notices that this
//! node was removed. What several of them do stands in files of its own: [`asked`], [`join`],
//! [`catching_up`], [`commit`].

mod asked;
mod catching_up;
pub(super) mod changes;
mod commit;
pub(super) mod departure;
pub(super) mod formation;
mod growth;
mod join;
pub(super) mod replacement;
mod same_backup;
