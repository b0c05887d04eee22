//! Headwater: a replicated event store behind the EventStore-compatible HTTP Atom API.
//!
//! The rooms of the house, from the top floor down; each uses only those below it
//! (`tests/layers.rs` checks it, docs/architecture.md draws it): [`http`] -> [`streams`] ->
//! [`subscribe`], [`access`] -> [`cluster`] -> [`raft`] -> [`snapshot`] -> [`apply`] -> [`machine`]
//! -> [`store`] -> [`event`]. [`transport`], between nodes, is on the floor of snapshot and apply;
//! [`log`], which knows nothing of the domain, on that of the machine. Beside [`streams`] stand
//! [`scavenge`], which removes what nobody can see any more, and [`backup`], which copies all that
//! a node has.

// A function fits a screen; clippy.toml has the number of lines. Tests are one straight line.
#![warn(clippy::too_many_lines)]
#![cfg_attr(test, allow(clippy::too_many_lines))]
// Tests may wait, and start threads without names.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))]

// Tests in this crate start nodes like those in `tests/`, with code that refers to the crate by its
// name.
#[cfg(test)]
extern crate self as headwater;

#[macro_use]
mod terminal;

mod access;
pub mod apply;
pub mod backup;
mod budget;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod descriptors;
pub mod event;
pub mod fatal;
mod files;
pub mod http;
mod listen;
pub mod log;
mod machine;
pub mod metrics;
mod ndjson;
pub mod node;
pub mod raft;
mod record_files;
mod scavenge;
pub mod snapshot;
pub mod store;
mod streams;
pub mod subscribe;
mod supervisor;
pub mod telemetry;
mod timing;
pub mod tls;
pub mod transfer;
pub mod transport;
