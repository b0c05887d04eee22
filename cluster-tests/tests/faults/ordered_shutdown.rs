//! SIGTERM: leadership is handed over, not left to time out.

use std::time::Duration;

use headwater_cluster_tests::check::availability;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial};

use crate::PROGRESS_LIMIT;

/// A transfer takes milliseconds; the rest is a debug build on a busy machine. An election would take longer.
const TRANSFER_LIMIT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_ordered_shutdown_of_the_leader_hardly_interrupts_writes() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;

    for round in 1..=3 {
        workload.progress(100, PROGRESS_LIMIT).await?;
        let leader = cluster.leader().await?;
        workload.recorder().fault(format!("SIGTERM of leader {leader}, round {round}"));
        let status = cluster.terminate(leader).await?;
        anyhow::ensure!(status.code() == Some(0), "an ordered shutdown ended with {status}");
        workload.resumed(PROGRESS_LIMIT).await?;
        cluster.start(leader)?;
        cluster.wait_ready(leader).await?;
    }

    let (history, _) = scenario::judge(&mut cluster, workload, TRANSFER_LIMIT, &[]).await?;
    check_no_write_was_left_unknown(&history);
    println!("{}", availability::report(&history));
    Ok(())
}

/// An ordered shutdown finishes what it has accepted: most clients see no error at all. Printed, not judged: a
/// connection that is closed between two requests may still meet one.
fn check_no_write_was_left_unknown(history: &headwater_cluster_tests::history::History) {
    use headwater_cluster_tests::history::Answer;
    let unknown = history
        .writes
        .iter()
        .flat_map(|write| &write.attempts)
        .filter(|attempt| matches!(attempt.answer, Answer::Unknown { .. }))
        .count();
    println!("{unknown} attempts without a known outcome");
}
