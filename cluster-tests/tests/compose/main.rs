//! The containers of deploy/docker-compose.yml under load through their balancer, while they are
//! paused, killed, restarted and cut off. `make compose-test` starts and removes them.

mod containers;

use std::time::Duration;

use anyhow::Context;
use containers::{BALANCER, Containers, Fault};
use headwater_cluster_tests::check::{self, secrets};
use headwater_cluster_tests::client::{ADMIN, Client, EVENTS_JSON, OPERATOR};
use headwater_cluster_tests::feed;
use headwater_cluster_tests::history::{Answer, Attempt, History, Recorder, SentEvent, Write};
use headwater_cluster_tests::workload::{Rate, Workload};
use reqwest::Method;

/// For a hundred events from a debug build on a busy machine. A request that a paused node has lies
/// with the balancer for 10 s.
const PROGRESS_LIMIT: Duration = Duration::from_secs(40);

/// Until writes go on after a fault: an election, and until the balancer has noticed.
const RESUME_LIMIT: Duration = Duration::from_secs(15);

/// Nodes that differ for longer after healing count as different.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(30);

/// Log lines of nodes that are reached from other containers without TLS, and of requests that wait
/// for another leader.
const PROVOKED: &[&str] =
    &["WARN*clients are served without TLS", "WARN*the port for other nodes is open without TLS", "WARN slow request"];

/// On several threads: the load goes on while the engine works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_containers_lose_nothing_behind_their_balancer() -> anyhow::Result<()> {
    let containers = Containers::from_environment()?;
    containers.wait_all_ready().await?;
    containers.wait_all_healthy().await?;

    let workload = Workload::start_through(BALANCER, 3, &Rate::default())?;
    links_lead_through_the_balancer(containers.client(), workload.recorder()).await?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    for (fault, of_leader) in [
        (Fault::Pause, true),
        (Fault::Pause, false),
        (Fault::Kill, true),
        (Fault::Kill, false),
        (Fault::Disconnect, true),
        (Fault::CutOff, true),
        (Fault::CutOff, false),
        (Fault::Restart, true),
    ] {
        let leader = containers.leader().await?;
        let node = if of_leader { leader } else { leader % 3 + 1 };
        let what = format!("{fault:?} of {} (node {node})", if of_leader { "the leader" } else { "a follower" });
        containers.strike(fault, node).with_context(|| what.clone())?;
        workload.recorder().fault(&what);
        let resumed = workload.resumed(PROGRESS_LIMIT).await.with_context(|| what.clone())?;
        eprintln!("{what}: the next write was acknowledged after {} ms", resumed.as_millis());
        workload.progress(100, PROGRESS_LIMIT).await.with_context(|| what.clone())?;
        containers.heal(fault, node).with_context(|| what.clone())?;
        containers.wait_all_ready().await.with_context(|| what.clone())?;
    }
    containers.wait_all_healthy().await?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    judge(&containers, &workload.stop().await?).await
}

/// Whichever node answers: a Location, and every link of a page.
async fn links_lead_through_the_balancer(client: &Client, recorder: &Recorder) -> anyhow::Result<()> {
    let begins = format!("{BALANCER}/streams/greetings");
    for turn in 0..6 {
        let id = uuid::Uuid::new_v4().to_string();
        let event =
            SentEvent { id, event_type: "greeted".to_owned(), stored_data: "{\n  \"by\": \"us\"\n}".to_owned() };
        let body = format!(r#"[{{"eventId":"{}","eventType":"greeted","data":{}}}]"#, event.id, event.stored_data)
            .into_bytes();
        let sent_at = recorder.now();
        let answer = client.request(Method::POST, &begins, &[("Content-Type", EVENTS_JSON)], body).await?;
        let answered_at = recorder.now();
        let header = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let location = header("Location").with_context(|| format!("no Location: {}", answer.status()))?;
        anyhow::ensure!(location == format!("{begins}/{turn}"), "Location: {location}");
        let position = header("ES-Position").context("no ES-Position")?;
        let acknowledged = Answer::Acknowledged { first_number: turn, position: position.parse()? };
        recorder.write(Write {
            stream: "greetings".to_owned(),
            expected_version: -2,
            events: vec![event],
            must_be_refused: false,
            attempts: vec![Attempt { node: 0, sent_at, answered_at, answer: acknowledged }],
        });
        let page = client.get_feed(&begins, &[("ES-MinPosition", &position)]).await?;
        let uris: Vec<&str> = page["links"].as_array().context("no links")?.iter().filter_map(uri).collect();
        let of_entries = page["entries"].as_array().context("no entries")?.iter();
        let of_entries: Vec<&str> =
            of_entries.filter_map(|entry| entry["links"].as_array()).flatten().filter_map(uri).collect();
        anyhow::ensure!(uris.len() >= 3 && of_entries.len() as u64 == 2 * (turn + 1), "{page}");
        let lost: Vec<&&str> = uris.iter().chain(&of_entries).filter(|uri| !uri.starts_with(&begins)).collect();
        anyhow::ensure!(lost.is_empty(), "links lead elsewhere: {lost:?}");
    }
    Ok(())
}

fn uri(link: &serde_json::Value) -> Option<&str> {
    link["uri"].as_str()
}

/// Reads every node, and the balancer, and applies all rules.
async fn judge(containers: &Containers, history: &History) -> anyhow::Result<()> {
    let mut doors = containers.bases();
    doors.push((0, BALANCER.to_owned()));
    let feeds = feed::read_all(containers.client(), &doors, 4096, AGREEMENT_LIMIT).await?;
    eprintln!("{} events acknowledged, {} stored", history.acknowledged_events(), feeds[0].events.len());
    eprintln!("{}", check::availability::report(history));
    anyhow::ensure!(history.faults.len() == 8, "{:?}", history.faults);
    let mut violations = check::data(history, &feeds);
    violations.extend(check::availability::check(history, RESUME_LIMIT));
    let logs = containers.logs()?;
    violations.extend(check::logs::check(&logs, PROVOKED)?);
    let logins: Vec<String> =
        [ADMIN, OPERATOR].iter().flat_map(|(login, password)| secrets::of_login(login, password)).collect();
    violations.extend(secrets::check(&logs, &logins));
    check::none(&violations)
}
