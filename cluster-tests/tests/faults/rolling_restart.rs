//! A rolling restart: every node is stopped in order and started again, one after the other, under
//! load. A client that repeats a request only where its connection failed hears of nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::check;
use headwater_cluster_tests::client::{ADMIN, ATOM_JSON, Client, EVENTS_JSON, REQUEST_LIMIT, basic};
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::{serial, wait};
use reqwest::{Method, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::PROGRESS_LIMIT;

const CLIENTS: u64 = 8;

/// Between two requests of one client: a debug build answers all of them in time.
const PERIOD: Duration = Duration::from_millis(15);

/// Requests of all clients together before the first restart and after each.
const PHASE_REQUESTS: u64 = 400;

/// Between two attempts of a request: as little as a balancer takes to try its next server.
const NEXT_NODE: Duration = Duration::from_millis(5);

/// Clients ask no node whether it is ready, so the drain only has to be seen. They follow no
/// redirect either.
const OPTIONS: [&str; 2] = ["--drain-ms=500", "--leader-redirect=proxy"];

/// A debug build hashes passwords slowly.
const SLOW: &[&str] = &["slow request"];

/// Requests and what became of them.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    /// Attempts that were repeated at the next node because their connection failed.
    repeated: AtomicU64,
    failed: std::sync::Mutex<Vec<String>>,
}

/// A client that asks the nodes in turn, as a balancer does.
struct Caller {
    name: String,
    bases: Vec<String>,
    client: Client,
    tally: Arc<Tally>,
}

/// What a caller sends.
struct Asked {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
    expected: StatusCode,
}

impl Asked {
    fn write(stream: &str) -> Self {
        let id = uuid::Uuid::new_v4();
        Self {
            method: Method::POST,
            path: format!("/streams/{stream}"),
            headers: vec![("Content-Type", EVENTS_JSON.to_owned())],
            body: format!(r#"[{{"eventId":"{id}","eventType":"rolled","data":{{}}}}]"#),
            expected: StatusCode::CREATED,
        }
    }

    fn read(path: String, header: (&'static str, String)) -> Self {
        let headers = vec![("Accept", ATOM_JSON.to_owned()), header];
        Self { method: Method::GET, path, headers, body: String::new(), expected: StatusCode::OK }
    }
}

impl Caller {
    async fn run(self, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stream = format!("rolling-{}", self.name);
        let mut turn = 0;
        while !stop.load(Ordering::SeqCst) {
            ticks.tick().await;
            let position = self.answer(&mut turn, Asked::write(&stream)).await;
            let Some(position) = position else { continue };
            // Through the next node, which may be behind.
            let written = format!("/streams/{stream}/head/backward/1");
            self.answer(&mut turn, Asked::read(written, ("ES-MinPosition", position))).await;
            let head = format!("/streams/{stream}");
            self.answer(&mut turn, Asked::read(head, ("ES-RequireMaster", "true".to_owned()))).await;
            let log = "/streams/$all/head/backward/5".to_owned();
            self.answer(&mut turn, Asked::read(log, ("Authorization", basic(ADMIN)))).await;
        }
        Ok(())
    }

    /// Sends the same request to one node after the other until one answers, and counts it as
    /// failed unless the answer is the one that was expected. Returns `ES-Position`.
    async fn answer(&self, turn: &mut usize, asked: Asked) -> Option<String> {
        let started = Instant::now();
        let headers: Vec<(&str, &str)> = asked.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        loop {
            *turn += 1;
            let base = &self.bases[*turn % self.bases.len()];
            let url = format!("{base}{}", asked.path);
            let sent = self.client.request(asked.method.clone(), &url, &headers, asked.body.clone().into_bytes()).await;
            match sent {
                Ok(answer) => return self.judge(&url, &asked, answer).await,
                Err(error) if is_of_connection(&error) && started.elapsed() < REQUEST_LIMIT => {
                    self.tally.repeated.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(NEXT_NODE).await;
                }
                Err(error) => {
                    self.fail(format!("{url}: {error:?}"));
                    return None;
                }
            }
        }
    }

    async fn judge(&self, url: &str, asked: &Asked, answer: reqwest::Response) -> Option<String> {
        let status = answer.status();
        let position = answer.headers().get("es-position").and_then(|value| value.to_str().ok()).map(str::to_owned);
        // The body has to come to its end, too.
        match answer.text().await {
            Ok(_) if status == asked.expected => {
                self.tally.answered.fetch_add(1, Ordering::SeqCst);
                position
            }
            Ok(said) => {
                self.fail(format!("{} {url}: {status} {said}", asked.method));
                None
            }
            Err(error) => {
                self.fail(format!("{} {url}: {status}, then {error:?}", asked.method));
                None
            }
        }
    }

    fn fail(&self, how: String) {
        self.tally.failed.lock().expect("no test panics while it holds this").push(how);
    }
}

/// Whether there was no connection, or it ended before an answer began.
fn is_of_connection(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<reqwest::Error>()
        .is_some_and(|error| !error.is_timeout() && (error.is_connect() || error.is_request()))
}

#[tokio::test]
async fn a_rolling_restart_costs_no_request() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let options = Options { extra: OPTIONS.map(str::to_owned).to_vec(), ..Options::default() };
    let mut cluster = Cluster::started(3, options).await?;
    let (tally, stop) = (Arc::<Tally>::default(), Arc::new(AtomicBool::new(false)));
    let mut callers = JoinSet::new();
    for number in 0..CLIENTS {
        let bases = cluster.bases().into_iter().map(|(_, base)| base).collect();
        let caller = Caller { name: number.to_string(), bases, client: cluster.new_client()?, tally: tally.clone() };
        callers.spawn(caller.run(stop.clone()));
    }
    phase(&tally).await?;
    for id in cluster.ids() {
        let status = cluster.terminate(id).await?;
        anyhow::ensure!(status.code() == Some(0), "an ordered shutdown ended with {status}");
        phase(&tally).await?;
        cluster.start(id)?;
        cluster.wait_ready(id).await?;
        phase(&tally).await?;
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = callers.join_next().await {
        ended??;
    }

    let answered = tally.answered.load(Ordering::SeqCst);
    println!("{answered} requests answered, {} attempts repeated", tally.repeated.load(Ordering::SeqCst));
    let failed = std::mem::take(&mut *tally.failed.lock().expect("all callers have ended"));
    anyhow::ensure!(failed.is_empty(), "{} of {answered} failed:\n{}", failed.len(), failed.join("\n"));
    check::none(&check::logs::check(&cluster.logs()?, SLOW)?)?;
    cluster.passed()
}

/// Waits for so many more answers.
async fn phase(tally: &Tally) -> anyhow::Result<()> {
    let answered = || tally.answered.load(Ordering::SeqCst);
    let wanted = answered() + PHASE_REQUESTS;
    wait::until("the clients get answers", PROGRESS_LIMIT, || async {
        anyhow::ensure!(answered() >= wanted, "{} of {wanted}", answered());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_serves_until_balancers_have_left() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster =
        Cluster::started(3, Options { extra: vec!["--drain-ms=5000".to_owned()], ..Options::default() }).await?;
    let leader = cluster.leader().await?;
    let (base, client) = (cluster.base(leader), cluster.client().clone());
    cluster.ask_to_end(leader)?;
    wait::until("the node is not ready", PROGRESS_LIMIT, || async {
        anyhow::ensure!(!client.is_ready(&base).await, "not yet");
        Ok(())
    })
    .await?;

    // A balancer that has not asked since sends it a write and a read.
    let write = Asked::write("drained");
    let headers: Vec<(&str, &str)> = write.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = client.request(Method::POST, &format!("{base}{}", write.path), &headers, write.body.into()).await?;
    anyhow::ensure!(answer.status() == StatusCode::CREATED, "{answer:?}");
    let closes = answer.headers().get("connection").context("the connection is kept")?;
    anyhow::ensure!(closes == "close", "{closes:?}");
    client.get_feed(&format!("{base}/streams/drained"), &[]).await?;
    wait::until("another node leads", PROGRESS_LIMIT, || async {
        anyhow::ensure!(client.state(&base).await? == "shuttingdown", "the node does not say that it stops");
        anyhow::ensure!(cluster.leader().await? != leader, "not yet");
        Ok(())
    })
    .await?;
    let status = cluster.wait_exit(leader, PROGRESS_LIMIT).await?;
    anyhow::ensure!(status.code() == Some(0), "an ordered shutdown ended with {status}");
    check::none(&check::logs::check(&cluster.logs()?, SLOW)?)?;
    cluster.passed()
}
