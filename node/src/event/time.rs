//! Points in time with the resolution of the Atom documents: 100 ns.

use std::time::{SystemTime, UNIX_EPOCH};

/// 100-nanosecond ticks since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticks(pub u64);

impl Ticks {
    /// Ticks in a second.
    pub const PER_SECOND: u64 = 10_000_000;

    /// The given moment; 0 before 1970.
    pub fn from_system_time(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |d| (d.as_nanos() / 100) as u64))
    }
}

impl std::fmt::Display for Ticks {
    /// `YYYY-MM-DDThh:mm:ss[.fffffff]Z`, trailing zeros cut (contract/streams 8.3).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0) * 100) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => f.write_str("9999-12-31T23:59:59.9999999Z"),
        }
    }
}

/// Prints many points in time. Those of a page are mostly close together, so the text of the last
/// second is kept.
#[derive(Debug, Default)]
pub struct TimePrinter {
    second: u64,
    /// The text of `second` up to its `Z`; empty before the first one.
    text: String,
}

impl TimePrinter {
    /// Appends what [`Ticks`] displays.
    pub fn push(&mut self, out: &mut Vec<u8>, time: Ticks) {
        let (second, fraction) = (time.0 / Ticks::PER_SECOND, time.0 % Ticks::PER_SECOND);
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text = Ticks(second * Ticks::PER_SECOND).to_string();
            self.text.truncate(self.text.len() - 1);
        }
        out.extend_from_slice(self.text.as_bytes());
        // The last moment of all may already have a fraction in its text.
        if fraction != 0 && !self.text.contains('.') {
            let mut digits = *b".0000000";
            let mut rest = fraction;
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
    }

    #[test]
    fn fractions_have_up_to_seven_digits_without_trailing_zeros() {
        let base = 1_561_723_079 * Ticks::PER_SECOND;
        assert_eq!(Ticks(base).to_string(), "2019-06-28T11:57:59Z");
        assert_eq!(Ticks(base + 1).to_string(), "2019-06-28T11:57:59.0000001Z");
        assert_eq!(Ticks(base + 7_311_920).to_string(), "2019-06-28T11:57:59.731192Z");
    }
}
