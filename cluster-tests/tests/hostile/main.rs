//! A node among clients that want to take it down: strangers who open connections, announce more
//! than they send, read nothing, or make the node work.
//!
//! Each attack runs beside honest clients. What they get, and what the node holds in memory
//! meanwhile, is compared with the same node before and after the attack ([`trial`]).
//!
//! `make hostile` runs the long form: a release build, a thousand connections, one node and three.
//! The short form has 40 connections and wider bounds, because a debug build on a busy machine is
//! noisy; what of it compares no rates is part of `make test`: whether honest clients are served,
//! and what the node holds. `HOSTILE_ONLY` names a single attack.

mod attack;
mod descriptors;
mod door;
mod frames;
mod gets_in;
mod honest;
mod one_node;
mod slow_readers;
mod three_nodes;
mod trial;

use std::time::Duration;

/// How much of the suite runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Part of `make test`.
    Short,
    /// `make hostile`.
    Long,
}

impl Form {
    /// As the environment says.
    pub(crate) fn of_this_run() -> Self {
        if std::env::var_os("HOSTILE").is_some_and(|form| form == "long") { Self::Long } else { Self::Short }
    }

    /// Hostile connections of one kind.
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::Short => 40,
            Self::Long => 1_000,
        }
    }

    /// How long honest clients work each time.
    pub(crate) fn period(self) -> Duration {
        match self {
            Self::Short => Duration::from_secs(1),
            Self::Long => Duration::from_secs(3),
        }
    }

    /// The part of their rate that honest clients keep at least.
    pub(crate) fn least_rate(self) -> f64 {
        match self {
            Self::Short => 0.5,
            Self::Long => 0.8,
        }
    }

    /// How many times as long their slowest hundredth may take.
    pub(crate) fn most_delay(self) -> f64 {
        match self {
            Self::Short => 4.0,
            Self::Long => 2.0,
        }
    }
}
