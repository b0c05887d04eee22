//! Options against each other: what is valid alone and refused together.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::members::check_members;
use super::values::check_host_port;
use super::{ConfigError, Flags, MemberConfig, TlsFiles, contradiction};

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

/// The list of members, and where to listen for clients and for other nodes.
type Servers = (Vec<MemberConfig>, SocketAddr, SocketAddr);

/// Checks all options, and derives the servers from them.
///
/// # Errors
/// Everything that is wrong.
pub(super) fn check(flags: &Flags) -> Result<Servers, ConfigError> {
    let mut problems = Vec::new();
    let servers = servers(flags).map_err(|error| problems.push(error));
    let checks = [
        check_timing(flags),
        check_storage(flags),
        TlsFiles::from_flags(flags).map(drop),
        check_rejoin(flags),
        check_texts(flags),
    ];
    problems.extend(checks.into_iter().filter_map(Result::err));
    match servers {
        Ok(servers) if problems.is_empty() => Ok(servers),
        _ => Err(ConfigError::Several(problems)),
    }
}

/// The list of members, ascending by id, and the two addresses to listen on. If only one of both is
/// given, the other follows from it.
fn servers(flags: &Flags) -> Result<Servers, ConfigError> {
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

fn check_rejoin(flags: &Flags) -> Result<(), ConfigError> {
    let has_others = flags.members.as_ref().is_some_and(|list| list.0.len() > 1);
    if flags.rejoin && !has_others {
        return Err(contradiction(
            "--rejoin takes the place of a lost disk from the other members, but this cluster has no other member; \
             remove --rejoin, or name all servers in --members",
        ));
    }
    Ok(())
}

/// Checks what has a form of its own.
fn check_texts(flags: &Flags) -> Result<(), ConfigError> {
    if let Some(address) = &flags.advertise_http {
        check_host_port(address)
            .map_err(|reason| contradiction(format!("--advertise-http is not an address: {reason}")))?;
    }
    crate::telemetry::check_filter(&flags.live.log_filter)
        .map_err(|reason| contradiction(format!("--log-filter '{}' is not valid: {reason}", flags.live.log_filter)))
}

fn check_timing(flags: &Flags) -> Result<(), ConfigError> {
    let (min, max) = (flags.election_min_ms, flags.election_max_ms);
    let mut problems = Vec::new();
    if max <= min {
        problems.push(contradiction(format!(
            "--election-max-ms {max} must be greater than --election-min-ms {min}, or candidates stand at the same moment \
             again and again; {} would do",
            min * 2
        )));
    }
    if flags.heartbeat_ms * u64::from(HEARTBEATS_PER_ELECTION) > min {
        problems.push(contradiction(format!(
            "--heartbeat-ms {} is too long for --election-min-ms {min}: {HEARTBEATS_PER_ELECTION} heartbeats must fit into it; \
             set --heartbeat-ms to at most {} or raise --election-min-ms",
            flags.heartbeat_ms,
            min / u64::from(HEARTBEATS_PER_ELECTION)
        )));
    }
    if flags.leader_wait_ms > flags.write_timeout_ms {
        problems.push(contradiction(format!(
            "--leader-wait-ms {} is longer than --write-timeout-ms {}, within which the wait must end; lower the first or \
             raise the second",
            flags.leader_wait_ms, flags.write_timeout_ms
        )));
    }
    ConfigError::refuse(problems)
}

fn check_storage(flags: &Flags) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    if flags.keep_log_bytes > MAX_KEEP_LOG_BYTES {
        problems.push(contradiction(format!(
            "--keep-log-bytes {} is too large; set it to at most {MAX_KEEP_LOG_BYTES}",
            flags.keep_log_bytes
        )));
    }
    for (flag, value, least) in [
        ("--snapshot-log-bytes", flags.snapshot_log_bytes, 1),
        ("--snapshot-bytes-per-second", flags.live.snapshot_bytes_per_second, MIN_SNAPSHOT_BYTES_PER_SECOND),
        ("--block-cache-bytes", flags.block_cache_bytes, MIN_BLOCK_CACHE_BYTES),
        ("--ready-lag-events", flags.live.ready_lag_events, 1),
    ] {
        if value < least {
            problems.push(contradiction(format!("{flag} {value} is too small; set it to at least {least}")));
        }
    }
    ConfigError::refuse(problems)
}
