//! `bench`: the speed of Headwater compared with etcd and a plain HTTP server, in one run on one
//! machine.
//!
//! It starts all servers on loopback, with data on the disk of the temporary directory, drives them
//! with its own light generator, and prints ratios: absolute numbers of a shared machine mean
//! little, ratios of interleaved rounds do. docs/performance.md explains the method and keeps the
//! figures.

mod backup;
mod consumers;
mod echo;
mod etcd;
mod generator;
mod headwater;
mod load;

mod report;
mod requests;
mod scenarios;
mod versions;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

/// The echo server must not be slower because of its allocator: the node uses the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Headwater beside etcd and a plain echo server.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// `quick` when absent.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A few minutes: short rounds, growth to 200,000 events.
    Quick(Selection),
    /// Everything as docs/performance.md reports it: 3 rounds of 5 s, growth to 5 million events.
    Full(Selection),
    /// The plain server that others are compared with; started by the bench itself.
    EchoServer {
        /// Port on 127.0.0.1.
        #[arg(long)]
        port: u16,
    },
}

/// What to run, and for how long.
#[derive(Debug, Clone, Default, clap::Args)]
struct Selection {
    /// Only these scenarios (repeatable); all when absent, `versions-..` only with `--beside`.
    #[arg(long, value_enum)]
    only: Vec<Scenario>,
    /// Seconds of one round.
    #[arg(long)]
    seconds: Option<u64>,
    /// Interleaved rounds per comparison.
    #[arg(long)]
    rounds: Option<usize>,
    /// Connections of the append scenarios (repeatable).
    #[arg(long)]
    connections: Vec<usize>,
    /// Events of the grown store.
    #[arg(long)]
    events: Option<u64>,
    /// Another `headwater` program to measure compared with this one, round by round (repeatable;
    /// scenarios `versions-..`).
    #[arg(long)]
    beside: Vec<PathBuf>,
    /// Writes all figures to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One group of comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The generator itself: its cost per request against the echo server, and that of etcd.
    Generator,
    /// Appends of 256 B to three nodes compared with etcd's puts, closed loop.
    Appends,
    /// The same at a fixed rate: half and four fifths of the closed loop's rate.
    OpenLoop,
    /// Appends through a follower compared with appends through the leader.
    Follower,
    /// A single node compared with the echo server.
    Single,
    /// Appends and pages, authenticated compared with anonymous.
    Authenticated,
    /// Pages, 304 and single events compared with the echo server.
    Reads,
    /// Appends and reads of a young and of a grown store, then start-up of the grown one.
    Growth,
    /// Appends and reads of one node while a backup of it is taken, compared with the same without.
    Backup,
    /// Messages that a group of consumers hands out on three nodes.
    Consumers,
    /// This program compared with those of `--beside`: appends to one node.
    VersionsSingle,
    /// The same for three nodes.
    VersionsCluster,
    /// The same for one node that holds `--events` events already.
    VersionsGrown,
    /// The same for a page that is asked for again and again.
    VersionsPage,
    /// The same for pages that were not read lately.
    VersionsPages,
}

impl Scenario {
    /// Whether it needs another program for comparison.
    fn compares_programs(self) -> bool {
        matches!(
            self,
            Self::VersionsSingle
                | Self::VersionsCluster
                | Self::VersionsGrown
                | Self::VersionsPage
                | Self::VersionsPages
        )
    }
}

/// The parameters of the scenarios.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Length of a round.
    pub(crate) round: std::time::Duration,
    /// Rounds per comparison.
    pub(crate) rounds: usize,
    /// Connections of the append scenarios.
    pub(crate) connections: Vec<usize>,
    /// Size of the grown store.
    pub(crate) events: u64,
    /// The scenarios to run.
    pub(crate) scenarios: Vec<Scenario>,
    /// Other programs to measure.
    pub(crate) beside: Vec<PathBuf>,
}

impl Plan {
    fn new(selection: &Selection, full: bool) -> Self {
        let (seconds, rounds, events) = if full { (5, 3, 5_000_000) } else { (2, 2, 200_000) };
        let connections = if full { vec![1, 16, 64, 256] } else { vec![1, 64] };
        Self {
            round: std::time::Duration::from_secs(selection.seconds.unwrap_or(seconds)),
            rounds: selection.rounds.unwrap_or(rounds).max(1),
            connections: if selection.connections.is_empty() { connections } else { selection.connections.clone() },
            events: selection.events.unwrap_or(events),
            scenarios: if selection.only.is_empty() {
                let all = Scenario::value_variants().iter().copied();
                all.filter(|scenario| !scenario.compares_programs() || !selection.beside.is_empty()).collect()
            } else {
                selection.only.clone()
            },
            beside: selection.beside.clone(),
        }
    }
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Some(Command::EchoServer { port }) => echo::serve(port),
        Some(Command::Quick(selection)) => measure(&selection, false),
        Some(Command::Full(selection)) => measure(&selection, true),
        None => measure(&Selection::default(), false),
    }
}

fn measure(selection: &Selection, full: bool) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("NOTE: this is a debug build; its figures mean nothing. Use `make bench`.");
    }
    let plan = Plan::new(selection, full);
    // One thread: the generator shares the cores with the servers under measurement and must use as
    // little of them as possible.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let report = runtime.block_on(scenarios::run(&plan))?;
    print!("{}", report.table());
    if let Some(path) = &selection.json {
        let text = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    anyhow::ensure!(report.errors() == 0, "{} requests had errors: these figures must not be used", report.errors());
    Ok(())
}
