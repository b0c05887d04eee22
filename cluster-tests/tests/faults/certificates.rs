//! Certificates and CA are replaced under load without any effect, and a leader that dies before or
//! after is survived as without TLS.

use headwater_cluster_tests::check::availability::RESUME_LIMIT;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial};

use crate::PROGRESS_LIMIT;

#[tokio::test]
async fn replacing_certificates_and_the_ca_under_load_loses_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options { tls: true, ..Options::default() }).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(100, PROGRESS_LIMIT).await?;

    for id in cluster.ids() {
        cluster.certificates()?.renew(id)?;
        cluster.reload(id).await?;
        workload.progress(20, PROGRESS_LIMIT).await?;
    }
    lose_the_leader(&mut cluster, &workload).await?;

    // The rounds of docs/security.md: both CAs count, every server shows a certificate of the new
    // CA, the old CA is trusted no longer.
    let both = cluster.certificates()?.authorities().to_vec();
    cluster.certificates()?.trust(&both)?;
    reload_all(&mut cluster, &workload).await?;
    for id in cluster.ids() {
        cluster.certificates()?.replace(id)?;
        cluster.reload(id).await?;
        workload.progress(20, PROGRESS_LIMIT).await?;
    }
    // Connections are made anew while both count ...
    lose_the_leader(&mut cluster, &workload).await?;
    cluster.certificates()?.trust(&both[1..])?;
    reload_all(&mut cluster, &workload).await?;
    // ... and when the new CA alone is trusted.
    lose_the_leader(&mut cluster, &workload).await?;

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &[]).await?;
    Ok(())
}

async fn reload_all(cluster: &mut Cluster, workload: &Workload) -> anyhow::Result<()> {
    for id in cluster.ids() {
        cluster.reload(id).await?;
        workload.progress(20, PROGRESS_LIMIT).await?;
    }
    Ok(())
}

async fn lose_the_leader(cluster: &mut Cluster, workload: &Workload) -> anyhow::Result<()> {
    let leader = cluster.leader().await?;
    cluster.kill(leader).await?;
    workload.recorder().fault(format!("kill -9 of leader {leader}"));
    workload.resumed(PROGRESS_LIMIT).await?;
    cluster.start(leader)?;
    cluster.wait_ready(leader).await?;
    workload.progress(50, PROGRESS_LIMIT).await
}
