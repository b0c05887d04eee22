//! Headwater: a replicated event store behind the EventStore-compatible HTTP Atom API.
//!
//! The rooms of the house, from the top floor down; each uses only those below it
//! (`tests/layers.rs` checks it, docs/architecture.md draws it): `http` -> `consumers` ->
//! `streams` -> `subscribe`, `access` -> `cluster` -> `raft` -> `snapshot` -> `apply` -> `machine`
//! -> `store` -> `event`. `transport`, between nodes, is on the floor of snapshot and apply; `log`,
//! which knows nothing of the domain, on that of the machine. Beside `streams` stand `scavenge`,
//! which removes what nobody can see any more, and `backup`, which copies all that a node has.

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
mod apply;
mod backup;
mod budget;
mod client;
mod cluster;
mod commands;
pub mod config;
mod consumers;
mod deliberate;
mod descriptors;
mod event;
mod fatal;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http;
mod listen;
mod log;
mod machine;
mod metrics;
mod ndjson;
pub mod node;
mod program;
mod raft;
mod record_files;
mod scavenge;
#[cfg(test)]
mod simulation;
mod snapshot;
mod store;
mod streams;
mod subscribe;
mod supervisor;
mod telemetry;
mod threads;
mod timing;
mod tls;
mod trace;
mod transfer;
mod transport;

pub use program::main;

/// What tests of the whole program look at, besides [`config`] and [`node`].
pub mod testing {
    pub use crate::http::limits::STALL_TIMEOUT;
    pub use crate::streams::limits::MAX_LARGE_ANSWERS_BYTES;
    pub use crate::subscribe::MAX_SUBSCRIPTIONS;
    pub use crate::tls::{Authority, CreateError, FileError, Purpose, Reason, ServerNames};
}
