//! The clock of the machine, before anything is stamped with it.

use std::time::SystemTime;

/// Times that a clock can say: a day after those that count from zero, and a day before those of
/// five digits, which no document of the API can hold, and with which hyper panics as it does with
/// those before 1970. Once the node runs its clock stays between them: Linux lets nobody set a
/// clock to less than the time since the machine was started, nor beyond 2232 (clock_settime(2)).
const CLOCK_SECONDS: std::ops::Range<u64> = 86_400..253_370_678_400;

/// Refuses a clock that was never set: what it stamps stays for ever.
pub(super) fn check_clock(now: SystemTime) -> anyhow::Result<()> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if CLOCK_SECONDS.contains(&seconds) {
        return Ok(());
    }
    let time =
        jiff::Timestamp::try_from(now).map_or_else(|_| "a time of no calendar".to_owned(), |time| time.to_string());
    anyhow::bail!("the clock of this machine says {time}; set it: events keep the times that they are stamped with")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_refused() {
        let at = |seconds: u64| check_clock(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (seconds, says) in [
            (0, "1970-01-01T00:00:00Z"),
            (CLOCK_SECONDS.start - 1, "1970-01-01T23:59:59Z"),
            (CLOCK_SECONDS.end, "9998-12-31T00:00:00Z"),
            (300_000_000_000, "a time of no calendar"),
        ] {
            let refused = at(seconds).unwrap_err().to_string();
            assert!(refused.contains(&format!("says {says}; set it")), "{refused}");
        }
        let before = check_clock(SystemTime::UNIX_EPOCH - Duration::from_secs(3_600)).unwrap_err().to_string();
        assert!(before.contains("1969-12-31T23:00:00Z"), "{before}");
        for seconds in [CLOCK_SECONDS.start, 1_800_000_000, CLOCK_SECONDS.end - 1] {
            at(seconds).unwrap();
        }
    }
}
