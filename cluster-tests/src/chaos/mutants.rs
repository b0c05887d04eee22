//! Deliberate faults of the node, and the proof that the suite finds each of them.
//!
//! A node that was built with the cargo feature `deliberate-faults` has the fault that the variable
//! `DELIBERATE_FAULT` names. For each of them a short run is made that has to fail.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::mode::Mode;
use super::nemesis::Nemesis;
use super::run::{BULK, Request, run};
use super::verdict::{Outcome, Verdict};
use crate::process::headwater_binary;
use crate::readers::Load;

/// The variable that names the fault.
const VARIABLE: &str = "DELIBERATE_FAULT";

/// What `headwater --version` says of a program with deliberate faults.
const SIGN: &str = "DELIBERATE FAULTS";

/// How often a fault that was not found is tried with another seed.
const ATTEMPTS: u64 = 3;

/// A fault and the run that should find it.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// Its name for the node.
    pub name: &'static str,
    /// What is wrong.
    pub what: &'static str,
    seconds: u64,
    nemeses: &'static [Nemesis],
}

const fn mutant(name: &'static str, what: &'static str, seconds: u64, nemeses: &'static [Nemesis]) -> Mutant {
    Mutant { name, what, seconds, nemeses }
}

/// All of them, in the order of the table in docs/correctness.md.
pub const ALL: &[Mutant] = &[
    mutant("apply-twice", "now and then an append is stored twice", 6, &[]),
    mutant(
        "skip-apply-after-restart",
        "a restarted node leaves out the first entry that it applies",
        12,
        &[Nemesis::Kill],
    ),
    mutant("forget-ids", "stored event ids are not found again", 6, &[]),
    mutant("forget-ids-in-snapshots", "event ids from before an installed snapshot are not found", 25, &[Nemesis::Lag]),
    mutant("accept-stale-version", "an append with a stale version is stored", 6, &[]),
    mutant("refuse-and-store", "an append is stored and refused as one of a wrong version", 6, &[]),
    mutant("skip-number", "a number of a stream is left out", 6, &[]),
    mutant("lose-event", "now and then an acknowledged append is not stored", 6, &[]),
    mutant("change-data", "a byte of stored data is changed", 6, &[]),
    mutant("apply-differently", "one node applies an entry in another way than the others", 6, &[]),
    mutant("wrong-position", "an acknowledgement names the position before", 6, &[]),
    mutant(
        "created-on-step-down",
        "writes under way are acknowledged when a leader steps down",
        20,
        &[Nemesis::PauseLeader, Nemesis::LeaderInMinority],
    ),
    mutant(
        "unknown-as-refused",
        "a write without a known outcome is answered as certainly not written",
        25,
        &[Nemesis::PauseLeader, Nemesis::KillLeader, Nemesis::LeaderInMinority, Nemesis::HalfOpen],
    ),
    mutant(
        "answer-before-applying",
        "a node answers a forwarded write before its own copy has it",
        10,
        &[Nemesis::Delay],
    ),
    mutant("ignore-min-position", "a read does not wait for the position that it names", 10, &[Nemesis::Delay]),
    mutant(
        "stale-leader-reads",
        "a node that led answers reads for the leader without asking a quorum",
        25,
        &[Nemesis::LeaderInMinority],
    ),
    mutant(
        "lease-too-long",
        "a leader takes a quorum for confirmed for half a minute",
        25,
        &[Nemesis::LeaderInMinority],
    ),
    mutant(
        "accept-deposed-leader",
        "entries of a deposed leader are accepted as those of the present one",
        30,
        &[Nemesis::LeaderInMinority, Nemesis::PauseLeader, Nemesis::OneWay],
    ),
    mutant("reply-to-another", "answers to forwarded writes go to another write", 8, &[]),
    mutant("lose-wake-up", "long polls are not woken", 12, &[]),
    mutant("drop-last-chunk", "the last chunk of a snapshot is not sent", 25, &[Nemesis::Lag]),
    mutant("purge-above-snapshot", "the log is purged beyond the snapshot", 20, &[Nemesis::Kill, Nemesis::Lag]),
    mutant("change-kept-page", "a page that is kept is served with other bytes", 12, &[]),
    mutant("hide-newest", "a read of the log now and then ends twenty events early", 8, &[]),
    mutant("vote-not-stored", "a vote is not stored", 15, &[Nemesis::KillLeader, Nemesis::KillAll]),
    mutant("time-goes-back", "writes are stamped with a clock that was set back", 20, &[Nemesis::ClockJump]),
    mutant("panic-in-task", "a task of a node panics", 8, &[]),
];

/// What became of one of them.
#[derive(Debug)]
pub struct Tried {
    /// The fault.
    pub mutant: Mutant,
    /// The last run with it.
    pub verdict: Verdict,
    /// Over all attempts.
    pub took: Duration,
    /// Runs that were made.
    pub attempts: u64,
}

impl Tried {
    /// Whether the suite went red.
    pub fn is_found(&self) -> bool {
        self.verdict.outcome() == Outcome::Fail
    }
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
    let started = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let request = Request {
            seed: seed + attempts,
            mode: Mode::Process,
            nodes: 3,
            faults_for: Duration::from_secs(mutant.seconds),
            loads: Load::ALL.to_vec(),
            bulk: BULK,
            nemeses: mutant.nemeses.to_vec(),
            directory: directory.join(format!("{}-{attempts}", mutant.name)),
            environment: vec![(VARIABLE.to_owned(), mutant.name.to_owned())],
            tls: false,
        };
        let verdict = run(&request).await.with_context(|| mutant.name)?;
        let tried = Tried { mutant: *mutant, verdict, took: started.elapsed(), attempts };
        if tried.is_found() || attempts == ATTEMPTS {
            return Ok(tried);
        }
    }
}
