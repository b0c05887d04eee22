//! Every attack against a single node, in the clear and with TLS.

use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::serial;

use crate::Form;
use crate::attack::{self, Attack};
use crate::door::Door;
use crate::memory::Memory;
use crate::trial::{self, Doors};

/// Whether an attack is left out of this run. The short form has what every change must pass.
fn is_left_out(attack: &Attack, form: Form) -> bool {
    match std::env::var("HOSTILE_ONLY") {
        Ok(only) => attack.name != only,
        Err(_) => form == Form::Short && !attack.in_short_form,
    }
}

async fn all_attacks(tls: bool) -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let form = Form::of_this_run();
    let mut cluster = Cluster::started(1, Options { tls, ..Options::default() }).await?;
    let door = Door::of(&cluster, 1)?;
    let attacked_memory = Memory::of(cluster.pid(1)?);
    let doors = Doors { attacked: &door, attacked_memory, honest: &door };
    let mut faults = Vec::new();
    for attack in attack::all().iter().filter(|attack| attack.needs_tls == tls && !is_left_out(attack, form)) {
        faults.extend(trial::faults(&doors, attack, form).await);
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
    all_attacks(false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_tls_holds_out_against_strangers() -> anyhow::Result<()> {
    all_attacks(true).await
}
