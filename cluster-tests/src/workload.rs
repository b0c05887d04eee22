//! Steady load: several writers, a bounded rate, every write repeated until it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::client::Client;
use crate::cluster::{Cluster, Liveness};
use crate::history::{Answer, History, Recorder, SentEvent, Write};

/// Two shared streams are few enough for writers to collide, and enough that the order of one
/// stream is not the order of the log.
const SHARED_STREAMS: u64 = 2;

/// One of this many writes is sent again after its acknowledgement, through another node.
const REPEAT_EVERY: u64 = 10;

/// One of this many writes is sent with a version that is certainly stale.
const STALE_EVERY: u64 = 15;

/// Pause before a write is repeated: an immediate error must not cause a flood of requests.
const RETRY_PAUSE: Duration = Duration::from_millis(30);

/// A write without an answer by then is abandoned; the checkers report it as a hang.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(40);

/// The stream of one writer that writes exact versions; `index` counts the writers of a node, and
/// every other one is of this kind.
pub fn own_stream(home: u16, index: u16) -> String {
    format!("own-{}", writer_name(home, index))
}

/// A stream of many writers.
pub fn shared_stream(number: u64) -> String {
    format!("shared-{}", number % SHARED_STREAMS)
}

fn writer_name(home: u16, index: u16) -> String {
    format!("n{home}w{index}")
}

/// The amount of load.
#[derive(Debug, Clone)]
pub struct Rate {
    /// Writers per node. Half of them write streams of their own with exact versions, the other
    /// half shared streams with -2.
    pub writers_per_node: u16,
    /// Writes that each writer sends per second.
    pub writes_per_second: u32,
    /// Bytes of text in each event's data.
    pub payload_bytes: usize,
}

impl Default for Rate {
    /// Some 240 writes a second on three nodes: enough for several writes in flight at any moment,
    /// few enough for a debug build on two shared cores.
    fn default() -> Self {
        Self { writers_per_node: 4, writes_per_second: 20, payload_bytes: 100 }
    }
}

/// A running load. Stop it with [`Self::stop`] to get the history.
#[derive(Debug)]
pub struct Workload {
    recorder: Recorder,
    stopping: Arc<AtomicBool>,
    writers: JoinSet<()>,
}

impl Workload {
    /// Starts the writers.
    pub fn start(cluster: &Cluster, rate: Rate) -> anyhow::Result<Self> {
        Self::start_on(&cluster.bases(), &cluster.liveness(), || cluster.new_client(), &rate)
    }

    /// Starts the writers of some nodes, all of which write through one balancer.
    pub fn start_through(balancer: &str, nodes: u16, rate: &Rate) -> anyhow::Result<Self> {
        let doors: Vec<(u16, String)> = (1..=nodes).map(|node| (node, balancer.to_owned())).collect();
        Self::start_on(&doors, &Liveness::all_up(doors.len()), Client::new, rate)
    }

    fn start_on(
        nodes: &[(u16, String)],
        liveness: &Liveness,
        new_client: impl Fn() -> anyhow::Result<Client>,
        rate: &Rate,
    ) -> anyhow::Result<Self> {
        let recorder = Recorder::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for (home, _) in nodes {
            for index in 0..rate.writers_per_node {
                let writer = Writer {
                    name: writer_name(*home, index),
                    stream: (index % 2 == 0).then(|| own_stream(*home, index)),
                    home: *home,
                    nodes: nodes.to_vec(),
                    liveness: liveness.clone(),
                    // One client each, so that a hanging connection does not delay another writer.
                    client: new_client()?,
                    recorder: recorder.clone(),
                    stopping: Arc::clone(&stopping),
                    rate: rate.clone(),
                };
                writers.spawn(writer.run());
            }
        }
        Ok(Self { recorder, stopping, writers })
    }

    /// The recorder of this run's history.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Waits until `events` more events have been acknowledged than at the call.
    pub async fn progress(&self, events: usize, limit: Duration) -> anyhow::Result<()> {
        let target = self.recorder.acknowledged_events() + events;
        crate::wait::until("more acknowledged events", limit, || async {
            let now = self.recorder.acknowledged_events();
            anyhow::ensure!(now >= target, "{now} of {target}");
            Ok(())
        })
        .await
    }

    /// Waits until a write that was sent after the call is acknowledged, and returns how long that
    /// took.
    pub async fn resumed(&self, limit: Duration) -> anyhow::Result<Duration> {
        let since = self.recorder.now();
        crate::wait::until("an acknowledged write", limit, || async {
            match self.recorder.first_acknowledgement_sent_after(since) {
                Some(at) => Ok(at.saturating_sub(since)),
                None => anyhow::bail!("none yet"),
            }
        })
        .await
    }

    /// Lets every writer finish its current write, and returns the history.
    pub async fn stop(self) -> anyhow::Result<History> {
        self.stop_within(Duration::MAX).await
    }

    /// The same, but ends writers that have not finished after `limit`; what they were at is
    /// missing in the history.
    pub async fn stop_within(mut self, limit: Duration) -> anyhow::Result<History> {
        self.stopping.store(true, Ordering::SeqCst);
        let finished = async {
            while let Some(ended) = self.writers.join_next().await {
                ended?;
            }
            anyhow::Ok(())
        };
        if let Ok(finished) = tokio::time::timeout(limit, finished).await {
            finished?;
        }
        Ok(self.recorder.snapshot())
    }
}

/// One client that writes.
struct Writer {
    name: String,
    /// The node that it prefers.
    home: u16,
    /// A stream of its own, with exact versions, instead of -2 on shared streams.
    stream: Option<String>,
    nodes: Vec<(u16, String)>,
    liveness: Liveness,
    client: Client,
    recorder: Recorder,
    stopping: Arc<AtomicBool>,
    rate: Rate,
}

impl Writer {
    async fn run(self) {
        let period = Duration::from_secs(1) / self.rate.writes_per_second;
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_number: u64 = 0;
        for sequence in 0u64.. {
            ticks.tick().await;
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let is_own = self.stream.is_some();
            let stale = is_own && next_number > 0 && sequence % STALE_EVERY == 0;
            let count = rand::rng().random_range(1..=3);
            let write = Write {
                stream: self.stream.clone().unwrap_or_else(|| shared_stream(sequence)),
                expected_version: if stale {
                    // For a stream with events, -1 is stale for ever, so a late copy of this write
                    // cannot succeed.
                    -1
                } else if is_own {
                    // Own streams stay far below the limit of i64.
                    next_number as i64 - 1
                } else {
                    -2
                },
                events: (0..count).map(|index| self.event(sequence, index)).collect(),
                must_be_refused: stale,
                attempts: Vec::new(),
            };
            let events = write.events.len() as u64;
            let write = self.send_until_answered(write, sequence % REPEAT_EVERY == 0).await;
            let acknowledged = write.is_acknowledged();
            self.recorder.write(write);
            if acknowledged {
                next_number += events;
            } else if is_own && !stale {
                // Without an answer the next version is unknown: this writer stops, and the
                // checkers report it.
                return;
            }
        }
    }

    fn event(&self, sequence: u64, index: u64) -> SentEvent {
        let mut random = rand::rng();
        let payload: String =
            (0..self.rate.payload_bytes).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
        let name = &self.name;
        SentEvent {
            id: uuid::Uuid::new_v4().to_string(),
            event_type: format!("load-{name}"),
            stored_data: format!(
                "{{\n  \"writer\": \"{name}\",\n  \"sequence\": {sequence},\n  \"index\": {index},\n  \"payload\": \"{payload}\"\n}}"
            ),
        }
    }

    /// Sends the same events until a node accepts or finally refuses them, each time through
    /// another live node.
    async fn send_until_answered(&self, mut write: Write, repeat: bool) -> Write {
        let started = Instant::now();
        for turn in 0.. {
            match self.attempt(&mut write, turn).await {
                Answer::Acknowledged { .. } => {
                    if repeat {
                        self.attempt(&mut write, turn + 1).await;
                    }
                    return write;
                }
                // 503 and "connection refused" promise that nothing was written, but invite a
                // repetition.
                Answer::Refused { status, .. } if status != 503 && status != 0 => return write,
                Answer::Malformed { .. } => return write,
                Answer::Refused { .. } | Answer::Unknown { .. } => {}
            }
            if started.elapsed() > GIVE_UP {
                return write;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        write
    }

    async fn attempt(&self, write: &mut Write, turn: usize) -> Answer {
        let (node, base) = self.choose(turn);
        let sent_at = self.recorder.now();
        let answer = self.client.append(base, &write.stream, write.expected_version, &write.events).await;
        let answered_at = self.recorder.now();
        write.attempts.push(crate::history::Attempt { node, sent_at, answered_at, answer: answer.clone() });
        answer
    }

    /// The home node first, then the available nodes round robin; any node when none is known to be
    /// available.
    fn choose(&self, turn: usize) -> (u16, &str) {
        let home = self.nodes.iter().position(|(id, _)| *id == self.home).unwrap_or(0);
        let order = (0..self.nodes.len()).map(|step| &self.nodes[(home + turn + step) % self.nodes.len()]);
        let mut candidates = order.clone().filter(|(id, _)| self.liveness.is_up(*id));
        let (id, base) = candidates.next().unwrap_or(&self.nodes[(home + turn) % self.nodes.len()]);
        (*id, base)
    }
}
