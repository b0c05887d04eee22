//! This program compared with others: the same load for each in turn. The plain server shows the
//! current speed of the machine.

use crate::Plan;
use crate::echo::EchoServer;
use crate::generator::{Load, Pace};
use crate::headwater::Headwater;
use crate::load::{Contender, Round, Series, interleaved};
use crate::report::{Ratio, Section};
use crate::requests::{Template, stream_name};
use crate::scenarios::{MANY, MIB, YOUNG_EVENTS, other_pages, plain, probe};
use headwater_cluster_tests::client::ATOM_JSON;

/// The requests by which programs are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Appends to stores that are empty at the beginning.
    Appends,
    /// Appends to stores that already hold the plan's number of events.
    AppendsToGrown,
    /// One page, requested again and again.
    OnePage,
    /// Pages that were not read recently.
    OtherPages,
}

impl Compared {
    fn are_appends(self) -> bool {
        matches!(self, Self::Appends | Self::AppendsToGrown)
    }

    /// Events in each store before it is measured.
    fn events_before(self, plan: &Plan) -> u64 {
        match self {
            Self::Appends => 0,
            Self::AppendsToGrown => plan.events,
            Self::OnePage | Self::OtherPages => YOUNG_EVENTS,
        }
    }
}

/// A program under measurement.
struct Program {
    name: String,
    /// Its nodes; they live until all programs are measured.
    nodes: Headwater,
}

/// Compares this program with those in the plan, on clusters of `nodes` nodes each.
pub(crate) async fn compare(nodes: u16, compared: Compared, plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new(format!("{compared:?} of this program beside others, {nodes} nodes"));
    let echo = EchoServer::start().await?;
    let mut programs = Vec::new();
    let others = plan.beside.iter().map(|path| (path.display().to_string(), Some(path.clone())));
    for (name, binary) in std::iter::once(("this".to_owned(), None)).chain(others) {
        let mut nodes = Headwater::start_with(nodes, binary).await?;
        nodes.fill(compared.events_before(plan)).await?;
        nodes.settle().await?;
        programs.push(Program { name, nodes });
    }
    for connections in connections(compared, plan) {
        measure(&mut section, &echo, &mut programs, compared, *connections, plan).await?;
    }
    for Program { name, nodes } in &programs {
        for bytes in nodes.peak_memory()? {
            section.fact(format!("{name}: highest resident memory of a node"), bytes as f64 / MIB, "MiB", "");
        }
    }
    Ok(section)
}

/// Pages are compared at one number of connections, appends at those of the plan.
fn connections(compared: Compared, plan: &Plan) -> &[usize] {
    if compared.are_appends() { &plan.connections } else { &[MANY] }
}

async fn measure(
    section: &mut Section,
    echo: &EchoServer,
    programs: &mut [Program],
    compared: Compared,
    connections: usize,
    plan: &Plan,
) -> anyhow::Result<()> {
    let mut contenders = Vec::new();
    for Program { name, nodes } in programs.iter() {
        let load = load(nodes, compared, connections, plan).await?;
        contenders.push(Contender { name: format!("{name}, {connections}"), load, pids: nodes.pids()? });
    }
    let (template, expected_status) = if compared.are_appends() {
        (contenders[0].load.template.clone(), 201)
    } else {
        let bytes = probe(contenders[0].load.address, &page(&programs[0].nodes), ATOM_JSON).await?.0;
        (Template::get(&format!("/bytes/{bytes}"), &[]), 200)
    };
    let load = Load { address: echo.address(), template, expected_status, ..contenders[0].load.clone() };
    contenders.push(Contender { name: format!("echo server, {connections}"), load, pids: vec![echo.pid()] });
    let series = interleaved(&mut contenders, plan.rounds).await?;
    for (program, contender) in programs.iter_mut().zip(&contenders) {
        program.nodes.continue_from(contender.load.first_number);
    }
    add_ratios(section, &series);
    section.series.extend(series);
    Ok(())
}

/// The load for one program.
async fn load(nodes: &Headwater, compared: Compared, connections: usize, plan: &Plan) -> anyhow::Result<Load> {
    let address = nodes.leader().await?;
    let template = match compared {
        Compared::Appends | Compared::AppendsToGrown => {
            return Ok(nodes.appends(address, connections, plan.round, Pace::Closed));
        }
        Compared::OnePage => Template::get(&page(nodes), &[("Accept", ATOM_JSON)]),
        Compared::OtherPages => other_pages(nodes.run, ""),
    };
    Ok(plain(address, connections, template, 200, plan))
}

/// A page of a filled store.
fn page(nodes: &Headwater) -> String {
    format!("/streams/{}/100/forward/20", stream_name(nodes.run, 7))
}

/// Ratios of each program to the plain server and to the first program.
fn add_ratios(section: &mut Section, series: &[Series]) {
    let Some((echo, programs)) = series.split_last() else { return };
    for program in programs {
        let mut ratio = |what: &str, other: &Series, figure: fn(&Round) -> f64| {
            section.ratios.push(Ratio::of(format!("{} / {what}", program.name), "", program, other, figure));
        };
        ratio("echo, per second", echo, |round| round.per_second);
        ratio("this, per second", &programs[0], |round| round.per_second);
        ratio("this, CPU", &programs[0], |round| round.server_cpu_us);
    }
}
