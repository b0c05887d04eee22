//! Connections between nodes: opened ([`dialer`]), accepted ([`listener`]), counted ([`traffic`]);
//! and the caller and target of each call on them ([`caller`]).

pub(crate) mod caller;
pub(crate) mod dialer;
pub(crate) mod listener;
mod node;
pub(crate) mod traffic;

pub(crate) use caller::LocalIdentity;
pub(crate) use dialer::{Dial, Dialer, PeerChannel};
pub(crate) use node::{Member, NodeId, Resolve};
pub(crate) use traffic::Traffic;

/// The largest gRPC message between nodes, in both directions. An append request is closed by the
/// first entry that takes it over 1 MiB; an entry holds one client request of up to 16 MiB; the
/// rest is slack for framing. The limit must exceed everything ever sent: tonic would end the
/// stream, and the request would be sent again for ever.
pub(crate) const MAX_MESSAGE_BYTES: usize = 32 << 20;
