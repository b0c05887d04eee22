//! SIGTERM: leadership is handed over, not left to time out.

use std::time::Duration;

use headwater_cluster_tests::check::availability::{self, RESUME_LIMIT};
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::PROGRESS_LIMIT;

/// A transfer takes milliseconds; the rest is a debug build on a busy machine. An election would
/// take longer.
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

/// Far less than a shutdown waits for a request that does not end.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Exit code of a node that left before it had stopped in order.
const EXIT_UNFINISHED: i32 = 1;

#[tokio::test]
async fn a_second_signal_ends_a_shutdown_that_waits_and_nothing_is_lost() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    let leader = cluster.leader().await?;
    let _unfinished = begin_request(&cluster.base(leader)).await?;

    workload.recorder().fault(format!("SIGTERM of leader {leader}, twice"));
    cluster.ask_to_end(leader)?;
    wait::until("the shutdown has begun", PROGRESS_LIMIT, || async {
        anyhow::ensure!(cluster.last_log(leader).contains("SIGTERM: stopping"), "not yet");
        Ok(())
    })
    .await?;
    cluster.ask_to_end(leader)?;
    let status = cluster.wait_exit(leader, AT_ONCE).await?;
    anyhow::ensure!(status.code() == Some(EXIT_UNFINISHED), "it must end with {EXIT_UNFINISHED}, not with {status}");
    workload.resumed(PROGRESS_LIMIT).await?;
    cluster.start(leader)?;
    cluster.wait_ready(leader).await?;

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &["the process ends before all parts have stopped"]).await?;
    Ok(())
}

/// A request whose body does not come, on which the node works already.
async fn begin_request(base: &str) -> anyhow::Result<tokio::net::TcpStream> {
    let address = base.trim_start_matches("http://");
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    let head = format!(
        "POST /streams/unfinished HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/vnd.eventstore.events+json\r\n\
         Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await?;
    let mut answer = [0; 12];
    tokio::time::timeout(PROGRESS_LIMIT, connection.read_exact(&mut answer)).await??;
    anyhow::ensure!(&answer == b"HTTP/1.1 100", "{}", String::from_utf8_lossy(&answer));
    Ok(connection)
}

/// An ordered shutdown answers the accepted requests: most clients see no error at all. Printed,
/// not judged: a connection that is closed between two requests may still see one.
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
