//! Every attack against a single node, in the clear and with TLS.
//!
//! With `rates` in their names are the tests that compare what honest clients get, which other work
//! on the machine may spoil; `make test` has the others.

use std::io::Write as _;

use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::serial;

use crate::Form;
use crate::attack::{self, Attack};
use crate::door::Door;
use crate::trial::{self, Doors, Judged};

/// A debug build takes minutes to write these pages, and honest clients wait for its cores: the
/// tests with rates have them.
const MUCH_WORK: [&str; 4] = [
    "pages that nobody reads",
    "128 pages for each HTTP/2 connection, none of them read",
    "128 pages for each HTTP/2 connection, written at once, none of them read",
    "128 pages of 4096 events for each HTTP/2 connection, none of them read",
];

/// Whether an attack is left out of this run.
fn is_left_out(attack: &Attack, judged: Judged) -> bool {
    let is_too_much = judged == Judged::Outcome && MUCH_WORK.contains(&attack.name);
    if is_too_much {
        // Not by `eprintln!`, whose lines are not shown when a test passes.
        let _ = writeln!(std::io::stderr(), "LEFT OUT of the short form: {}", attack.name);
    }
    is_too_much
}

async fn all_attacks(tls: bool, judged: Judged) -> anyhow::Result<()> {
    let form = Form::of_this_run();
    if form == Form::Long && judged == Judged::Outcome {
        return Ok(()); // the tests with rates look at that too
    }
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(1, Options { tls, ..Options::default() }).await?;
    let door = Door::of(&cluster, 1)?;
    let attacked_pid = cluster.pid(1)?;
    let doors = Doors { attacked: &door, attacked_pid, honest: &door };
    let mut faults = Vec::new();
    for attack in attack::all().iter().filter(|attack| attack.needs_tls == tls && !is_left_out(attack, judged)) {
        faults.extend(trial::faults(&doors, attack, form, judged).await);
        if let Some(status) = cluster.exited(1)? {
            anyhow::bail!("the node ended under '{}': {status}", attack.name);
        }
    }
    anyhow::ensure!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    cluster.passed()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_holds_out_against_strangers() -> anyhow::Result<()> {
    all_attacks(false, Judged::Outcome).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_tls_holds_out_against_strangers() -> anyhow::Result<()> {
    all_attacks(true, Judged::Outcome).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_keep_their_rates_beside_strangers() -> anyhow::Result<()> {
    all_attacks(false, Judged::Rates).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_node_with_tls_keep_their_rates_beside_strangers() -> anyhow::Result<()> {
    all_attacks(true, Judged::Rates).await
}
