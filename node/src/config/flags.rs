//! The options of the command line. Names, defaults and help of all sources come from here.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use super::Secret;
use super::backup::{BackupFlags, RestoreFlags, VerifyFlags};
use super::certs::CertsCommand;
use super::cluster::ClusterCommand;
use super::health::HealthFlags;
use super::transfer::{ExportFlags, ImportFlags};
use super::upkeep::{RedactFlags, ScavengeFlags, TopFlags};
use super::values::{
    Challenge, LeaderRedirect, MAX_INTERVAL_S, MemberList, NetworkList, OriginList, Ratio, TimeWindow, parse_bytes,
    parse_challenge, parse_cluster_name, parse_collector, parse_leader_redirect, parse_members, parse_ms,
    parse_networks, parse_origins, parse_rate, parse_ratio, parse_wait_ms, parse_window,
};

/// Prefix of environment variables.
pub(super) const ENV_PREFIX: &str = "HEADWATER_";

/// A replicated event store that speaks the EventStore-compatible HTTP Atom API.
///
/// Without a subcommand a node is started. Without any option this is a durable single node on
/// 127.0.0.1:2113 with its data under ./data.
///
/// Every option can be given as a flag, as an environment variable or as a key of a YAML file (the
/// name of the flag with underscores: `server_id: 1`). A flag wins over the environment, the
/// environment over the file, the file over the default.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, args_conflicts_with_subcommands = true, max_term_width = 110)]
pub(super) struct CommandLine {
    /// What to do instead of running a node.
    #[command(subcommand)]
    pub command: Option<Subcommands>,
    /// The options.
    #[command(flatten)]
    pub flags: Flags,
}

/// What the binary does besides running a node.
#[derive(Debug, Subcommand)]
pub(super) enum Subcommands {
    /// Print the effective configuration as YAML, with the origin of each value, or check it
    /// (docs/configuration.md)
    Config(Box<ConfigFlags>),
    /// Make and renew certificates for the nodes of a cluster (docs/security.md)
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Ask a node once whether it is ready; the exit code is 0 when it says yes, else 1
    /// (docs/operations.md)
    Health(Box<HealthFlags>),
    /// Look at the members of a running cluster, or change them (docs/clustering.md)
    #[command(subcommand)]
    Cluster(Box<ClusterCommand>),
    /// Remove for ever what nobody can see any more, and give its space back (docs/operations.md)
    Scavenge(Box<ScavengeFlags>),
    /// Blank data and metadata of one event on every node (docs/operations.md)
    Redact(Box<RedactFlags>),
    /// Show all nodes of a cluster with their rates and delays (docs/operations.md)
    Top(Box<TopFlags>),
    /// Copy all that a running node has to a directory, a file or a pipe (docs/operations.md)
    Backup(Box<BackupFlags>),
    /// Make the data directory of a new cluster from a backup (docs/operations.md)
    Restore(Box<RestoreFlags>),
    /// Read everything in a backup or in the data directory of a stopped node, or compare two
    /// copies (docs/operations.md)
    ///
    /// The exit code is 0 when nothing is wrong, 1 when something is damaged or differs, and 2 when
    /// there is nothing to verify.
    Verify(Box<VerifyFlags>),
    /// Copy the events of an EventStore, of another Headwater or of a file into a running node
    /// (docs/operations.md)
    Import(Box<ImportFlags>),
    /// Copy the events of a running server to a file, one line of JSON each (docs/operations.md)
    Export(Box<ExportFlags>),
}

/// Options of `headwater config`.
#[derive(Debug, Args)]
pub(super) struct ConfigFlags {
    /// Say everything for which a node with these options would refuse to start, and what to do;
    /// nothing is changed, and a node may run on the same directory. The exit code is 0 when a node
    /// would start, else the one with which it would end
    #[arg(long, help_heading = "Check")]
    pub check: bool,
    /// Print what --check finds as JSON (docs/configuration.md)
    #[arg(long, requires = "check", help_heading = "Check")]
    pub json: bool,
    /// The options of the node.
    #[command(flatten)]
    pub flags: Flags,
}

/// All options. Values from every source are parsed by the parsers named here.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// YAML file with options
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub config: Option<PathBuf>,
    /// Root directory of everything this node stores; one node per directory
    #[arg(long, value_name = "DIR", default_value = "./data", help_heading = "General")]
    pub data_dir: PathBuf,

    /// Id of this server in the list of members, 1 to 65535
    #[arg(long, value_name = "ID", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Cluster")]
    pub server_id: u16,
    /// Every server of the cluster, the same list on every node: ID=RAFTHOST:PORT/HTTPHOST:PORT,
    /// separated by commas (in YAML a list of {id, raft, http}) [default: this server alone]
    #[arg(long, value_name = "LIST", value_parser = parse_members, help_heading = "Cluster")]
    pub members: Option<MemberList>,
    /// Newest cluster version that this node takes part in: below the newest of the program, the
    /// members can go back to an older one (docs/operations.md) [default: the newest]
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Cluster")]
    pub max_cluster_version: Option<u32>,
    /// Consent to take the place of this server's lost disk in its cluster; only for a start with
    /// an empty data directory (docs/clustering.md)
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, help_heading = "Cluster")]
    pub rejoin: bool,
    /// Wait to be added to a running cluster by `headwater cluster add`, and found none; counts
    /// before --rejoin, and not once this node has data. --members needs no other server then
    /// (docs/clustering.md)
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, help_heading = "Cluster")]
    pub join: bool,

    /// Address the HTTP API listens on [default: this server's address in --members, else
    /// 127.0.0.1:2113]
    #[arg(long, value_name = "IP:PORT", help_heading = "Network")]
    pub http_listen: Option<SocketAddr>,
    /// Address that other nodes connect to [default: this server's address in --members, else
    /// 127.0.0.1:1113]
    #[arg(long, value_name = "IP:PORT", help_heading = "Network")]
    pub raft_listen: Option<SocketAddr>,
    /// Host and port at which clients reach this node: in links, in gossip, and when other nodes
    /// send clients to it as leader
    #[arg(long, value_name = "HOST:PORT", help_heading = "Network")]
    pub advertise_http: Option<String>,
    /// What a node that does not lead does with ES-RequiresMaster: redirect sends the client to the
    /// leader, proxy asks the leader itself, for clients behind a balancer that cannot reach it
    #[arg(long, value_name = "WAY", default_value = "redirect", value_parser = parse_leader_redirect, help_heading = "Network")]
    pub leader_redirect: LeaderRedirect,
    /// Forbid clients and proxies to cache any response
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, help_heading = "Network")]
    pub disable_http_caching: bool,
    /// Answer HEAD wherever GET is answered; the API this one is compatible with refuses it with
    /// 405
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, help_heading = "Network")]
    pub head_requests: bool,

    /// Certificate shown to clients, PEM, intermediate ones behind it: the HTTP API becomes HTTPS
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of --tls-cert-file, PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_key_file: Option<PathBuf>,
    /// CA of this cluster, PEM: nodes talk TLS among themselves, and only to nodes with a
    /// certificate of it
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_ca_file: Option<PathBuf>,
    /// Certificate shown to other nodes, PEM [default: --tls-cert-file]
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub node_tls_cert_file: Option<PathBuf>,
    /// Private key of --node-tls-cert-file, PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub node_tls_key_file: Option<PathBuf>,
    /// Name of this cluster in the certificates of its nodes, when several clusters share one CA
    #[arg(long, value_name = "NAME", value_parser = parse_cluster_name, help_heading = "TLS")]
    pub tls_cluster_name: Option<String>,

    /// Milliseconds until a write that got no answer is reported as one of unknown outcome
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = parse_ms, help_heading = "Timing")]
    pub write_timeout_ms: u64,
    /// Milliseconds a write waits while no leader is known before it is refused with 503
    #[arg(long, value_name = "MS", default_value_t = 3_000, value_parser = parse_ms, help_heading = "Timing")]
    pub leader_wait_ms: u64,
    /// Milliseconds a read with ES-MinPosition or ES-RequiresMaster waits before it is refused with
    /// 503
    #[arg(long, value_name = "MS", default_value_t = 3_000, value_parser = parse_ms, help_heading = "Timing")]
    pub read_wait_ms: u64,
    /// Milliseconds between heartbeats of the leader; at most a third of --election-min-ms
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = parse_ms, help_heading = "Timing")]
    pub heartbeat_ms: u64,
    /// Shortest time in milliseconds without a heartbeat until a node stands for election
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = parse_ms, help_heading = "Timing")]
    pub election_min_ms: u64,
    /// Longest time in milliseconds without a heartbeat until a node stands for election; also the
    /// leader's lease
    #[arg(long, value_name = "MS", default_value_t = 800, value_parser = parse_ms, help_heading = "Timing")]
    pub election_max_ms: u64,

    /// Milliseconds for which a starting node keeps its HTTP port closed until it is ready; 0: it
    /// opens the port at once
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = parse_wait_ms, help_heading = "Timing")]
    pub start_wait_ms: u64,

    /// Take a snapshot after this many bytes of log
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = parse_bytes, help_heading = "Storage")]
    pub snapshot_log_bytes: u64,
    /// Take a snapshot after this many seconds if anything was written since the last one
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=MAX_INTERVAL_S), help_heading = "Storage")]
    pub snapshot_interval_s: u64,
    /// Bytes of log kept below the newest snapshot, so that a short absence of a node needs no full
    /// copy
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = parse_bytes, help_heading = "Storage")]
    pub keep_log_bytes: u64,
    /// Bytes of memory for blocks read from the event database
    #[arg(long, value_name = "BYTES", default_value = "96MiB", value_parser = parse_bytes, help_heading = "Storage")]
    pub block_cache_bytes: u64,

    /// First password of the user admin, used once, when a new cluster creates its users; better
    /// given in the environment or the file than here, where other users of this machine can see it
    /// [default: changeit]
    #[arg(long, value_name = "PASSWORD", help_heading = "Access (docs/security.md)")]
    pub default_admin_password: Option<Secret>,
    /// First password of the user ops, in the same way [default: changeit]
    #[arg(long, value_name = "PASSWORD", help_heading = "Access (docs/security.md)")]
    pub default_ops_password: Option<Secret>,
    /// Let callers who did not log in use streams that are open to everybody; to lock a node down
    /// set this and --allow-anonymous-endpoint-access to false
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, help_heading = "Access (docs/security.md)")]
    pub allow_anonymous_stream_access: bool,
    /// Let callers who did not log in read users and metrics; docs/security.md lists what is always
    /// open
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, help_heading = "Access (docs/security.md)")]
    pub allow_anonymous_endpoint_access: bool,
    /// Addresses and networks, separated by commas, whose ES-TrustedAuth header says who is calling
    /// [default: none]
    #[arg(long, value_name = "LIST", value_parser = parse_networks, help_heading = "Access (docs/security.md)")]
    pub trusted_auth_from: Option<NetworkList>,
    /// Addresses and networks of proxies, separated by commas, whose X-Forwarded-For header says
    /// where a request came from [default: none]
    #[arg(long, value_name = "LIST", value_parser = parse_networks, help_heading = "Access (docs/security.md)")]
    pub trusted_proxies: Option<NetworkList>,
    /// Origins of web pages, separated by commas, such as https://admin.example, whose scripts may
    /// change something with credentials; pages of this node always may [default: none]
    #[arg(long, value_name = "LIST", value_parser = parse_origins, help_heading = "Access (docs/security.md)")]
    pub trusted_origins: Option<OriginList>,
    /// Scheme that a 401 asks for: BasicCustom keeps browsers from opening a dialog, Basic suits
    /// clients that wait to be asked
    #[arg(long, value_name = "SCHEME", default_value = "BasicCustom", value_parser = parse_challenge, help_heading = "Access (docs/security.md)")]
    pub challenge: Challenge,

    /// Write log lines as JSON objects
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, help_heading = "Logging")]
    pub log_json: bool,

    /// Collector of traces (OpenTelemetry), which takes OTLP over HTTP, such as
    /// http://127.0.0.1:4318: spans are sent to its /v1/traces [default: no traces]
    #[arg(long, value_name = "URL", value_parser = parse_collector, help_heading = "Logging")]
    pub otlp_endpoint: Option<String>,

    /// Those that a running node takes anew.
    #[command(flatten)]
    pub live: LiveFlags,
}

/// Options that a running node takes anew on SIGHUP: that they stand here is all that is needed for
/// the help, the documentation and the reload to know. Every other option needs a restart.
#[derive(Debug, Args)]
pub(super) struct LiveFlags {
    /// Priority of this server where the next leader is chosen: at a hand-over and when the
    /// leader's process ends, of nodes that are ready the highest goes first
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true, help_heading = "Cluster")]
    pub node_priority: i32,

    /// Events behind the leader beyond which /health/ready says no
    #[arg(long, value_name = "EVENTS", default_value_t = 10_000, help_heading = "Timing")]
    pub ready_lag_events: u64,

    /// Milliseconds for which a node that gets SIGTERM goes on serving while /health/ready says no,
    /// so that balancers leave it, if another member can serve instead; 0: it stops at once
    #[arg(long, value_name = "MS", default_value_t = 3_000, value_parser = parse_wait_ms, help_heading = "Timing")]
    pub drain_ms: u64,

    /// Look for events that nobody can see any more, and remove them if there are many, every so
    /// many seconds; 0: only when somebody asks
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(0..=MAX_INTERVAL_S), help_heading = "Storage")]
    pub scavenge_interval_s: u64,

    /// Hours of the day in which this happens by itself, UTC, like 22:00-05:30 [default: all]
    #[arg(long, value_name = "HH:MM-HH:MM", value_parser = parse_window, help_heading = "Storage")]
    pub scavenge_window: Option<TimeWindow>,

    /// Bytes of events removed, and of tables rewritten, per second at most
    #[arg(long, value_name = "BYTES", default_value = "32MiB", value_parser = parse_rate, help_heading = "Storage")]
    pub scavenge_bytes_per_second: u64,

    /// Bytes per second at which a snapshot is sent to another node
    #[arg(long, value_name = "BYTES", default_value = "100MiB", value_parser = parse_bytes, help_heading = "Storage")]
    pub snapshot_bytes_per_second: u64,

    /// Which log lines are written: a level, or a comma-separated list of target=level
    #[arg(long, value_name = "FILTER", default_value = crate::telemetry::DEFAULT_FILTER, help_heading = "Logging")]
    pub log_filter: String,

    /// A request that takes longer, in milliseconds, gets a line in the log that says where its
    /// time went; 0: none
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = parse_wait_ms, help_heading = "Logging")]
    pub slow_request_ms: u64,

    /// Share of the requests that are traced, from 0 to 1, where the client has not said in
    /// traceparent whether its request is
    #[arg(long, value_name = "RATIO", default_value = "0.01", value_parser = parse_ratio, help_heading = "Logging")]
    pub trace_sample_ratio: Ratio,
}

/// The command, with the name of the environment variable added to the help of each option.
///
/// clap does not read the environment: the sources are merged in one place (`sources`), where a
/// test can pass its own environment.
pub fn command() -> clap::Command {
    with_environment_names(CommandLine::command()).mut_subcommand("config", with_environment_names)
}

fn with_environment_names(command: clap::Command) -> clap::Command {
    let keys = keys();
    command.mut_args(|arg| {
        if arg.get_long().is_none() || !keys.iter().any(|key| arg.get_id() == key.as_str()) {
            return arg;
        }
        let help = arg.get_help().cloned().unwrap_or_default();
        let variable = env_name(arg.get_id().as_str());
        let reload = if is_live(arg.get_id().as_str()) { " [SIGHUP: taken anew]" } else { "" };
        arg.long_help(format!("{help}\n\n[env: {variable}]{reload}"))
    })
}

fn is_builtin(id: &str) -> bool {
    matches!(id, "help" | "version")
}

/// Keys of all options (the names of the flags with underscores), in the order of the help.
pub fn keys() -> Vec<String> {
    let command = CommandLine::command();
    command.get_arguments().map(|arg| arg.get_id().to_string()).filter(|id| !is_builtin(id)).collect()
}

/// Whether a running node takes an option anew on SIGHUP; else it needs a restart.
pub fn is_live(key: &str) -> bool {
    let live = LiveFlags::augment_args(clap::Command::new("live"));
    live.get_arguments().any(|arg| arg.get_id() == key)
}

/// The help of an option.
pub(super) struct Documented {
    /// Its key.
    pub key: String,
    /// The heading above it.
    pub group: String,
    /// Its description.
    pub help: String,
}

/// All options with their help, in its order.
pub(super) fn documented() -> Vec<Documented> {
    let command = CommandLine::command();
    let documented = |arg: &clap::Arg| Documented {
        key: arg.get_id().to_string(),
        group: arg.get_help_heading().unwrap_or_default().split(" (").next().unwrap_or_default().to_owned(),
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
    };
    command.get_arguments().filter(|arg| !is_builtin(arg.get_id().as_str())).map(documented).collect()
}

/// The environment variable of an option.
pub fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_uppercase())
}

/// The flag of an option.
pub fn flag_name(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_option_has_its_environment_variable_in_the_help() {
        let mut command = command();
        let help = command.render_long_help().to_string();
        let subcommand = command.find_subcommand_mut("config").unwrap().render_long_help().to_string();
        for key in keys() {
            for help in [&help, &subcommand] {
                assert!(help.contains(&flag_name(&key)), "{key} is missing");
                assert!(help.contains(&format!("[env: {}]", env_name(&key))), "{key} has no variable in\n{help}");
            }
        }
    }
}
