//! The groups that this node works on while it leads: one worker for each that has anything to do.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use headwater_proto::stored::Command;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::call::{Answer, CALLS, Call, CallError};
use super::info::GroupInfo;
use super::log_filter::LogFilter;
use super::names;
use super::record::{self, Begin, Making, Stored};
use super::settings::Settings;
use super::worker::Worker;
use super::{ChangeError, GroupName, MAX_GROUPS, Parts};
use crate::cluster::{EncodedCommand, LeaderTerm, Requester, Write, WriteError};
use crate::event::{Position, StreamName, Ticks, WriteOutcome};
use crate::store::{ReadError, ReadView};
use crate::streams::Refusal;

/// How often a call is made anew because the worker has ended at the same moment.
const ATTEMPTS: usize = 20;

/// Names of streams that are looked at in one step.
const LOOKED_AT: usize = 1_024;

/// Groups of this node as leader. Cheap to clone.
#[derive(Clone)]
pub(super) struct LeaderOfGroups {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Arc<Parts>,
    /// Notified when a group was made, changed or deleted.
    changed: Arc<Notify>,
    /// The workers, by their groups.
    seats: Mutex<HashMap<GroupName, Seat>>,
}

/// What is said of a stream, or a group, that there cannot be: the words of the original.
pub(super) const BAD_STREAM: &str = "Bad stream name.";

/// What is said of a group that is to begin behind the last event of the log.
const BEYOND_THE_LOG: &str = "Invalid Start From position: it must be less than or equal to that of the last event.";

/// A worker.
#[derive(Clone)]
struct Seat {
    calls: mpsc::Sender<Call>,
    /// The term for which it works.
    term: LeaderTerm,
}

/// The groups as the cluster sees them: it is below this room and must not keep it alive.
pub(super) struct Server {
    inner: Weak<Inner>,
}

/// Why this node does not do as leader what it is asked for.
#[derive(Debug)]
pub(super) enum Undone {
    /// It does not lead, or is about to hand over leadership.
    NotLeader,
    /// There is no such group.
    DoesNotExist,
    /// As many consumers as may be are connected.
    TooManyConsumers,
    /// What is wrong, for the client.
    Change(ChangeError),
}

impl From<Refusal> for Undone {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader(_) | Refusal::NotReady => Self::NotLeader,
            refusal @ (Refusal::Busy | Refusal::Denied | Refusal::Store(_)) => {
                Self::Change(ChangeError::Refused(refusal))
            }
        }
    }
}

impl From<ReadError> for Undone {
    fn from(error: ReadError) -> Self {
        Self::Change(ChangeError::Refused(error.into()))
    }
}

impl From<CallError> for Undone {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Resting => Self::NotLeader,
            CallError::TooManyConsumers => Self::TooManyConsumers,
            CallError::Failed(reason) => Self::Change(ChangeError::Failed(reason)),
        }
    }
}

impl LeaderOfGroups {
    pub(super) fn new(parts: Arc<Parts>, changed: Arc<Notify>) -> Self {
        Self { inner: Arc::new(Inner { parts, changed, seats: Mutex::default() }) }
    }

    /// What the cluster calls.
    pub(super) fn server(&self) -> Server {
        Server { inner: Arc::downgrade(&self.inner) }
    }

    pub(super) fn parts(&self) -> &Arc<Parts> {
        &self.inner.parts
    }

    /// Makes a call to the worker of a group. `call` is asked for it anew when the worker has ended
    /// at the same moment.
    pub(super) async fn ask<T>(
        &self,
        name: &GroupName,
        call: impl Fn(oneshot::Sender<Answer<T>>) -> Call,
    ) -> Result<T, Undone> {
        for _ in 0..ATTEMPTS {
            let calls = self.seat(name).await?;
            let (reply, answer) = oneshot::channel();
            if calls.send(call(reply)).await.is_err() {
                continue;
            }
            if let Ok(answer) = answer.await {
                return Ok(answer?);
            }
        }
        Err(Undone::NotLeader)
    }

    /// Tells the worker of a group something, if there is one.
    pub(super) async fn tell(&self, name: &GroupName, call: Call) {
        let seat = self.inner.seats.lock().get(name).cloned();
        if let Some(seat) = seat {
            let _ = seat.calls.send(call).await;
        }
    }

    /// The worker of a group; it is put to work if it is not there.
    async fn seat(&self, name: &GroupName) -> Result<mpsc::Sender<Call>, Undone> {
        let term = self.inner.parts.cluster.leader_term().ok_or(Undone::NotLeader)?;
        if let Some(calls) = self.inner.seated(name, term) {
            return Ok(calls);
        }
        let wanted = name.clone();
        let read = move |view: &ReadView<'_>| Ok((record::read(view, &wanted)?, record::parked(view, &wanted)?));
        let (stored, parked) = self.inner.parts.cluster.store().read(read).await?;
        let stored: Stored = stored.ok_or(Undone::DoesNotExist)?;
        let mut seats = self.inner.seats.lock();
        if let Some(seat) = seats.get(name).filter(|seat| seat.term == term && !seat.calls.is_closed()) {
            return Ok(seat.calls.clone());
        }
        let (calls, receiver) = mpsc::channel(CALLS);
        let worker = Worker::new(self.inner.parts.clone(), stored, parked, term, receiver);
        self.inner.parts.metrics.groups.inc();
        let (inner, name) = (Arc::downgrade(&self.inner), name.clone());
        seats.insert(name.clone(), Seat { calls: calls.clone(), term });
        let own = calls.clone();
        tokio::spawn(async move {
            let metrics = worker.metrics();
            worker.run().await;
            metrics.groups.dec();
            if let Some(inner) = inner.upgrade() {
                inner.vacate(&name, &own);
            }
        });
        Ok(calls)
    }

    /// Lets the worker of a group store how far it has come, and end.
    pub(super) async fn end(&self, name: &GroupName) {
        let (reply, ended) = oneshot::channel();
        self.tell(name, Call::End { reply }).await;
        let _ = ended.await;
    }

    /// What the worker of a group tells; nothing if nobody works on it.
    pub(super) async fn described_by_worker(&self, name: &GroupName) -> Option<GroupInfo> {
        let (reply, info) = oneshot::channel();
        self.tell(name, Call::Describe { reply }).await;
        info.await.ok()?.ok()
    }

    /// Ends all workers.
    pub(super) async fn end_all(&self) {
        for name in self.names() {
            self.end(&name).await;
        }
    }

    /// Lets all workers store how far they have come, and wait.
    pub(super) async fn rest(&self) {
        let all = self.names().into_iter().map(|name| async move {
            let (reply, rested) = oneshot::channel();
            self.tell(&name, Call::Rest { reply }).await;
            let _ = rested.await;
        });
        futures::future::join_all(all).await;
    }

    /// Lets all workers go on.
    pub(super) async fn go_on(&self) {
        for name in self.names() {
            self.tell(&name, Call::GoOn).await;
        }
    }

    fn names(&self) -> Vec<GroupName> {
        self.inner.seats.lock().keys().cloned().collect()
    }

    /// Makes a group on a stream. Returns the position that a reader has to be at to see it.
    pub(super) async fn create(&self, name: &GroupName, settings: &Settings, by: &str) -> Result<Position, Undone> {
        self.check_new(name, settings).await?;
        if name.is_on_log() {
            return Err(failed(BAD_STREAM));
        }
        self.make(name, settings, None, by).await
    }

    /// Makes a group on the log, for what a filter leaves of it. See [`Self::create`].
    pub(super) async fn create_on_log(
        &self,
        name: &GroupName,
        settings: &Settings,
        filter: Option<LogFilter>,
        by: &str,
    ) -> Result<Position, Undone> {
        self.check_new(name, settings).await?;
        if let Some(filter) = &filter {
            filter.compile().map_err(|error| failed(error.to_string()))?;
        }
        self.make(name, settings, filter, by).await
    }

    /// Refuses a group that there cannot be, or is already.
    async fn check_new(&self, name: &GroupName, settings: &Settings) -> Result<(), Undone> {
        self.check(name, settings)?;
        let parts = &self.inner.parts;
        let wanted = name.clone();
        match parts.cluster.store().read(move |view| record::owner(view, &wanted)).await? {
            Some(owner) if owner == *name => return Err(Undone::Change(ChangeError::AlreadyExists)),
            Some(GroupName { stream, group }) => {
                let reason =
                    format!("The group '{group}' of '{stream}' has the streams of this one: choose another name.");
                return Err(Undone::Change(ChangeError::NameTaken(reason)));
            }
            None => {}
        }
        if parts.groups(None).await?.len() >= MAX_GROUPS {
            return Err(failed(format!("There are {MAX_GROUPS} groups already.")));
        }
        Ok(())
    }

    async fn make(
        &self,
        name: &GroupName,
        settings: &Settings,
        filter: Option<LogFilter>,
        by: &str,
    ) -> Result<Position, Undone> {
        let parts = &self.inner.parts;
        let begin = Begin::of(name, parts.begin(name, settings).await?, filter);
        let making = Making { name, settings, begin, by };
        match parts.write(record::create(&making)).await? {
            WriteOutcome::Appended { position, .. } => {
                self.inner.changed.notify_one();
                Ok(position + 1)
            }
            WriteOutcome::WrongExpectedVersion { .. } => Err(Undone::Change(ChangeError::AlreadyExists)),
            outcome => Err(Undone::Change(ChangeError::Failed(outcome.to_string()))),
        }
    }

    /// Replaces the settings of a group. Where it has come stays, and so does its filter.
    pub(super) async fn update(&self, name: &GroupName, settings: &Settings, by: &str) -> Result<Position, Undone> {
        self.check(name, settings)?;
        for _ in 0..ATTEMPTS {
            let stored = self.at_rest(name).await?;
            let parts = &self.inner.parts;
            let place =
                if stored.has_checkpoint { stored.progress.source.next } else { parts.begin(name, settings).await? };
            let begin = Begin::of(name, place, stored.filter);
            let making = Making { name, settings, begin, by };
            if let Some(position) = self.replace(name, record::update(&making, stored.generation)).await? {
                return Ok(position);
            }
        }
        Err(Undone::NotLeader)
    }

    /// Deletes a group, and what is parked.
    pub(super) async fn delete(&self, name: &GroupName) -> Result<Position, Undone> {
        for _ in 0..ATTEMPTS {
            let stored = self.at_rest(name).await?;
            let streams = [name.settings_stream(), name.checkpoint_stream(), name.parked_stream()];
            let read = move |view: &ReadView<'_>| {
                let mut metadata = Vec::new();
                for stream in &streams {
                    if record::exists(view, stream)? {
                        metadata.push((stream.clone(), record::metadata_of(view, stream)?));
                    }
                }
                Ok(metadata)
            };
            let metadata = self.inner.parts.cluster.store().read(read).await?;
            let command = record::delete(name, stored.generation, metadata);
            if let Some(position) = self.replace(name, command).await? {
                return Ok(position);
            }
        }
        Err(Undone::NotLeader)
    }

    /// A group as it is stored, when its worker has stored everything and has ended.
    async fn at_rest(&self, name: &GroupName) -> Result<Stored, Undone> {
        self.end(name).await;
        let wanted = name.clone();
        let stored = self.inner.parts.cluster.store().read(move |view| record::read(view, &wanted)).await?;
        stored.ok_or(Undone::DoesNotExist)
    }

    /// Writes another generation of a group; nothing if there is another one than expected.
    async fn replace(&self, name: &GroupName, command: Command) -> Result<Option<Position>, Undone> {
        match self.inner.parts.write(command).await? {
            WriteOutcome::Appended { position, .. } => {
                // A worker that began meanwhile knows the former generation.
                self.end(name).await;
                self.inner.changed.notify_one();
                Ok(Some(position + 1))
            }
            WriteOutcome::WrongExpectedVersion { .. } => Ok(None),
            outcome => Err(Undone::Change(ChangeError::Failed(outcome.to_string()))),
        }
    }

    fn check(&self, name: &GroupName, settings: &Settings) -> Result<(), Undone> {
        if !name.is_possible() {
            return Err(failed(BAD_STREAM));
        }
        settings.check().map_err(|error| Undone::Change(error.into()))
    }
}

impl Inner {
    fn seated(&self, name: &GroupName, term: LeaderTerm) -> Option<mpsc::Sender<Call>> {
        let seats = self.seats.lock();
        let seat = seats.get(name).filter(|seat| seat.term == term && !seat.calls.is_closed());
        seat.map(|seat| seat.calls.clone())
    }

    /// A worker has ended; another one may have its place already.
    fn vacate(&self, name: &GroupName, calls: &mpsc::Sender<Call>) {
        let mut seats = self.seats.lock();
        if seats.get(name).is_some_and(|seat| seat.calls.same_channel(calls)) {
            seats.remove(name);
        }
    }
}

impl Server {
    /// The groups, while the node lives.
    pub(super) fn groups(&self) -> Option<LeaderOfGroups> {
        self.inner.upgrade().map(|inner| LeaderOfGroups { inner })
    }
}

impl Parts {
    /// The groups of a stream, or all of them, in the order of their names, by the state of this
    /// node.
    pub(super) async fn groups(&self, of: Option<&StreamName>) -> Result<Vec<GroupName>, ReadError> {
        let prefix = of.map_or_else(|| names::PREFIX.to_owned(), |stream| names::prefix_of(stream.as_str()));
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (prefix, from) = (prefix.clone(), after.clone());
            let read = move |view: &ReadView<'_>| record::groups(view, &prefix, from.as_deref(), LOOKED_AT);
            let (groups, reached) = self.cluster.store().read(read).await?;
            // The prefix of a stream may also begin the name of another one.
            all.extend(groups.into_iter().filter(|name| of.is_none_or(|stream| name.stream == *stream)));
            after = reached;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Number or position of the first event for a group without progress.
    async fn begin(&self, name: &GroupName, settings: &Settings) -> Result<u64, Undone> {
        let of = name.clone();
        let end = self.cluster.store().read(move |view| record::end_of_source(view, &of)).await?;
        match settings.start() {
            None => Ok(end),
            Some(position) if name.is_on_log() && position > end.saturating_sub(1) => Err(failed(BEYOND_THE_LOG)),
            Some(number) => Ok(number),
        }
    }

    async fn write(&self, command: Command) -> Result<WriteOutcome, Undone> {
        let command = EncodedCommand::of(&command);
        let write = Write { command, requester: Requester::Node, authorized_in: None };
        self.cluster.write(write).await.map_err(|error| match error {
            WriteError::NoLeader | WriteError::Denied => Undone::NotLeader,
            WriteError::Busy => Undone::Change(ChangeError::Refused(Refusal::Busy)),
            WriteError::NotYet(reason) => Undone::Change(ChangeError::Failed(reason)),
            WriteError::Unknown => Undone::Change(ChangeError::Unknown),
        })
    }
}

fn failed(reason: impl Into<String>) -> Undone {
    Undone::Change(ChangeError::Failed(reason.into()))
}

/// The time of this node's clock.
pub(super) fn now() -> Ticks {
    Ticks::from_system_time(SystemTime::now())
}
