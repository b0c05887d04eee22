//! The health of every other server, asked twice a second over the `Status` call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use headwater_proto::cluster as wire;
use parking_lot::{Mutex, RwLock};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::figures::Statistics;
use crate::cluster::connector::Connector;
use crate::cluster::log_reminder::LogReminder;
use crate::cluster::servers::Servers;
use crate::config::MemberConfig;
use crate::transport::NodeId;

/// How often every server is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long one answer may take.
const POLL_DEADLINE: Duration = Duration::from_millis(400);
/// A server that has been silent for this long is shown as not alive.
const SILENCE: Duration = Duration::from_millis(1_500);
/// How often the log repeats why a server does not answer.
const REMIND_INTERVAL: Duration = Duration::from_secs(300);

/// The last answer of a server.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// The answer.
    pub(crate) status: wire::StatusResponse,
    /// When it arrived, for people.
    pub(crate) at: SystemTime,
    /// The same by the clock that is never set: a clock that jumps makes nobody fall silent.
    since: Instant,
}

impl Heard {
    /// An answer that has just arrived.
    fn now(status: wire::StatusResponse) -> Self {
        Self { status, at: SystemTime::now(), since: Instant::now() }
    }

    /// Whether the answer is recent enough to call the server alive.
    pub(crate) fn is_alive(&self) -> bool {
        self.since.elapsed() < SILENCE
    }
}

/// What is known about the other servers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    connector: Connector,
    servers: Arc<Servers>,
    heard: Arc<RwLock<BTreeMap<u16, Heard>>>,
    /// Why a server did not answer the last call; absent when it did.
    failures: Arc<Mutex<BTreeMap<u16, String>>>,
}

impl Peers {
    /// Knows only the addresses of the servers, until [`PeerPoll::run`] has reached them.
    pub(crate) fn new(connector: Connector, servers: Arc<Servers>) -> Self {
        Self { connector, servers, heard: Arc::default(), failures: Arc::default() }
    }

    /// The other servers, by the list or by the membership, ascending by id.
    pub(crate) fn others(&self) -> Vec<MemberConfig> {
        self.servers.others()
    }

    /// The last answer of the node with this id.
    pub(crate) fn heard_of(&self, node_id: NodeId) -> Option<Heard> {
        self.heard(node_id.server()).filter(|heard| heard.status.node_id == node_id.0)
    }

    /// Whether the node with this id answered lately.
    pub(crate) fn is_alive(&self, node_id: NodeId) -> bool {
        self.heard_of(node_id).is_some_and(|heard| heard.is_alive())
    }

    /// The last answers of all other servers.
    pub(crate) fn all_heard(&self) -> Vec<Heard> {
        self.heard.read().values().cloned().collect()
    }

    /// Forgets servers that are none of these.
    fn keep(&self, others: &[MemberConfig]) {
        let is_kept = |server: &u16| others.iter().any(|other| other.id == *server);
        self.heard.write().retain(|server, _| is_kept(server));
        self.failures.lock().retain(|server, _| is_kept(server));
    }

    /// The last answer of `server`.
    pub(crate) fn heard(&self, server: u16) -> Option<Heard> {
        self.heard.read().get(&server).cloned()
    }

    /// Asks one server now. An answer of another server is refused with `FailedPrecondition` and a
    /// sentence for the operator.
    pub(crate) async fn ask(&self, member: &MemberConfig) -> Result<wire::StatusResponse, tonic::Status> {
        let answer = self.answer_of(member).await;
        match &answer {
            Ok(status) => {
                self.failures.lock().remove(&member.id);
                self.heard.write().insert(member.id, Heard::now(status.clone()));
            }
            Err(status) => {
                self.failures.lock().insert(member.id, reason_of(status));
            }
        }
        answer
    }

    async fn answer_of(&self, member: &MemberConfig) -> Result<wire::StatusResponse, tonic::Status> {
        let mut client = self.connector.client(member.id, &member.raft_address)?;
        let answer = tokio::time::timeout(POLL_DEADLINE, client.status(wire::StatusRequest {})).await;
        let status = answer.map_err(|_| tonic::Status::deadline_exceeded("no answer in time"))??.into_inner();
        let server = NodeId(status.node_id).server();
        if server == member.id {
            Ok(status)
        } else {
            Err(tonic::Status::failed_precondition(format!(
                "server {} of the list answers at {} as server {server}: correct the member list",
                member.id, member.raft_address
            )))
        }
    }
}

/// Asks every other server at regular intervals.
pub(crate) struct PeerPoll {
    /// The servers and their answers.
    pub(crate) peers: Peers,
    /// Gauges that are brought up to date after each round.
    pub(crate) statistics: Arc<Statistics>,
}

impl PeerPoll {
    /// Works until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let start = Instant::now();
        let mut reminders: BTreeMap<u16, LogReminder> = BTreeMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let others = self.peers.others();
            self.peers.keep(&others);
            reminders.retain(|server, _| others.iter().any(|other| other.id == *server));
            // A failed call leaves the old answer, whose age shows the silence.
            futures::future::join_all(others.iter().map(|member| self.peers.ask(member))).await;
            for member in &others {
                let reminder = reminders.entry(member.id).or_insert_with(|| LogReminder::every(REMIND_INTERVAL));
                self.log_silence(member, reminder, start);
            }
            self.statistics.update_gauges();
        }
    }

    /// Logs why a server is silent, but not before it has been silent for a while: at a start the
    /// other nodes may follow a moment later.
    fn log_silence(&self, member: &MemberConfig, reminder: &mut LogReminder, start: Instant) {
        let (server, address) = (member.id, &member.raft_address);
        let Some(reason) = self.peers.failures.lock().get(&server).cloned() else {
            if reminder.is_over() {
                tracing::info!(server, address, "a listed server answers again");
            }
            return;
        };
        let last = self.peers.heard(server).map_or(start, |heard| heard.since);
        if last.elapsed() >= SILENCE && reminder.is_due(&reason, Instant::now()) {
            tracing::warn!(server, address, reason, "a listed server does not answer");
        }
    }
}

/// The error with its causes, which the transport hides behind a general message.
pub(crate) fn reason_of(status: &tonic::Status) -> String {
    let mut reason = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let message = error.to_string();
        if !reason.contains(&message) {
            reason = if reason.is_empty() { message } else { format!("{reason}: {message}") };
        }
        cause = error.source();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_alive_whatever_the_clock_of_this_machine_does() {
        let hour = Duration::from_secs(3_600);
        let heard = Heard::now(wire::StatusResponse::default());
        for at in [heard.at + hour, heard.at - hour] {
            assert!(Heard { at, ..heard.clone() }.is_alive());
        }
        let since = heard.since.checked_sub(2 * SILENCE).unwrap();
        assert!(!Heard { since, ..heard }.is_alive());
    }
}
