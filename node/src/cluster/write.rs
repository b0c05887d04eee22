//! One write from this node's point of view: to whoever leads, through changes of leadership, until
//! it has an answer or no time left.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::authorization::Write;
use super::gate::Proposed;
use super::{Cluster, Leadership, WriteError};
use crate::event::WriteOutcome;

/// How long to wait for news of a new leader before trying the known one again.
const RETRY_AFTER: Duration = Duration::from_millis(25);

impl Cluster {
    /// Commits a write and returns the decision, once it is on disk on a majority and applied on
    /// this node. Always returns by the configured write deadline. Whether it may be made, the
    /// leader decides, at each try.
    ///
    /// A command is repeated when its first try was cut off: event ids make a repetition exact,
    /// wherever the first one got to.
    pub async fn write(&self, write: Write) -> Result<WriteOutcome, WriteError> {
        let Write { command, requester, authorized_in } = write;
        let started = Instant::now();
        let deadline = started + self.inner.config.write_timeout;
        let give_up_unsent = started + self.inner.config.leader_wait.min(self.inner.config.write_timeout);
        let mut may_be_written = false;
        let mut is_repetition = false;
        let mut leadership = self.inner.leadership.subscribe();
        loop {
            let leader = leadership.borrow_and_update().clone();
            let proposed = match &leader {
                // The gate itself keeps the deadline and watches leadership, once for a whole
                // batch.
                Leadership::Local if !is_repetition && self.is_authorized(authorized_in) => {
                    self.propose(command.clone(), deadline).await.unwrap_or(Proposed::Unknown)
                }
                Leadership::Local => match timeout_at(deadline, self.refusal(requester.clone(), &command)).await {
                    Err(_) => Proposed::NotLeader,
                    Ok(Some(refusal)) => refusal,
                    // It has less time left than those before it in the queue, and the gate looks
                    // at a request when its turn comes.
                    Ok(None) => {
                        let answer = timeout_at(deadline, self.propose(command.clone(), deadline)).await;
                        answer.map_or(Proposed::Unknown, |answer| answer.unwrap_or(Proposed::Unknown))
                    }
                },
                Leadership::Remote(hint) => tokio::select! {
                    answer = self.inner.forwards.send(hint, command.clone(), requester.clone(), deadline) => answer.unwrap_or(Proposed::Unknown),
                    // Whoever was asked leads no more (it may be frozen and never answer): ask the
                    // next one.
                    _ = leadership.changed() => Proposed::Unknown,
                    () = tokio::time::sleep_until(deadline) => Proposed::Unknown,
                },
                Leadership::None => Proposed::NotLeader,
            };
            match proposed {
                // A copy that was cut off may have been stored, and the stream deleted after that,
                // or may still be under way and find another state than this one.
                Proposed::Done {
                    outcome: WriteOutcome::StreamDeleted | WriteOutcome::WrongExpectedVersion { .. },
                    ..
                } if may_be_written => {
                    return self.unknown();
                }
                Proposed::Done { log_index, outcome } => {
                    let applied = self.inner.store.applied().wait_for_log_index(log_index);
                    return match timeout_at(deadline, applied).await {
                        Ok(()) => Ok(outcome),
                        Err(_) => self.unknown(),
                    };
                }
                // So may the right to write it.
                Proposed::Denied if may_be_written => return self.unknown(),
                Proposed::Denied => return Err(WriteError::Denied),
                Proposed::Busy if !may_be_written => return Err(WriteError::Busy),
                Proposed::Busy | Proposed::NotLeader => {}
                Proposed::Unknown => may_be_written = true,
            }
            let now = Instant::now();
            if may_be_written && now >= deadline {
                return self.unknown();
            }
            if !may_be_written && now >= give_up_unsent {
                return Err(WriteError::NoLeader);
            }
            let _ = timeout_at(deadline.min(now + RETRY_AFTER), leadership.changed()).await;
            is_repetition = true;
        }
    }

    fn propose(&self, command: Bytes, deadline: Instant) -> oneshot::Receiver<Proposed> {
        let (sender, receiver) = oneshot::channel();
        self.inner.gate.propose(
            command,
            deadline,
            Box::new(move |proposed| {
                let _ = sender.send(proposed);
            }),
        );
        receiver
    }

    fn unknown(&self) -> Result<WriteOutcome, WriteError> {
        self.inner.metrics.unknown_outcomes.inc();
        Err(WriteError::Unknown)
    }
}
