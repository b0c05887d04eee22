//! When to take a snapshot and how much log to keep: by bytes and time, whereas consensus would
//! count entries.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::kept::SnapshotStore;
use super::outgoing::{Needs, Outgoing, Replication};
use crate::apply::ApplyHandle;
use crate::fatal;

/// How often the policy checks. Nothing depends on its precision.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after a failed attempt: a checkpoint holds up the apply thread, and space on a full disk
/// is seldom freed within a second.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Log is kept for receivers of snapshots beyond the configured amount, up to this many times
/// `keep_log_bytes` or `log_bytes`, whichever is larger. This is far more than is written while
/// even a large state is sent, and still bounds the disk space that a receiver costs if it never
/// finishes. In any case it is no more than [`crate::log::Volume`] covers.
const HELD_LOG_FACTOR: u64 = 16;

/// Consensus, as far as snapshots concern it.
pub(crate) trait SnapshotConsensus: Send + Sync + 'static {
    /// Consensus has ended on this node.
    type Error: Send;

    /// Its log and snapshot indexes.
    fn log_marks(&self) -> LogMarks;

    /// Permits it to purge the log up to and including this entry.
    fn purge_log(&self, index: u64) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes it adopt the newest snapshot.
    fn adopt_snapshot(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Log and snapshot indexes of consensus, each that of the last entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogMarks {
    /// In the newest snapshot.
    pub(crate) snapshot: Option<u64>,
    /// Applied to the state.
    pub(crate) applied: Option<u64>,
    /// Purged from the log.
    pub(crate) purged: Option<u64>,
    /// As leader, how far the followers are.
    pub(crate) replication: Option<Replication>,
}

/// How often snapshots are taken and how much log is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A snapshot is taken after this many bytes of applied log ...
    pub(crate) log_bytes: u64,
    /// ... or after this time, if anything was applied.
    pub(crate) interval: Duration,
    /// Log kept below the newest snapshot.
    pub(crate) keep_log_bytes: u64,
}

/// The background task; see [`SnapshotPolicy::run`].
pub(crate) struct SnapshotPolicy<C> {
    consensus: C,
    apply: ApplyHandle,
    snapshots: Arc<SnapshotStore>,
    outgoing: Outgoing,
    limits: Limits,
    /// Purged up to and including this entry, as far as this process has requested.
    purge_to: Option<u64>,
    /// The newest snapshot known, and when this process first saw it.
    newest: Option<u64>,
    newest_at: Instant,
    /// The last attempt, if it failed: the reason and the time.
    failed: Option<(String, Instant)>,
}

impl<C: SnapshotConsensus> SnapshotPolicy<C> {
    /// For the snapshots of one node.
    pub(crate) fn new(
        consensus: C,
        apply: ApplyHandle,
        snapshots: Arc<SnapshotStore>,
        outgoing: Outgoing,
        limits: Limits,
    ) -> Self {
        Self {
            consensus,
            apply,
            snapshots,
            outgoing,
            limits,
            purge_to: None,
            newest: None,
            newest_at: Instant::now(),
            failed: None,
        }
    }

    /// Works until `shutdown`, or until consensus has ended (which is logged elsewhere).
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let looking = async {
            loop {
                checks.tick().await;
                if self.check().await.is_err() {
                    return;
                }
            }
        };
        shutdown.run_until_cancelled(looking).await;
    }

    async fn check(&mut self) -> Result<(), C::Error> {
        let LogMarks { snapshot, applied, purged, replication } = self.consensus.log_marks();
        if snapshot > self.newest {
            self.newest = snapshot;
            self.newest_at = Instant::now();
        }
        let purge_to = snapshot.and_then(|snapshot| self.dispensable(snapshot, replication.as_ref()));
        if let Some(index) = purge_to
            && purge_to > purged.max(self.purge_to)
        {
            tracing::info!(purge_to = index, snapshot, "purging the log below the snapshot");
            self.consensus.purge_log(index).await?;
            self.purge_to = purge_to;
        }
        let Some(applied) = applied else { return Ok(()) };
        if self.is_due(snapshot.max(self.built()), applied) {
            self.build().await;
        }
        if self.built() > snapshot {
            self.consensus.adopt_snapshot().await?;
        }
        Ok(())
    }

    /// The last log entry below `snapshot` that no node needs.
    fn dispensable(&self, snapshot: u64, replication: Option<&Replication>) -> Option<u64> {
        let volume = self.apply.volume().lock();
        let purge_to = volume.index_below(snapshot, self.limits.keep_log_bytes)?;
        let max_held = self.limits.keep_log_bytes.max(self.limits.log_bytes).saturating_mul(HELD_LOG_FACTOR);
        let mut dispensable = purge_to;
        for Needs { target, after } in self.outgoing.needs(replication, purge_to, Instant::now()) {
            let held_bytes = volume.bytes_at(snapshot).saturating_sub(volume.bytes_at(after));
            if held_bytes > max_held {
                tracing::warn!(
                    peer = %target,
                    held_bytes,
                    "the log is no longer kept for a node that is sent a snapshot, which may need another: raise --keep-log-bytes, and \
                     --snapshot-bytes-per-second if the network allows it"
                );
                self.outgoing.give_up(target);
                continue;
            }
            dispensable = dispensable.min(after);
        }
        Some(dispensable)
    }

    /// The newest snapshot; consensus adopts it a moment later.
    fn built(&self) -> Option<u64> {
        self.snapshots.current()?.last_index()
    }

    /// Takes a snapshot. A failed attempt costs the node only disk space, so it is tried again; the
    /// reason is logged once.
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
        since >= self.limits.log_bytes || self.newest_at.elapsed() >= self.limits.interval
    }
}

/// Whether an error means that stored data is unreliable, as opposed to a problem that an operator
/// can solve while the node runs.
fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData || Errno::from_io_error(error) == Some(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use parking_lot::Mutex;

    use super::*;
    use crate::apply::{Entry, EntryId, Payload};
    use crate::metrics::Metrics;
    use crate::store::StateWriter;

    /// Returns the marks it was given, and adopts the newest snapshot.
    #[derive(Clone)]
    struct FakeConsensus {
        known: Arc<Mutex<LogMarks>>,
        snapshots: Arc<SnapshotStore>,
    }

    impl SnapshotConsensus for FakeConsensus {
        type Error = std::convert::Infallible;

        fn log_marks(&self) -> LogMarks {
            self.known.lock().clone()
        }

        async fn purge_log(&self, index: u64) -> Result<(), Self::Error> {
            self.known.lock().purged = Some(index);
            Ok(())
        }

        async fn adopt_snapshot(&self) -> Result<(), Self::Error> {
            self.known.lock().snapshot = self.snapshots.current().and_then(|snapshot| snapshot.last_index());
            Ok(())
        }
    }

    /// A policy over a state to which entries of one byte are applied.
    struct Bench {
        policy: SnapshotPolicy<FakeConsensus>,
        apply: ApplyHandle,
        known: Arc<Mutex<LogMarks>>,
    }

    impl Bench {
        fn new(data: &std::path::Path, log_bytes: u64) -> Self {
            let limits = Limits { log_bytes, interval: Duration::from_secs(3600), keep_log_bytes: 1 << 20 };
            let writer = StateWriter::open(&data.join("state"), 1 << 20).unwrap();
            let apply = ApplyHandle::start(writer, Arc::new(|_| {}), Metrics::new()).unwrap();
            let snapshots = Arc::new(SnapshotStore::open(data, Metrics::new()).unwrap());
            let known: Arc<Mutex<LogMarks>> = Arc::default();
            let consensus = FakeConsensus { known: known.clone(), snapshots: snapshots.clone() };
            let policy = SnapshotPolicy::new(consensus, apply.clone(), snapshots, Outgoing::default(), limits);
            Self { policy, apply, known }
        }

        async fn write(&self) {
            let index = self.known.lock().applied.map_or(0, |last| last + 1);
            let blank = Entry { id: EntryId { term: 1, index }, payload: Payload::Blank };
            self.apply.apply(vec![blank], Box::new(|_| {})).await.unwrap().await.unwrap();
            self.known.lock().applied = Some(index);
        }
    }

    #[tokio::test]
    async fn a_snapshot_that_cannot_be_taken_is_tried_again_and_writes_go_on() {
        let data = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(data.path(), 1);
        bench.write().await;

        let (snapshots, away) = (data.path().join("snapshots"), data.path().join("away"));
        fs::rename(&snapshots, &away).unwrap();
        fs::write(&snapshots, b"not a directory").unwrap();
        bench.policy.check().await.unwrap();
        assert!(bench.policy.failed.is_some() && bench.policy.built().is_none());
        bench.write().await;

        fs::remove_file(&snapshots).unwrap();
        fs::rename(&away, &snapshots).unwrap();
        bench.policy.check().await.unwrap();
        assert!(bench.policy.built().is_none(), "not before a pause");
        if let Some((_, at)) = &mut bench.policy.failed {
            *at -= RETRY_PAUSE;
        }
        bench.policy.check().await.unwrap();
        assert!(bench.policy.failed.is_none());
        assert_eq!(bench.known.lock().snapshot, Some(1), "consensus knows of it");
        bench.apply.shutdown().await;
    }

    #[tokio::test]
    async fn the_log_is_purged_below_the_snapshot_but_for_the_bytes_to_keep() {
        let data = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(data.path(), 1 << 20);
        for index in 0..4 {
            bench.write().await;
            bench.apply.volume().lock().add(index, 1 << 20);
        }
        bench.policy.check().await.unwrap();
        let known = bench.known.lock().clone();
        assert_eq!((known.snapshot, known.purged), (Some(3), None));
        bench.policy.check().await.unwrap();
        assert_eq!(bench.known.lock().purged, Some(2));
        bench.apply.shutdown().await;
    }
}
