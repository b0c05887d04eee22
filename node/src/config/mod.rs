//! The effective configuration of a node, and its sources: flags, environment, file, defaults.

mod backup;
mod certs;
mod checks;
mod client;
mod cluster;
mod exposure;
mod flags;
mod health;
mod live;
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

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use backup::{BackupFlags, RestoreFlags, VerifyFlags};
pub use certs::{CertsCommand, CreateCerts, RenewCerts};
pub use client::{ClientFlags, NodeFlags, Patience};
pub use cluster::{
    AddFlags, ClusterCommand, ClusterStatusFlags, PromoteFlags, ReplaceFlags, ServerFlags, TransferFlags, WaitFlags,
};
use flags::Flags;
pub use flags::{command, env_name, flag_name, is_live, keys};
pub use health::{HealthFlags, Question};
use ipnet::IpNet;
pub use live::{Changes, Live, LiveOptions, changes};
pub use members::{MAX_MEMBERS, MemberConfig, canonical_list};
pub use secret::Secret;
pub use sources::{Checked, ConfigError, Invocation, Origin, resolve};
pub use tls::{KeyPair, NodeFiles, TlsFiles};
pub use transfer::{ExportFlags, ImportFlags, ImportSource};
pub use upkeep::{RedactFlags, ScavengeFlags, TopFlags};
pub use values::{Challenge, LeaderRedirect, MemberList, Ratio, TimeWindow};

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
    /// The newest cluster version that this node takes part in; `None`: the newest of the program.
    pub max_cluster_version: Option<u32>,
    /// Wait to be added to a running cluster, and found none.
    pub join: bool,
    /// Certificates and keys.
    pub tls: TlsFiles,
    /// The options that a running node takes anew.
    pub live: Live,
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
    /// At least this many bytes of log are kept below the newest snapshot, so that a short absence
    /// needs no full copy.
    pub keep_log_bytes: u64,
    /// How long a starting node keeps the port for clients closed while it is not ready.
    pub start_wait: Duration,
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
    /// Log lines as JSON.
    pub log_json: bool,
    /// Base of the collector of traces; `None`: there are none.
    pub otlp_endpoint: Option<String>,
}

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
        let (members, http_listen, raft_listen) = checks::check(&flags)?;
        let tls = TlsFiles::from_flags(&flags)?;
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
            max_cluster_version: flags.max_cluster_version,
            join: flags.join,
            tls,
            live: Live::new(flags.live.into()),
            write_timeout: ms(flags.write_timeout_ms),
            leader_wait: ms(flags.leader_wait_ms),
            read_wait: ms(flags.read_wait_ms),
            heartbeat_interval: ms(flags.heartbeat_ms),
            election_timeout_min: ms(flags.election_min_ms),
            election_timeout_max: ms(flags.election_max_ms),
            snapshot_log_bytes: flags.snapshot_log_bytes,
            snapshot_interval: Duration::from_secs(flags.snapshot_interval_s),
            keep_log_bytes: flags.keep_log_bytes,
            start_wait: ms(flags.start_wait_ms),
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
            log_json: flags.log_json,
            otlp_endpoint: flags.otlp_endpoint,
        })
    }
}

fn contradiction(sentence: impl Into<String>) -> ConfigError {
    ConfigError::Contradiction(sentence.into())
}
