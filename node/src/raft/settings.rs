//! openraft's settings, each with its reason. No relevant setting is left to its default.

use std::sync::Arc;
use std::time::Duration;

use openraft::{ConfigError, SnapshotPolicy};

use crate::config::Config;

/// Log entries in one append request. The log reader bounds a request by bytes as well, so this
/// count hardly matters; it keeps the vectors of tiny entries small.
pub(crate) const MAX_ENTRIES_PER_REQUEST: u64 = 1024;

/// Entries that openraft takes into one append to the log. A batch of the proposal gate should fit,
/// so that it is one write.
pub(crate) const MAX_ENTRIES_PER_APPEND: u64 = 4096;

/// The time that openraft would allow our sender for a whole snapshot transfer. The sender ignores
/// it: a transfer may take as long as it makes progress (`snapshot::TransferWatch`).
pub(crate) const INSTALL_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Messages waiting for the core task. Each is at most one batch of the gate or one append request,
/// which have limits of their own. A full queue makes senders wait and drops nothing.
pub(crate) const CORE_QUEUE: u64 = 4096;

/// The first pause before an unreachable peer is tried again, see [`super::network`].
pub(crate) const RECONNECT_FIRST: Duration = Duration::from_millis(50);

/// The longest such pause. A restarted peer is reached within this time, and an absent peer costs
/// two attempts a second.
pub(crate) const RECONNECT_LONGEST: Duration = Duration::from_millis(250);

/// The settings for this configuration; an error when its timeouts contradict each other.
pub(crate) fn raft_config(config: &Config) -> Result<Arc<openraft::Config>, ConfigError> {
    let settings = openraft::Config {
        cluster_name: "headwater".to_owned(),
        // Failover takes the lease (the longest election timeout) plus one random timeout. For the
        // values see config/flags.rs.
        heartbeat_interval: millis(config.heartbeat_interval),
        election_timeout_min: millis(config.election_timeout_min),
        election_timeout_max: millis(config.election_timeout_max),
        // 0: heartbeats go out at a steady pace, also while acknowledgements flow. The lease of
        // linearizable reads depends on them, and so does the freshness that leader transfer looks
        // at.
        heartbeat_min_interval: Some(0),
        // A node that was cut off must not depose a healthy leader with a higher term when it
        // returns. Off by default.
        enable_pre_vote: Some(true),
        // A restarted leader must win an election like any other node: its state may be older than
        // what it served.
        enable_leader_restore: Some(false),
        // A follower whose log went back has lost acknowledged data. Accepting it silently could
        // lose a committed entry.
        allow_log_reversion: None,
        max_payload_entries: MAX_ENTRIES_PER_REQUEST,
        max_append_entries: Some(MAX_ENTRIES_PER_APPEND),
        // The proposal gate batches without a timer; a linger of 1 ms would cost a lone client 2
        // ms.
        api_batch_linger_ms: 0,
        api_channel_size: Some(CORE_QUEUE),
        // Snapshots are taken by bytes and time (snapshot/policy.rs), not by entries.
        snapshot_policy: SnapshotPolicy::Never,
        install_snapshot_timeout: millis(INSTALL_SNAPSHOT_TIMEOUT),
        // The log is purged by bytes (snapshot/policy.rs): openraft itself never purges behind a
        // snapshot.
        max_in_snapshot_log_to_keep: u64::MAX,
        // Counts only for openraft's own purging, which is off. The default of 1 would delete entry
        // by entry.
        purge_batch_size: 10_000,
        // The network sets the pauses (`NetBackoff`); this is openraft's fallback.
        backoff: format!("{}ms ...{}ms", millis(RECONNECT_FIRST), millis(RECONNECT_LONGEST)),
        ..openraft::Config::default()
    };
    Ok(Arc::new(settings.validate()?))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A configuration for tests of this room: a single node with small limits.
#[cfg(test)]
pub(crate) fn config_for_tests(data_dir: &std::path::Path) -> Config {
    Config {
        snapshot_log_bytes: 1 << 20,
        keep_log_bytes: 1 << 20,
        block_cache_bytes: 1 << 20,
        ..Config::single_node(data_dir).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_protect_acknowledged_data_are_set() {
        let settings = raft_config(&config_for_tests(std::path::Path::new("/nowhere"))).unwrap();
        assert_eq!(settings.enable_pre_vote, Some(true));
        assert_eq!(settings.enable_leader_restore, Some(false));
        assert_eq!(settings.allow_log_reversion, None);
        assert_eq!(settings.snapshot_policy, SnapshotPolicy::Never);
    }

    #[test]
    fn timeouts_that_do_not_fit_each_other_are_refused() {
        let mut config = config_for_tests(std::path::Path::new("/nowhere"));
        config.heartbeat_interval = config.election_timeout_max;
        assert!(raft_config(&config).is_err());
    }
}
