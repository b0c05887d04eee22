//! Watches the clock of the machine: what operators should hear of it, and what it means for the
//! times of events.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;

use crate::event::{Stamps, Ticks};
use crate::metrics::Metrics;

/// How often the clock is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A clock that is corrected little by little, as it should be, stays far below this in
/// [`LOOK_INTERVAL`].
const MAX_CORRECTION: Duration = Duration::from_secs(1);

/// Looks at the clock until it is stopped.
pub(super) struct ClockWatch {
    stamps: Arc<Stamps>,
    jumps: Counter,
    behind_log_seconds: Gauge,
}

impl ClockWatch {
    pub(super) fn new(stamps: Arc<Stamps>, metrics: &Metrics) -> Self {
        let (jumps, behind_log_seconds) = (Counter::default(), Gauge::default());
        metrics.register(|registry| {
            registry.register("clock_jumps", "Jumps of the clock of this machine", jumps.clone());
            registry.register(
                "clock_behind_log_seconds",
                "How far the clock of this machine is behind the time of the newest write",
                behind_log_seconds.clone(),
            );
        });
        Self { stamps, jumps, behind_log_seconds }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let mut last = Reading::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let now = Reading::now();
            if let Some(jump) = now.jump_since(&last) {
                self.jumps.inc();
                tracing::warn!(
                    "the clock of this machine jumped by {jump}; times of events never go back (docs/operations.md)"
                );
            }
            self.behind_log_seconds.set(seconds_behind(self.stamps.newest(), now.clock));
            last = now;
        }
    }
}

fn seconds_behind(newest_write: Ticks, clock: SystemTime) -> i64 {
    let ticks = newest_write.0.saturating_sub(Ticks::from_system_time(clock).0);
    (ticks / Ticks::PER_SECOND).try_into().unwrap_or(i64::MAX)
}

/// The clock, and a time that only goes on.
struct Reading {
    clock: SystemTime,
    monotonic: Instant,
}

impl Reading {
    fn now() -> Self {
        Self { clock: SystemTime::now(), monotonic: Instant::now() }
    }

    /// How far the clock moved beyond what passed since `earlier`, for people; `None` when that is
    /// little.
    fn jump_since(&self, earlier: &Self) -> Option<String> {
        let passed = self.monotonic.duration_since(earlier.monotonic);
        let expected = earlier.clock.checked_add(passed)?;
        let (sign, jump) = match self.clock.duration_since(expected) {
            Ok(ahead) => ('+', ahead),
            Err(behind) => ('-', behind.duration()),
        };
        (jump > MAX_CORRECTION).then(|| format!("{sign}{} s", jump.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_passed_is_no_jump_and_everything_else_is_told() {
        let start = Instant::now();
        let at = |clock_s: u64, monotonic_s: u64| Reading {
            clock: UNIX_EPOCH + Duration::from_secs(clock_s),
            monotonic: start + Duration::from_secs(monotonic_s),
        };
        let jump = |clock_s, monotonic_s| at(clock_s, monotonic_s).jump_since(&at(10_000, 0));
        assert_eq!(jump(10_001, 1), None);
        // The machine was busy, or the process stopped.
        assert_eq!(jump(10_100, 100), None);
        assert_eq!(jump(10_002, 1), None, "corrected");
        assert_eq!(jump(13_601, 1).as_deref(), Some("+3600 s"));
        assert_eq!(jump(6_401, 1).as_deref(), Some("-3600 s"));
        assert_eq!(jump(10_000, 100).as_deref(), Some("-100 s"));
    }

    #[test]
    fn a_clock_behind_the_newest_write_is_measured_in_seconds() {
        let newest = Ticks(100 * Ticks::PER_SECOND);
        let behind = |clock_s: u64| seconds_behind(newest, UNIX_EPOCH + Duration::from_secs(clock_s));
        assert_eq!([behind(40), behind(100), behind(1_000)], [60, 0, 0]);
    }
}
