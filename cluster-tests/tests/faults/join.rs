//! Servers that are added while the cluster runs: over TLS, and at another address than before.

use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::history::{Answer, Attempt, Recorder, SentEvent, Write};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial, wait};

use crate::PROGRESS_LIMIT;
use crate::membership::{CHANGE_LIMIT, PROVOKED, RESUME_LIMIT, command, entry, start};

/// Appends whatever the stream has (`ES-ExpectedVersion`).
const ANY_VERSION: i64 = -2;

/// Adds a server, which was started with `--join`, and waits until it votes and is ready.
async fn add(cluster: &mut Cluster, id: u16) -> anyhow::Result<()> {
    let added = entry(cluster, id);
    // It may not have opened its port yet, and is refused then.
    wait::until("the server is added", CHANGE_LIMIT, || async { command(cluster, 1, &["add", &added]).await }).await?;
    cluster.wait_ready(id).await
}

/// Hands the leadership to a server.
async fn transfer(cluster: &Cluster, id: u16) -> anyhow::Result<()> {
    let to = id.to_string();
    // It may lag for a moment, and is refused then.
    wait::until("the server leads", CHANGE_LIMIT, || async { command(cluster, 1, &["transfer", &to]).await }).await?;
    Ok(())
}

/// One write through a node, which has to reach the leader.
async fn write_through(cluster: &Cluster, id: u16, recorder: &Recorder) -> anyhow::Result<()> {
    let event = SentEvent {
        id: format!("e2222222-2222-4222-8222-22222222222{id}"),
        event_type: "moved".to_owned(),
        stored_data: "{}".to_owned(),
    };
    let (stream, events, sent_at) = ("moved".to_owned(), vec![event], recorder.now());
    let answer = cluster.client().append(&cluster.base(id), &stream, ANY_VERSION, &events).await;
    let is_acknowledged = matches!(answer, Answer::Acknowledged { .. });
    anyhow::ensure!(is_acknowledged, "node {id} does not reach the leader: {answer:?}");
    let attempts = vec![Attempt { node: id, sent_at, answered_at: recorder.now(), answer }];
    recorder.write(Write { stream, expected_version: ANY_VERSION, events, must_be_refused: false, attempts });
    Ok(())
}

#[tokio::test]
async fn servers_join_a_cluster_with_tls_under_load() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::new(3, Options { tls: true, ..Options::default() })?;
    start(&mut cluster, 1)?;
    cluster.wait_ready(1).await?;
    let workload = Workload::start(&cluster, Rate { writers_per_node: 2, ..Rate::default() })?;
    workload.progress(50, PROGRESS_LIMIT).await?;

    // With the certificate of another server it is no server 2, and is not taken in.
    let (list, foreign) = (entry(&cluster, 2), cluster.certificates()?.options(3));
    let foreign: Vec<String> = foreign.iter().map(|option| option.replacen("--tls-", "--node-tls-", 1)).collect();
    let foreign: Vec<&str> = foreign.iter().filter(|option| !option.contains("ca-file")).map(String::as_str).collect();
    cluster.start_as(2, &list, &[&["--join"], foreign.as_slice()].concat())?;
    let status = cluster.wait_exit(2, PROGRESS_LIMIT).await?;
    anyhow::ensure!(!status.success(), "it started with the certificate of server 3");

    for id in [2, 3] {
        start(&mut cluster, id)?;
        add(&mut cluster, id).await?;
        workload.progress(50, PROGRESS_LIMIT).await?;
    }
    // Each is needed, and proves itself to the others.
    for id in [1, 2] {
        cluster.kill(id).await?;
        workload.recorder().fault(format!("kill -9 of node {id}"));
        workload.resumed(PROGRESS_LIMIT).await?;
        start(&mut cluster, id)?;
        cluster.wait_ready(id).await?;
    }

    let provoked = [PROVOKED, &["ERROR*cannot be used as certificate for other nodes"]].concat();
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &provoked).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_was_added_moves_to_another_address_with_its_data() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::new(3, Options { extra: vec!["--start-wait-ms=0".to_owned()], ..Options::default() })?;
    start(&mut cluster, 1)?;
    cluster.wait_ready(1).await?;
    for id in [2, 3] {
        start(&mut cluster, id)?;
        add(&mut cluster, id).await?;
    }
    let workload = Workload::start(&cluster, Rate { writers_per_node: 2, ..Rate::default() })?;
    // The others send their writes to the old address first.
    transfer(&cluster, 3).await?;
    workload.progress(50, PROGRESS_LIMIT).await?;

    let status = cluster.terminate(3).await?;
    anyhow::ensure!(status.success(), "node 3 ended with {status}");
    workload.recorder().fault("node 3 stopped, and started at another address".to_owned());
    let _old_port = cluster.move_node(3)?;
    start(&mut cluster, 3)?;
    let (client, ready) = (cluster.client().clone(), format!("{}/health/ready", cluster.base(3)));
    wait::until("the node says how it is moved", PROGRESS_LIMIT, || async {
        let said = client.get(&ready, &[]).await?.text().await?;
        anyhow::ensure!(said.contains("the others know this server at"), "{said}");
        Ok(())
    })
    .await?;

    command(&cluster, 1, &["remove", "3"]).await?;
    add(&mut cluster, 3).await?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    transfer(&cluster, 3).await?;
    for id in [1, 2] {
        write_through(&cluster, id, workload.recorder()).await?;
    }
    // It counts again: without it there would be no majority.
    cluster.kill(2).await?;
    workload.recorder().fault("kill -9 of node 2, node 3 is needed now".to_owned());
    workload.resumed(PROGRESS_LIMIT).await?;
    start(&mut cluster, 2)?;
    cluster.wait_ready(2).await?;

    let moved = [PROVOKED, &["WARN*the others know this server at"]].concat();
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &moved).await?;
    Ok(())
}
