//! kill -9 of every node at once.

use std::time::Duration;

use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial};

use crate::PROGRESS_LIMIT;

/// Here no node is left to serve: process start, recovery and an election come before the next
/// acknowledgement.
const RESTART_LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn killing_all_nodes_at_once_loses_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;

    for round in 1..=3 {
        workload.progress(200, PROGRESS_LIMIT).await?;
        cluster.kill_all().await?;
        workload.recorder().fault(format!("kill -9 of all nodes, round {round}"));
        cluster.start_all()?;
        cluster.wait_all_ready().await?;
    }

    scenario::judge(&mut cluster, workload, RESTART_LIMIT, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_single_node_loses_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(1, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;

    for round in 1..=3 {
        workload.progress(100, PROGRESS_LIMIT).await?;
        cluster.kill(1).await?;
        workload.recorder().fault(format!("kill -9 of the only node, round {round}"));
        cluster.start(1)?;
        cluster.wait_ready(1).await?;
    }

    scenario::judge(&mut cluster, workload, RESTART_LIMIT, &[]).await?;
    Ok(())
}
