//! The health of every listed server, asked twice a second over the `Status` call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use headwater_proto::cluster as wire;
use parking_lot::RwLock;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::connector::Connector;
use crate::config::MemberConfig;
use crate::event::Ticks;

/// How often every listed server is asked.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long one answer may take.
const POLL_DEADLINE: Duration = Duration::from_millis(400);
/// A server not heard for this long is shown as not alive.
pub const SILENCE: Duration = Duration::from_millis(1_500);

/// What a listed server said when it was heard last.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Its words.
    pub status: wire::StatusResponse,
    /// When.
    pub at: SystemTime,
}

impl Heard {
    /// Whether that is recent enough to call the server alive.
    pub fn is_alive(&self) -> bool {
        self.at.elapsed().is_ok_and(|silence| silence < SILENCE)
    }

    /// The same moment for documents.
    pub fn ticks(&self) -> Ticks {
        Ticks::from_system_time(self.at)
    }
}

/// What is known of the other listed servers. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    connector: Connector,
    others: Arc<Vec<MemberConfig>>,
    heard: Arc<RwLock<BTreeMap<u16, Heard>>>,
}

impl Peers {
    /// Knows `others` by their addresses only, until [`Self::run`] has met them.
    pub fn new(connector: Connector, others: Vec<MemberConfig>) -> Self {
        Self { connector, others: Arc::new(others), heard: Arc::default() }
    }

    /// The configured others.
    pub fn others(&self) -> &[MemberConfig] {
        &self.others
    }

    /// What server `server` said last.
    pub fn heard(&self, server: u16) -> Option<Heard> {
        self.heard.read().get(&server).cloned()
    }

    /// Asks one server now.
    pub async fn ask(&self, member: &MemberConfig) -> Result<wire::StatusResponse, tonic::Status> {
        let mut client = self.connector.client(member.id, &member.raft_address)?;
        let answer = tokio::time::timeout(POLL_DEADLINE, client.status(wire::StatusRequest {})).await;
        let status = answer.map_err(|_| tonic::Status::deadline_exceeded("no answer in time"))??.into_inner();
        self.heard.write().insert(member.id, Heard { status: status.clone(), at: SystemTime::now() });
        Ok(status)
    }

    /// Asks everybody again and again until `stop`, calling `after_round` after each round.
    pub async fn run(self, stop: CancellationToken, mut after_round: impl FnMut()) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // An unanswered question leaves the old entry, whose age tells the story.
            futures::future::join_all(self.others.iter().map(|member| self.ask(member))).await;
            after_round();
        }
    }
}
