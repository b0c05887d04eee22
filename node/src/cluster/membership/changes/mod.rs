//! Changes of the members while the cluster runs (docs/adr/0024).
//!
//! [`decision`] is the rule: members, liveness and a request go in, a refusal or a plan comes out.
//! [`leader`] carries out plans on the leader, [`completion`] brings there what takes longer than a
//! request, and [`request`] takes a request from any node to the leader. [`wire`] has the messages
//! between them.

pub(in crate::cluster) mod completion;
pub(in crate::cluster) mod decision;
pub(in crate::cluster) mod leader;
pub(in crate::cluster) mod request;
pub(in crate::cluster) mod wire;
