//! The interface for the rooms above: writes (decided here or forwarded), read barriers, status,
//! leadership, membership.
//!
//! Each part of the room is a struct of its own: [`leadership`] (which node leads) and
//! [`leader_end`] (when its process ends), [`writes`] (from the request to the decision),
//! [`read_barrier`] (reads that must not be stale),
//! [`membership`] (becoming and replacing a member), [`status`] (readiness, peers, figures),
//! [`groups`] (calls to groups of consumers), [`recovery`], [`lifecycle`] and [`hand_over`] (from
//! the start to the stop), [`clock`] (what operators should hear of the clock), [`versions`] and
//! [`raising`] (what all members can apply). [`Cluster`] is the handle on all of them, and
//! [`service`] answers other nodes.

mod assembly;
mod clock;
pub(crate) mod connector;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod groups;
mod hand_over;
mod handle;
pub(crate) mod identity;
mod leader_end;
mod leadership;
mod lifecycle;
mod log_reminder;
mod membership;
mod own_membership;
mod raising;
mod read_barrier;
mod recovery;
mod servers;
pub(crate) mod service;
mod status;
mod versions;
pub(crate) mod view;
mod wire;
mod writes;

pub(crate) use crate::transport::NodeId;
pub(crate) use assembly::{Background, Dependencies};
pub(crate) use groups::{GroupCallError, GroupServer};
pub(crate) use handle::{Cluster, UPKEEP_HAS_TO_WAIT};
pub(crate) use leadership::{Leader, LeaderHint, LeaderTerm};
pub(crate) use read_barrier::BarrierError;
pub(crate) use status::figures;
pub(crate) use status::report::{ClusterStatus, MemberStatus, Role};
pub(crate) use wire::{requester_from_wire, requester_to_wire};
pub(crate) use writes::authorization::{Authorization, Authorizer, Requester};
pub(crate) use writes::permission::Permission;
pub(crate) use writes::write::{EncodedCommand, Write, WriteError};
