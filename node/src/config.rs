//! The effective configuration of a node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a node can be told, checked and complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This server's id in `members`.
    pub server_id: u16,
    /// Every server of the cluster, the same list on every node, ascending by id. One entry: a cluster of one.
    pub members: Vec<MemberConfig>,
    /// Root of all files of this node.
    pub data_dir: PathBuf,
    /// Where the HTTP API listens (default: the address of this server in `members`).
    pub http_listen: SocketAddr,
    /// Where node-to-node gRPC listens (default: the address of this server in `members`).
    pub raft_listen: SocketAddr,
    /// Consent to take the place of this server's lost disk in an existing cluster.
    pub rejoin: bool,
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
    /// Take a snapshot after this many bytes of log ...
    pub snapshot_log_bytes: u64,
    /// ... or this long after the last one, if anything was written.
    pub snapshot_interval: Duration,
    /// Keep at least this many bytes of log below the newest snapshot, so that a short absence needs no full copy.
    pub keep_log_bytes: u64,
    /// Send snapshots at no more than this.
    pub snapshot_bytes_per_second: u64,
    /// Not ready while more than this many log entries behind the leader.
    pub ready_lag_entries: u64,
    /// Memory for RocksDB's block cache of the state database.
    pub block_cache_bytes: usize,
    /// `host:port` printed in links instead of what the request names (contract/streams 14).
    pub advertise_http: Option<String>,
    /// Never let responses be cached (contract/streams 8.7).
    pub disable_http_caching: bool,
    /// Log filter, `tracing` syntax.
    pub log_filter: String,
    /// Log lines as JSON.
    pub log_json: bool,
}

/// One server of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    /// 1 to 65535.
    pub id: u16,
    /// `host:port` of node-to-node gRPC.
    pub raft_address: String,
    /// `host:port` of the HTTP API.
    pub http_address: String,
}
