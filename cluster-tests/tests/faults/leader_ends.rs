//! The end of the leader's process is noticed by its closed connections and its closed port, long
//! before its silence would be.

use std::time::Duration;

use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial};

use crate::PROGRESS_LIMIT;

/// With these timeouts the silence of a leader is not noticed before its lease is over: after 16
/// seconds.
const PATIENT: [&str; 3] = ["--heartbeat-ms=500", "--election-min-ms=8000", "--election-max-ms=16000"];

/// Far less than the lease, and enough for a debug build on a busy machine.
const NOTICED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_killed_leader_is_replaced_before_its_lease_is_over() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let options = Options { extra: PATIENT.map(str::to_owned).to_vec(), ..Options::default() };
    let mut cluster = Cluster::started(3, options).await?;
    let workload = Workload::start(&cluster, Rate::default())?;

    for round in 1..=3 {
        workload.progress(100, PROGRESS_LIMIT).await?;
        let leader = cluster.leader().await?;
        cluster.kill(leader).await?;
        workload.recorder().fault(format!("kill -9 of leader {leader}, round {round}"));
        workload.resumed(PROGRESS_LIMIT).await?;
        let successor = cluster.leader().await?;
        let ends = cluster.client().metric(&cluster.base(successor), "headwater_leader_ends_total").await?;
        anyhow::ensure!(ends > 0.0, "node {successor} has not noticed the end of its leader");
        cluster.start(leader)?;
        cluster.wait_ready(leader).await?;
    }

    scenario::judge(&mut cluster, workload, NOTICED, &[]).await?;
    Ok(())
}
