//! The options of the subcommands for the upkeep of a running cluster.

use clap::Args;
use uuid::Uuid;

use super::NodeFlags;

/// Options of `headwater scavenge`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ScavengeFlags {
    /// Stop the run with this id instead of starting one
    #[arg(long, value_name = "ID")]
    pub stop: Option<Uuid>,
    /// Do not wait until the run has ended
    #[arg(long)]
    pub detach: bool,
    /// The cluster.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Options of `headwater redact`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RedactFlags {
    /// The stream of the event
    #[arg(value_name = "STREAM")]
    pub stream: String,
    /// Its number in the stream
    #[arg(value_name = "NUMBER")]
    pub number: u64,
    /// The cluster.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Options of `headwater top`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TopFlags {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub interval_s: u64,
    /// Look for this long, print what was seen as text, and end
    #[arg(long)]
    pub once: bool,
    /// The cluster.
    #[command(flatten)]
    pub node: NodeFlags,
}
