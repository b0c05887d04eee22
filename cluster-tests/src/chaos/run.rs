//! One run from bootstrap to verdict.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::artefacts::{self, NemesisLog};
use super::mode::{Mode, ModeName};
use super::nemesis::Nemesis;
use super::schedule::Schedule;
use super::strike::Field;
use super::upkeep;
use super::verdict::Verdict;
use super::{clocks, disks, last_reads};
use crate::check::recovery::Recovery;
use crate::check::{self, Violation};
use crate::cluster::{Cluster, Options};
use crate::feed::{self, NodeFeed};
use crate::history::History;
use crate::observations::{Observations, Promise};
use crate::power::Disks;
use crate::readers::{Load, Readers};
use crate::removal::Stream;
use crate::workload::{Rate, Workload};

/// The rule that a run comes to its end: nodes become ready, stop in order and take writes.
pub(super) const RUN: &str = "run";

/// The rule that a run comes to its beginning: a cluster of new nodes is formed.
const BOOTSTRAP: &str = "bootstrap";

/// After healing, every node has to be ready and to take writes within this time.
const HEAL_LIMIT: Duration = Duration::from_secs(30);

/// Writes resume within this time after a fault that leaves a majority, and after every healing:
/// some election timeouts, for debug builds on a busy machine. The suite of single faults holds
/// release limits.
const RESUME_LIMIT: Duration = Duration::from_secs(10);

/// Nodes that differ for longer than this after healing count as different.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(20);

/// Loads give up by themselves before this.
const LOAD_LIMIT: Duration = Duration::from_secs(180);

/// A load on nodes that did not come back is ended after this: it gets no answers.
const LOST_LOAD_LIMIT: Duration = Duration::from_secs(5);

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

/// With every other seed a node gives writes up so soon that faults leave some with an unknown
/// outcome; without these options it waits longer than any fault is in force.
const IMPATIENT: [&str; 2] = ["--write-timeout-ms=1200", "--leader-wait-ms=800"];

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
    /// The data of the nodes stay after a failure, for people.
    pub keeps_data: bool,
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

/// Options of the nodes. The more load, the longer the log between two snapshots.
fn node_options(request: &Request) -> Vec<String> {
    let bytes = SNAPSHOT_LOG_BYTES.max(request.bulk * LOG_BYTES_PER_BULK_EVENT);
    let mut options = vec![
        format!("--snapshot-log-bytes={bytes}"),
        format!("--keep-log-bytes={}", bytes / 3),
        "--scavenge-interval-s=0".to_owned(),
        format!("--ready-lag-events={}", check::readiness::LIMIT_EVENTS),
    ];
    if request.seed.is_multiple_of(2) {
        options.extend(IMPATIENT.map(str::to_owned));
    }
    options
}

/// Makes the run and writes its artefacts. An error is one of the harness or the machine; whatever
/// the nodes do wrong is in the verdict.
pub async fn run(request: &Request) -> anyhow::Result<Verdict> {
    let options = Options {
        extra: node_options(request),
        links: (request.mode == Mode::Process).then_some(request.seed),
        namespaces: request.mode.group().cloned(),
        clocks: request.nemeses.iter().any(|nemesis| nemesis.moves_clocks()),
        environment: request.environment.clone(),
        tls: request.tls,
        ..Options::default()
    };
    let needs_disks = request.nemeses.iter().any(|nemesis| nemesis.needs_disks());
    let disks = needs_disks.then(|| Disks::mount(request.nodes)).transpose()?;
    let options = disks.iter().fold(options, |options, disks| disks.options(options));
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
        verdict.violations.push(Violation::new(BOOTSTRAP, format!("{error:#}")));
        let log = NemesisLog::default();
        artefacts::write(&request.directory, &log, &History::default(), &cluster.logs()?)?;
    } else {
        strike_and_judge(request, cluster, disks, &mut verdict).await?;
    }
    artefacts::write_verdict(&request.directory, &verdict.to_json(request.to_json()))?;
    Ok(verdict)
}

async fn strike_and_judge(
    request: &Request,
    cluster: Cluster,
    disks: Option<Disks>,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let appends = request.loads.contains(&Load::Appends);
    let writers_per_node = if appends { 2 } else { 0 };
    let writes_per_second = WRITES_PER_SECOND / u32::from(request.nodes);
    let workload = Workload::start(&cluster, Rate { writers_per_node, writes_per_second, payload_bytes: 1_000 })?;
    let readers = Readers::start(&cluster, workload.recorder(), &request.loads, request.bulk)?;
    let recorder = workload.recorder().clone();
    let mut field = Field::new(cluster, disks, recorder, NemesisLog::default());
    let stricken = strike(&mut field, request, verdict).await;
    let healed = heal(&mut field, &workload).await;
    // After a failed step nodes may be down; what they have acknowledged is judged all the same.
    let is_whole = healed.is_ok();
    for error in [stricken, healed].into_iter().filter_map(Result::err) {
        verdict.violations.push(Violation::new(RUN, format!("{error:#}")));
    }
    let limit = if is_whole { LOAD_LIMIT } else { LOST_LOAD_LIMIT };
    let (seen, history) = (readers.stop(limit).await?.snapshot(), workload.stop_within(limit).await?);
    judge(&mut field, request, verdict, (&history, &seen), is_whole).await?;
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
    (history, seen): (&History, &Observations),
    is_whole: bool,
) -> anyhow::Result<()> {
    verdict.acknowledged = history.acknowledged_events();
    match read_all(&field.cluster, request, is_whole).await {
        Err(error) => verdict.violations.push(Violation::new(RUN, format!("the final reads: {error:#}"))),
        Ok(feeds) => {
            verdict.stored = feeds.first().map_or(0, |feed| feed.events.len());
            let mut of_data = check::data(history, &feeds);
            // Of a load that was ended nobody knows what it had sent.
            of_data.retain(|violation| is_whole || violation.rule != check::origin::RULE);
            verdict.violations.extend(of_data);
            let mut of_reads = check::reads(history, seen, &feeds);
            // Without a run of the scavenge nothing has to be gone.
            of_reads.retain(|violation| is_whole || violation.rule != check::removals::RULE);
            verdict.violations.extend(of_reads);
            // The log may have writes of a load that was ended, which its history lacks.
            if is_whole {
                verdict.take(check::linearizable::check(history, seen, &feeds));
            }
            if let Err(error) = look_at_the_rest(field, request, verdict, &feeds, is_whole).await {
                verdict.violations.push(Violation::new(RUN, format!("after the final reads: {error:#}")));
            }
        }
    }
    verdict.violations.extend(check::availability::check(history, RESUME_LIMIT));
    verdict.violations.extend(check::deadlines::check(history));
    verdict.recovery = Recovery::of(history, &field.cluster.ids());
    let mut logs = field.cluster.logs()?;
    logs.retain(|(name, _)| !field.damaged.contains(name));
    verdict.violations.extend(check::logs::check(&logs, &provoked(request))?);
    verdict.struck = field.struck().clone();
    verdict.doubt_what_did_not_happen(&request.nemeses);
    doubt_what_was_not_read(verdict, request, seen);
    // Their data are of use only to whoever looks for the reason.
    if verdict.violations.is_empty() || !request.keeps_data {
        field.disks.iter_mut().for_each(Disks::passed);
        if let Err(error) = field.cluster.passed() {
            verdict.violations.push(Violation::new(check::secrets::RULE, format!("{error:#}")));
        }
    }
    Ok(())
}

/// Log lines that this run provokes.
fn provoked(request: &Request) -> Vec<&'static str> {
    let mut lines = PROVOKED.to_vec();
    if request.nemeses.iter().any(|nemesis| nemesis.moves_clocks()) {
        lines.extend(clocks::PROVOKED);
    }
    lines.extend(request.nemeses.iter().copied().flat_map(disks::provoked));
    if request.nemeses.contains(&Nemesis::Upgrade) {
        lines.extend(upkeep::PROVOKED_BY_RELEASES);
    }
    if request.mode.name() != ModeName::Process {
        lines.extend(PROVOKED_BY_ADDRESSES);
    }
    lines
}

/// What every node has in the end, with positions. What may go of streams that lose events, has
/// gone.
async fn read_all(cluster: &Cluster, request: &Request, is_whole: bool) -> anyhow::Result<Vec<NodeFeed>> {
    if is_whole && request.loads.contains(&Load::Removals) {
        upkeep::scavenge(cluster, 1).await?;
    }
    let mut feeds = feed::read_all(cluster.client(), &cluster.bases(), PAGE, AGREEMENT_LIMIT).await?;
    for feed in &mut feeds {
        feed::place(cluster.client(), &cluster.base(feed.node), feed).await?;
    }
    Ok(feeds)
}

/// What follows from the log on each node, and the files of the nodes when they are stopped.
async fn look_at_the_rest(
    field: &mut Field,
    request: &Request,
    verdict: &mut Verdict,
    feeds: &[NodeFeed],
    is_whole: bool,
) -> anyhow::Result<()> {
    if !is_whole {
        return Ok(());
    }
    let pages = last_reads::streams(&field.cluster, feeds).await?;
    verdict.reads.insert("both ends of streams", pages.len());
    if pages.is_empty() {
        verdict.doubts.push("no stream was read from both ends".to_owned());
    }
    verdict.violations.extend(check::streams::check(&pages, feeds));
    let documents = last_reads::documents(&field.cluster, feeds).await?;
    verdict.reads.insert("documents", documents.len());
    verdict.violations.extend(check::same_everywhere::check_documents(&documents));
    // Those of containers are in there.
    if request.mode.name() != ModeName::Compose {
        verdict.violations.extend(last_reads::files(&mut field.cluster).await?);
    }
    Ok(())
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
        (Load::Readiness, "readiness", seen.readiness.iter().filter(|read| read.is_ready).count()),
        (Load::Access, "admitted", seen.access.iter().filter(|tried| tried.did).count()),
        (Load::Access, "denied", seen.access.iter().filter(|tried| !tried.did).count()),
        (Load::Removals, "events of streams that lose some", seen.removals.values().map(Stream::written).sum()),
        (Load::Consumers, "messages of groups", seen.groups.iter().map(|of| of.stored as usize).sum()),
    ];
    for (_, name, count) in counts.into_iter().filter(|(load, ..)| request.loads.contains(load)) {
        verdict.reads.insert(name, count);
        if count == 0 {
            verdict.doubts.push(format!("nothing was read: {name}"));
        }
    }
}
