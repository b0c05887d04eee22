//! `chaos`: a cluster of real nodes under load and faults, judged. docs/correctness.md explains it.
//!
//! Ends with 0 for a pass, 1 for a failure, and 2 when nothing was proven.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};
use headwater_cluster_tests::chaos::{BULK, Nemesis, Outcome, Request, Verdict, mutants, run, why_no_power_cuts};
use headwater_cluster_tests::readers::Load;
use headwater_cluster_tests::serial;

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
    /// Where the nodes run: `process` starts them on loopback behind a proxy per link
    #[arg(long, default_value = "process", value_parser = ["process"])]
    mode: String,
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
        Some(Command::Mutants { only, seed, controls: false }) => all_mutants(&only, seed).await,
        Some(Command::Mutants { only, seed, controls: true }) => controls(&only, seed).await,
    }
}

fn request(seed: u64, nodes: u16, seconds: u64, nemeses: &[Nemesis]) -> Request {
    Request {
        seed,
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
    let or_all = |given: Vec<Nemesis>| if given.is_empty() { default_nemeses(one.tls) } else { given };
    let mut request = request(seed, one.nodes, one.seconds, &or_all(one.nemesis));
    (request.tls, request.bulk) = (one.tls, one.bulk);
    if !one.workload.is_empty() {
        request.loads = one.workload;
    }
    if let Some(directory) = one.directory {
        request.directory = directory;
    }
    Ok(exit_code(judged(&request).await?.outcome()))
}

/// All that can be here; with TLS not those that need connections in the clear.
fn default_nemeses(tls: bool) -> Vec<Nemesis> {
    let no_power_cuts = why_no_power_cuts();
    if let Some(why) = &no_power_cuts {
        println!("LEFT OUT: power cuts: {why}");
    }
    let is_possible = |nemesis: &Nemesis| match nemesis {
        Nemesis::Replay => !tls,
        nemesis => !nemesis.needs_disks() || no_power_cuts.is_none(),
    };
    Nemesis::ALL.into_iter().filter(is_possible).collect()
}

async fn judged(request: &Request) -> anyhow::Result<Verdict> {
    // Two runs at once would distort what they measure.
    let _turn = serial::my_turn()?;
    println!("chaos --seed {} --nodes {} --seconds {}", request.seed, request.nodes, request.faults_for.as_secs());
    let started = Instant::now();
    let verdict = run(request).await?;
    println!("{verdict}\n  {:.0} s, files in {}", started.elapsed().as_secs_f64(), request.directory.display());
    Ok(verdict)
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
        let outcome = judged(&request(seed, 3, SMOKE_SECONDS, nemeses)).await?.outcome();
        if outcome != Outcome::Pass {
            return Ok(exit_code(outcome));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn soak(hours: f64, bulk: usize, seconds: u64) -> anyhow::Result<ExitCode> {
    let (started, limit) = (Instant::now(), Duration::from_secs_f64(hours * 3_600.0));
    let (mut runs, mut acknowledged, mut doubtful) = (0, 0, 0);
    let nemeses = default_nemeses(false);
    while started.elapsed() < limit {
        let nodes = if runs % 2 == 0 { 3 } else { 5 };
        let request = Request { bulk, ..request(rand::random(), nodes, seconds, &nemeses) };
        let verdict = judged(&request).await?;
        (runs, acknowledged) = (runs + 1, acknowledged + verdict.acknowledged);
        match verdict.outcome() {
            Outcome::Pass => {}
            Outcome::Fail => return Ok(exit_code(Outcome::Fail)),
            Outcome::Unknown => doubtful += 1,
        }
        println!("{runs} runs, {doubtful} of them without proof of every fault, {acknowledged} events acknowledged");
    }
    Ok(exit_code(if doubtful == 0 { Outcome::Pass } else { Outcome::Unknown }))
}

/// The faults that are asked for, without those that this machine cannot provoke.
fn wanted(only: &[String]) -> anyhow::Result<Vec<&'static mutants::Mutant>> {
    for name in only {
        anyhow::ensure!(mutants::ALL.iter().any(|mutant| mutant.name == name), "there is no deliberate fault {name}");
    }
    let is_wanted = |mutant: &&mutants::Mutant| only.is_empty() || only.iter().any(|name| name == mutant.name);
    let (needs, mut wanted): (Vec<&mutants::Mutant>, Vec<_>) =
        mutants::ALL.iter().filter(is_wanted).partition(|mutant| mutant.plan.needs_disks());
    match why_no_power_cuts().filter(|_| !needs.is_empty()) {
        None => wanted.extend(needs),
        Some(why) => {
            let names: Vec<&str> = needs.iter().map(|mutant| mutant.name).collect();
            println!("LEFT OUT, which need power cuts: {}: {why}", names.join(", "));
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
