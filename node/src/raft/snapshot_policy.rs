//! When to take a snapshot and how much log to keep: by bytes and time, where openraft would count entries.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use tokio_util::sync::CancellationToken;

use super::Raft;
use super::apply::ApplyHandle;
use super::outgoing::{Needs, Outgoing, Replication};
use super::snapshot::SnapshotStore;
use crate::config::Config;
use crate::fatal;
use crate::log::{Log, LogError, Record};

/// How often the policy looks. Nothing depends on its precision.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after an attempt that failed: a checkpoint holds up the apply thread, and a full disk is seldom emptied within a second.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Entries read at start to estimate how the bytes of the log are spread.
const ESTIMATE_SAMPLES: u64 = 256;

/// Log is kept for receivers of snapshots beyond what is configured, up to this many times the larger of what is kept and what makes a
/// snapshot: many times what is written while even a large state is sent, and still a bound on what a receiver that never gets done
/// costs of the disk. It is no more than `LogVolume` looks back in any case.
const HELD_LOG_FACTOR: u64 = 16;

/// The background task; see [`SnapshotPolicy::run`].
pub struct SnapshotPolicy {
    raft: Raft,
    apply: ApplyHandle,
    snapshots: Arc<SnapshotStore>,
    outgoing: Outgoing,
    /// Take one after this many bytes of applied log ...
    log_bytes: u64,
    /// ... or after this time, if anything was applied.
    interval: Duration,
    /// Log kept below the newest snapshot.
    keep_log_bytes: u64,
    /// Purged up to and including this entry, as far as openraft was told by this process.
    purge_to: Option<u64>,
    /// The newest snapshot seen, and when this process first saw it.
    newest: Option<u64>,
    newest_at: Instant,
    /// The last attempt, if it failed: why, and when.
    failed: Option<(String, Instant)>,
}

impl SnapshotPolicy {
    /// With the limits of the configuration.
    pub fn new(
        raft: Raft,
        apply: ApplyHandle,
        snapshots: Arc<SnapshotStore>,
        outgoing: Outgoing,
        config: &Config,
    ) -> Self {
        Self {
            raft,
            apply,
            snapshots,
            outgoing,
            log_bytes: config.snapshot_log_bytes,
            interval: config.snapshot_interval,
            keep_log_bytes: config.keep_log_bytes,
            purge_to: None,
            newest: None,
            newest_at: Instant::now(),
            failed: None,
        }
    }

    /// Works until `shutdown`, or until openraft has stopped (which whoever watches it reports).
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let looking = async {
            loop {
                looks.tick().await;
                if self.look().await.is_err() {
                    return;
                }
            }
        };
        shutdown.run_until_cancelled(looking).await;
    }

    async fn look(&mut self) -> Result<(), openraft::errors::Fatal<super::TypeConfig>> {
        let (snapshot, applied, purged, replication) = {
            let data = self.raft.data_metrics();
            let data = data.borrow_watched();
            let index = |log_id: &Option<super::types::LogId>| log_id.as_ref().map(|log_id| log_id.index);
            (index(&data.snapshot), index(&data.last_applied), index(&data.purged), data.replication.clone())
        };
        if snapshot > self.newest {
            self.newest = snapshot;
            self.newest_at = Instant::now();
        }
        let purge_to = snapshot.and_then(|snapshot| self.dispensable(snapshot, replication.as_ref()));
        if let Some(index) = purge_to
            && purge_to > purged.max(self.purge_to)
        {
            tracing::info!(purge_to = index, snapshot, "purging the log below the snapshot");
            self.raft.trigger().purge_log(index).await?;
            self.purge_to = purge_to;
        }
        let Some(applied) = applied else { return Ok(()) };
        if self.is_due(snapshot.max(self.built()), applied) {
            self.build().await;
        }
        if self.built() > snapshot {
            self.raft.trigger().snapshot().await?;
        }
        Ok(())
    }

    /// The last entry of the log below `snapshot` that nobody needs.
    fn dispensable(&self, snapshot: u64, replication: Option<&Replication>) -> Option<u64> {
        let volume = self.apply.volume().lock();
        let purge_to = volume.index_below(snapshot, self.keep_log_bytes)?;
        let most = self.keep_log_bytes.max(self.log_bytes).saturating_mul(HELD_LOG_FACTOR);
        let mut dispensable = purge_to;
        for Needs { target, after } in self.outgoing.needs(replication, purge_to, Instant::now()) {
            let held_bytes = volume.bytes_at(snapshot).saturating_sub(volume.bytes_at(after));
            if held_bytes > most {
                tracing::warn!(
                    peer = %target,
                    held_bytes,
                    "the log is no longer kept for a node that is sent a snapshot, and it may need another: raise --keep-log-bytes, and \
                     --snapshot-bytes-per-second if the network allows it"
                );
                self.outgoing.give_up(target);
                continue;
            }
            dispensable = dispensable.min(after);
        }
        Some(dispensable)
    }

    /// The newest snapshot there is; openraft hears of it a moment later.
    fn built(&self) -> Option<u64> {
        self.snapshots.current()?.last_index()
    }

    /// Takes a snapshot. Without one the node lacks nothing but room: what keeps it from succeeding is told once, and it is tried again.
    async fn build(&mut self) {
        if self.failed.as_ref().is_some_and(|(_, at)| at.elapsed() < RETRY_PAUSE) {
            return;
        }
        let error = match self.snapshots.build(&self.apply).await {
            Ok(_) => {
                self.newest_at = Instant::now();
                self.failed = None;
                return;
            }
            Err(error) => error,
        };
        if is_damage(&error) {
            fatal::stop("a snapshot cannot be taken: the disk or the state is damaged", &error);
        }
        let reason = error.to_string();
        if self.failed.as_ref().is_none_or(|(told, _)| *told != reason) {
            tracing::error!(
                reason,
                "cannot take a snapshot, and the log grows until it succeeds: look after space, permissions and open files; trying again"
            );
        }
        self.failed = Some((reason, Instant::now()));
    }

    fn is_due(&self, snapshot: Option<u64>, applied: u64) -> bool {
        if Some(applied) <= snapshot {
            return false;
        }
        let volume = self.apply.volume().lock();
        let since = volume.total() - snapshot.map_or(0, |index| volume.bytes_at(index));
        since >= self.log_bytes || self.newest_at.elapsed() >= self.interval
    }
}

/// Whether a failure says that what was written cannot be relied on, as opposed to what an operator can put right while the node runs.
fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData || error.raw_os_error() == Some(libc::EIO)
}

/// How the bytes of the log before `end` are spread, as (index, bytes of log up to it), estimated from some entries of it. Blocking.
pub fn estimate_volume<R: Record>(log: &Log<R>, end: u64) -> Result<Vec<(u64, u64)>, LogError> {
    let extent = log.extent();
    let end = end.min(extent.end);
    let step = (end.saturating_sub(extent.first) / ESTIMATE_SAMPLES).max(1);
    let mut samples = Vec::new();
    let mut bytes = 0_u64;
    let mut index = extent.first;
    while index < end {
        let next = index.saturating_add(step).min(end);
        let weight = log.read_bounded(index..index + 1, 1)?.first().map_or(0, Record::weight) as u64;
        bytes = bytes.saturating_add(weight.saturating_mul(next - index));
        samples.push((next - 1, bytes));
        index = next;
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::super::settings::config_for_tests;
    use super::super::{Dialer, LocalIdentity, Member, NodeId, Proposal, build};
    use super::*;
    use crate::event::Ticks;
    use crate::metrics::Metrics;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_snapshot_that_cannot_be_taken_is_tried_again_and_writes_go_on() {
        let data = tempfile::tempdir().unwrap();
        let config = Config { snapshot_log_bytes: 1, ..config_for_tests(data.path()) };
        let id = NodeId::generate(1);
        let identity = Arc::new(LocalIdentity::new(id, Some([7; 16])));
        let resolve: super::super::Resolve = Arc::new(|_, member: &Member| member.clone());
        let parts = build(&config, identity, Dialer::default(), resolve, Metrics::new()).await.unwrap();
        let raft = parts.raft.clone();
        raft.run();
        let alone = Member { raft_address: "127.0.0.1:1".to_owned(), http_address: String::new() };
        raft.initialize(BTreeMap::from([(id, alone)])).await.unwrap();
        raft.wait(Some(PATIENCE)).current_leader(id, "it leads").await.unwrap();
        let write = || async {
            let written = raft.client_write(Proposal { time: Ticks(1), commands: [].into() }).await.unwrap();
            raft.wait(Some(PATIENCE)).applied_index_at_least(Some(written.log_id.index), "applied").await.unwrap();
        };
        write().await;

        let (snapshots, away) = (data.path().join("snapshots"), data.path().join("away"));
        fs::rename(&snapshots, &away).unwrap();
        fs::write(&snapshots, b"not a directory").unwrap();
        let (apply, store) = (parts.apply.clone(), parts.snapshots.clone());
        let mut policy = SnapshotPolicy::new(raft.clone(), apply, store, Outgoing::default(), &config);
        policy.look().await.unwrap();
        assert!(policy.failed.is_some() && policy.built().is_none());
        write().await;

        fs::remove_file(&snapshots).unwrap();
        fs::rename(&away, &snapshots).unwrap();
        policy.look().await.unwrap();
        assert!(policy.built().is_none(), "not before a pause");
        if let Some((_, at)) = &mut policy.failed {
            *at -= RETRY_PAUSE;
        }
        policy.look().await.unwrap();
        assert!(policy.failed.is_none());
        let built = parts.snapshots.current().unwrap().meta().last_log_id.unwrap();
        raft.wait(Some(PATIENCE)).snapshot(built, "consensus knows of it").await.unwrap();
        parts.stop().await;
    }
}
