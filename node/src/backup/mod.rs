//! Backups of a node: taking one while it runs, making a new cluster of one, and finding out
//! whether a disk or a backup holds what it should.
//!
//! - [`take`] is the node's side: a checkpoint of the state, sent as an [`archive`] whose last file
//!   is the [`manifest`].
//! - [`fetch`] is the other side: `headwater backup` writes what a node sends to a directory, a
//!   file or a pipe ([`place`]).
//! - [`restore`] makes a data directory of a backup: that of the server which begins a new cluster,
//!   or of one that joins it with the same backup.
//! - [`verify`] reads everything in a data directory or a backup, and [`compare`] puts it beside
//!   what a node has, by the [`hashes`] of ranges of positions.

mod archive;
pub(crate) mod command;
mod compare;
pub(crate) mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hashes;
pub(crate) mod manifest;
mod pace;
mod place;
mod restore;
mod source;
pub(crate) mod take;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use take::{BackupError, BackupRequest, Backups, CatchUp};
