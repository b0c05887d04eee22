//! Snapshots: checkpoints of the state database in directories of their own, each with a manifest.
//!
//! `snapshots/<term>-<index>/` holds the files of a checkpoint (hard links) and `manifest`:
//! [`headwater_proto::stored::SnapshotManifest`] after its CRC-32C (4 bytes, big-endian). The
//! manifest is written last, and the directory gets its name after everything in it is durable. So
//! a directory with such a name is complete; anything else found at the start was left by a crash.
//!
//! Snapshots are taken ([`take`]) when the policy requires it ([`policy`]), kept ([`kept`]), sent
//! to nodes whose log was purged ([`send`]) and received there ([`receive`]). The log that a
//! receiver needs afterwards is kept for it ([`outgoing`]).

mod directory;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod kept;
mod outgoing;
mod policy;
mod receive;
mod send;
mod take;
#[cfg(test)]
mod tests;

use std::io;

pub(crate) use directory::SnapshotDir;
pub(crate) use kept::{SnapshotStore, newest_below};
pub(crate) use outgoing::{Outgoing, Replication, Sending};
pub(crate) use policy::{Limits, LogMarks, SnapshotConsensus, SnapshotPolicy};
pub(crate) use receive::{ReceiveError, check_room, receive_files, receive_header};
pub(crate) use send::{REFUSED_PAUSE, TransferWatch, send};
pub(crate) use take::damaged_files;

use crate::threads;

/// Runs blocking file work outside the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    threads::blocking(work).await.map_err(io::Error::other)?
}
