//! How the version of the cluster is raised (docs/adr/0027-cluster-version.md).
//!
//! 1. Every member tells which version it can apply. Once all of them answer and can apply a higher
//!    one, each promises it on its disk: older programs refuse the disk from then on.
//! 2. Once all of them have told that they promised it, the leader puts it in force through the
//!    log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_proto::stored::command::Kind;
use headwater_proto::stored::{Command, RaiseVersion};
use tokio_util::sync::CancellationToken;

use super::leadership::Leadership;
use super::log_reminder::LogReminder;
use super::read_barrier::ReadGate;
use super::versions::{Reported, Versions};
use super::writes::authorization::Requester;
use super::writes::write::{EncodedCommand, Write, Writes};
use crate::event::WriteOutcome;

/// How often the members' versions are compared; they are asked about as often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the log repeats why a version cannot be put in force.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);

/// Promises and raises versions.
pub(crate) struct Raising {
    pub(crate) versions: Arc<Versions>,
    pub(crate) leadership: Arc<Leadership>,
    /// Confirms that a majority still follows this leader.
    pub(crate) barrier: Arc<ReadGate>,
    pub(crate) writes: Arc<Writes>,
    /// Held while the members are changed: none may come in between.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Raising {
    /// Works until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut reminder = LogReminder::every(REMIND_INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            if let Err(reason) = self.step().await
                && reminder.is_due(&reason, Instant::now())
            {
                tracing::info!("a cluster version cannot be put in force yet: {reason}");
            }
        }
    }

    async fn step(&self) -> Result<(), String> {
        let versions = &self.versions;
        // A restored disk, or one that got a snapshot, has the state of a cluster that went on.
        let mut promised = versions.in_force();
        let lowest = versions.lowest();
        if let Some(lowest) = lowest {
            promised = promised.max(lowest.newest);
        }
        if promised > versions.promised() {
            versions.promise(promised).await;
            tracing::info!(target: "audit", version = %promised, "audit: cluster version: older programs refuse the data of this node from now on");
        }
        let is_due = |lowest: &Reported| lowest.promised > versions.in_force();
        if !self.leadership.is_local() || !lowest.as_ref().is_some_and(is_due) {
            return Ok(());
        }
        self.raise().await
    }

    /// Puts the version in force that all members have promised.
    async fn raise(&self) -> Result<(), String> {
        if self.barrier.linearize().await.is_err() {
            return Ok(());
        }
        // Whoever holds it changes the members at this moment.
        let Ok(_turn) = self.turn.try_lock() else { return Ok(()) };
        let lowest = self.versions.lowest();
        let Some(version) = lowest.map(|lowest| lowest.promised).filter(|all| *all > self.versions.in_force()) else {
            return Ok(());
        };
        let command = Command::of_maintenance(Kind::RaiseVersion(RaiseVersion { version: version.0 }));
        let command = EncodedCommand::of(&command);
        let write = Write { command, requester: Requester::Node, authorized_in: None };
        match self.writes.write(write).await {
            Ok(WriteOutcome::VersionRaised { version }) => {
                tracing::info!(target: "audit", %version, "audit: cluster version: in force from now on");
                Ok(())
            }
            Ok(outcome) => Err(outcome.to_string()),
            // Repeating it is harmless.
            Err(error) => Err(error.to_string()),
        }
    }
}
