//! kill -9 of the leader, again and again; `FAULTS_ROUNDS` says how often. With a release of the
//! program (`HEADWATER_BIN`) the report tells how long writes are interrupted.

use headwater_cluster_tests::check::availability::RESUME_LIMIT;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial};

use crate::PROGRESS_LIMIT;
use crate::random_faults::from_environment;

/// Kills without `FAULTS_ROUNDS`.
const ROUNDS: u32 = 10;

#[tokio::test]
async fn killing_the_leader_again_and_again_loses_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(100, PROGRESS_LIMIT).await?;

    for round in 1..=from_environment("FAULTS_ROUNDS")?.unwrap_or(ROUNDS) {
        let leader = cluster.leader().await?;
        cluster.kill(leader).await?;
        workload.recorder().fault(format!("kill -9 of leader {leader}, round {round}"));
        workload.resumed(PROGRESS_LIMIT).await?;
        cluster.start(leader)?;
        cluster.wait_ready(leader).await?;
        workload.progress(50, PROGRESS_LIMIT).await?;
    }

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &[]).await?;
    Ok(())
}
