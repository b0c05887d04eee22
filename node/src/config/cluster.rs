//! The options of `headwater cluster`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{MemberConfig, NodeFlags};

/// What `headwater cluster` does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ClusterCommand {
    /// Show the members, how far they have come, and what is wrong
    ///
    /// The exit code is 0 when all is well, 3 when writes are taken although something is wrong, 4
    /// when no writes are taken, and 1 when the node cannot be asked.
    Status(ClusterStatusFlags),
    /// Add a server that was started with --join, and wait until it votes
    Add(AddFlags),
    /// Remove a server; it takes no part any more
    Remove(ServerFlags),
    /// Give a replica a vote, and wait until it votes
    Promote(PromoteFlags),
    /// Take the vote of a server, which stays a replica
    Demote(ServerFlags),
    /// Put a server that was started with --join in the place of one that is gone, and wait until
    /// it has it
    Replace(ReplaceFlags),
    /// Hand the leadership to another voter
    Transfer(TransferFlags),
}

/// Options of `headwater cluster status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ClusterStatusFlags {
    /// Print the document of GET /admin/cluster instead of a table
    #[arg(long)]
    pub json: bool,
    /// The cluster.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Options of `headwater cluster add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AddFlags {
    /// The new server, as its own list of members has it: ID=RAFTHOST:PORT/HTTPHOST:PORT
    #[arg(value_name = "MEMBER")]
    pub member: MemberConfig,
    /// It only answers reads, and never votes
    #[arg(long)]
    pub replica: bool,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitFlags,
    /// The cluster.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Options of the commands that only name a server.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ServerFlags {
    /// Id of the server
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    pub server: u16,
    /// The cluster.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Options of `headwater cluster promote`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PromoteFlags {
    /// Id of the replica
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    pub server: u16,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitFlags,
    /// The cluster.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Options of `headwater cluster replace`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ReplaceFlags {
    /// Id of the server that is gone
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    pub server: u16,
    /// The new server, with the same id or another one: ID=RAFTHOST:PORT/HTTPHOST:PORT
    #[arg(value_name = "MEMBER")]
    pub member: MemberConfig,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitFlags,
    /// The cluster.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Options of `headwater cluster transfer`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TransferFlags {
    /// Id of the voter that is to lead [default: the one that is furthest]
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    pub to: Option<u16>,
    /// The cluster.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Whether a command waits for a server that catches up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct WaitFlags {
    /// Do not wait until the server has caught up; the cluster goes on by itself
    #[arg(long)]
    pub detach: bool,
    /// Seconds to wait for the server at most; the cluster goes on by itself
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=MAX_WAIT_S))]
    pub wait_s: u64,
}

/// A day.
const MAX_WAIT_S: u64 = 86_400;

impl WaitFlags {
    /// How long to wait; `None`: not at all.
    pub fn limit(self) -> Option<Duration> {
        (!self.detach).then(|| Duration::from_secs(self.wait_s))
    }
}
