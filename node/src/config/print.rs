//! The effective configuration as YAML that `--config` can read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use super::{Config, Origin, flags};

/// Every option with its value; a comment after it names the source. Passwords are comments as a
/// whole, because the stars must not be read back as a password.
pub fn yaml(config: &Config, origins: &BTreeMap<String, Origin>) -> String {
    let mut text = String::new();
    for key in flags::keys() {
        let origin = origins.get(&key).copied().unwrap_or(Origin::Default);
        if is_secret(&key) {
            text.push_str(&format!("# {key}: *** # {origin}\n"));
            continue;
        }
        let Some(value) = value_of(config, &key) else { continue };
        // Lists begin on the next line, below the comment.
        let line = match value.strip_prefix('\n') {
            Some(list) => writeln!(text, "{key}: # {origin}\n{list}"),
            None => writeln!(text, "{key}: {value} # {origin}"),
        };
        debug_assert!(line.is_ok(), "writing to a string cannot fail");
    }
    text
}

pub(super) fn is_secret(key: &str) -> bool {
    matches!(key, "default_admin_password" | "default_ops_password")
}

/// An option as `/info/options` lists it.
#[derive(Debug, serde::Serialize)]
pub struct EffectiveOption {
    name: String,
    description: String,
    group: String,
    value: String,
}

/// Shown in place of a password.
const MASK: &str = "********";

/// Every option with its effective value, empty if unset; passwords are masked. The first one is
/// the size of the cluster, which tools for the compatible API look for.
pub fn options(config: &Config) -> Vec<EffectiveOption> {
    let size = EffectiveOption {
        name: "ClusterSize".to_owned(),
        description: "Number of servers in the list of members".to_owned(),
        group: "Cluster".to_owned(),
        value: config.members.len().max(1).to_string(),
    };
    let documented = flags::documented().into_iter().filter(|option| option.key != "config");
    let option = |option: flags::Documented| EffectiveOption {
        name: camel(&option.key),
        description: option.help,
        group: option.group,
        value: plain_value(config, &option.key),
    };
    std::iter::once(size).chain(documented.map(option)).collect()
}

/// `server_id` as `ServerId`.
fn camel(key: &str) -> String {
    let word =
        |word: &str| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect::<String>();
    key.split('_').map(word).collect()
}

/// Whether an option has another value in each of two configurations.
pub(super) fn differs(one: &Config, other: &Config, key: &str) -> bool {
    match key {
        "default_admin_password" => one.default_admin_password != other.default_admin_password,
        "default_ops_password" => one.default_ops_password != other.default_ops_password,
        key => value_of(one, key) != value_of(other, key),
    }
}

fn plain_value(config: &Config, key: &str) -> String {
    let masked = |secret: &Option<super::Secret>| if secret.is_some() { MASK.to_owned() } else { String::new() };
    match key {
        "default_admin_password" => masked(&config.default_admin_password),
        "default_ops_password" => masked(&config.default_ops_password),
        "members" => {
            let member = |m: &super::MemberConfig| format!("{}={}/{}", m.id, m.raft_address, m.http_address);
            config.members.iter().map(member).collect::<Vec<_>>().join(",")
        }
        key => {
            let yaml = value_of(config, key).unwrap_or_default();
            serde_json::from_str::<String>(&yaml).unwrap_or(yaml)
        }
    }
}

/// The value of one option in YAML; `None` if it is not set.
fn value_of(config: &Config, key: &str) -> Option<String> {
    let ms = |duration: std::time::Duration| duration.as_millis().to_string();
    let live = config.live.now();
    Some(match key {
        "data_dir" => quoted(&config.data_dir.to_string_lossy()),
        "server_id" => config.server_id.to_string(),
        "members" => members(config),
        "node_priority" => live.node_priority.to_string(),
        "max_cluster_version" => config.max_cluster_version?.to_string(),
        "rejoin" => config.rejoin.to_string(),
        "join" => config.join.to_string(),
        "http_listen" => quoted(&config.http_listen.to_string()),
        "raft_listen" => quoted(&config.raft_listen.to_string()),
        "advertise_http" => quoted(config.advertise_http.as_deref()?),
        "leader_redirect" => config.leader_redirect.as_str().to_owned(),
        "disable_http_caching" => config.disable_http_caching.to_string(),
        "tls_cert_file" => path(&config.tls.cert_file)?,
        "tls_key_file" => path(&config.tls.key_file)?,
        "tls_ca_file" => path(&config.tls.ca_file)?,
        "node_tls_cert_file" => path(&config.tls.node_cert_file)?,
        "node_tls_key_file" => path(&config.tls.node_key_file)?,
        "tls_cluster_name" => quoted(config.tls.cluster_name.as_deref()?),
        "head_requests" => config.head_requests.to_string(),
        "write_timeout_ms" => ms(config.write_timeout),
        "leader_wait_ms" => ms(config.leader_wait),
        "read_wait_ms" => ms(config.read_wait),
        "heartbeat_ms" => ms(config.heartbeat_interval),
        "election_min_ms" => ms(config.election_timeout_min),
        "election_max_ms" => ms(config.election_timeout_max),
        "ready_lag_events" => live.ready_lag_events.to_string(),
        "start_wait_ms" => ms(config.start_wait),
        "drain_ms" => ms(live.drain),
        "snapshot_log_bytes" => config.snapshot_log_bytes.to_string(),
        "snapshot_interval_s" => config.snapshot_interval.as_secs().to_string(),
        "scavenge_interval_s" => live.scavenge_interval.as_secs().to_string(),
        "scavenge_window" => quoted(&live.scavenge_window?.to_string()),
        "scavenge_bytes_per_second" => live.scavenge_bytes_per_second.to_string(),
        "keep_log_bytes" => config.keep_log_bytes.to_string(),
        "snapshot_bytes_per_second" => live.snapshot_bytes_per_second.to_string(),
        "block_cache_bytes" => config.block_cache_bytes.to_string(),
        "allow_anonymous_stream_access" => config.allow_anonymous_stream_access.to_string(),
        "allow_anonymous_endpoint_access" => config.allow_anonymous_endpoint_access.to_string(),
        "trusted_auth_from" => list(&config.trusted_auth_from)?,
        "trusted_proxies" => list(&config.trusted_proxies)?,
        "trusted_origins" => list(&config.trusted_origins)?,
        "challenge" => config.challenge.as_str().to_owned(),
        "log_filter" => quoted(&live.log_filter),
        "log_json" => config.log_json.to_string(),
        "otlp_endpoint" => quoted(config.otlp_endpoint.as_deref()?),
        "trace_sample_ratio" => live.trace_sample_ratio.to_string(),
        "slow_request_ms" => live.slow_request.map_or_else(|| "0".to_owned(), ms),
        // `config` itself, whose contents are being printed.
        _ => return None,
    })
}

/// `None` for an empty list, which is the default.
fn list(list: &[impl ToString]) -> Option<String> {
    let list: Vec<String> = list.iter().map(ToString::to_string).collect();
    (!list.is_empty()).then(|| quoted(&list.join(",")))
}

fn members(config: &Config) -> String {
    let member = |member: &super::MemberConfig| {
        let (raft, http) = (quoted(&member.raft_address), quoted(&member.http_address));
        format!("\n  - {{ id: {}, raft: {raft}, http: {http} }}", member.id)
    };
    config.members.iter().map(member).collect()
}

fn path(path: &Option<PathBuf>) -> Option<String> {
    path.as_ref().map(|path| quoted(&path.to_string_lossy()))
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
