//! How far a subcommand has come: a bar on a terminal, else a plain line from time to time.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use parking_lot::Mutex;

/// Time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Drawings of a bar in a second.
const DRAWINGS_PER_SECOND: u8 = 5;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things with this name in the plural.
    Things(&'static str),
    /// Bytes.
    Bytes,
}

impl Unit {
    fn show(self, count: u64) -> String {
        match self {
            Self::Things(name) => format!("{} {name}", HumanCount(count)),
            Self::Bytes => HumanBytes(count).to_string(),
        }
    }
}

/// Progress of one duty on standard error. Methods may be called from several tasks.
pub(crate) struct Progress {
    /// Hidden where standard error is no terminal; it still counts, and knows rate and time left.
    bar: ProgressBar,
    unit: Unit,
    what: &'static str,
    started: Instant,
    is_terminal: bool,
    next_line: Mutex<Instant>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("what", &self.what).field("done", &self.bar.position()).finish_non_exhaustive()
    }
}

impl Progress {
    /// Begins to show the progress of `what` (a participle, as in "copied"), of which there is
    /// `total` if that is known.
    pub(crate) fn new(what: &'static str, unit: Unit, total: Option<u64>) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal {
            ProgressDrawTarget::stderr_with_hz(DRAWINGS_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        bar.set_style(style(unit, total.is_some()));
        let now = Instant::now();
        Self { bar, unit, what, started: now, is_terminal, next_line: Mutex::new(now + LINE_INTERVAL) }
    }

    /// Counts what was already done by an earlier run, which does not count for the rate.
    pub(crate) fn resume_at(&self, done: u64) {
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// Corrects how much there is in all.
    pub(crate) fn set_total(&self, total: u64) {
        if self.bar.length().is_none() {
            self.bar.set_style(style(self.unit, true));
        }
        self.bar.set_length(total);
    }

    /// Counts what has been done in addition.
    pub(crate) fn advance(&self, count: u64) {
        self.bar.inc(count);
        self.line_if_due();
    }

    /// Prints a line above the bar.
    pub(crate) fn say(&self, line: &str) {
        if self.is_terminal { self.bar.suspend(|| tell!("{line}")) } else { tell!("{line}") }
    }

    /// Removes the bar and prints what was done, in which time.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        let done = self.unit.show(self.bar.position());
        // Standard error may be closed; then nobody reads this.
        let _ = writeln!(std::io::stderr(), "{} {done} in {seconds:.1} s", self.what);
    }

    /// Removes the bar: there is nothing to say.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn line_if_due(&self) {
        if self.is_terminal {
            return;
        }
        let now = Instant::now();
        let mut next = self.next_line.lock();
        if now < *next {
            return;
        }
        *next = now + LINE_INTERVAL;
        let _ = writeln!(std::io::stderr(), "{}", self.line());
    }

    fn line(&self) -> String {
        let done = self.unit.show(self.bar.position());
        let rate = self.unit.show(self.bar.per_sec() as u64);
        match self.bar.length() {
            Some(total) => {
                let percent = self.bar.position().saturating_mul(100) / total.max(1);
                let left = HumanDuration(self.bar.eta());
                format!("{} {done} of {} ({percent} %), {rate} a second, {left} left", self.what, self.unit.show(total))
            }
            None => format!("{} {done}, {rate} a second", self.what),
        }
    }
}

fn style(unit: Unit, has_total: bool) -> ProgressStyle {
    let counts = match unit {
        Unit::Things(_) => ["{human_pos}", "{human_len}", "{rate}"],
        Unit::Bytes => ["{bytes}", "{total_bytes}", "{rate}"],
    };
    let [done, total, rate] = counts;
    let template = if has_total {
        format!("{{wide_bar}} {done} of {total}, {rate}, {{eta}} left")
    } else {
        format!("{{spinner}} {done}, {rate}, {{elapsed}}")
    };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", move |state: &ProgressState, out: &mut dyn fmt::Write| {
        // Writing to the line cannot fail.
        let _ = write!(out, "{}/s", unit.show(state.per_sec() as u64));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_tells_how_much_is_done_and_left() {
        let progress = Progress::new("copied", Unit::Things("events"), Some(2_000));
        progress.advance(500);
        let line = progress.line();
        assert!(line.starts_with("copied 500 events of 2,000 events (25 %), "), "{line}");
        let unknown = Progress::new("written", Unit::Bytes, None);
        unknown.advance(2_048);
        assert!(unknown.line().starts_with("written 2.00 KiB, "), "{}", unknown.line());
    }
}
