//! Honest clients: they append, read and ask, one thing after the other, and read every answer.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use crate::door::{Door, Protocol};

/// Clients on each protocol that the node speaks.
const CLIENTS: usize = 2;

/// An answer that is not there by then counts as an error.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The stream that they read, of which every page has 20 events.
pub(crate) const STREAM: &str = "honest";

/// What honest clients got.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Answers in a second.
    pub(crate) rate: f64,
    /// 99 of 100 answers came within this.
    pub(crate) p99: Duration,
    /// What went wrong, at most one for each client.
    pub(crate) errors: Vec<String>,
}

/// What is asked, in turn.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Append,
    /// So much that its body takes room of a budget.
    AppendMuch,
    Page,
    Ping,
}

const WISHES: [Wish; 3] = [Wish::Append, Wish::Page, Wish::Ping];

/// Lets honest clients work for `period`, each on a connection that it opens for that.
pub(crate) async fn work(door: &Door, period: Duration) -> anyhow::Result<Figures> {
    let protocols: &[Protocol] = if door.has_tls() { &[Protocol::Http1, Protocol::Http2] } else { &[Protocol::Http1] };
    let mut clients = JoinSet::new();
    let started = Instant::now();
    for protocol in protocols {
        for _ in 0..CLIENTS {
            let (door, protocol) = (door.clone(), *protocol);
            clients.spawn(async move { client(&door, protocol, started + period).await });
        }
    }
    let mut all = Histogram::<u64>::new(3)?;
    let mut errors = Vec::new();
    while let Some(client) = clients.join_next().await {
        let (latencies, error) = client?;
        all.add(&latencies)?;
        errors.extend(error);
    }
    Ok(Figures {
        rate: all.len() as f64 / started.elapsed().as_secs_f64(),
        p99: Duration::from_micros(all.value_at_quantile(0.99)),
        errors,
    })
}

/// Works until `end`, or until something goes wrong.
async fn client(door: &Door, protocol: Protocol, end: Instant) -> (Histogram<u64>, Option<String>) {
    #[expect(clippy::expect_used, reason = "three digits are a valid precision")]
    let mut latencies = Histogram::new(3).expect("a histogram");
    let mut error = ask_until(door, protocol, end, &mut latencies).await.err();
    if latencies.is_empty() {
        error.get_or_insert_with(|| anyhow::anyhow!("not a single answer in time"));
    }
    (latencies, error.map(|error| format!("{protocol:?}: {error:#}")))
}

async fn ask_until(
    door: &Door,
    protocol: Protocol,
    end: Instant,
    latencies: &mut Histogram<u64>,
) -> anyhow::Result<()> {
    let mut sender = Sender::open(door, protocol).await.context("no connection")?;
    // Once, and not counted: it takes longer than the others.
    sender.get(Wish::AppendMuch, door).await?;
    for wish in WISHES.into_iter().cycle() {
        let began = Instant::now();
        // At least one, in the time that it has: a slow node is still a node that answers.
        if began >= end && !latencies.is_empty() {
            return Ok(());
        }
        sender.get(wish, door).await?;
        latencies.record(began.elapsed().as_micros() as u64)?;
    }
    Ok(())
}

impl Wish {
    fn request(self, door: &Door) -> anyhow::Result<Request<Full<Bytes>>> {
        let (method, path) = match self {
            Self::Append => (Method::POST, format!("/streams/{STREAM}")),
            Self::AppendMuch => (Method::POST, format!("/streams/{STREAM}-large")),
            Self::Page => (Method::GET, format!("/streams/{STREAM}?embed=body")),
            Self::Ping => (Method::GET, "/ping".to_owned()),
        };
        let scheme = if door.has_tls() { "https" } else { "http" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{scheme}://{}{path}", door.address))
            .header("Host", door.address.to_string())
            .header("Accept", "application/json, application/vnd.eventstore.atom+json, text/plain");
        let body = match self {
            Self::Append => text(1_000),
            Self::AppendMuch => text(100_000),
            Self::Page | Self::Ping => Bytes::new(),
        };
        let request = match self {
            Self::Append | Self::AppendMuch => request
                .header("Content-Type", "application/json")
                .header("ES-EventType", "honest")
                .header("ES-EventId", uuid::Uuid::new_v4().to_string()),
            Self::Page | Self::Ping => request,
        };
        Ok(request.body(Full::new(body))?)
    }
}

/// An event of so many bytes, in JSON.
fn text(bytes: usize) -> Bytes {
    Bytes::from(format!("{{\"text\":\"{}\"}}", "x".repeat(bytes)))
}

/// A connection of either protocol.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn open(door: &Door, protocol: Protocol) -> anyhow::Result<Self> {
        let stream = TokioIo::new(door.connect(protocol).await?);
        Ok(match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Self::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        })
    }

    /// Gets what is wished for, in time.
    async fn get(&mut self, wish: Wish, door: &Door) -> anyhow::Result<()> {
        let answer = tokio::time::timeout(ANSWER_LIMIT, self.send(wish.request(door)?)).await;
        let status = answer.with_context(|| format!("{wish:?}: nothing within {ANSWER_LIMIT:?}"))??;
        anyhow::ensure!(status < 300, "{wish:?}: {status}");
        Ok(())
    }

    /// The status of the answer, once all of it is there.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<u16> {
        let answer = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let status = answer.status().as_u16();
        answer.into_body().collect().await?;
        Ok(status)
    }
}
