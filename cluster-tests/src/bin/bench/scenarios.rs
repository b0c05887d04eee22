//! The measurements: one function per group, which starts the servers it needs and stops them when
//! it returns.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::client::{ATOM_JSON, Client};

use crate::backup;
use crate::consumers;
use crate::echo::EchoServer;
use crate::etcd::Etcd;
use crate::generator::{Load, Pace};
use crate::headwater::{EVENT_BYTES, End, Headwater};
use crate::load::{Contender, Series, interleaved};
use crate::report::{Ratio, Report, Section};
use crate::requests::{Template, stream_name};
use crate::versions::{self, Compared};
use crate::{Plan, Scenario};

/// Connections at which capacity is compared.
pub(crate) const MANY: usize = 64;

/// Size of the young store in the growth scenario.
pub(crate) const YOUNG_EVENTS: u64 = 10_000;

/// The young store was filled by 40 requests, each to a stream of its own.
const FILLED_STREAMS: u64 = 40;

/// Pages of one filled stream that begin at different numbers and have 20 events.
const PAGES_PER_STREAM: u64 = 230;

/// Old pages that differ from all recently requested ones; there are more of them than a node
/// keeps.
const OTHER_PAGES: &str = "/PPPPPPPP/forward/20";

/// A node's memory stays below this in all scenarios (docs/limits.md).
const MEMORY_TARGET: &str = "target: below 600";

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// Runs the scenarios of the plan.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for scenario in &plan.scenarios {
        eprintln!("{scenario:?}");
        let sections = match scenario {
            Scenario::Generator => generator(plan).await,
            Scenario::Appends => appends(plan).await,
            Scenario::OpenLoop => open_loop(plan).await,
            Scenario::Follower => follower(plan).await,
            Scenario::Single => single(plan).await,
            Scenario::Authenticated => authenticated(plan).await,
            Scenario::Reads => reads(plan).await,
            Scenario::Growth => growth(plan).await,
            Scenario::Backup => backup::load_during_backup(plan).await,
            Scenario::Consumers => consumers::consumers(plan).await,
            Scenario::VersionsSingle => versions::compare(1, Compared::Appends, plan).await,
            Scenario::VersionsCluster => versions::compare(3, Compared::Appends, plan).await,
            Scenario::VersionsGrown => versions::compare(1, Compared::AppendsToGrown, plan).await,
            Scenario::VersionsPage => versions::compare(1, Compared::OnePage, plan).await,
            Scenario::VersionsPages => versions::compare(1, Compared::OtherPages, plan).await,
        };
        report.sections.push(sections.with_context(|| format!("scenario {scenario:?}"))?);
    }
    Ok(report)
}

/// A load without event ids, or with ids of its own.
pub(crate) fn plain(
    address: SocketAddr,
    connections: usize,
    template: Template,
    expected_status: u16,
    plan: &Plan,
) -> Load {
    Load {
        address,
        connections,
        template,
        first_number: 0,
        expected_status,
        duration: plan.round,
        requests: u64::MAX,
        pace: Pace::Closed,
    }
}

/// Etcd's side of an append comparison. Each call uses a new key prefix.
async fn etcd_puts(etcd: &Etcd, connections: usize, plan: &Plan) -> anyhow::Result<Contender> {
    let template = Template::etcd_put(rand::random(), EVENT_BYTES);
    let load = plain(etcd.leader().await?, connections, template, 200, plan);
    Ok(Contender { name: "etcd, 3 nodes, put".to_owned(), load, pids: etcd.pids() })
}

async fn leader_appends(headwater: &Headwater, connections: usize, plan: &Plan) -> anyhow::Result<Contender> {
    let load = headwater.appends(headwater.leader().await?, connections, plan.round, Pace::Closed);
    Ok(Contender { name: "headwater, append on leader".to_owned(), load, pids: headwater.pids()? })
}

/// Runs contenders and records the request numbers that the first of them used on `headwater`.
async fn compare(
    headwater: &mut Headwater,
    contenders: &mut [Contender],
    rounds: usize,
) -> anyhow::Result<Vec<Series>> {
    let series = interleaved(contenders, rounds).await?;
    if let Some(own) = contenders.first() {
        headwater.continue_from(own.load.first_number);
    }
    Ok(series)
}

fn note_memory(section: &mut Section, headwater: &Headwater, when: &str) -> anyhow::Result<()> {
    for (index, bytes) in headwater.peak_memory()?.into_iter().enumerate() {
        let name = format!("highest resident memory of node {} {when}", index + 1);
        section.fact(name, bytes as f64 / MIB, "MiB", MEMORY_TARGET);
    }
    Ok(())
}

/// Without any node: shows that the generator uses so little of the machine that it can be left out
/// of the comparison.
async fn generator(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new("The load generator against an echo server and etcd");
    let echo = EchoServer::start().await?;
    let etcd = Etcd::start().await?;
    for connections in [1, MANY] {
        let template = Template::append(rand::random(), 1_000, EVENT_BYTES);
        let same_post = Contender {
            name: "echo server, POST of an append".to_owned(),
            load: plain(echo.address(), connections, template, 201, plan),
            pids: vec![echo.pid()],
        };
        let puts = etcd_puts(&etcd, connections, plan).await?;
        let series = interleaved(&mut [same_post, puts], plan.rounds).await?;
        let own_cost = series[0].median(|round| round.generator_cpu_us);
        section.fact(format!("generator's CPU per request at {connections}"), own_cost, "us", "target: at most 8");
        section.series.extend(series);
    }
    Ok(section)
}

async fn appends(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new("Appends of 256 B, three nodes, closed loop");
    let mut headwater = Headwater::start(3).await?;
    let etcd = Etcd::start().await?;
    for &connections in &plan.connections {
        let mut contenders =
            [leader_appends(&headwater, connections, plan).await?, etcd_puts(&etcd, connections, plan).await?];
        let series = compare(&mut headwater, &mut contenders, plan.rounds).await?;
        let target = if connections == MANY { "target: at least 3" } else { "" };
        section.ratios.push(Ratio::of(
            format!("appends / etcd puts per second at {connections}"),
            target,
            &series[0],
            &series[1],
            |round| round.per_second,
        ));
        let target = if connections == 1 { "target: at most 1" } else { "" };
        section.ratios.push(Ratio::of(
            format!("append / etcd put, median latency at {connections}"),
            target,
            &series[0],
            &series[1],
            |round| round.latency_us[0],
        ));
        section.series.extend(series);
    }
    note_memory(&mut section, &headwater, "after appends")?;
    headwater.stop().await?;
    Ok(section)
}

async fn open_loop(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new("Appends of 256 B, three nodes, fixed rate (latency from the intended time)");
    let mut headwater = Headwater::start(3).await?;
    let etcd = Etcd::start().await?;
    let mut contenders = [leader_appends(&headwater, MANY, plan).await?, etcd_puts(&etcd, MANY, plan).await?];
    let capacity = compare(&mut headwater, &mut contenders, plan.rounds).await?;
    let capacities: Vec<f64> = capacity.iter().map(|series| series.median(|round| round.per_second)).collect();
    section.series.extend(capacity);
    for share in [0.5, 0.8] {
        let mut contenders = [leader_appends(&headwater, MANY, plan).await?, etcd_puts(&etcd, MANY, plan).await?];
        for (contender, capacity) in contenders.iter_mut().zip(&capacities) {
            contender.load.pace = Pace::Open(capacity * share);
            contender.name = format!("{}, {:.0} % of capacity", contender.name, share * 100.0);
        }
        section.series.extend(compare(&mut headwater, &mut contenders, plan.rounds).await?);
    }
    // The same absolute rate for both: half of etcd's capacity.
    let mut contenders = [leader_appends(&headwater, MANY, plan).await?, etcd_puts(&etcd, MANY, plan).await?];
    for contender in &mut contenders {
        contender.load.pace = Pace::Open(capacities[1] * 0.5);
        contender.name = format!("{}, half of etcd's capacity", contender.name);
    }
    let series = compare(&mut headwater, &mut contenders, plan.rounds).await?;
    section.ratios.push(Ratio::of("append / etcd put, p99 at the same rate", "", &series[0], &series[1], |round| {
        round.latency_us[2]
    }));
    section.series.extend(series);
    headwater.stop().await?;
    Ok(section)
}

async fn follower(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new("Appends of 256 B through a follower");
    let mut headwater = Headwater::start(3).await?;
    for connections in [1, MANY] {
        let on_leader = leader_appends(&headwater, connections, plan).await?;
        let load = headwater.appends(headwater.follower().await?, connections, plan.round, Pace::Closed);
        // The ids must differ from those sent to the leader meanwhile.
        let load = Load { first_number: load.first_number + (1 << 40), ..load };
        let through_follower =
            Contender { name: "headwater, append on follower".to_owned(), load, pids: headwater.pids()? };
        let mut contenders = [on_leader, through_follower];
        let series = interleaved(&mut contenders, plan.rounds).await?;
        headwater.continue_from(contenders[1].load.first_number);
        section.ratios.push(Ratio::of(
            format!("through follower / on leader per second at {connections}"),
            "",
            &series[1],
            &series[0],
            |round| round.per_second,
        ));
        section.series.extend(series);
    }
    headwater.stop().await?;
    Ok(section)
}

async fn single(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new("Appends of 256 B, a single node beside an echo server taking the same POST");
    let mut headwater = Headwater::start(1).await?;
    let echo = EchoServer::start().await?;
    for connections in [1, MANY] {
        let load = headwater.appends(headwater.leader().await?, connections, plan.round, Pace::Closed);
        let own = Contender {
            name: "headwater, single node, append".to_owned(),
            load: load.clone(),
            pids: headwater.pids()?,
        };
        let load = Load { address: echo.address(), ..load };
        let plain = Contender { name: "echo server, same POST".to_owned(), load, pids: vec![echo.pid()] };
        let series = compare(&mut headwater, &mut [own, plain], plan.rounds).await?;
        let target = if connections == MANY { "target: at least 0.50" } else { "" };
        section.ratios.push(Ratio::of(
            format!("single node / echo per second at {connections}"),
            target,
            &series[0],
            &series[1],
            |round| round.per_second,
        ));
        section.series.extend(series);
    }
    note_memory(&mut section, &headwater, "after appends")?;
    headwater.stop().await?;
    Ok(section)
}

async fn authenticated(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new("A user who logged in beside nobody, single node");
    let mut headwater = Headwater::start(1).await?;
    let anonymous = headwater.appends(headwater.leader().await?, MANY, plan.round, Pace::Closed);
    let (first, rounds) = (anonymous.first_number, plan.rounds);
    let with_user = Load { template: anonymous.template.clone().authenticated(), ..anonymous.clone() };
    // The two must not share numbers, from which the ids of the requests are made.
    let apart = Load { first_number: first + (1 << 40), ..anonymous.clone() };
    let pids = headwater.pids()?;
    let contender = |name: &str, load: Load| Contender { name: name.to_owned(), load, pids: pids.clone() };
    let mut appends = [contender("append, user", with_user), contender("append, nobody", apart)];
    let mut series = compare(&mut headwater, &mut appends, rounds).await?;
    let page = |template: Template| Load { template, expected_status: 200, ..anonymous.clone() };
    let accept = [("Accept", "application/vnd.eventstore.atom+json")];
    let template = Template::get_of_streams(headwater.run, "/head/backward/20", 8, &accept);
    let mut pages = [
        contender("page of 20 events, user", page(template.clone().authenticated())),
        contender("page of 20 events, nobody", page(template)),
    ];
    series.extend(interleaved(&mut pages, rounds).await?);
    for (name, pair) in ["appends", "pages"].into_iter().zip(series.chunks_exact(2)) {
        let name = format!("{name}, user / nobody per second");
        let target = "target: at least 0.95";
        section.ratios.push(Ratio::of(name, target, &pair[0], &pair[1], |round| round.per_second));
    }
    section.series.extend(series);
    headwater.stop().await?;
    Ok(section)
}

/// Requests a page once, for the size and entity tag of the answer.
pub(crate) async fn probe(address: SocketAddr, path: &str, accept: &str) -> anyhow::Result<(usize, Option<String>)> {
    let client = Client::new()?;
    let response = client.get(&format!("http://{address}{path}"), &[("Accept", accept)]).await?;
    let status = response.status();
    let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let bytes = response.bytes().await.context("no body")?.len();
    anyhow::ensure!(status.is_success(), "GET {path} answered {status}");
    Ok((bytes, tag))
}

async fn reads(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new("Reads at 64 connections, a single node beside an echo server with equal bodies");
    let mut headwater = Headwater::start(1).await?;
    headwater.fill(YOUNG_EVENTS).await?;
    let echo = EchoServer::start().await?;
    let address = headwater.address(1)?;
    let stream = format!("/streams/{}", stream_name(headwater.run, 7));
    let pages = [
        ("head page", stream.clone()),
        ("old page", format!("{stream}/0/forward/20")),
        ("old page, embed=body", format!("{stream}/0/forward/20?embed=body")),
    ];
    for (name, path) in pages {
        let (bytes, _) = probe(address, &path, ATOM_JSON).await?;
        let request = Template::get(&path, &[("Accept", ATOM_JSON)]);
        let target = "target: at least 0.40, or 10,000/s per core";
        compare_read(&mut section, name, target, (&headwater, request, 200), (&echo, bytes), plan).await?;
    }
    for (name, query) in [("another old page each time", ""), ("another one with bodies", "?embed=body")] {
        let (bytes, _) = probe(address, &format!("{stream}/100/forward/20{query}"), ATOM_JSON).await?;
        let request = other_pages(headwater.run, query);
        let target = "target: at least 0.40, or 10,000/s per core";
        compare_read(&mut section, name, target, (&headwater, request, 200), (&echo, bytes), plan).await?;
    }
    let event = format!("{stream}/3");
    let (bytes, _) = probe(address, &event, "application/json").await?;
    let request = Template::get(&event, &[("Accept", "application/json")]);
    compare_read(&mut section, "single event", "", (&headwater, request, 200), (&echo, bytes), plan).await?;

    let (_, tag) = probe(address, &stream, ATOM_JSON).await?;
    let tag = tag.context("the head page has no entity tag")?;
    let request = Template::get(&stream, &[("Accept", ATOM_JSON), ("If-None-Match", &tag)]);
    compare_read(&mut section, "304", "", (&headwater, request, 304), (&echo, 0), plan).await?;
    note_memory(&mut section, &headwater, "after reads")?;
    headwater.stop().await?;
    Ok(section)
}

async fn compare_read(
    section: &mut Section,
    name: &str,
    target: &str,
    (headwater, request, status): (&Headwater, Template, u16),
    (echo, bytes): (&EchoServer, usize),
    plan: &Plan,
) -> anyhow::Result<()> {
    let own = Contender {
        name: format!("headwater, {name}"),
        load: plain(headwater.address(1)?, MANY, request, status, plan),
        pids: headwater.pids()?,
    };
    let path = if status == 304 { "/not-modified".to_owned() } else { format!("/bytes/{bytes}") };
    let same_size = Contender {
        name: format!("echo server, {bytes} bytes"),
        load: plain(echo.address(), MANY, Template::get(&path, &[]), status, plan),
        pids: vec![echo.pid()],
    };
    let series = interleaved(&mut [own, same_size], plan.rounds).await?;
    section
        .ratios
        .push(Ratio::of(format!("{name} / echo per second"), target, &series[0], &series[1], |round| round.per_second));
    let per_core = series[0].median(|round| round.per_second / round.server_cores.max(0.01));
    section.fact(format!("{name}: requests per second per core used"), per_core, "/s", target);
    section.series.extend(series);
    Ok(())
}

async fn growth(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new(format!("Growth: three nodes with {YOUNG_EVENTS} and with {} events", plan.events));
    let mut young = Headwater::start(3).await?;
    young.fill(YOUNG_EVENTS).await?;
    let mut grown = Headwater::start(3).await?;
    let written_before = grown.written_bytes()?;
    grown.fill(plan.events).await?;
    let written = grown.written_bytes()? - written_before;
    let event_bytes = plan.events as f64 * EVENT_BYTES as f64;
    section.fact("bytes written to disk per byte of event data and node", written as f64 / 3.0 / event_bytes, "", "");
    note_memory(&mut section, &grown, "after loading")?;
    grown.settle().await?;

    let target = "target: 0.85 to 1.15";
    // Reads come first, because appends make the young store older. Both are read in streams that
    // both contain.
    for (name, suffix) in
        [("head page", ""), ("old page", "/0/forward/20"), ("another old page each time", OTHER_PAGES)]
    {
        let mut contenders = [
            page_reads(&grown, format!("{name}, grown store"), suffix, plan).await?,
            page_reads(&young, format!("{name}, young store"), suffix, plan).await?,
        ];
        let series = interleaved(&mut contenders, plan.rounds).await?;
        let title = format!("{name} per second, grown / young");
        section.ratios.push(Ratio::of(title, target, &series[0], &series[1], |round| round.per_second));
        section.series.extend(series);
    }
    let mut of_grown = leader_appends(&grown, MANY, plan).await?;
    let mut of_young = leader_appends(&young, MANY, plan).await?;
    of_grown.name = "append, grown store".to_owned();
    of_young.name = "append, young store".to_owned();
    let mut contenders = [of_grown, of_young];
    let series = compare(&mut grown, &mut contenders, plan.rounds).await?;
    section
        .ratios
        .push(Ratio::of("appends per second, grown / young", target, &series[0], &series[1], |round| round.per_second));
    section.series.extend(series);
    note_memory(&mut section, &grown, "after reads and appends")?;

    // Alone, so that start-up competes only with its own cluster.
    drop(young);
    start_up(&mut section, &mut grown).await?;
    note_memory(&mut section, &grown, "after start-up")?;
    Ok(section)
}

/// Requests for pages, each requested once before any is requested again.
pub(crate) fn other_pages(run: u32, query: &str) -> Template {
    let suffix = format!("{OTHER_PAGES}{query}");
    Template::get_of_pages(run, &suffix, FILLED_STREAMS, PAGES_PER_STREAM, &[("Accept", ATOM_JSON)])
}

/// Reads of one kind of page, in turn from streams that every filled store contains.
async fn page_reads(headwater: &Headwater, name: String, suffix: &str, plan: &Plan) -> anyhow::Result<Contender> {
    let template = match suffix {
        OTHER_PAGES => other_pages(headwater.run, ""),
        _ => Template::get_of_streams(headwater.run, suffix, FILLED_STREAMS, &[("Accept", ATOM_JSON)]),
    };
    let load = plain(headwater.leader().await?, MANY, template, 200, plan);
    Ok(Contender { name, load, pids: headwater.pids()? })
}

async fn start_up(section: &mut Section, grown: &mut Headwater) -> anyhow::Result<()> {
    let target = "target: below 2";
    let seconds = |time: Duration| time.as_secs_f64();
    for (what, end) in [("kill -9", End::Killed), ("SIGTERM", End::Ordered)] {
        let follower = grown.follower_id().await?;
        let time = grown.restart(follower, end).await?;
        section.fact(format!("start to ready of one node after {what}"), seconds(time), "s", target);
    }
    let time = grown.restart_all().await?;
    section.fact("start to all ready after kill -9 of all nodes", seconds(time), "s", target);
    Ok(())
}
