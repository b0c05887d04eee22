//! The options of `headwater backup`, `headwater restore` and `headwater verify`.

use std::path::PathBuf;

use clap::Args;
use reqwest::Url;

use super::client::{ClientFlags, parse_node_url};
use super::values::{MemberList, parse_members, parse_rate};

/// Options of `backup`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BackupFlags {
    /// The node to back up; any node of a cluster will do
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2113", value_parser = parse_node_url)]
    pub from: Url,
    /// Where to: a new directory, a file that ends in .tar.zst (compressed) or .tar, or - for
    /// standard output (compressed)
    #[arg(long, value_name = "DIR|FILE|-")]
    pub to: PathBuf,
    /// A former backup in a directory, or its backup.json: only files that it lacks are sent. The
    /// result is again a complete backup when it goes to a directory and the former one is there,
    /// and otherwise one that `restore` combines with the former
    #[arg(long, value_name = "DIR|FILE")]
    pub since: Option<PathBuf>,
    /// Bytes per second at which the node may read; 50MiB when not given, 64KiB at least
    #[arg(long, value_name = "BYTES", value_parser = parse_rate)]
    pub bytes_per_second: Option<u64>,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// Options of `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RestoreFlags {
    /// The backup: a directory, an archive, or - for an archive from standard input. For one that
    /// was made with --since into an archive, name the former one first, each with its own --from
    #[arg(long, value_name = "DIR|FILE|-", required = true)]
    pub from: Vec<String>,
    /// The new data directory; it must not exist or be empty
    #[arg(long, value_name = "DIR", required_unless_present = "check", conflicts_with = "check")]
    pub data_dir: Option<PathBuf>,
    /// Id of the server that will use the directory, as in --members
    #[arg(long, value_name = "ID", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub server_id: u16,
    /// Restore the same backup for each of these servers, on each with this option and its own
    /// --server-id: the list that they will be started with. Without it this server is restored
    /// alone, and the others join with empty directories
    #[arg(long, value_name = "LIST", value_parser = parse_members)]
    pub members: Option<MemberList>,
    /// Leave out every event after the one at this position, which ES-Position names
    #[arg(long, value_name = "POSITION", conflicts_with = "until_time")]
    pub until_position: Option<u64>,
    /// Leave out every event stamped after this time, such as 2026-05-04T13:30:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until_time: Option<jiff::Timestamp>,
    /// Restore to a temporary directory, read all of it, and say whether it would work
    #[arg(long)]
    pub check: bool,
}

/// Options of `verify`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct VerifyFlags {
    /// The data directory of a stopped node, or a backup in a directory or archive; several when an
    /// archive was made with --since, the newest last; or, with --against, the address of a node
    #[arg(value_name = "DIR|FILE|URL", required = true)]
    pub what: Vec<String>,
    /// A node to compare the events with
    #[arg(long, value_name = "URL", value_parser = parse_node_url)]
    pub against: Option<Url>,
    /// How to reach the nodes.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// A time with its zone.
fn parse_time(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse().map_err(|error| format!("{error}; expected a time such as 2026-05-04T13:30:00Z"))
}
