//! A cluster is founded once, by all who are listed, and only if they agree on the list.

use std::time::Duration;

use headwater_cluster_tests::check::availability::RESUME_LIMIT;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial, wait};

use crate::PROGRESS_LIMIT;

/// Founding of a complete cluster takes well under this, so an incomplete one had its chance.
const WATCH: Duration = Duration::from_secs(4);

async fn nobody_is_ready(cluster: &Cluster, why: &str) -> anyhow::Result<()> {
    let bases = cluster.bases();
    wait::holds_during(why, WATCH, || async {
        for (id, base) in &bases {
            anyhow::ensure!(!cluster.client().is_ready(base).await, "node {id} says it is ready");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_forms_only_when_all_listed_nodes_are_up() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::new(3, Options::default())?;
    cluster.start(1)?;
    cluster.start(2)?;
    nobody_is_ready(&cluster, "two of three listed nodes do not found a cluster").await?;
    cluster.start(3)?;
    cluster.wait_all_ready().await?;
    // Peers that are not there yet are reported while founding.
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn different_member_lists_are_refused() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::new(3, Options::default())?;
    let other_list = {
        let mut entries: Vec<String> = cluster.members().split(',').map(str::to_owned).collect();
        // The same servers, but server 2 is said to serve HTTP somewhere else.
        let (raft, _) = entries[1].split_once('/').ok_or_else(|| anyhow::anyhow!("no HTTP address"))?;
        entries[1] = format!("{raft}/127.0.0.1:1");
        entries.join(",")
    };
    cluster.start(1)?;
    cluster.start(2)?;
    cluster.start_as(3, &other_list, &[])?;
    nobody_is_ready(&cluster, "nodes with different lists do not found a cluster").await?;
    let said = cluster.ids().iter().any(|id| {
        let log = cluster.last_log(*id).to_lowercase();
        log.contains("member") && (log.contains("differ") || log.contains("list"))
    });
    anyhow::ensure!(said, "no node says that the member lists differ");

    // Corrected and restarted, they found it.
    if cluster.exited(3)?.is_none() {
        cluster.kill(3).await?;
    } else {
        cluster.wait_exit(3, WATCH).await?;
    }
    cluster.start(3)?;
    for id in [1, 2] {
        // A node that ended because of the difference is started again, as an operator would.
        if cluster.exited(id)?.is_some() {
            cluster.wait_exit(id, WATCH).await?;
            cluster.start(id)?;
        }
    }
    cluster.wait_all_ready().await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &["member"]).await?;
    Ok(())
}
