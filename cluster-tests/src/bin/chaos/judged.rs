//! A run in this process, or in one of its own beside the bridge of its namespaces.

use std::time::Instant;

use anyhow::Context;
use headwater_cluster_tests::chaos::{Mode, ModeName, Nemesis, Outcome, Request, run};
use headwater_cluster_tests::namespaces::Namespaces;
use headwater_cluster_tests::serial;
use serde_json::Value;

/// What other runs want to know of one.
pub(crate) struct Judged {
    pub(crate) outcome: Outcome,
    /// Events.
    pub(crate) acknowledged: usize,
}

/// Runs where the mode demands it.
pub(crate) async fn in_mode(mode: ModeName, request: &Request) -> anyhow::Result<Judged> {
    match mode {
        ModeName::Process => here(request).await,
        ModeName::Netns => beside_a_bridge(request).await,
        ModeName::Compose => {
            anyhow::ensure!(request.nodes == 3 && !request.tls, "the project has three nodes without TLS");
            here(&Request { mode: Mode::Compose, ..request.clone() }).await
        }
    }
}

/// Runs in this process.
pub(crate) async fn here(request: &Request) -> anyhow::Result<Judged> {
    // Two runs at once would distort what they measure.
    let _turn = serial::my_turn()?;
    let (seed, nodes, mode) = (request.seed, request.nodes, request.mode.name());
    println!("chaos --seed {seed} --nodes {nodes} --seconds {} --mode {mode}", request.faults_for.as_secs());
    let started = Instant::now();
    let verdict = run(request).await?;
    println!("{verdict}\n  {:.0} s, files in {}", started.elapsed().as_secs_f64(), request.directory.display());
    Ok(Judged { outcome: verdict.outcome(), acknowledged: verdict.acknowledged })
}

/// Makes namespaces, runs in there, and removes them however that ends.
async fn beside_a_bridge(request: &Request) -> anyhow::Result<Judged> {
    let verdict = request.directory.join("verdict.json");
    // Of a run before this one.
    let _ = std::fs::remove_file(&verdict);
    // One node may be added.
    let namespaces = Namespaces::make(request.nodes + 1)?;
    let program = std::env::current_exe().context("cannot find the running program")?;
    let status = namespaces.run(&program, &arguments(request, &namespaces)).await?;
    drop(namespaces);
    let outcome = match status.code() {
        Some(0) => Outcome::Pass,
        Some(2) => Outcome::Unknown,
        // An error of the harness ends with 1, too, and leaves no new verdict.
        _ => Outcome::Fail,
    };
    let text = std::fs::read_to_string(&verdict).context("the run left no verdict")?;
    let verdict: Value = serde_json::from_str(&text).context("the verdict is not JSON")?;
    anyhow::ensure!(
        verdict["verdict"] == outcome.name(),
        "the run ended with {status} and says {}",
        verdict["verdict"]
    );
    let acknowledged = verdict["acknowledgedEvents"].as_u64().and_then(|events| usize::try_from(events).ok());
    Ok(Judged { outcome, acknowledged: acknowledged.context("the verdict counts no events")? })
}

fn arguments(request: &Request, namespaces: &Namespaces) -> Vec<String> {
    let nemeses: Vec<&str> = request.nemeses.iter().copied().map(Nemesis::name).collect();
    let loads: Vec<&str> = request.loads.iter().map(|load| load.name()).collect();
    let mut arguments = vec![
        format!("--seed={}", request.seed),
        format!("--nodes={}", request.nodes),
        format!("--seconds={}", request.faults_for.as_secs()),
        format!("--mode={}", ModeName::Netns),
        format!("--namespaces={}", namespaces.group().name()),
        format!("--nemesis={}", nemeses.join(",")),
        format!("--workload={}", loads.join(",")),
        format!("--bulk={}", request.bulk),
        format!("--directory={}", request.directory.display()),
    ];
    arguments.extend(request.tls.then(|| "--tls".to_owned()));
    arguments
}
