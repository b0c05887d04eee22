//! `chaos`: a cluster of real nodes under load and faults, judged. docs/correctness.md explains it.
//!
//! Ends with 0 for a pass, 1 for a failure, and 2 when nothing was proven.

mod judged;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};
use headwater_cluster_tests::chaos::{
    BULK, Mode, ModeName, Nemesis, Outcome, Request, mutants, recovery, why_no_power_cuts,
};
use headwater_cluster_tests::namespaces::{self, Group};
use headwater_cluster_tests::readers::Load;
use headwater_cluster_tests::{clock, release, serial};

/// Strikes a cluster of Headwater nodes with faults under load and judges what it did.
#[derive(Debug, Parser)]
#[command(name = "chaos", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    one: One,
}

/// One run.
#[derive(Debug, clap::Args)]
struct One {
    /// Decides the schedule [default: a random number, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=5))]
    nodes: u16,
    /// Kinds of load, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    workload: Vec<Load>,
    /// Kinds of faults, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    nemesis: Vec<Nemesis>,
    /// Events in the largest write of the load `bulk`
    #[arg(long, default_value_t = BULK, value_parser = bulk_range())]
    bulk: usize,
    /// For how long faults happen
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the nodes live: `process` is on loopback, behind a proxy per link; `netns` is in a
    /// network namespace each, with packet filters, and needs root; `compose` is the containers of
    /// a project that runs (`make chaos-compose`), with packet filters
    #[arg(long, default_value = "process")]
    mode: ModeName,
    /// The namespaces that were made for this process
    #[arg(long, hide = true)]
    namespaces: Option<String>,
    /// TLS with clients and between nodes; a replay of bytes means nothing then
    #[arg(long)]
    tls: bool,
    /// Where history, faults, logs and verdict go [default: chaos-SEED in the temporary directory]
    #[arg(long)]
    directory: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs with fixed seeds that must pass, in under three minutes
    Smoke,
    /// Runs with random seeds, one after the other, until one fails or the time is over
    Soak {
        /// How long to go on
        #[arg(long)]
        hours: f64,
        /// Events in the largest write of the load `bulk`
        #[arg(long, default_value_t = BULK, value_parser = bulk_range())]
        bulk: usize,
        /// For how long faults happen in each run
        #[arg(long, default_value_t = SOAK_SECONDS)]
        seconds: u64,
    },
    /// Measures how soon writes go on after kills and partitions, and how fast a node catches up
    Recovery {
        /// Kills, and partitions
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        /// For how many seconds a node is away before it has to catch up
        #[arg(long, default_value_t = 20)]
        away: u64,
    },
    /// A run for each deliberate fault, each of which has to fail; for a program with such faults
    Mutants {
        /// Only these, separated by commas
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Makes their runs without a fault instead, each of which has to pass
        #[arg(long)]
        controls: bool,
        /// Decides the schedules
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Seeds and kinds of faults of the smoke test: every kind that fits into its time.
const SMOKE: [(u64, &[Nemesis]); 2] = [
    (
        20_261_129,
        &[
            Nemesis::KillLeader,
            Nemesis::PauseLeader,
            Nemesis::LeaderInMinority,
            Nemesis::OneWay,
            Nemesis::Delay,
            Nemesis::Reset,
            Nemesis::Transfer,
            Nemesis::ClockJump,
        ],
    ),
    (
        20_261_130,
        &[
            Nemesis::KillAll,
            Nemesis::Ring,
            Nemesis::Bridge,
            Nemesis::HalfOpen,
            Nemesis::Replay,
            Nemesis::Bandwidth,
            Nemesis::LeaderInMajority,
        ],
    ),
];

/// For how long faults happen in one run of the smoke test, at least: each kind comes once.
const SMOKE_SECONDS: u64 = 25;

/// As a node takes them in one request.
fn bulk_range() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=10_000)
}

/// For how long faults happen in one run of a soak.
const SOAK_SECONDS: u64 = 180;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.command {
        None => one(arguments.one).await,
        Some(Command::Smoke) => smoke().await,
        Some(Command::Soak { hours, bulk, seconds }) => soak(hours, bulk, seconds).await,
        Some(Command::Recovery { rounds, away }) => {
            let _turn = serial::my_turn()?;
            print!("{}", recovery::measure(rounds, Duration::from_secs(away)).await?);
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Mutants { only, seed, controls: false }) => all_mutants(&only, seed).await,
        Some(Command::Mutants { only, seed, controls: true }) => controls(&only, seed).await,
    }
}

fn request(seed: u64, nodes: u16, seconds: u64, nemeses: &[Nemesis]) -> Request {
    Request {
        seed,
        mode: Mode::Process,
        nodes,
        faults_for: Duration::from_secs(seconds),
        loads: Load::ALL.to_vec(),
        bulk: BULK,
        nemeses: nemeses.to_vec(),
        directory: std::env::temp_dir().join(format!("chaos-{seed}")),
        environment: Vec::new(),
        tls: false,
        keeps_data: true,
    }
}

async fn one(one: One) -> anyhow::Result<ExitCode> {
    let seed = one.seed.unwrap_or_else(rand::random);
    let nemeses = if one.nemesis.is_empty() { default_nemeses(one.mode, one.tls) } else { one.nemesis };
    one.mode.ensure_has(&nemeses)?;
    let mut request = request(seed, one.nodes, one.seconds, &nemeses);
    (request.tls, request.bulk) = (one.tls, one.bulk);
    if !one.workload.is_empty() {
        request.loads = one.workload;
    }
    if let Some(directory) = one.directory {
        request.directory = directory;
    }
    if let Some(group) = one.namespaces {
        request.mode = Mode::Netns(Group::of(&group));
        return Ok(exit_code(judged::here(&request).await?.outcome));
    }
    Ok(exit_code(judged::in_mode(one.mode, &request).await?.outcome))
}

/// All of the mode, but with TLS not those that need connections in the clear, nor clocks to which
/// certificates are not yet valid.
fn default_nemeses(mode: ModeName, tls: bool) -> Vec<Nemesis> {
    let goes = |nemesis: &Nemesis| !(tls && (*nemesis == Nemesis::Replay || nemesis.moves_clocks()));
    those_that_can_be(&mode.nemeses()).into_iter().filter(goes).collect()
}

/// Why this machine cannot have some kinds of faults, and which those are.
type Lack = (String, fn(Nemesis) -> bool);

/// What this machine lacks and need not have.
fn lacking() -> Vec<Lack> {
    let mut lacking: Vec<Lack> = Vec::new();
    if !clock::is_available() {
        lacking.push(("libfaketime is missing".to_owned(), Nemesis::moves_clocks));
    }
    if let Some(why) = why_no_power_cuts() {
        lacking.push((why, Nemesis::needs_disks));
    }
    if let Some(why) = release::last().ok().and_then(release::Release::why_not) {
        lacking.push((why, Nemesis::needs_last_release));
    }
    lacking
}

/// Without those for which this machine lacks something that it need not have; says so.
fn those_that_can_be(nemeses: &[Nemesis]) -> Vec<Nemesis> {
    let mut can_be = nemeses.to_vec();
    for (reason, lacks) in lacking() {
        let without: Vec<&str> = can_be.extract_if(.., |nemesis| lacks(*nemesis)).map(Nemesis::name).collect();
        if !without.is_empty() {
            println!("LEFT OUT: {}: {reason}", without.join(", "));
        }
    }
    can_be
}

fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Pass => ExitCode::SUCCESS,
        Outcome::Fail => ExitCode::from(1),
        Outcome::Unknown => ExitCode::from(2),
    }
}

async fn smoke() -> anyhow::Result<ExitCode> {
    for (seed, nemeses) in SMOKE {
        let outcome = judged::here(&request(seed, 3, SMOKE_SECONDS, &those_that_can_be(nemeses))).await?.outcome;
        if outcome != Outcome::Pass {
            return Ok(exit_code(outcome));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn soak(hours: f64, bulk: usize, seconds: u64) -> anyhow::Result<ExitCode> {
    let (started, limit) = (Instant::now(), Duration::from_secs_f64(hours * 3_600.0));
    let modes = modes_that_can_be();
    let (mut runs, mut acknowledged, mut doubtful) = (0, 0, 0);
    while started.elapsed() < limit {
        let nodes = if runs % 2 == 0 { 3 } else { 5 };
        let mode = modes[runs / 2 % modes.len()];
        let nemeses = default_nemeses(mode, false);
        let request = Request { bulk, ..request(rand::random(), nodes, seconds, &nemeses) };
        let judged = judged::in_mode(mode, &request).await?;
        (runs, acknowledged) = (runs + 1, acknowledged + judged.acknowledged);
        match judged.outcome {
            Outcome::Pass => {}
            Outcome::Fail => return Ok(exit_code(Outcome::Fail)),
            Outcome::Unknown => doubtful += 1,
        }
        println!("{runs} runs, {doubtful} of them without proof of every fault, {acknowledged} events acknowledged");
    }
    Ok(exit_code(if doubtful == 0 { Outcome::Pass } else { Outcome::Unknown }))
}

/// The modes for which this machine has everything; says which it leaves out.
fn modes_that_can_be() -> Vec<ModeName> {
    // Containers are made and removed by a script of their own.
    let mut modes = vec![ModeName::Process, ModeName::Netns];
    if let Err(reason) = namespaces::can_be_made() {
        println!("LEFT OUT: mode netns: {reason:#}");
        modes.retain(|mode| *mode != ModeName::Netns);
    }
    modes
}

/// The faults that are asked for, without those that this machine cannot provoke.
fn wanted(only: &[String]) -> anyhow::Result<Vec<&'static mutants::Mutant>> {
    for name in only {
        anyhow::ensure!(mutants::ALL.iter().any(|mutant| mutant.name == name), "there is no deliberate fault {name}");
    }
    let is_wanted = |mutant: &&mutants::Mutant| only.is_empty() || only.iter().any(|name| name == mutant.name);
    let mut wanted: Vec<&mutants::Mutant> = mutants::ALL.iter().filter(is_wanted).collect();
    for (reason, lacks) in lacking() {
        let without: Vec<&str> = wanted
            .extract_if(.., |mutant| mutant.plan.nemeses.iter().any(|nemesis| lacks(*nemesis)))
            .map(|mutant| mutant.name)
            .collect();
        if !without.is_empty() {
            println!("LEFT OUT: {}: {reason}", without.join(", "));
        }
    }
    Ok(wanted)
}

async fn all_mutants(only: &[String], seed: u64) -> anyhow::Result<ExitCode> {
    mutants::ensure_program_has_faults()?;
    let directory = std::env::temp_dir().join("chaos-mutants");
    let mut missed = Vec::new();
    println!("| fault | what is wrong | found by | also broken | runs | seconds |\n|---|---|---|---|---|---|");
    for mutant in wanted(only)? {
        let _turn = serial::my_turn()?;
        let tried = mutants::try_one(mutant, seed, &directory).await?;
        let also = tried.verdict.rules().into_keys().filter(|rule| !tried.found_by.contains(rule));
        let also = also.collect::<Vec<_>>().join(", ");
        let found = if tried.found_by.is_empty() { "**not found**".to_owned() } else { tried.found_by.join(", ") };
        let (attempts, seconds) = (tried.attempts, tried.took.as_secs());
        println!("| {} | {} | {found} | {also} | {attempts} | {seconds} |", mutant.name, mutant.what);
        if tried.found_by.is_empty() {
            eprintln!("{}", tried.verdict);
            missed.push(mutant.name);
        }
    }
    if missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("not found: {}", missed.join(", "));
    Ok(ExitCode::from(1))
}

async fn controls(only: &[String], seed: u64) -> anyhow::Result<ExitCode> {
    let directory = std::env::temp_dir().join("chaos-mutants");
    let mut worst = Outcome::Pass;
    println!("| run without a fault | verdict | acknowledged events | seconds |\n|---|---|---|---|");
    for plan in mutants::plans(&wanted(only)?) {
        let _turn = serial::my_turn()?;
        let started = Instant::now();
        let verdict = mutants::control(&plan, seed, &directory).await?;
        let (outcome, seconds) = (verdict.outcome(), started.elapsed().as_secs());
        println!("| {} | {} | {} | {seconds} |", plan.name(), outcome.name(), verdict.acknowledged);
        if outcome != Outcome::Pass {
            eprintln!("{verdict}");
            worst = if worst == Outcome::Fail { worst } else { outcome };
        }
    }
    Ok(exit_code(worst))
}
