//! How soon writes went on: figures, not rules. [`super::availability`] has the rule.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::availability;
use crate::history::{History, Kind, Write};

/// Times of one kind, the shortest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// In any order.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }

    /// The one in the middle; of an even number the later of two.
    pub fn median(&self) -> Option<Duration> {
        self.0.get(self.0.len() / 2).copied()
    }

    /// The longest.
    pub fn worst(&self) -> Option<Duration> {
        self.0.last().copied()
    }

    fn to_json(&self) -> Value {
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        json!({"times": self.0.len(), "medianMs": ms(self.median()), "worstMs": ms(self.worst())})
    }
}

impl fmt::Display for Times {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.median(), self.worst()) {
            (Some(median), Some(worst)) => {
                let (times, median, worst) = (self.0.len(), median.as_millis(), worst.as_millis());
                write!(formatter, "{median} ms in the median of {times}, {worst} ms at worst")
            }
            _ => formatter.write_str("not measured"),
        }
    }
}

/// The figures of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// From the death of a leader to the first acknowledgement of a write that was sent after it.
    pub leader_killed: Times,
    /// From the end of a partition until every node had answered a write with an acknowledgement.
    pub partition_healed: Times,
    /// The longest that a write waited for an answer, whichever.
    pub longest_answer: Option<Duration>,
}

impl Recovery {
    /// Of a run with these nodes.
    pub fn of(history: &History, nodes: &[u16]) -> Self {
        let kills = availability::recoveries(history).into_iter().filter(|one| one.fault.kind == Kind::LeaderKilled);
        let healed = history.faults.iter().filter(|fault| fault.kind == Kind::PartitionHealed);
        let attempts = history.writes.iter().flat_map(|write| &write.attempts);
        Self {
            leader_killed: Times::of(kills.filter_map(|kill| kill.resumed_after)),
            partition_healed: Times::of(healed.filter_map(|healed| through_every_node(history, nodes, healed.at))),
            longest_answer: attempts.map(|attempt| attempt.answered_at.saturating_sub(attempt.sent_at)).max(),
        }
    }

    /// As the verdict has it.
    pub fn to_json(&self) -> Value {
        json!({
            "leaderKilled": self.leader_killed.to_json(),
            "partitionHealedThroughEveryNode": self.partition_healed.to_json(),
            "longestAnswerMs": self.longest_answer.map(|longest| longest.as_millis() as u64),
        })
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kill, heal) = (&self.leader_killed, &self.partition_healed);
        write!(
            formatter,
            "writes went on after the death of a leader: {kill}; through every node after a partition: {heal}"
        )
    }
}

/// From `since` until the last of the nodes gave its first acknowledgement.
fn through_every_node(history: &History, nodes: &[u16], since: Duration) -> Option<Duration> {
    let first = |node: &u16| {
        let acknowledged = history.writes.iter().flat_map(Write::acknowledgements).map(|(attempt, ..)| attempt);
        acknowledged.filter(|one| one.node == *node && one.answered_at >= since).map(|one| one.answered_at).min()
    };
    let firsts: Option<Vec<Duration>> = nodes.iter().map(first).collect();
    firsts?.into_iter().max().map(|last| last.saturating_sub(since))
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{acknowledged, attempt, millis, write};
    use super::*;
    use crate::history::{Attempt, Fault};

    fn by(node: u16, sent_at: u64, answered_at: u64) -> Write {
        let attempt = Attempt { node, ..attempt(sent_at, answered_at, acknowledged(0, 0)) };
        write("a", -2, &["a0"], vec![attempt])
    }

    #[test]
    fn a_partition_is_over_when_the_last_node_has_acknowledged_a_write() {
        let fault = |kind, at| Fault { kind, what: String::new(), at: millis(at) };
        let history = History {
            writes: vec![by(1, 10, 90), by(1, 100, 110), by(2, 50, 400), by(2, 120, 300), by(3, 100, 150)],
            faults: vec![fault(Kind::PartitionHealed, 100), fault(Kind::LeaderKilled, 105)],
            ..History::default()
        };
        let recovery = Recovery::of(&history, &[1, 2, 3]);
        assert_eq!(recovery.partition_healed, Times::of([millis(200)]));
        // The write that was sent before it proves nothing.
        assert_eq!(recovery.leader_killed, Times::of([millis(195)]));
        assert_eq!(recovery.longest_answer, Some(millis(350)));
        assert_eq!(Recovery::of(&history, &[1, 2, 3, 4]).partition_healed, Times::default());
    }

    #[test]
    fn figures_are_median_and_worst() {
        let times = Times::of([30, 10, 20].map(millis));
        assert_eq!((times.median(), times.worst()), (Some(millis(20)), Some(millis(30))));
        assert_eq!(Times::default().to_string(), "not measured");
    }
}
