//! Giving back what nobody can see any more.
//!
//! A run goes through all streams and removes, by replicated commands, the events that deletion,
//! `$tb`, `$maxCount` and `$maxAge` have put out of sight (docs/adr/0021-removal-is-replicated.md).
//! The leader does the work of the one run there is; every node rewrites its own tables afterwards,
//! so that the disk gets its space back.

mod figures;
mod merge;
mod reclaim;
mod record;
mod settings;
mod work;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use headwater_proto::stored::Command;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::access::Operator;
use crate::cluster::{Cluster, EncodedCommand, Requester, UPKEEP_HAS_TO_WAIT, Write, WriteError};
use crate::config::Config;
use crate::event::{Ticks, WriteOutcome};
use crate::store::ReadError;
pub(crate) use figures::ScavengeMetrics;
use record::Beginning;
pub(crate) use record::{Run, RunResult};

/// How often a stop, or a start, is tried again when the run comes further at the same moment.
const ATTEMPTS: usize = 5;

/// How long a stop waits for the leader to end the run.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// After each step of background work, others have the node to themselves for so many times as long
/// as the step took. With less, appends and reads lose more than a quarter of their rate on two
/// cores.
const TIME_FOR_OTHERS: u32 = 4;

/// Runs of the cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scavenger {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    config: Arc<Config>,
    metrics: ScavengeMetrics,
    merges: merge::Merges,
}

/// Why a run is not started or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScavengeError {
    /// There is one already.
    #[error("a scavenge is already running")]
    Running,
    /// No run of this id goes on.
    #[error("no such scavenge is running")]
    NotFound,
    /// A member of the cluster runs a version that does not know removed events.
    #[error("{UPKEEP_HAS_TO_WAIT}")]
    TooOld,
    /// No leader, or this node is starting or stopping.
    #[error("the node is not ready")]
    NotReady,
    /// It is not known whether the run was started or stopped.
    #[error("the outcome is not known")]
    Unknown,
    /// The machine refused a command; a defect.
    #[error("the command was refused: {0}")]
    Refused(String),
}

impl From<ReadError> for ScavengeError {
    fn from(_: ReadError) -> Self {
        Self::NotReady
    }
}

impl From<WriteError> for ScavengeError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoLeader | WriteError::Busy | WriteError::Denied | WriteError::NotYet(_) => Self::NotReady,
            WriteError::Unknown => Self::Unknown,
        }
    }
}

impl Scavenger {
    /// The runs of this cluster; nothing happens until [`Self::run`].
    pub(crate) fn new(cluster: Cluster, config: Arc<Config>, metrics: ScavengeMetrics) -> Self {
        Self { inner: Arc::new(Inner { cluster, config, metrics, merges: merge::Merges::default() }) }
    }

    /// Works until `stop`: as leader on runs, as any node on its own tables.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let work = async {
            tokio::join!(work::run(&self.inner), reclaim::run(&self.inner), merge::run(&self.inner));
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Starts a run, whichever node leads. A run that the leader has started by itself goes on at
    /// once, whatever the configured hours are.
    ///
    /// # Errors
    /// See [`ScavengeError`].
    pub(crate) async fn start(&self, _by: &Operator) -> Result<Uuid, ScavengeError> {
        self.inner.cluster.catch_up().await.map_err(|_| ScavengeError::NotReady)?;
        for _ in 0..ATTEMPTS {
            match self.inner.newest().await?.filter(|run| run.is_running() && run.rests) {
                None => return self.inner.start(false).await,
                // It may be resting for hours.
                Some(run) if self.inner.say(&Run { rests: false, ..run.clone() }).await? => return Ok(run.id),
                Some(_) => {}
            }
        }
        Err(ScavengeError::NotReady)
    }

    /// Stops a run. What it has removed stays removed. Returns when the leader has ended it, and at
    /// the latest after [`STOP_PATIENCE`]: it ends soon then.
    ///
    /// # Errors
    /// See [`ScavengeError`].
    pub(crate) async fn stop(&self, id: Uuid, _by: &Operator) -> Result<(), ScavengeError> {
        self.inner.cluster.catch_up().await.map_err(|_| ScavengeError::NotReady)?;
        for _ in 0..ATTEMPTS {
            let run = self.inner.newest().await?.filter(|run| run.id == id && run.is_running());
            let run = run.ok_or(ScavengeError::NotFound)?;
            if run.stops || self.inner.say(&Run { stops: true, ..run }).await? {
                // Only the leader knows how far it has come.
                let _ = tokio::time::timeout(STOP_PATIENCE, self.inner.end_of(id)).await;
                return Ok(());
            }
        }
        Err(ScavengeError::NotReady)
    }

    /// Rewrites all tables of this node's index in the background. Returns the id of this work, or
    /// of the one that is under way.
    pub(crate) fn merge_indexes(&self, _by: &Operator) -> Uuid {
        self.inner.merges.begin()
    }

    /// The run that was started last, if there was one lately.
    ///
    /// # Errors
    /// See [`ScavengeError`].
    pub(crate) async fn newest(&self, _for: &Operator) -> Result<Option<Run>, ScavengeError> {
        self.inner.newest().await
    }
}

impl Inner {
    async fn newest(&self) -> Result<Option<Run>, ScavengeError> {
        Ok(self.cluster.store().read(record::newest).await?)
    }

    async fn start(&self, rests: bool) -> Result<Uuid, ScavengeError> {
        let store = self.cluster.store();
        let (newest, last_of_runs) =
            store.read(|view| Ok((record::newest(view)?, record::last_of_runs(view)?))).await?;
        if newest.is_some_and(|run| run.is_running()) {
            return Err(ScavengeError::Running);
        }
        if !self.cluster.takes_upkeep().await? {
            return Err(ScavengeError::TooOld);
        }
        let is_described = store.read(record::is_described).await?;
        let id = Uuid::new_v4();
        let beginning = Beginning { id, after: last_of_runs, is_described, rests };
        match self.write(&record::begin(&self.node(), beginning)).await? {
            WriteOutcome::Appended { .. } => Ok(id),
            WriteOutcome::WrongExpectedVersion { .. } => Err(ScavengeError::Running),
            outcome => Err(ScavengeError::Refused(outcome.to_string())),
        }
    }

    /// Says something of a run; false when something else was said of it since.
    async fn say(&self, run: &Run) -> Result<bool, ScavengeError> {
        let taken = since(run.started, now());
        match self.write(&record::progress(run, &self.node(), taken)).await? {
            WriteOutcome::Appended { .. } => Ok(true),
            WriteOutcome::WrongExpectedVersion { .. } => Ok(false),
            outcome => Err(ScavengeError::Refused(outcome.to_string())),
        }
    }

    /// Returns when the run does not go on any more, as this node sees it.
    async fn end_of(&self, id: Uuid) {
        loop {
            let mut runs = self.cluster.store().applied().watch_stream(record::RUNS);
            match self.newest().await {
                Ok(Some(run)) if run.id == id && run.is_running() => runs.changed().await,
                _ => return,
            }
        }
    }

    /// Whether this is one of the hours in which the leader works on its own runs.
    fn is_time_of_day(&self) -> bool {
        self.config.live.now().scavenge_window.is_none_or(|window| window.contains(SystemTime::now()))
    }

    /// Whether the run rests at this hour.
    fn is_resting(&self, run: &Run) -> bool {
        run.rests && !self.is_time_of_day()
    }

    /// Ends a run; false when something else was said of it since.
    async fn end(&self, run: &Run, result: RunResult, error: Option<String>) -> Result<bool, ScavengeError> {
        let taken = since(run.started, now());
        match self.write(&record::end(run, &self.node(), taken, result, error)).await? {
            WriteOutcome::Appended { .. } => Ok(true),
            WriteOutcome::WrongExpectedVersion { .. } => Ok(false),
            outcome => Err(ScavengeError::Refused(outcome.to_string())),
        }
    }

    /// How long to leave the node to others after a step of background work: longer the more they
    /// do, because the step takes longer then.
    fn pause_after(&self, taken: Duration, bytes: u64) -> Duration {
        let at_rate =
            Duration::from_secs_f64(bytes as f64 / self.config.live.now().scavenge_bytes_per_second.max(1) as f64);
        (taken * TIME_FOR_OTHERS).max(at_rate.saturating_sub(taken))
    }

    async fn write(&self, command: &Command) -> Result<WriteOutcome, WriteError> {
        let command = EncodedCommand::of(command);
        self.cluster.write(Write { command, requester: Requester::Node, authorized_in: None }).await
    }

    /// How clients reach this node.
    fn node(&self) -> String {
        self.cluster.status().local.advertised_http
    }
}

fn now() -> Ticks {
    Ticks::from_system_time(SystemTime::now())
}

fn since(earlier: Ticks, later: Ticks) -> Duration {
    Duration::from_nanos(later.0.saturating_sub(earlier.0).saturating_mul(100))
}
