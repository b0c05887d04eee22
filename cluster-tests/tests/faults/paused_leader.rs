//! A leader that is frozen and does not know it when it wakes up.

use std::time::Duration;

use headwater_cluster_tests::check::availability::RESUME_LIMIT;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial, wait};

use crate::PROGRESS_LIMIT;

/// Long enough for several elections: the frozen node's lease, its term and its connections are all
/// out of date.
const PAUSE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_leader_paused_for_ten_seconds_neither_loses_nor_blocks() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(100, PROGRESS_LIMIT).await?;

    let leader = cluster.leader().await?;
    cluster.pause(leader)?;
    workload.recorder().fault(format!("SIGSTOP of leader {leader}"));
    workload.resumed(PROGRESS_LIMIT).await?;
    let new_leader = cluster.leader().await?;
    assert_ne!(new_leader, leader);
    // The length of the pause is the fault itself: the others must go on writing through all of it.
    wait::holds_during("the others keep writing", PAUSE, || async { workload.progress(1, RESUME_LIMIT).await }).await?;

    cluster.resume(leader)?;
    workload.recorder().fault(format!("SIGCONT of the deposed leader {leader}"));
    cluster.wait_ready(leader).await?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    anyhow::ensure!(cluster.exited(leader)?.is_none(), "the resumed node must carry on");

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &[]).await?;
    Ok(())
}
