//! After each fault, writes resume without help within a time limit.

use std::time::Duration;

use super::Violation;
use crate::history::{Fault, History, Write};

/// The name of the rule.
pub const RULE: &str = "availability";

/// Writes resume within this time after any fault that leaves a majority (the project promises 3
/// seconds).
pub const RESUME_LIMIT: Duration = Duration::from_secs(3);

/// The effect of one fault.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// The fault.
    pub fault: Fault,
    /// From the fault to the first acknowledgement of a request that was *sent* after it; `None`:
    /// never.
    pub resumed_after: Option<Duration>,
}

/// Measures every fault of the history.
pub fn recoveries(history: &History) -> Vec<Recovery> {
    let mut acknowledged: Vec<(Duration, Duration)> = history
        .writes
        .iter()
        .flat_map(Write::acknowledgements)
        .map(|(attempt, _, _)| (attempt.sent_at, attempt.answered_at))
        .collect();
    acknowledged.sort_unstable();
    history
        .faults
        .iter()
        .map(|fault| {
            let later = acknowledged.partition_point(|(sent_at, _)| *sent_at < fault.at);
            let first_answer = acknowledged[later..].iter().map(|(_, answered_at)| *answered_at).min();
            Recovery {
                fault: fault.clone(),
                resumed_after: first_answer.map(|answered_at| answered_at.saturating_sub(fault.at)),
            }
        })
        .collect()
}

/// Reports every fault after which writes took longer than `limit` to resume.
pub fn check(history: &History, limit: Duration) -> Vec<Violation> {
    let slow = |recovery: &Recovery| recovery.resumed_after.is_none_or(|after| after > limit);
    recoveries(history)
        .into_iter()
        .filter(slow)
        .map(|recovery| {
            let (what, at, after) = (recovery.fault.what, recovery.fault.at, recovery.resumed_after);
            Violation::new(
                RULE,
                format!("after \"{what}\" at {at:?} writes resumed after {after:?}, allowed {limit:?}"),
            )
        })
        .collect()
}

/// One line per fault, for the test's output, and one about all of them.
pub fn report(history: &History) -> String {
    let recoveries = recoveries(history);
    let mut lines: Vec<String> = recoveries
        .iter()
        .map(|recovery| match recovery.resumed_after {
            Some(after) => format!("  {}: writes resumed after {} ms", recovery.fault.what, after.as_millis()),
            None => format!("  {}: writes never resumed", recovery.fault.what),
        })
        .collect();
    let mut resumed: Vec<Duration> = recoveries.iter().filter_map(|recovery| recovery.resumed_after).collect();
    resumed.sort_unstable();
    if let (Some(median), Some(worst)) = (resumed.get(resumed.len() / 2), resumed.last()) {
        let (count, median, worst) = (resumed.len(), median.as_millis(), worst.as_millis());
        lines.push(format!("  of {count}: median {median} ms, at worst {worst} ms"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{acknowledged, attempt, millis, write};
    use super::*;

    fn run(fault_at: u64, sent_at: u64, answered_at: u64) -> History {
        History {
            writes: vec![write("a", -2, &["a0"], vec![attempt(sent_at, answered_at, acknowledged(0, 0))])],
            faults: vec![Fault { what: "kill".to_owned(), at: millis(fault_at), ..Fault::default() }],
            ..History::default()
        }
    }

    #[test]
    fn a_gap_longer_than_allowed_is_seen() {
        assert_eq!(check(&run(1_000, 3_900, 4_100), millis(3_000)).len(), 1);
        assert_eq!(check(&run(1_000, 3_900, 4_000), millis(3_000)), Vec::new());
    }

    #[test]
    fn the_report_ends_with_median_and_worst() {
        let mut history = run(1_000, 1_001, 1_200);
        history.faults.push(Fault { what: "another".to_owned(), at: millis(900), ..Fault::default() });
        assert!(report(&history).ends_with("of 2: median 300 ms, at worst 300 ms"), "{}", report(&history));
    }

    #[test]
    fn an_answer_to_a_request_from_before_the_fault_proves_nothing() {
        assert_eq!(check(&run(1_000, 999, 1_001), millis(3_000)).len(), 1);
    }

    #[test]
    fn the_quickest_answer_counts_not_the_first_request() {
        let mut history = run(1_000, 1_001, 9_000);
        history.writes.push(write("b", -2, &["b0"], vec![attempt(1_500, 1_600, acknowledged(0, 1))]));
        assert_eq!(recoveries(&history)[0].resumed_after, Some(millis(600)));
    }
}
