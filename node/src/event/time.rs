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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_have_up_to_seven_digits_without_trailing_zeros() {
        let base = 1_561_723_079 * Ticks::PER_SECOND;
        assert_eq!(Ticks(base).to_string(), "2019-06-28T11:57:59Z");
        assert_eq!(Ticks(base + 1).to_string(), "2019-06-28T11:57:59.0000001Z");
        assert_eq!(Ticks(base + 7_311_920).to_string(), "2019-06-28T11:57:59.731192Z");
    }
}
