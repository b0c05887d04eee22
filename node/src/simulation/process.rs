//! A process for each simulation.
//!
//! tokio counts the runtimes of a process, and its random numbers depend on the count. So the same
//! seed gives the same trace where nothing else happens in its process. And whatever a simulation
//! does to its process, the others go on.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::entropy;
use super::flaw::{FLAWS, Flaw};
use super::world::World;
use crate::deliberate::{self, Fault};
use crate::{fatal, files};

/// A simulation takes seconds; this one hangs.
const DEADLINE: Duration = Duration::from_secs(300);

/// What a simulation is made with, for its process.
const SEED: &str = "SIMULATION_SEED";
const FAULT: &str = "SIMULATION_FAULT";
const FLAW: &str = "SIMULATION_FLAW";
const TRACE: &str = "SIMULATION_TRACE";

/// Faults that a simulation has to find.
pub(super) const FAULTS: &[Fault] = &[
    Fault::VoteNotStored,
    Fault::AcceptDeposedLeader,
    Fault::ForgetIds,
    Fault::ForgetIdsInSnapshots,
    Fault::ApplyDifferently,
    Fault::SkipApplyAfterRestart,
    Fault::AcceptStaleVersion,
    Fault::RefuseAndStore,
    Fault::SkipNumber,
    Fault::LoseEvent,
    Fault::ChangeData,
    Fault::WrongPosition,
    Fault::DropLastChunk,
    Fault::PurgeAboveSnapshot,
];

/// What a simulation is made with, besides its seed.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    /// A fault of the nodes, one of [`FAULTS`].
    pub(super) fault: Option<Fault>,
    pub(super) flaw: Option<Flaw>,
    /// Where the trace is written.
    pub(super) trace: Option<PathBuf>,
}

/// What became of a simulation.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) seed: u64,
    /// Of the trace.
    pub(super) hash: u64,
    /// Lines of the trace.
    pub(super) events: u64,
    pub(super) simulated_ms: u64,
    pub(super) messages: u64,
    pub(super) operations: u64,
    /// Acknowledged writes.
    pub(super) succeeded: u64,
    pub(super) strikes: u64,
    /// Terms that had a leader.
    pub(super) terms: u64,
    /// The rule that was broken, and the end of the trace.
    pub(super) broken: Option<(String, String)>,
}

/// The beginning of the line with the figures, and of the one with the broken rule.
const FIGURES: &str = "figures of the simulation: ";
const BROKEN: &str = "broken by the simulation: ";

/// Runs the simulation of a seed in a process of its own.
pub(super) fn simulate(seed: u64, options: &Options) -> Report {
    // A sync of a real disk takes as long as a second of simulated time.
    let root = tempfile::tempdir_in(files::quickest_directory()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "simulation::tests::one_seed", "--ignored", "--nocapture"]);
    child.env("TMPDIR", root.path()).env(SEED, seed.to_string());
    if let Some(fault) = options.fault {
        child.env(FAULT, format!("{fault:?}"));
    }
    if let Some(flaw) = options.flaw {
        child.env(FLAW, format!("{flaw:?}"));
    }
    if let Some(trace) = &options.trace {
        child.env(TRACE, trace);
    }
    // The process ends by itself, at its deadline at the latest.
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    report(seed, &told).unwrap_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        let rule = format!("the process has ended with {}", output.status);
        Report { seed, broken: Some((rule, errors.into_owned())), ..Report::default() }
    })
}

fn report(seed: u64, told: &str) -> Option<Report> {
    let (_, rest) = told.split_once(FIGURES)?;
    let (figures, rest) = rest.split_once('\n')?;
    let figures: Vec<u64> = figures.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hash, events, simulated_ms, messages, operations, succeeded, strikes, terms] = figures[..] else {
        return None;
    };
    let broken = rest.split_once(BROKEN).map(|(_, rest)| rest.split_once('\n').unwrap_or((rest, "")));
    let broken = broken.map(|(rule, trace)| (rule.to_owned(), trace.to_owned()));
    Some(Report { seed, hash, events, simulated_ms, messages, operations, succeeded, strikes, terms, broken })
}

/// Runs the simulation for which this process was made, and tells what became of it.
pub(super) fn run() {
    let Some(seed) = std::env::var(SEED).ok().and_then(|text| text.parse().ok()) else { return };
    let fault = std::env::var(FAULT).ok();
    let fault = fault.and_then(|name| FAULTS.iter().find(|fault| format!("{fault:?}") == name));
    let flaw = std::env::var(FLAW).ok();
    let flaw = flaw.and_then(|name| FLAWS.iter().find(|flaw| format!("{flaw:?}") == name)).copied();
    let trace = std::env::var_os(TRACE).map(PathBuf::from);
    std::thread::spawn(|| {
        std::thread::sleep(DEADLINE);
        fatal::leave(fatal::EXIT_REFUSED);
    });
    let simulation = std::thread::spawn(move || {
        entropy::seed_this_thread(seed);
        deliberate::switch(fault.copied());
        let mut world = World::new(seed, flaw, trace.as_deref());
        let run = std::panic::catch_unwind(AssertUnwindSafe(|| world.run()));
        let broken = run.unwrap_or_else(|_| Err("a panic".to_owned())).err();
        let figures = world.figures().map(|figure| figure.to_string()).join(" ");
        println!("{FIGURES}{figures}");
        if let Some(rule) = broken {
            println!("{BROKEN}{}\n{}", rule.replace('\n', " "), world.trace.newest());
        }
    });
    simulation.join().unwrap();
    // What is left of RocksDB's threads must not meet the end of the process.
    fatal::leave(0);
}
