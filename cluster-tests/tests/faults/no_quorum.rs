//! Without a majority nothing is acknowledged; afterwards a retry is answered correctly.

use std::time::{Duration, Instant};

use headwater_cluster_tests::client::ATOM_JSON;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::history::{Answer, Recorder, SentEvent};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{check, feed, serial, usage, wait};

use crate::PROGRESS_LIMIT;

/// The node's own deadline for a write in this test.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Within this time a node has to know that there is no leader: the longest election timeout, and
/// slack for a busy machine.
const LEADER_LOST_LIMIT: Duration = Duration::from_secs(10);

/// Within this an answer must come: the node's deadline and the wait for a leader, and slack for a
/// busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);

/// For so long the processor time of a node is counted.
const RESTS: Duration = Duration::from_secs(5);

/// The part of that time which a debug build needs at most that tries to reach two nodes now and
/// then. Trying without a pause takes all of it.
const BUSY_PART: u32 = 3;

/// Connections that are refused at once cost no time by themselves.
#[tokio::test]
async fn a_leader_whose_followers_are_gone_tries_now_and_then_and_rests() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let leader = cluster.leader().await?;
    for id in cluster.ids().into_iter().filter(|id| *id != leader) {
        cluster.kill(id).await?;
    }
    let (base, pid) = (cluster.base(leader), cluster.pid(leader)?);
    // What it cannot replicate.
    let event = SentEvent {
        id: uuid::Uuid::new_v4().to_string(),
        event_type: "probe".to_owned(),
        stored_data: "{}".to_owned(),
    };
    let answer = cluster.client().append(&base, "probe", -2, &[event]).await;
    anyhow::ensure!(!matches!(answer, Answer::Acknowledged { .. }), "{answer:?}");
    let before = usage::cpu_time(pid)?;
    tokio::time::sleep(RESTS).await;
    let worked = usage::cpu_time(pid)? - before;
    anyhow::ensure!(worked < RESTS / BUSY_PART, "it worked for {worked:?} of {RESTS:?}");
    cluster.start_all()?;
    cluster.wait_all_ready().await?;
    cluster.passed()
}

#[tokio::test]
async fn without_a_quorum_no_write_is_acknowledged_and_a_retry_is_exact() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let extra = ["--write-timeout-ms", "2000", "--leader-wait-ms", "1500"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::started(3, Options { extra, ..Options::default() }).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    let mut history = workload.stop().await?;

    // The leader alone cannot commit the writes it accepts.
    let leader = cluster.leader().await?;
    let others: Vec<u16> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        cluster.pause(*id)?;
    }
    let recorder = Recorder::default();
    let base = cluster.base(leader);
    let mut probes = Vec::new();
    for index in 0..5 {
        let event = SentEvent {
            id: uuid::Uuid::new_v4().to_string(),
            event_type: "probe".to_owned(),
            stored_data: format!("{{\n  \"probe\": {index}\n}}"),
        };
        probes.push(headwater_cluster_tests::history::Write {
            stream: format!("probe-{index}"),
            expected_version: -1,
            events: vec![event],
            must_be_refused: false,
            attempts: Vec::new(),
        });
    }
    for probe in &mut probes {
        let sent_at = recorder.now();
        let started = Instant::now();
        let answer = cluster.client().append(&base, &probe.stream, -1, &probe.events).await;
        let waited = started.elapsed();
        anyhow::ensure!(waited < ANSWER_LIMIT, "the answer took {waited:?}, the write deadline is {WRITE_TIMEOUT:?}");
        let honest = matches!(answer, Answer::Unknown { .. } | Answer::Refused { status: 503, .. });
        anyhow::ensure!(honest, "without a quorum the answer must be 5xx: {answer:?}");
        probe.attempts.push(headwater_cluster_tests::history::Attempt {
            node: leader,
            sent_at,
            answered_at: recorder.now(),
            answer,
        });
    }

    // They return: the same ids get the same answer through any node.
    for id in &others {
        cluster.resume(*id)?;
    }
    cluster.wait_all_ready().await?;
    let bases = cluster.bases();
    for probe in &mut probes {
        for (node, base) in &bases {
            let client = cluster.client().clone();
            let sent_at = recorder.now();
            let answer = wait::until("an acknowledgement after healing", PROGRESS_LIMIT, || async {
                match client.append(base, &probe.stream, -1, &probe.events).await {
                    answer @ Answer::Acknowledged { .. } => Ok(answer),
                    other => anyhow::bail!("{other:?}"),
                }
            })
            .await?;
            let answered_at = recorder.now();
            probe.attempts.push(headwater_cluster_tests::history::Attempt {
                node: *node,
                sent_at,
                answered_at,
                answer,
            });
        }
    }
    let feeds = feed::read_all(cluster.client(), &bases, 4096, PROGRESS_LIMIT).await?;
    // The probes have a clock of their own, which the rule about real time may not mix with the
    // load's.
    let probes_only = headwater_cluster_tests::history::History { writes: probes.clone(), ..Default::default() };
    let mut violations = check::real_time::check(&probes_only, &feeds);
    violations.extend(check::real_time::check(&history, &feeds));
    history.writes.extend(probes);
    violations.extend(check::data(&history, &feeds).into_iter().filter(|violation| violation.rule != "real time"));
    violations.extend(check::logs::check(&cluster.logs()?, &[])?);
    check::none(&violations)?;
    cluster.passed()?;
    Ok(())
}

#[tokio::test]
async fn requests_for_the_leader_are_not_redirected_to_a_dead_one() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let leader = cluster.leader().await?;
    let followers: Vec<u16> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let base = cluster.base(followers[0]);
    let event = |id: &str| SentEvent { id: id.to_owned(), event_type: "e".to_owned(), stored_data: "{}".to_owned() };
    let stored = cluster.client().append(&base, "s", -1, &[event(&uuid::Uuid::new_v4().to_string())]).await;
    anyhow::ensure!(matches!(stored, Answer::Acknowledged { .. }), "{stored:?}");

    cluster.kill(leader).await?;
    cluster.kill(followers[1]).await?;
    let client = cluster.client();
    let page = format!("{base}/streams/s");
    let body = format!(r#"[{{"eventId":"{}","eventType":"e","data":{{}}}}]"#, uuid::Uuid::new_v4());
    let headers = [
        ("ES-RequireMaster", "true"),
        ("Accept", ATOM_JSON),
        ("Content-Type", "application/vnd.eventstore.events+json"),
    ];
    for method in [reqwest::Method::GET, reqwest::Method::POST, reqwest::Method::DELETE] {
        wait::until("a refusal instead of a redirect", LEADER_LOST_LIMIT, || async {
            let answer = client.request(method.clone(), &page, &headers, body.clone().into_bytes()).await?;
            anyhow::ensure!(answer.status().as_u16() == 503, "{method}: {}", answer.status());
            anyhow::ensure!(answer.headers().contains_key("retry-after"), "{method}: no Retry-After");
            Ok(())
        })
        .await?;
    }
    // Requests that need no leader are still answered, users included.
    for path in ["/streams/s", "/users", "/users/admin"] {
        let accept = if path.starts_with("/users") { "application/json" } else { ATOM_JSON };
        let answer = client.get(&format!("{base}{path}"), &[("Accept", accept)]).await?;
        anyhow::ensure!(answer.status().as_u16() == 200, "{path}: {}", answer.status());
    }

    cluster.start(leader)?;
    cluster.wait_ready(leader).await?;
    let client = cluster.client();
    wait::until("a leader again", PROGRESS_LIMIT, || async {
        let answer = client.request(reqwest::Method::GET, &page, &headers[..2], Vec::new()).await?;
        anyhow::ensure!([200, 307].contains(&answer.status().as_u16()), "{}", answer.status());
        Ok(())
    })
    .await?;
    cluster.passed()?;
    Ok(())
}
