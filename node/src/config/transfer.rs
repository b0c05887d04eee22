//! The options of `headwater import` and `headwater export`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use reqwest::Url;

use super::client::{ClientFlags, NodeFlags, parse_login, parse_node_url};

/// Where events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportSource {
    /// An EventStore or a Headwater.
    Server(Url),
    /// A file that `headwater export` wrote.
    File(PathBuf),
    /// The same on standard input.
    StandardInput,
}

/// Options of `headwater import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_long_help = IMPORT_HELP, group = ArgGroup::new("end").args(["follow", "until_head"]))]
pub struct ImportFlags {
    /// What to copy: http://HOST:PORT of an EventStore with AtomPub or of a Headwater, a file that
    /// `headwater export` wrote, or - for standard input
    #[arg(long, value_name = "URL|FILE|-", value_parser = parse_source)]
    pub from: ImportSource,
    /// Into which node: any node of the cluster
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2113", value_parser = parse_node_url)]
    pub to: Url,
    /// Log in there as this user; the password is taken from HEADWATER_TO_PASSWORD, from
    /// --to-password-file, or asked for
    #[arg(long, value_name = "LOGIN", value_parser = parse_login)]
    pub to_user: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", requires = "to_user")]
    pub to_password_file: Option<PathBuf>,
    /// Certificates of the CA of --to, PEM [default: those of this machine]
    #[arg(long, value_name = "FILE")]
    pub to_ca_file: Option<PathBuf>,
    /// Go on with what is written there meanwhile, until SIGINT or SIGTERM: then catch up once more
    /// and end
    #[arg(long)]
    pub follow: bool,
    /// End with the last event that is there; this is the default
    #[arg(long)]
    pub until_head: bool,
    /// Name under which the target remembers how far this import has come, in the stream
    /// $import-NAME [default: host and port of --from]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Leave out the users of the source
    #[arg(long)]
    pub without_users: bool,
    /// Leave out events with more than 4 MiB of data and metadata, which no node stores; without
    /// this, such an event ends the import
    #[arg(long)]
    pub leave_out_large: bool,
    /// Write a line for every event that is left out, and why, to the end of this file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How to reach --from; how to wait counts for both sides.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// Options of `headwater export`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ExportFlags {
    /// The server to copy: a Headwater, or an EventStore with AtomPub
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2113", value_parser = parse_node_url)]
    pub from: Url,
    /// Only what readers see of this stream
    #[arg(long, value_name = "STREAM", conflicts_with = "filter")]
    pub stream: Option<String>,
    /// Only the events that match: the query of /streams/$all/filtered, such as
    /// 'context=streamid&type=prefix&data=order-'
    #[arg(long, value_name = "QUERY", value_parser = parse_filter)]
    pub filter: Option<String>,
    /// Where to: a file that does not exist yet, or - for standard output
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub to: PathBuf,
    /// How to reach --from.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// Keys of the query of a filter.
const FILTER_KEYS: [&str; 4] = ["context", "type", "data", "exclude-system-events"];

/// A query that names a filter: a misspelt one would leave out nothing.
fn parse_filter(text: &str) -> Result<String, String> {
    let query = text.trim_start_matches('?');
    let keys = query.split('&').filter(|part| !part.is_empty()).map(|part| part.split('=').next().unwrap_or(part));
    if let Some(unknown) = keys.clone().find(|key| !FILTER_KEYS.contains(key)) {
        return Err(format!("there is no '{unknown}' in a filter; its parts are {}", FILTER_KEYS.join(", ")));
    }
    if keys.count() == 0 {
        return Err("a filter is not empty; for example: context=streamid&type=prefix&data=order-".to_owned());
    }
    Ok(query.to_owned())
}

const IMPORT_HELP: &str = "\
An import can be interrupted and started again at any time: it goes on where it was, and stores \
nothing twice. Streams, numbers, ids, types, data, metadata and times are those of the source. Two \
servers must not both be written to: a stream of the target that somebody else writes to ends the \
import (docs/operations.md, \"Moving from EventStore\").";

impl ImportFlags {
    /// How to reach the target.
    pub fn target(&self) -> NodeFlags {
        let client = ClientFlags {
            user: self.to_user.clone(),
            password_file: self.to_password_file.clone(),
            ca_file: self.to_ca_file.clone(),
            patience: self.client.patience,
        };
        NodeFlags { url: self.to.clone(), client }
    }
}

fn parse_source(text: &str) -> Result<ImportSource, String> {
    match text {
        "" => Err("expected a URL, a file, or -".to_owned()),
        "-" => Ok(ImportSource::StandardInput),
        _ if text.contains("://") => parse_node_url(text).map(ImportSource::Server),
        _ => Ok(ImportSource::File(text.into())),
    }
}
