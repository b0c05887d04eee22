//! One run from bootstrap to verdict.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::artefacts::{self, NemesisLog};
use super::clocks;
use super::mode::{Mode, ModeName};
use super::nemesis::Nemesis;
use super::schedule::Schedule;
use super::strike::Field;
use super::verdict::Verdict;
use crate::check::recovery::Recovery;
use crate::check::{self, Violation};
use crate::cluster::{Cluster, Options};
use crate::feed;
use crate::history::History;
use crate::observations::{Observations, Promise};
use crate::readers::{Load, Readers};
use crate::workload::{Rate, Workload};

/// The rule that a run comes to its end: nodes become ready, stop in order and take writes.
const RUN: &str = "run";

/// After healing, every node has to be ready and to take writes within this time.
const HEAL_LIMIT: Duration = Duration::from_secs(30);

/// Writes resume within this time after a fault that leaves a majority, and after every healing:
/// some election timeouts, for debug builds on a busy machine. The suite of single faults holds
/// release limits.
const RESUME_LIMIT: Duration = Duration::from_secs(10);

/// Nodes that differ for longer than this after healing count as different.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(60);

/// Of one writer per node: debug builds share two cores with the load.
const WRITES_PER_SECOND: u32 = 60;

/// Events per page when a whole log is read: a debug build on a busy machine has to write a page
/// within the time limit of a request.
const PAGE: usize = 512;

/// Events in the largest write of the load `bulk`, where nothing else is asked for: what debug
/// builds on two shared cores bear.
pub const BULK: usize = 100;

/// Log after which a snapshot is taken: little, so that nodes that were away need a snapshot.
const SNAPSHOT_LOG_BYTES: usize = 150_000;

/// About what a second of load adds to the log, for each event of its largest write.
const LOG_BYTES_PER_BULK_EVENT: usize = 1_000;

/// Log lines that faults provoke, besides those of the suite.
const PROVOKED: &[&str] = &[
    "rejoin",
    "WARN*peer refuses this node's calls",
    "WARN*removing a snapshot that is not complete",
    "WARN*a snapshot was not",
    "WARN*the snapshot was not sent",
    "WARN*a change of members was not committed",
    "WARN*a change of members cannot be completed yet",
    "WARN*the leader did not answer a change of members",
    "WARN*this node was removed from the cluster",
    // Bytes that come once more answer pings of another connection.
    "WARN*recv PING ack that we never sent",
];

/// The same of nodes that listen on addresses beyond loopback.
const PROVOKED_BY_ADDRESSES: [&str; 2] =
    ["WARN*clients are served without TLS", "WARN*the port for other nodes is open without TLS"];

/// What a run should do.
#[derive(Debug, Clone)]
pub struct Request {
    /// Decides the schedule.
    pub seed: u64,
    /// Where the nodes live.
    pub mode: Mode,
    /// 3 or 5.
    pub nodes: u16,
    /// How long faults happen; longer if not every kind has come by then.
    pub faults_for: Duration,
    /// The load.
    pub loads: Vec<Load>,
    /// Events in the largest write of the load `bulk`.
    pub bulk: usize,
    /// The kinds of faults.
    pub nemeses: Vec<Nemesis>,
    /// Where the artefacts go.
    pub directory: PathBuf,
    /// Variables of the environment of the nodes.
    pub environment: Vec<(String, String)>,
    /// TLS with clients and between nodes.
    pub tls: bool,
}

impl Request {
    fn to_json(&self) -> Value {
        let loads: Vec<&str> = self.loads.iter().map(|load| load.name()).collect();
        let nemeses: Vec<&str> = self.nemeses.iter().map(|nemesis| nemesis.name()).collect();
        json!({
            "seed": self.seed,
            "mode": self.mode.name().to_string(),
            "nodes": self.nodes,
            "seconds": self.faults_for.as_secs(),
            "workload": loads,
            "bulk": self.bulk,
            "nemesis": nemeses,
            "tls": self.tls,
        })
    }
}

/// Options of the nodes about snapshots: the more load, the longer the log between two of them.
fn snapshots(bulk: usize) -> Vec<String> {
    let bytes = SNAPSHOT_LOG_BYTES.max(bulk * LOG_BYTES_PER_BULK_EVENT);
    let keep = bytes / 3;
    let options =
        [format!("snapshot-log-bytes={bytes}"), format!("keep-log-bytes={keep}"), "scavenge-interval-s=0".to_owned()];
    options.map(|option| format!("--{option}")).to_vec()
}

/// Makes the run and writes its artefacts. An error is one of the harness or the machine; whatever
/// the nodes do wrong is in the verdict.
pub async fn run(request: &Request) -> anyhow::Result<Verdict> {
    let options = Options {
        extra: snapshots(request.bulk),
        links: (request.mode == Mode::Process).then_some(request.seed),
        namespaces: request.mode.group().cloned(),
        clocks: request.nemeses.iter().any(|nemesis| nemesis.moves_clocks()),
        environment: request.environment.clone(),
        tls: request.tls,
        ..Options::default()
    };
    let mut cluster = match request.mode {
        Mode::Compose => Cluster::of_containers()?,
        Mode::Process | Mode::Netns(_) => Cluster::new(request.nodes, options)?,
    };
    let mut verdict = Verdict::default();
    let bootstrapped = async {
        cluster.start_all()?;
        cluster.wait_all_ready().await
    };
    if let Err(error) = bootstrapped.await.context("bootstrap") {
        verdict.violations.push(Violation::new(RUN, format!("{error:#}")));
        let log = NemesisLog::default();
        artefacts::write(&request.directory, &log, &History::default(), &cluster.logs()?)?;
    } else {
        strike_and_judge(request, cluster, &mut verdict).await?;
    }
    artefacts::write_verdict(&request.directory, &verdict.to_json(request.to_json()))?;
    Ok(verdict)
}

async fn strike_and_judge(request: &Request, cluster: Cluster, verdict: &mut Verdict) -> anyhow::Result<()> {
    let appends = request.loads.contains(&Load::Appends);
    let writers_per_node = if appends { 2 } else { 0 };
    let writes_per_second = WRITES_PER_SECOND / u32::from(request.nodes);
    let workload = Workload::start(&cluster, Rate { writers_per_node, writes_per_second, payload_bytes: 1_000 })?;
    let readers = Readers::start(&cluster, workload.recorder(), &request.loads, request.bulk)?;
    let recorder = workload.recorder().clone();
    let mut field = Field::new(cluster, recorder, NemesisLog::default());
    let stricken = strike(&mut field, request, verdict).await;
    let healed = match stricken {
        Ok(()) => heal(&mut field, &workload).await,
        // Nodes may be down; what they have acknowledged is judged below if they come back.
        Err(error) => match heal(&mut field, &workload).await {
            Ok(()) => Err(error),
            Err(also) => Err(error.context(format!("and then {also:#}"))),
        },
    };
    if let Err(error) = &healed {
        verdict.violations.push(Violation::new(RUN, format!("{error:#}")));
    }
    let (seen, history) = (readers.stop().await?.snapshot(), workload.stop().await?);
    judge(&mut field, request, verdict, &history, &seen).await?;
    artefacts::write(&request.directory, field.log(), &history, &field.cluster.logs()?)
}

async fn strike(field: &mut Field, request: &Request, verdict: &mut Verdict) -> anyhow::Result<()> {
    let started = Instant::now();
    for step in Schedule::new(request.seed, &request.nemeses) {
        // Every kind comes once, however slow the machine is.
        if started.elapsed() >= request.faults_for && verdict.steps >= request.nemeses.len() {
            break;
        }
        field.step(&step).await?;
        verdict.steps += 1;
    }
    // Without any kind of fault there is load all the same.
    tokio::time::sleep(request.faults_for.saturating_sub(started.elapsed())).await;
    Ok(())
}

/// Every node has to be ready and writes have to be acknowledged.
async fn heal(field: &mut Field, workload: &Workload) -> anyhow::Result<()> {
    field.heal().await?;
    let healthy = async {
        field.cluster.wait_all_ready().await?;
        workload.resumed(HEAL_LIMIT).await
    };
    let waited = tokio::time::timeout(HEAL_LIMIT, healthy).await;
    waited.map_err(|_| anyhow::anyhow!("not ready and taking writes within {HEAL_LIMIT:?} after healing"))??;
    field.note("healed", "all");
    Ok(())
}

async fn judge(
    field: &mut Field,
    request: &Request,
    verdict: &mut Verdict,
    history: &History,
    seen: &Observations,
) -> anyhow::Result<()> {
    verdict.acknowledged = history.acknowledged_events();
    match feed::read_all(field.cluster.client(), &field.cluster.bases(), PAGE, AGREEMENT_LIMIT).await {
        Err(error) => verdict.violations.push(Violation::new(RUN, format!("the final reads: {error:#}"))),
        Ok(feeds) => {
            verdict.stored = feeds.first().map_or(0, |feed| feed.events.len());
            verdict.violations.extend(check::data(history, &feeds));
            verdict.violations.extend(check::reads(history, seen, &feeds));
            verdict.take(check::linearizable::check(history, seen, &feeds));
        }
    }
    verdict.violations.extend(check::availability::check(history, RESUME_LIMIT));
    verdict.violations.extend(check::deadlines::check(history));
    verdict.recovery = Recovery::of(history, &field.cluster.ids());
    verdict.violations.extend(check::logs::check(&field.cluster.logs()?, &provoked(request))?);
    verdict.struck = field.struck().clone();
    verdict.doubt_what_did_not_happen(&request.nemeses);
    doubt_what_was_not_read(verdict, request, seen);
    // Their data are of use only to whoever looks for the reason.
    if verdict.violations.is_empty()
        && let Err(error) = field.cluster.passed()
    {
        verdict.violations.push(Violation::new("secrets", format!("{error:#}")));
    }
    Ok(())
}

/// Log lines that this run provokes.
fn provoked(request: &Request) -> Vec<&'static str> {
    let mut lines = PROVOKED.to_vec();
    if request.nemeses.iter().any(|nemesis| nemesis.moves_clocks()) {
        lines.extend(clocks::PROVOKED);
    }
    if request.mode.name() != ModeName::Process {
        lines.extend(PROVOKED_BY_ADDRESSES);
    }
    lines
}

/// A reader that saw nothing proves nothing.
fn doubt_what_was_not_read(verdict: &mut Verdict, request: &Request, seen: &Observations) {
    let by = |promise| seen.reads.iter().filter(|read| read.promise == promise).count();
    let counts = [
        (Load::Sessions, "same node", by(Promise::SameNode)),
        (Load::Sessions, "by position", by(Promise::Position)),
        (Load::Sessions, "by the leader", by(Promise::Leader)),
        (Load::Heads, "heads", seen.heads.len()),
        (Load::Prefixes, "prefixes", seen.prefixes.iter().map(|feed| feed.events.len()).sum()),
        (Load::Pages, "immutable pages", seen.pages.len()),
        (Load::Polls, "long polls", seen.polls.len()),
    ];
    for (_, name, count) in counts.into_iter().filter(|(load, ..)| request.loads.contains(load)) {
        verdict.reads.insert(name, count);
        if count == 0 {
            verdict.doubts.push(format!("nothing was read: {name}"));
        }
    }
}
