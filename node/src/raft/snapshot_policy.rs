//! When to take a snapshot and how much log to keep: by bytes and time, where openraft would count entries.

use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use tokio_util::sync::CancellationToken;

use super::Raft;
use super::apply::ApplyHandle;
use crate::config::Config;
use crate::log::{Log, LogError, Record};

/// How often the policy looks. Nothing depends on its precision.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A snapshot that was asked for and has not come after this long is asked for again.
const BUILD_PATIENCE: Duration = Duration::from_secs(600);

/// Entries read at start to estimate how the bytes of the log are spread.
const ESTIMATE_SAMPLES: u64 = 256;

/// The background task; see [`SnapshotPolicy::run`].
pub struct SnapshotPolicy {
    raft: Raft,
    apply: ApplyHandle,
    /// Take one after this many bytes of applied log ...
    log_bytes: u64,
    /// ... or after this time, if anything was applied.
    interval: Duration,
    /// Log kept below the newest snapshot.
    keep_log_bytes: u64,
    /// The newest snapshot seen, and when this process first saw it.
    newest: Option<u64>,
    newest_at: Instant,
    /// A build under way: what was applied when it was asked for, and when.
    building: Option<(u64, Instant)>,
}

impl SnapshotPolicy {
    /// With the limits of the configuration.
    pub fn new(raft: Raft, apply: ApplyHandle, config: &Config) -> Self {
        Self {
            raft,
            apply,
            log_bytes: config.snapshot_log_bytes,
            interval: config.snapshot_interval,
            keep_log_bytes: config.keep_log_bytes,
            newest: None,
            newest_at: Instant::now(),
            building: None,
        }
    }

    /// Works until `shutdown`, or until openraft has stopped (which whoever watches it reports).
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = looks.tick() => {}
            }
            if self.look().await.is_err() {
                return;
            }
        }
    }

    async fn look(&mut self) -> Result<(), openraft::errors::Fatal<super::TypeConfig>> {
        let (snapshot, applied, purged) = {
            let data = self.raft.data_metrics();
            let data = data.borrow_watched();
            let index = |log_id: &Option<super::types::LogId>| log_id.as_ref().map(|log_id| log_id.index);
            (index(&data.snapshot), index(&data.last_applied), index(&data.purged))
        };
        if snapshot > self.newest {
            self.newest = snapshot;
            self.newest_at = Instant::now();
            let purge_to =
                snapshot.and_then(|index| self.apply.volume().lock().index_below(index, self.keep_log_bytes));
            if let Some(purge_to) = purge_to
                && Some(purge_to) > purged
            {
                tracing::info!(purge_to, snapshot, "purging the log below the snapshot");
                self.raft.trigger().purge_log(purge_to).await?;
            }
        }
        let Some(applied) = applied else { return Ok(()) };
        if let Some((asked_at_index, asked_at)) = self.building {
            if snapshot < Some(asked_at_index) && asked_at.elapsed() < BUILD_PATIENCE {
                return Ok(());
            }
            self.building = None;
        }
        if self.is_due(snapshot, applied) {
            self.building = Some((applied, Instant::now()));
            self.raft.trigger().snapshot().await?;
        }
        Ok(())
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
