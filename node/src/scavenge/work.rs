//! The work of the leader on a run: step by step through all streams, slowly enough for everybody
//! else.

use std::time::{Duration, Instant};

use headwater_proto::stored::{Command, Scavenge, command::Kind};

use super::record::{self, Run, RunResult};
use super::{Inner, ScavengeError, now, settings, since};
use crate::event::removal::MAX_SCAVENGED_STREAMS;
use crate::event::{Ticks, WriteOutcome};
use crate::store::{Candidate, Scanned};

/// Streams that are looked at in one step.
const SCANNED_STREAMS: usize = 1_024;

/// Events that one command removes: a few milliseconds of the apply thread.
const REMOVED_EVENTS: u32 = 1_024;

/// How often the run says in its stream how far it has come: what it has removed since is not
/// counted when the leader dies.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// The same in the first minute: most runs are short.
const FIRST_PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long these first intervals are.
const FIRST_MINUTE: Duration = Duration::from_secs(60);

/// How long to wait after a failure, and between two looks whether there is something to do.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A run is started when so many bytes can be removed ..
const WORTHWHILE_BYTES: u64 = 64 << 20;

/// .. or this share of the state: a twentieth.
const WORTHWHILE_SHARE: u64 = 20;

/// Until a minute after its start a node has more important things to do.
const FIRST_CHECK: Duration = Duration::from_secs(60);

/// When it was last looked whether there is something to remove.
struct Look {
    at: Instant,
    /// Nobody has looked yet, since the start.
    is_first: bool,
}

impl Look {
    /// Whether it is time for the next look, with this interval, which may have changed.
    fn is_due(&self, interval: Duration) -> bool {
        let wait = if self.is_first { FIRST_CHECK.min(interval) } else { interval };
        !interval.is_zero() && self.at.elapsed() >= wait
    }
}

/// Goes on with runs while this node leads, and starts them when they are due.
pub(super) async fn run(inner: &Inner) {
    let mut resting = None;
    let mut looked = Look { at: Instant::now(), is_first: true };
    loop {
        inner.metrics.running.set(0);
        inner.metrics.eta_seconds.set(0);
        // Taken before the look, so that no run that is started in between is missed.
        let mut runs = inner.cluster.store().applied().watch_stream(record::RUNS);
        if inner.cluster.leads() && inner.cluster.has_recovered() {
            match inner.newest().await {
                Ok(Some(run)) if run.is_running() && !run.stops && inner.is_resting(&run) => {
                    if resting.replace(run.id) != Some(run.id) {
                        tracing::info!(id = %run.id, "the scavenge rests until the hours of --scavenge-window");
                    }
                }
                Ok(Some(run)) if run.is_running() => {
                    resting = None;
                    inner.metrics.running.set(1);
                    if let Err(error) = Work::new(inner, run).go_on().await {
                        tracing::warn!(%error, "the scavenge is interrupted; it goes on soon");
                        tokio::time::sleep(RETRY_INTERVAL).await;
                    }
                    continue;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot read whether a scavenge is running; the node looks again in a second")
                }
            }
            if looked.is_due(inner.config.live.now().scavenge_interval) && inner.is_time_of_day() {
                looked = Look { at: Instant::now(), is_first: false };
                if let Err(error) = start_if_worthwhile(inner).await {
                    tracing::warn!(%error, "the scavenge that is due was not started");
                }
                continue;
            }
        }
        // Leadership is asked for again after this time.
        let _ = tokio::time::timeout(RETRY_INTERVAL, runs.changed()).await;
    }
}

/// Starts a run when there is enough to remove.
async fn start_if_worthwhile(inner: &Inner) -> Result<(), ScavengeError> {
    let store = inner.cluster.store().clone();
    let state_bytes = tokio::task::spawn_blocking(move || store.table_bytes().unwrap_or(0)).await.unwrap_or(0);
    let found = look(inner, &None).await?;
    let worthwhile = WORTHWHILE_BYTES.min(state_bytes / WORTHWHILE_SHARE).max(1);
    if found.bytes >= worthwhile || (found.forgets && found.bytes > 0) {
        tracing::info!(events = found.events, bytes = found.bytes, "a scavenge is worthwhile");
        match inner.start(true).await {
            Ok(_) | Err(ScavengeError::Running) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a look at all streams found that can be removed, all together.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    events: u64,
    bytes: u64,
    /// Ids can be forgotten.
    forgets: bool,
}

/// Goes through the streams behind `after` without removing anything.
async fn look(inner: &Inner, after: &Option<String>) -> Result<Found, ScavengeError> {
    let (mut found, mut after) = (Found::default(), after.clone());
    loop {
        let Scanned { candidates, reached } = scan(inner, after).await?;
        for candidate in candidates {
            found.events += candidate.events;
            found.bytes += candidate.bytes;
            found.forgets |= candidate.events == 0;
        }
        after = reached;
        if after.is_none() {
            inner.metrics.removable_bytes.set(i64::try_from(found.bytes).unwrap_or(i64::MAX));
            return Ok(found);
        }
        // The disk is for others in between.
        tokio::task::yield_now().await;
    }
}

async fn scan(inner: &Inner, after: Option<String>) -> Result<Scanned, ScavengeError> {
    let now = now();
    let read = move |view: &crate::store::ReadView<'_>| {
        let forget = forget_removed_before(settings::id_retention(view)?, now);
        view.scan_removable(after.as_deref(), SCANNED_STREAMS, now, forget)
    };
    Ok(inner.cluster.store().read_apart(read).await?)
}

/// The ids of events that were removed before this time are forgotten.
fn forget_removed_before(retention: Option<Duration>, now: Ticks) -> Ticks {
    let ticks = |of: Duration| u64::try_from(of.as_nanos() / 100).unwrap_or(u64::MAX);
    // With no time at all, those that were removed a moment ago as well.
    retention.map_or(Ticks(0), |retention| Ticks(now.0.saturating_sub(ticks(retention))))
}

/// A run under way on this node.
struct Work<'a> {
    inner: &'a Inner,
    run: Run,
    /// When it was said last how far it has come.
    said: Instant,
    /// When this node took the run up, and what was removed then.
    taken_up: (Instant, u64),
    /// Bytes that can be removed, as found at the beginning.
    total_bytes: u64,
}

impl<'a> Work<'a> {
    fn new(inner: &'a Inner, run: Run) -> Self {
        let bytes = run.bytes;
        Self { inner, run, said: Instant::now(), taken_up: (Instant::now(), bytes), total_bytes: 0 }
    }

    /// Removes until nothing is left, the run is stopped, or another node leads.
    async fn go_on(mut self) -> Result<(), ScavengeError> {
        let found = look(self.inner, &self.run.reached).await?;
        self.total_bytes = found.bytes;
        let id = self.run.id;
        tracing::info!(%id, events = found.events, bytes = found.bytes, "scavenging");
        loop {
            if !self.still_runs().await? {
                return self.leave().await;
            }
            let Scanned { candidates, reached } = scan(self.inner, self.run.reached.clone()).await?;
            if !self.remove(&candidates).await? {
                return self.leave().await;
            }
            let is_done = reached.is_none();
            self.run.reached = reached.or(self.run.reached);
            if is_done {
                return self.finish().await;
            }
            self.say_progress().await?;
        }
    }

    /// Whether the run goes on, now, and this node leads. Takes over what was said of the run.
    async fn still_runs(&mut self) -> Result<bool, ScavengeError> {
        let newest = self.inner.newest().await?;
        let Some(newest) = newest.filter(|newest| newest.id == self.run.id && newest.is_running()) else {
            tracing::info!(id = %self.run.id, "the scavenge was stopped");
            return Ok(false);
        };
        self.run.last = newest.last;
        self.run.rests = newest.rests;
        self.run.stops = newest.stops;
        self.run.last_of_runs = newest.last_of_runs;
        Ok(self.inner.cluster.leads() && !self.run.stops && !self.inner.is_resting(&self.run))
    }

    /// Ends the run if it is to stop, and says how far it has come if it rests.
    async fn leave(&mut self) -> Result<(), ScavengeError> {
        if !self.inner.cluster.leads() {
            return Ok(());
        }
        if self.run.stops {
            self.inner.end(&self.run, RunResult::Stopped, None).await?;
        } else if self.inner.is_resting(&self.run) {
            self.inner.say(&self.run).await?;
        }
        Ok(())
    }

    /// Removes what can be removed of these streams. False when the run has ended.
    async fn remove(&mut self, mut candidates: &[Candidate]) -> Result<bool, ScavengeError> {
        let mut checked = Instant::now();
        while !candidates.is_empty() {
            let began = Instant::now();
            let (finished, bytes) = self.step(for_one_command(candidates)).await?;
            candidates = candidates.get(finished..).unwrap_or_default();
            self.show_eta();
            let mut pause = self.inner.pause_after(began.elapsed(), bytes);
            while !pause.is_zero() || checked.elapsed() >= RETRY_INTERVAL {
                if checked.elapsed() >= RETRY_INTERVAL {
                    checked = Instant::now();
                    if !self.still_runs().await? {
                        return Ok(false);
                    }
                    self.say_progress().await?;
                }
                // The run may be stopped in a long pause.
                let part = pause.min(RETRY_INTERVAL);
                tokio::time::sleep(part).await;
                pause -= part;
            }
        }
        Ok(true)
    }

    /// One command. Returns how many streams are finished, and the bytes that were removed.
    async fn step(&mut self, candidates: &[Candidate]) -> Result<(usize, u64), ScavengeError> {
        let retention = self.inner.cluster.store().read(settings::id_retention).await?;
        let command = Command::of_maintenance(Kind::Scavenge(Scavenge {
            streams: candidates.iter().map(|candidate| candidate.stream.clone()).collect(),
            max_events: REMOVED_EVENTS,
            forget_removed_before: forget_removed_before(retention, now()).0,
        }));
        match self.inner.write(&command).await? {
            WriteOutcome::Scavenged { events, bytes, finished_streams } => {
                self.run.events += events;
                self.run.bytes += bytes;
                self.inner.metrics.removed_events.inc_by(events);
                self.inner.metrics.removed_bytes.inc_by(bytes);
                Ok((finished_streams as usize, bytes))
            }
            outcome => Err(ScavengeError::Refused(outcome.to_string())),
        }
    }

    fn show_eta(&self) {
        let (since, bytes) = self.taken_up;
        let removed = self.run.bytes.saturating_sub(bytes);
        let left = self.total_bytes.saturating_sub(removed);
        let as_before = since.elapsed().as_secs_f64() * left as f64 / (removed.max(1)) as f64;
        let at_most = left as f64 / self.inner.config.live.now().scavenge_bytes_per_second.max(1) as f64;
        let seconds = as_before.max(at_most);
        self.inner.metrics.eta_seconds.set(seconds.min(1e9) as i64);
        self.inner.metrics.removable_bytes.set(i64::try_from(left).unwrap_or(i64::MAX));
    }

    async fn say_progress(&mut self) -> Result<(), ScavengeError> {
        let taken = since(self.run.started, now());
        let interval = if taken < FIRST_MINUTE { FIRST_PROGRESS_INTERVAL } else { PROGRESS_INTERVAL };
        if self.said.elapsed() < interval {
            return Ok(());
        }
        self.said = Instant::now();
        // Whether it is stored or not, the next look tells the newest event.
        self.inner.write(&record::progress(&self.run, &self.inner.node(), taken)).await?;
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), ScavengeError> {
        let (id, events, bytes) = (self.run.id, self.run.events, self.run.bytes);
        if self.still_runs().await? && self.inner.end(&self.run, RunResult::Success, None).await? {
            self.inner.metrics.removable_bytes.set(0);
            tracing::info!(%id, events, bytes, "the scavenge is done");
        }
        Ok(())
    }
}

/// The first of these, with as many events as one command removes.
fn for_one_command(candidates: &[Candidate]) -> &[Candidate] {
    let mut events = 0;
    let is_enough = |candidate: &Candidate| {
        events += candidate.events;
        events >= u64::from(REMOVED_EVENTS)
    };
    let enough = candidates.iter().position(is_enough).map_or(candidates.len(), |last| last + 1);
    &candidates[..enough.min(MAX_SCAVENGED_STREAMS)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_no_more_streams_than_it_needs() {
        let candidate = |events| Candidate { stream: "s".into(), events, bytes: 0 };
        let some = |events: &[u64]| for_one_command(&events.iter().map(|of| candidate(*of)).collect::<Vec<_>>()).len();
        assert_eq!(some(&[5, 5]), 2);
        assert_eq!(some(&[5_000, 5]), 1);
        assert_eq!(some(&[1_000, 24, 1]), 2);
        assert_eq!(some(&[0; 3_000]), MAX_SCAVENGED_STREAMS);
    }

    #[test]
    fn ids_are_forgotten_when_their_time_has_passed() {
        let now = Ticks(100 * Ticks::PER_SECOND);
        assert_eq!(forget_removed_before(None, now), Ticks(0));
        assert_eq!(forget_removed_before(Some(Duration::from_secs(30)), now), Ticks(70 * Ticks::PER_SECOND));
        assert_eq!(forget_removed_before(Some(Duration::ZERO), now), now);
        assert_eq!(forget_removed_before(Some(Duration::MAX), now), Ticks(0));
    }
}
