//! Connections between nodes: opened ([`dialer`]), accepted ([`listener`]), counted ([`traffic`]);
//! and the caller and target of each call on them ([`caller`]).

pub mod caller;
pub mod dialer;
pub mod listener;
mod node;
pub mod traffic;

pub use caller::{ClusterId, LocalIdentity};
pub use dialer::Dialer;
pub use node::{Member, NodeId, Resolve};
pub use traffic::Traffic;

/// The largest gRPC message between nodes, in both directions. An append request is closed by the
/// first entry that takes it over 1 MiB; an entry holds one client request of up to 16 MiB; the
/// rest is slack for framing. The limit must exceed everything ever sent: tonic would end the
/// stream, and the request would be sent again for ever.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;
