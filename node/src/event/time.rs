//! Points in time with the resolution that is stored: 100 ns. Texts show whole microseconds, as
//! many digits as all clients can read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// 100-nanosecond ticks since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ticks(pub(crate) u64);

impl Ticks {
    /// Ticks in a second.
    pub(crate) const PER_SECOND: u64 = 10_000_000;

    /// Ticks in a microsecond.
    const PER_MICROSECOND: u64 = 10;

    /// The given moment; 0 before 1970.
    pub(crate) fn from_system_time(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |d| (d.as_nanos() / 100) as u64))
    }
}

impl std::fmt::Display for Ticks {
    /// `YYYY-MM-DDThh:mm:ss[.ffffff]Z`, cut off and without trailing zeros (contract/streams 8.3).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let microseconds = (self.0 / Self::PER_MICROSECOND) as i64;
        match jiff::Timestamp::from_microsecond(microseconds) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => f.write_str("9999-12-31T23:59:59.999999Z"),
        }
    }
}

/// The times that a node stamps writes with while it leads. None is before that of a write which
/// the node knows of, whatever its clock does and whichever node led before: where the clock is
/// behind, the time of the newest write is stamped again.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    /// The time of the newest write, in ticks.
    newest: AtomicU64,
}

impl Stamps {
    /// A write with this time is in the log or the state of this node.
    pub(crate) fn see(&self, time: Ticks) {
        self.newest.fetch_max(time.0, Ordering::Relaxed);
    }

    /// The time for a write at this moment of the clock.
    pub(crate) fn next(&self, clock: Ticks) -> Ticks {
        Ticks(self.newest.fetch_max(clock.0, Ordering::Relaxed).max(clock.0))
    }

    /// The time of the newest write.
    pub(crate) fn newest(&self) -> Ticks {
        Ticks(self.newest.load(Ordering::Relaxed))
    }
}

/// Prints many points in time. Those of a page mostly lie close together, so the text of the second
/// is kept.
#[derive(Debug, Default)]
pub(crate) struct TimePrinter {
    second: u64,
    /// The text of `second` up to its `Z`; empty before the first one.
    text: String,
}

impl TimePrinter {
    /// Appends what [`Ticks`] displays.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, time: Ticks) {
        let second = time.0 / Ticks::PER_SECOND;
        let microseconds = time.0 % Ticks::PER_SECOND / Ticks::PER_MICROSECOND;
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text = Ticks(second * Ticks::PER_SECOND).to_string();
            self.text.truncate(self.text.len() - 1);
        }
        out.extend_from_slice(self.text.as_bytes());
        // The text of the last moment that has one holds a fraction of its own.
        if microseconds != 0 && !self.text.contains('.') {
            let mut digits = *b".000000";
            let mut rest = microseconds;
            for digit in digits[1..].iter_mut().rev() {
                *digit += (rest % 10) as u8;
                rest /= 10;
            }
            let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
            out.extend_from_slice(&digits[..digits.len() - zeros]);
        }
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_printer_prints_what_ticks_display(near in 0..40_000_000u64, times: Vec<u64>) {
            let mut printer = TimePrinter::default();
            for time in times.into_iter().flat_map(|time| [near, time, time / 1_000, near / 100 * 100]) {
                let mut out = Vec::new();
                printer.push(&mut out, Ticks(time));
                prop_assert_eq!(String::from_utf8(out).unwrap(), Ticks(time).to_string());
            }
        }

        #[test]
        fn what_is_printed_is_the_time_in_whole_microseconds(time in 0..253_402_207_200 * Ticks::PER_SECOND) {
            let text = Ticks(time).to_string();
            let digits = text.split_once('.').map_or("", |(_, fraction)| fraction.trim_end_matches('Z'));
            prop_assert!(digits.len() <= 6 && !digits.ends_with('0') && text.ends_with('Z'), "{}", text);
            let read: jiff::Timestamp = text.parse().unwrap();
            prop_assert_eq!(read.as_microsecond() as u64, time / 10);
        }
    }

    proptest! {
        #[test]
        fn stamps_never_fall_and_follow_a_clock_that_goes_on(clock: Vec<u64>, seen: Vec<u64>) {
            let stamps = Stamps::default();
            seen.iter().for_each(|time| stamps.see(Ticks(*time)));
            let mut highest = seen.iter().copied().max().unwrap_or(0);
            for time in clock {
                highest = highest.max(time);
                prop_assert_eq!(stamps.next(Ticks(time)), Ticks(highest));
                prop_assert_eq!(stamps.newest(), Ticks(highest));
            }
        }
    }

    #[test]
    fn fractions_are_cut_to_six_digits_without_trailing_zeros() {
        let base = 1_561_723_079 * Ticks::PER_SECOND;
        for (ticks, expected) in [
            (0, "2019-06-28T11:57:59Z"),
            (1, "2019-06-28T11:57:59Z"),
            (9, "2019-06-28T11:57:59Z"),
            (19, "2019-06-28T11:57:59.000001Z"),
            (7_311_920, "2019-06-28T11:57:59.731192Z"),
            (9_999_999, "2019-06-28T11:57:59.999999Z"),
        ] {
            assert_eq!(Ticks(base + ticks).to_string(), expected);
        }
        assert_eq!(Ticks(u64::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
    }
}
