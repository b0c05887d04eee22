//! The effective configuration of a node, and its sources: flags, environment, file, defaults.

mod backup;
mod certs;
mod client;
mod cluster;
mod exposure;
mod flags;
mod health;
mod members;
pub mod print;
mod secret;
mod sources;
#[cfg(test)]
mod tests;
mod tls;
mod transfer;
mod upkeep;
mod values;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

pub use backup::{BackupFlags, RestoreFlags, VerifyFlags};
pub use certs::{CertsCommand, CreateCerts, RenewCerts};
pub use client::{ClientFlags, NodeFlags, Patience};
pub use cluster::{
    AddFlags, ClusterCommand, ClusterStatusFlags, PromoteFlags, ReplaceFlags, ServerFlags, TransferFlags, WaitFlags,
};
use flags::Flags;
pub use flags::{command, env_name, flag_name, keys};
pub use health::{HealthFlags, Question};
use ipnet::IpNet;
use members::check_members;
pub use members::{MAX_MEMBERS, MemberConfig, canonical_list};
pub use secret::Secret;
pub use sources::{ConfigError, Invocation, Origin, resolve};
pub use tls::{KeyPair, NodeFiles, TlsFiles};
pub use transfer::{ExportFlags, ImportFlags, ImportSource};
pub use upkeep::{RedactFlags, ScavengeFlags, TopFlags};
use values::check_host_port;
pub use values::{Challenge, LeaderRedirect, MemberList, TimeWindow};

/// The complete, checked configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This server's id in `members`.
    pub server_id: u16,
    /// Every server of the cluster, the same list on every node, ascending by id. One entry: a
    /// cluster of one.
    pub members: Vec<MemberConfig>,
    /// Root of all files of this node.
    pub data_dir: PathBuf,
    /// Where the HTTP API listens (default: the address of this server in `members`).
    pub http_listen: SocketAddr,
    /// Where node-to-node gRPC listens (default: the address of this server in `members`).
    pub raft_listen: SocketAddr,
    /// Consent to take the place of this server's lost disk in an existing cluster.
    pub rejoin: bool,
    /// Where the next leader is chosen, the highest goes first.
    pub node_priority: i32,
    /// The newest cluster version that this node takes part in; `None`: the newest of the program.
    pub max_cluster_version: Option<u32>,
    /// Wait to be added to a running cluster, and found none.
    pub join: bool,
    /// Certificates and keys.
    pub tls: TlsFiles,
    /// How long a write may take before its outcome is reported as unknown.
    pub write_timeout: Duration,
    /// How long a write waits for a leader to be known before 503.
    pub leader_wait: Duration,
    /// How long a read with ES-MinPosition or a linearizable read waits.
    pub read_wait: Duration,
    /// Raft timing.
    pub heartbeat_interval: Duration,
    /// Shortest election timeout.
    pub election_timeout_min: Duration,
    /// Longest election timeout, also the leader's lease.
    pub election_timeout_max: Duration,
    /// A snapshot is taken after this many bytes of log ...
    pub snapshot_log_bytes: u64,
    /// ... or this long after the last one, if anything was written.
    pub snapshot_interval: Duration,
    /// How often the leader looks for events to remove by itself; zero: never.
    pub scavenge_interval: Duration,
    /// When it may do so; `None`: always.
    pub scavenge_window: Option<TimeWindow>,
    /// Bytes of events removed, and of tables rewritten, per second at most.
    pub scavenge_bytes_per_second: u64,
    /// At least this many bytes of log are kept below the newest snapshot, so that a short absence
    /// needs no full copy.
    pub keep_log_bytes: u64,
    /// The highest rate at which snapshots are sent.
    pub snapshot_bytes_per_second: u64,
    /// The node is not ready while it is more than this many events behind the leader.
    pub ready_lag_events: u64,
    /// How long a starting node keeps the port for clients closed while it is not ready.
    pub start_wait: Duration,
    /// How long a node that is told to stop goes on serving, so that balancers leave it.
    pub drain: Duration,
    /// Memory for RocksDB's block cache of the state database.
    pub block_cache_bytes: usize,
    /// `host:port` in links, instead of the host of the request (contract/streams 14).
    pub advertise_http: Option<String>,
    /// What is done with requests for the leader while another node leads.
    pub leader_redirect: LeaderRedirect,
    /// Forbids caching of any response (contract/streams 8.7).
    pub disable_http_caching: bool,
    /// Answers HEAD like GET, without the body.
    pub head_requests: bool,
    /// First password of the user admin; if unset, that of contract/services 1.4. It is used only
    /// when the first users are created.
    pub default_admin_password: Option<Secret>,
    /// First password of the user ops.
    pub default_ops_password: Option<Secret>,
    /// Whether anonymous callers may use streams that are open to everyone by their access lists.
    pub allow_anonymous_stream_access: bool,
    /// Whether anonymous callers may use everything else that requires no role.
    pub allow_anonymous_endpoint_access: bool,
    /// Peers whose `ES-TrustedAuth` header is trusted.
    pub trusted_auth_from: Vec<IpNet>,
    /// Peers whose `X-Forwarded-For` header is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins of web pages whose requests may change something with credentials.
    pub trusted_origins: Vec<String>,
    /// The scheme that a 401 asks for.
    pub challenge: Challenge,
    /// Log filter, `tracing` syntax.
    pub log_filter: String,
    /// Log lines as JSON.
    pub log_json: bool,
    /// Requests that take longer get a line in the log; `None`: none.
    pub slow_request: Option<Duration>,
}

/// Default address of the HTTP API.
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2113);

/// Default address for other nodes; not in the range 2111 to 2113, which HTTP uses on loopback.
const DEFAULT_RAFT: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1113);

/// Heartbeats that must fit into the shortest election timeout, so that a late one does not cost an
/// election.
const HEARTBEATS_PER_ELECTION: u32 = 3;

/// A node knows the sizes of its log for some 8 GiB back. If more had to be kept, nothing could be
/// removed.
const MAX_KEEP_LOG_BYTES: u64 = 4 << 30;

/// Slowest transfer of snapshots; at a lower rate a node that needs one would not be back within a
/// day.
const MIN_SNAPSHOT_BYTES_PER_SECOND: u64 = 64 << 10;

/// Smallest block cache; in a smaller one not even the index blocks of one read fit.
const MIN_BLOCK_CACHE_BYTES: u64 = 1 << 20;

impl Config {
    /// The configuration with defaults for everything but the data directory: a durable single
    /// node.
    ///
    /// # Errors
    /// None in practice; the defaults pass the same checks as any other value.
    pub fn single_node(data_dir: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let mut argument = std::ffi::OsString::from("--data-dir=");
        argument.push(data_dir.into());
        match resolve(["headwater".into(), argument], [])? {
            Invocation::Run(config) => Ok(*config),
            _ => Err(contradiction("a subcommand was not asked for")),
        }
    }

    /// This server's entry in the list.
    pub fn this_member(&self) -> Option<&MemberConfig> {
        self.members.iter().find(|member| member.id == self.server_id)
    }

    /// Checks options against each other, and derives values from other options.
    fn from_flags(flags: Flags) -> Result<Self, ConfigError> {
        let (members, http_listen, raft_listen) = servers(&flags)?;
        check_timing(&flags)?;
        check_storage(&flags)?;
        let tls = TlsFiles::from_flags(&flags)?;
        if flags.rejoin && members.len() == 1 {
            return Err(contradiction(
                "--rejoin takes the place of a lost disk from the other members, but this cluster has no other member; \
                 remove --rejoin, or name all servers in --members",
            ));
        }
        check_texts(&flags)?;
        let block_cache_bytes = usize::try_from(flags.block_cache_bytes)
            .map_err(|_| contradiction("--block-cache-bytes is more than this machine can address"))?;
        let ms = Duration::from_millis;
        Ok(Self {
            server_id: flags.server_id,
            members,
            data_dir: flags.data_dir,
            http_listen,
            raft_listen,
            rejoin: flags.rejoin,
            node_priority: flags.node_priority,
            max_cluster_version: flags.max_cluster_version,
            join: flags.join,
            tls,
            write_timeout: ms(flags.write_timeout_ms),
            leader_wait: ms(flags.leader_wait_ms),
            read_wait: ms(flags.read_wait_ms),
            heartbeat_interval: ms(flags.heartbeat_ms),
            election_timeout_min: ms(flags.election_min_ms),
            election_timeout_max: ms(flags.election_max_ms),
            snapshot_log_bytes: flags.snapshot_log_bytes,
            snapshot_interval: Duration::from_secs(flags.snapshot_interval_s),
            scavenge_interval: Duration::from_secs(flags.scavenge_interval_s),
            scavenge_window: flags.scavenge_window,
            scavenge_bytes_per_second: flags.scavenge_bytes_per_second,
            keep_log_bytes: flags.keep_log_bytes,
            snapshot_bytes_per_second: flags.snapshot_bytes_per_second,
            ready_lag_events: flags.ready_lag_events,
            start_wait: ms(flags.start_wait_ms),
            drain: ms(flags.drain_ms),
            block_cache_bytes,
            advertise_http: flags.advertise_http,
            leader_redirect: flags.leader_redirect,
            disable_http_caching: flags.disable_http_caching,
            head_requests: flags.head_requests,
            default_admin_password: flags.default_admin_password,
            default_ops_password: flags.default_ops_password,
            allow_anonymous_stream_access: flags.allow_anonymous_stream_access,
            allow_anonymous_endpoint_access: flags.allow_anonymous_endpoint_access,
            trusted_auth_from: flags.trusted_auth_from.map(|list| list.0).unwrap_or_default(),
            trusted_proxies: flags.trusted_proxies.map(|list| list.0).unwrap_or_default(),
            trusted_origins: flags.trusted_origins.map(|list| list.0).unwrap_or_default(),
            challenge: flags.challenge,
            log_filter: flags.log_filter,
            log_json: flags.log_json,
            slow_request: (flags.slow_request_ms > 0).then(|| ms(flags.slow_request_ms)),
        })
    }
}

fn contradiction(sentence: impl Into<String>) -> ConfigError {
    ConfigError::Contradiction(sentence.into())
}

/// The list of members, ascending by id, and the two addresses to listen on. If only one of both is
/// given, the other follows from it.
fn servers(flags: &Flags) -> Result<(Vec<MemberConfig>, SocketAddr, SocketAddr), ConfigError> {
    for (flag, address) in [("--http-listen", flags.http_listen), ("--raft-listen", flags.raft_listen)] {
        if address.is_some_and(|address| address.port() == 0) {
            return Err(contradiction(format!("{flag} needs a fixed port; replace the port 0 by one from 1 to 65535")));
        }
    }
    let Some(list) = &flags.members else {
        let http = flags.http_listen.unwrap_or(DEFAULT_HTTP);
        let raft = flags.raft_listen.unwrap_or(DEFAULT_RAFT);
        let alone =
            MemberConfig { id: flags.server_id, raft_address: raft.to_string(), http_address: http.to_string() };
        let members = vec![alone];
        check_members(&members)?;
        return Ok((members, http, raft));
    };
    let members = list.ascending()?;
    let this = list.entry(flags.server_id)?;
    let http = match flags.http_listen {
        Some(address) => address,
        None => local_address(&this.http_address, "--http-listen")?,
    };
    let raft = match flags.raft_listen {
        Some(address) => address,
        None => local_address(&this.raft_address, "--raft-listen")?,
    };
    Ok((members, http, raft))
}

/// The address to listen on for a member known as `address`, which may be a name.
fn local_address(address: &str, flag: &str) -> Result<SocketAddr, ConfigError> {
    let resolved = address.to_socket_addrs().ok().and_then(|mut found| found.next());
    resolved.ok_or_else(|| {
        contradiction(format!(
            "the address {address} of this server in --members cannot be resolved here; say with {flag} on which address \
             to listen, for example 0.0.0.0 and the same port"
        ))
    })
}

/// Checks what has a form of its own.
fn check_texts(flags: &Flags) -> Result<(), ConfigError> {
    if let Some(address) = &flags.advertise_http {
        check_host_port(address)
            .map_err(|reason| contradiction(format!("--advertise-http is not an address: {reason}")))?;
    }
    crate::telemetry::check_filter(&flags.log_filter)
        .map_err(|reason| contradiction(format!("--log-filter '{}' is not valid: {reason}", flags.log_filter)))
}

fn check_timing(flags: &Flags) -> Result<(), ConfigError> {
    let (min, max) = (flags.election_min_ms, flags.election_max_ms);
    if max <= min {
        return Err(contradiction(format!(
            "--election-max-ms {max} must be greater than --election-min-ms {min}, or candidates stand at the same moment \
             again and again; {} would do",
            min * 2
        )));
    }
    if flags.heartbeat_ms * u64::from(HEARTBEATS_PER_ELECTION) > min {
        return Err(contradiction(format!(
            "--heartbeat-ms {} is too long for --election-min-ms {min}: {HEARTBEATS_PER_ELECTION} heartbeats must fit into it; \
             set --heartbeat-ms to at most {} or raise --election-min-ms",
            flags.heartbeat_ms,
            min / u64::from(HEARTBEATS_PER_ELECTION)
        )));
    }
    if flags.leader_wait_ms > flags.write_timeout_ms {
        return Err(contradiction(format!(
            "--leader-wait-ms {} is longer than --write-timeout-ms {}, within which the wait must end; lower the first or \
             raise the second",
            flags.leader_wait_ms, flags.write_timeout_ms
        )));
    }
    Ok(())
}

fn check_storage(flags: &Flags) -> Result<(), ConfigError> {
    let at_least = |flag: &str, value: u64, least: u64| {
        if value < least {
            Err(contradiction(format!("{flag} {value} is too small; set it to at least {least}")))
        } else {
            Ok(())
        }
    };
    if flags.keep_log_bytes > MAX_KEEP_LOG_BYTES {
        return Err(contradiction(format!(
            "--keep-log-bytes {} is too large; set it to at most {MAX_KEEP_LOG_BYTES}",
            flags.keep_log_bytes
        )));
    }
    at_least("--snapshot-log-bytes", flags.snapshot_log_bytes, 1)?;
    at_least("--snapshot-bytes-per-second", flags.snapshot_bytes_per_second, MIN_SNAPSHOT_BYTES_PER_SECOND)?;
    at_least("--block-cache-bytes", flags.block_cache_bytes, MIN_BLOCK_CACHE_BYTES)?;
    at_least("--ready-lag-events", flags.ready_lag_events, 1)
}
