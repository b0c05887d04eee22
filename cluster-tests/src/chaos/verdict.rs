//! The result of a run.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::nemesis::Nemesis;
use super::strike::Struck;
use crate::check::Violation;
use crate::check::linearizable::Opinion;
use crate::check::recovery::Recovery;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every rule held, and everything that was asked for happened.
    Pass,
    /// A rule was broken.
    Fail,
    /// Nothing was broken, but not everything that was asked for happened: no pass.
    Unknown,
}

impl Outcome {
    /// As the verdict has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// What a run has found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Broken rules.
    pub violations: Vec<Violation>,
    /// Why the run proves nothing.
    pub doubts: Vec<String>,
    /// How often each kind of fault was tried, and had its effect.
    pub(super) struck: BTreeMap<Nemesis, Struck>,
    /// Steps of the schedule.
    pub steps: usize,
    /// Events that were acknowledged.
    pub acknowledged: usize,
    /// Events in the log.
    pub stored: usize,
    /// Reads that were judged, by what they prove.
    pub(super) reads: BTreeMap<&'static str, usize>,
    /// How soon writes went on.
    pub recovery: Recovery,
    /// What was asked of the linearizability checker.
    pub(super) windows: Windows,
}

/// Windows of the history that a linearizability checker has judged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Windows {
    decided: usize,
    operations: usize,
    undecided: usize,
}

impl Verdict {
    /// What it comes to.
    pub fn outcome(&self) -> Outcome {
        match (self.violations.is_empty(), self.doubts.is_empty()) {
            (false, _) => Outcome::Fail,
            (true, false) => Outcome::Unknown,
            (true, true) => Outcome::Pass,
        }
    }

    /// Names of the rules that were broken, and how often.
    pub fn rules(&self) -> BTreeMap<&'static str, usize> {
        let mut rules = BTreeMap::new();
        for violation in &self.violations {
            *rules.entry(violation.rule).or_default() += 1;
        }
        rules
    }

    /// Doubts because of faults that were asked for and have not happened.
    pub(super) fn doubt_what_did_not_happen(&mut self, nemeses: &[Nemesis]) {
        for nemesis in nemeses {
            if self.struck.get(nemesis).is_none_or(|struck| struck.happened == 0) {
                self.doubts.push(format!("{} was asked for and did not happen", nemesis.name()));
            }
        }
    }

    /// Takes over what the linearizability checker says. What it did not decide proves nothing.
    pub(super) fn take(&mut self, opinion: Opinion) {
        let Opinion { violations, decided, operations, undecided } = opinion;
        self.windows = Windows { decided, operations, undecided: undecided.len() };
        self.violations.extend(violations);
        if let Some(first) = undecided.first() {
            self.doubts.push(format!("whether it is linearizable was not decided {} times: {first}", undecided.len()));
        }
        if decided == 0 && self.acknowledged > 0 {
            self.doubts.push("no window of the history was judged as linearizable or not".to_owned());
        }
    }

    pub(super) fn to_json(&self, request: Value) -> Value {
        let struck = self.struck.iter().map(|(nemesis, struck)| {
            (nemesis.name().to_owned(), json!({"tried": struck.tried, "happened": struck.happened}))
        });
        let violations =
            self.violations.iter().map(|violation| json!({"rule": violation.rule, "detail": violation.detail}));
        json!({
            "verdict": self.outcome().name(),
            "request": request,
            "steps": self.steps,
            "acknowledgedEvents": self.acknowledged,
            "storedEvents": self.stored,
            "reads": self.reads,
            "linearizability": {
                "windows": self.windows.decided,
                "operations": self.windows.operations,
                "undecided": self.windows.undecided,
            },
            "recovery": self.recovery.to_json(),
            "faults": struck.collect::<serde_json::Map<_, _>>(),
            "doubts": self.doubts,
            "violations": violations.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u32 = self.struck.values().map(|struck| struck.happened).sum();
        let (outcome, steps, acknowledged) = (self.outcome().name(), self.steps, self.acknowledged);
        write!(formatter, "{outcome}: {acknowledged} events acknowledged, {faults} faults in {steps} steps")?;
        write!(formatter, "\n  {}", self.recovery)?;
        for (rule, count) in self.rules() {
            let first = self.violations.iter().find(|violation| violation.rule == rule);
            let detail: String = first.map(|first| first.detail.chars().take(400).collect()).unwrap_or_default();
            write!(formatter, "\n  {rule}, {count} times: {detail}")?;
        }
        self.doubts.iter().try_for_each(|doubt| write!(formatter, "\n  {doubt}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_makes_a_run_unknown_and_a_broken_rule_makes_it_fail() {
        let mut verdict = Verdict::default();
        verdict.struck.insert(Nemesis::Kill, Struck { tried: 1, happened: 1 });
        verdict.doubt_what_did_not_happen(&[Nemesis::Kill]);
        assert_eq!(verdict.outcome(), Outcome::Pass);
        verdict.doubt_what_did_not_happen(&[Nemesis::Kill, Nemesis::Ring]);
        assert_eq!(verdict.outcome(), Outcome::Unknown);
        verdict.violations.push(Violation::new("stored", "one is missing".to_owned()));
        assert_eq!(verdict.outcome(), Outcome::Fail);
        assert_eq!(verdict.to_json(Value::Null)["verdict"], "fail");
    }

    #[test]
    fn a_window_that_was_not_decided_makes_a_run_unknown() {
        let mut verdict = Verdict { acknowledged: 1, ..Verdict::default() };
        verdict.take(Opinion { decided: 3, operations: 7, ..Opinion::default() });
        assert_eq!(verdict.outcome(), Outcome::Pass);
        verdict.take(Opinion { decided: 2, undecided: vec!["a".to_owned()], ..Opinion::default() });
        assert_eq!(verdict.outcome(), Outcome::Unknown);
        assert_eq!(verdict.to_json(Value::Null)["linearizability"]["undecided"], 1);
        let mut verdict = Verdict { acknowledged: 1, ..Verdict::default() };
        verdict.take(Opinion::default());
        assert_eq!(verdict.outcome(), Outcome::Unknown, "nothing was judged");
    }
}
