//! Deliberate faults of the node, and the proof that the suite finds each of them.
//!
//! A node that was built with the cargo feature `deliberate-faults` has the fault that the variable
//! `DELIBERATE_FAULT` names. For each of them a short run is made that has to fail by a rule that
//! is meant for it. The same run of the same program without the fault is its control: it has to
//! pass, or the failure says nothing about the fault.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::last_reads;
use super::mode::Mode;
use super::nemesis::Nemesis;
use super::run::{BULK, RUN, Request, run};
use super::verdict::{Outcome, Verdict};
use crate::check::{
    access, consumers, heads, logs, numbering, once, origin, pages, polls, prefixes, promises, readiness, real_time,
    refusals, removals, same_everywhere, stored, streams, times, versions,
};
use crate::process::headwater_binary;
use crate::readers::Load;

/// The variable that names the fault.
const VARIABLE: &str = "DELIBERATE_FAULT";

/// What `headwater --version` says of a program with deliberate faults.
const SIGN: &str = "DELIBERATE FAULTS";

/// How often a fault that was not found, and a control without proof, is tried with another seed.
const ATTEMPTS: u64 = 3;

/// A run, but for its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    seconds: u64,
    /// The kinds of faults.
    pub nemeses: &'static [Nemesis],
    /// The load.
    loads: &'static [Load],
}

/// A fault and the run that should find it.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// Its name for the node.
    pub name: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// The rules that are meant to find it: one of them has to.
    meant: &'static [&'static str],
    /// The run.
    pub plan: Plan,
}

const fn mutant(
    name: &'static str,
    what: &'static str,
    meant: &'static [&'static str],
    seconds: u64,
    nemeses: &'static [Nemesis],
) -> Mutant {
    Mutant { name, what, meant, plan: Plan { seconds, nemeses, loads: &Load::ALL } }
}

/// A fault of syncs, with few writers. With many, one waits for the next sync at any moment, and
/// the node for it, so that little is acknowledged and not yet durable when the power is cut.
const fn of_syncs(name: &'static str, what: &'static str) -> Mutant {
    let plan =
        Plan { seconds: 25, nemeses: &[Nemesis::PowerCutAll, Nemesis::PowerCutMajority], loads: &[Load::Sessions] };
    Mutant { name, what, meant: &[stored::RULE, RUN], plan }
}

/// All of them, in the order of the table in docs/correctness.md.
pub const ALL: &[Mutant] = &[
    mutant("apply-twice", "now and then an append is stored twice", &[once::RULE], 6, &[]),
    mutant(
        "skip-apply-after-restart",
        "a restarted node leaves out the first entry that it applies",
        &[stored::RULE, same_everywhere::RULE],
        12,
        &[Nemesis::Kill],
    ),
    mutant("forget-ids", "stored event ids are not found again", &[once::RULE], 6, &[]),
    mutant(
        "forget-ids-in-snapshots",
        "event ids from before an installed snapshot are not found",
        &[once::RULE],
        25,
        &[Nemesis::Lag],
    ),
    mutant(
        "accept-stale-version",
        "an append with a stale version is stored",
        &[versions::RULE, refusals::RULE],
        6,
        &[],
    ),
    mutant("refuse-and-store", "an append is stored and refused as one of a wrong version", &[refusals::RULE], 6, &[]),
    mutant("skip-number", "a number of a stream is left out", &[numbering::RULE], 6, &[]),
    mutant("lose-event", "now and then an acknowledged append is not stored", &[stored::RULE], 6, &[]),
    mutant("change-data", "a byte of stored data is changed", &[origin::RULE], 6, &[]),
    mutant(
        "apply-differently",
        "one node applies an entry in another way than the others",
        &[same_everywhere::RULE],
        6,
        &[],
    ),
    mutant("wrong-position", "an acknowledgement names the position before", &[stored::RULE], 6, &[]),
    mutant(
        "created-on-step-down",
        "writes under way are acknowledged when a leader steps down",
        &[stored::RULE],
        20,
        &[Nemesis::PauseLeader, Nemesis::LeaderInMinority],
    ),
    mutant(
        "unknown-as-refused",
        "a write without a known outcome is answered as certainly not written",
        &[refusals::RULE, real_time::RULE],
        25,
        &[Nemesis::PauseLeader, Nemesis::KillLeader, Nemesis::LeaderInMinority, Nemesis::HalfOpen],
    ),
    mutant(
        "answer-before-applying",
        "a node answers a forwarded write before its own copy has it",
        &[promises::RULE],
        10,
        &[Nemesis::Delay],
    ),
    mutant(
        "ignore-min-position",
        "a read does not wait for the position that it names",
        &[promises::RULE],
        10,
        &[Nemesis::Delay],
    ),
    mutant(
        "stale-leader-reads",
        "a node that led answers reads for the leader without asking a quorum",
        &[promises::RULE],
        25,
        &[Nemesis::LeaderInMinority],
    ),
    mutant(
        "lease-too-long",
        "a leader takes a quorum for confirmed for half a minute",
        &[promises::RULE],
        25,
        &[Nemesis::LeaderInMinority],
    ),
    mutant(
        "accept-deposed-leader",
        "entries of a deposed leader are accepted as those of the present one",
        &[logs::RULE, stored::RULE, same_everywhere::RULE, prefixes::RULE],
        30,
        &[Nemesis::LeaderInMinority, Nemesis::PauseLeader, Nemesis::OneWay],
    ),
    mutant("reply-to-another", "answers to forwarded writes go to another write", &[stored::RULE, once::RULE], 8, &[]),
    mutant("lose-wake-up", "long polls are not woken", &[polls::RULE], 12, &[]),
    mutant("drop-last-chunk", "the last chunk of a snapshot is not sent", &[RUN], 25, &[Nemesis::Lag]),
    mutant(
        "purge-above-snapshot",
        "the log is purged beyond the snapshot",
        &[RUN, stored::RULE],
        20,
        &[Nemesis::Kill, Nemesis::Lag],
    ),
    mutant("change-kept-page", "a page that is kept is served with other bytes", &[pages::RULE], 12, &[]),
    mutant("hide-newest", "a read of the log now and then ends twenty events early", &[heads::RULE], 8, &[]),
    mutant(
        "vote-not-stored",
        "a vote is not stored",
        &[logs::RULE, stored::RULE, RUN],
        15,
        &[Nemesis::KillLeader, Nemesis::KillAll],
    ),
    mutant(
        "vote-not-synced",
        "a vote is stored and never synced",
        &[logs::RULE, stored::RULE, RUN],
        20,
        &[Nemesis::PowerCutAll],
    ),
    of_syncs("ack-before-sync", "writes are acknowledged before the log is synced"),
    of_syncs("skip-sync", "every other sync of the log is left out"),
    of_syncs("sync-wrong-file", "another file is synced instead of the log"),
    of_syncs("follower-ack-before-sync", "a follower acknowledges entries before its log is durable"),
    mutant("stale-access", "nodes decide by users and access lists as they were", &[access::RULE], 12, &[]),
    mutant(
        "scavenge-too-much",
        "the scavenge removes events that can be seen",
        &[removals::RULE],
        15,
        &[Nemesis::Scavenge],
    ),
    mutant(
        "ready-while-lagging",
        "a node that is cut off says that it is ready",
        &[readiness::RULE],
        40,
        &[Nemesis::LeaderInMajority],
    ),
    mutant(
        "checkpoint-ahead",
        "a group stores messages as settled that are out",
        &[consumers::RULE],
        25,
        &[Nemesis::KillLeader],
    ),
    mutant("phantom-message", "a group hands out messages that were never stored", &[consumers::RULE], 8, &[]),
    mutant(
        "time-goes-back",
        "writes are stamped with a clock that was set back",
        &[times::RULE],
        20,
        &[Nemesis::ClockJump],
    ),
    mutant("lose-index-row", "now and then an event is not in the index of its stream", &[streams::RULE], 6, &[]),
    mutant("lose-id-row", "now and then a stored event id has no row", &[last_reads::FILES], 20, &[]),
    mutant("panic-in-task", "a task of a node panics", &[logs::RULE], 8, &[]),
];

/// What became of one of them.
#[derive(Debug)]
pub struct Tried {
    /// The last run with it.
    pub verdict: Verdict,
    /// Of the last run.
    pub took: Duration,
    /// Runs that were made.
    pub attempts: u64,
    /// The rules that found it, of those that are meant to.
    pub found_by: Vec<&'static str>,
}

/// Fails unless the program has deliberate faults.
pub fn ensure_program_has_faults() -> anyhow::Result<()> {
    let output = Command::new(headwater_binary()?).arg("--version").output().context("cannot ask for the version")?;
    let version = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        version.contains(SIGN),
        "this program has no deliberate faults: {version}; `make chaos-mutants` builds one"
    );
    Ok(())
}

/// Runs until the fault is found, a few times at most.
pub async fn try_one(mutant: &Mutant, seed: u64, directory: &Path) -> anyhow::Result<Tried> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let started = Instant::now();
        let fault = (VARIABLE.to_owned(), mutant.name.to_owned());
        let request = mutant.plan.request(seed + attempts, &directory.join(mutant.name), vec![fault]);
        let verdict = run(&request).await.with_context(|| mutant.name)?;
        let found_by: Vec<&str> = verdict.rules().into_keys().filter(|rule| mutant.meant.contains(rule)).collect();
        if !found_by.is_empty() || attempts == ATTEMPTS {
            return Ok(Tried { verdict, took: started.elapsed(), attempts, found_by });
        }
    }
}

/// Makes the run without a fault, until everything in it has happened, a few times at most.
pub async fn control(plan: &Plan, seed: u64, directory: &Path) -> anyhow::Result<Verdict> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let request = plan.request(seed + attempts, &directory.join("control"), Vec::new());
        let verdict = run(&request).await.with_context(|| format!("{plan:?}"))?;
        if verdict.outcome() != Outcome::Unknown || attempts == ATTEMPTS {
            return Ok(verdict);
        }
    }
}

/// The runs of these faults, each once.
pub fn plans(mutants: &[&Mutant]) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    for mutant in mutants {
        if !plans.contains(&mutant.plan) {
            plans.push(mutant.plan);
        }
    }
    plans
}

impl Plan {
    fn request(&self, seed: u64, directory: &Path, environment: Vec<(String, String)>) -> Request {
        Request {
            seed,
            mode: Mode::Process,
            nodes: 3,
            faults_for: Duration::from_secs(self.seconds),
            loads: self.loads.to_vec(),
            bulk: BULK,
            nemeses: self.nemeses.to_vec(),
            directory: directory.join(seed.to_string()),
            environment,
            tls: false,
            keeps_data: false,
        }
    }

    /// In words.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.nemeses.iter().map(|nemesis| nemesis.name()).collect();
        let few = if self.loads.len() < Load::ALL.len() { ", few writers" } else { "" };
        let of = if names.is_empty() { "load alone".to_owned() } else { names.join(", ") };
        format!("{of}{few}, {} s", self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_a_rule_that_is_meant_for_it() {
        let mut names: Vec<&str> = ALL.iter().map(|mutant| mutant.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|mutant| !mutant.meant.is_empty()));
    }

    #[test]
    fn a_plan_is_made_once_however_many_faults_have_it() {
        let plans = plans(&ALL.iter().collect::<Vec<_>>());
        assert!(plans.len() < ALL.len());
        assert!(ALL.iter().all(|mutant| plans.contains(&mutant.plan)));
    }
}
