//! When it is stored how far a group has come, and what is stored with it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::call::{Answer, CallError};
use super::group::{Group, Key, Parking, Progress, Run};
use super::record::{self, Checkpoint, Versions};
use super::settings::Settings;
use super::{GroupName, Parts};
use crate::cluster::{EncodedCommand, Requester, Write, WriteError};
use crate::deliberate::{self, Fault};
use crate::event::{EventNumber, Ticks, WriteOutcome};

/// How long settled messages wait to be stored at most. A node that dies takes so much with it: the
/// messages are handed out again.
const LONGEST_UNSTORED: Duration = Duration::from_secs(1);

/// Settled messages that are stored at once, whatever the settings say.
const MOST_UNSTORED: u64 = 500;

/// Numbers or positions without a message, or with messages that are out, that are worth storing
/// all the same: the next leader begins to read behind them.
const MOST_PASSED: u64 = 16 * 1024;

/// How long after a failure it is tried again.
const STORE_AGAIN: Duration = Duration::from_millis(100);

/// Messages that one command parks.
const MOST_PARKED: usize = 256;

/// What was stored of one group, and what is under way.
pub(super) struct Storing {
    versions: Versions,
    /// When it was stored last.
    at: Instant,
    /// Not before this moment it is tried again.
    not_before: Instant,
    under_way: Option<BoxFuture<'static, Stored>>,
    /// Something has to be stored at once, and who waits for it.
    demanded: bool,
    demanding: Vec<oneshot::Sender<Answer<()>>>,
    /// Of those, who waits for what is under way.
    waiting: Vec<oneshot::Sender<Answer<()>>>,
    /// First number of the parked messages that is still wanted, as far as it is stored.
    parked_from: EventNumber,
    /// Where the last replay ends: once it is over, messages before that are to go.
    replay_end: EventNumber,
    /// See [`Progress::checkpoint`]; -1 before the first one.
    last_checkpointed: i64,
    minimum: u64,
    maximum: u64,
    after: Duration,
}

/// What a write means for the work on a group.
pub(super) enum Then {
    /// It is stored; so many messages were parked.
    Stored(usize),
    /// It was surely not written, and is tried again.
    Again,
    /// Another worker has come further, or may have.
    TakeUpAnew(String),
}

/// What became of a write.
pub(super) struct Stored {
    outcome: Result<WriteOutcome, WriteError>,
    progress: Progress,
    parked: Vec<Key>,
    parked_from: EventNumber,
    /// The version of the stream of checkpoints after it.
    version: Option<EventNumber>,
}

impl Storing {
    /// Everything is stored.
    pub(super) fn new(stored: &record::Stored, now: Instant) -> Self {
        let Settings { min_checkpoint_count, max_checkpoint_count, .. } = &stored.settings;
        let count = |count: i64| u64::try_from(count).unwrap_or(0).max(1);
        Self {
            versions: stored.versions,
            at: now,
            not_before: now,
            under_way: None,
            demanded: false,
            demanding: Vec::new(),
            waiting: Vec::new(),
            parked_from: 0,
            replay_end: stored.progress.replay.as_ref().map_or(0, |replay| replay.end),
            last_checkpointed: if stored.has_checkpoint { stored.progress.checkpoint() } else { -1 },
            minimum: count(*min_checkpoint_count),
            maximum: count(*max_checkpoint_count).min(MOST_UNSTORED),
            after: stored.settings.checkpoint_after(),
        }
    }

    /// A replay up to this number has begun, which the next leader goes on with: it is stored at
    /// once, and `by` is told when it is.
    pub(super) fn begin_replay(&mut self, end: EventNumber, by: oneshot::Sender<Answer<()>>) {
        self.replay_end = end;
        self.demanded = true;
        self.demanding.push(by);
    }

    /// All events up to this one are settled, by what is stored; -1 before the first checkpoint.
    pub(super) fn last_checkpointed(&self) -> i64 {
        self.last_checkpointed
    }

    /// The write under way.
    pub(super) fn under_way(&mut self) -> Option<&mut BoxFuture<'static, Stored>> {
        self.under_way.as_mut()
    }

    /// Whether a write is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether anything has changed since the last write.
    pub(super) fn is_dirty(&self, group: &Group) -> bool {
        self.demanded
            || group.settled_since_checkpoint() > 0
            || group.has_failed_since_checkpoint()
            || group.passed_since_checkpoint() >= MOST_PASSED
            || group.has_parking()
    }

    /// When a write is due; `None` if nothing has changed, or one is under way.
    pub(super) fn due_at(&self, group: &Group, now: Instant) -> Option<Instant> {
        if self.is_under_way() || !self.is_dirty(group) {
            return None;
        }
        let settled = group.settled_since_checkpoint();
        let due = match () {
            () if self.demanded || group.has_parking() || settled >= self.maximum => now,
            () if settled >= self.minimum => self.at + self.after,
            () => self.at + self.after.max(LONGEST_UNSTORED),
        };
        Some(due.max(self.not_before))
    }

    /// Whether a write is due now. At a rest everything is.
    pub(super) fn is_due(&self, group: &Group, now: Instant, is_resting: bool) -> bool {
        match self.due_at(group, now) {
            Some(_) if is_resting => now >= self.not_before,
            Some(due) => due <= now,
            None => false,
        }
    }

    /// Begins to store how far the group has come, and to park what has to be parked.
    /// `parked_first` is the number of the first parked message that is there.
    pub(super) fn begin(&mut self, parts: Arc<Parts>, name: GroupName, group: &Group, parked_first: EventNumber) {
        let mut parking = group.parking();
        parking.truncate(MOST_PARKED);
        let mut progress = group.progress();
        if deliberate::is(Fault::CheckpointAhead) {
            progress.source.open.clear();
        }
        for parking in &parking {
            progress.without(parking.key);
        }
        let parked_from = match &progress.replay {
            Some(replay) => replay.way.first_open(),
            // All that was replayed is settled.
            None => self.replay_end,
        };
        self.demanded = false;
        self.waiting.append(&mut self.demanding);
        let truncates = parked_from > self.parked_from.max(parked_first);
        let job = Job { name, versions: self.versions, progress, parking, parked_from, truncates };
        self.under_way = Some(Box::pin(job.store(parts)));
    }

    /// Takes over what became of the write under way.
    pub(super) fn finish(&mut self, stored: Stored, group: &mut Group, now: Instant) -> Then {
        self.under_way = None;
        let Stored { outcome, progress, parked, parked_from, version } = stored;
        match outcome {
            Ok(WriteOutcome::Appended { .. }) => {
                group.parked(&parked);
                group.checkpointed(&progress);
                (self.at, self.last_checkpointed) = (now, progress.checkpoint());
                self.versions = Versions { checkpoint: version, is_limited: true, ..self.versions };
                self.parked_from = self.parked_from.max(parked_from);
                for waiting in self.waiting.drain(..) {
                    let _ = waiting.send(Ok(()));
                }
                Then::Stored(parked.len())
            }
            Err(WriteError::NoLeader | WriteError::Busy) => {
                self.not_before = now + STORE_AGAIN;
                self.demanded = true;
                self.demanding.append(&mut self.waiting);
                Then::Again
            }
            outcome => {
                for waiting in self.waiting.drain(..) {
                    let _ = waiting.send(Err(CallError::Resting));
                }
                Then::TakeUpAnew(format!("{outcome:?}"))
            }
        }
    }
}

/// One write.
struct Job {
    name: GroupName,
    versions: Versions,
    progress: Progress,
    parking: Vec<Parking>,
    parked_from: EventNumber,
    /// Parked messages before `parked_from` are to go.
    truncates: bool,
}

impl Job {
    async fn store(self, parts: Arc<Parts>) -> Stored {
        let Self { name, versions, progress, parking, parked_from, truncates } = self;
        let store = parts.cluster.store();
        let parked_metadata = if truncates {
            let stream = name.parked_stream();
            let metadata = store.read(move |view| record::metadata_of(view, &stream)).await;
            metadata.ok().map(|mut metadata| {
                metadata.insert("$tb".into(), parked_from.into());
                metadata
            })
        } else {
            None
        };
        let checkpoint = Checkpoint {
            name: &name,
            versions,
            progress: &progress,
            parking: &parking,
            time: Ticks::from_system_time(SystemTime::now()),
            parked_metadata,
        };
        let command = EncodedCommand::of(&record::checkpoint(&checkpoint));
        let write = Write { command, requester: Requester::Node, authorized_in: None };
        let outcome = parts.cluster.write(write).await;
        let version = match versions.checkpoint {
            Some(version) => Some(version + 1),
            // Behind what was there before a deletion.
            None => {
                let stream = name.checkpoint_stream();
                let end = store.read(move |view| record::end_of(view, &stream)).await;
                end.ok().and_then(|end| end.checked_sub(1))
            }
        };
        let parked = parking.into_iter().map(|parking| parking.key).collect();
        Stored { outcome, progress, parked, parked_from, version }
    }
}

impl Progress {
    /// Takes a message out of what is open: it is settled when this is stored.
    fn without(&mut self, key: Key) {
        let way = match key {
            Key::Source(_) => &mut self.source,
            Key::Parked(_) => match &mut self.replay {
                Some(replay) => &mut replay.way,
                None => return,
            },
        };
        let number = key.number();
        let Some(at) = way.open.iter().position(|run| (run.first..=run.last).contains(&number)) else { return };
        let run = way.open.remove(at);
        let after = Run { first: number + 1, ..run };
        let before = Run { last: number.wrapping_sub(1), ..run };
        if after.first <= after.last {
            way.open.insert(at, after);
        }
        if number > run.first {
            way.open.insert(at, before);
        }
        self.settled += 1;
    }
}
