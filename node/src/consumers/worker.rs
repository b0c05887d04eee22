//! The one task that works on a group while this node leads and there is anything to do. It feeds
//! the machine with what was read, hands out what the machine gives, and stores how far it has
//! come.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::ConsumerMetrics;
use super::call::{Answer, Batch, CALLS, Call, CallError, NewConsumer, READING_PATIENCE};
use super::group::{ConsumerId, Group, Handed, Key, Message, Which};
use super::info::Rate;
use super::latencies::Latencies;
use super::reader::{Found, Reader};
use super::record::{ParkedMessages, Stored};
use super::storing::Storing;
use super::{Parts, Settlement, Take};
use crate::cluster::{Leader, LeaderTerm};
use crate::event::{EventNumber, Ticks, Visibility};
use crate::store::{ReadView, StreamChange};
use crate::streams::Refusal;

/// How long a group without anything to do is kept at hand.
const IDLE: Duration = Duration::from_secs(30);

/// How often a group looks at the clock: for messages whose time is up, and for its figures.
const TICK: Duration = Duration::from_secs(1);

/// How long after a failure it reads again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Consumers that wait for a message of one group. A further one is answered at once, as if its
/// time was up.
const MOST_WAITING: usize = 1_000;

/// Bytes that one answer hands out, unless its first message alone has more.
const TAKEN_BYTES: u64 = 1 << 20;

/// A consumer that waits for a message.
struct Taker {
    take: Take,
    /// So long it wants to wait.
    until: Instant,
    /// So long it waits in any case while what was there when it asked is being read.
    reading_until: Instant,
    /// Number or position behind that.
    seen: u64,
    reply: oneshot::Sender<Answer<Batch>>,
}

/// A connected consumer.
pub(super) struct Connected {
    pub(super) from: String,
    pub(super) username: String,
    pub(super) messages: mpsc::Sender<Batch>,
    pub(super) rate: Rate,
    /// How long its messages took, if the settings want to know.
    pub(super) latencies: Latencies,
}

/// What was seen of the stream of a group, or of the log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SourceSeen {
    /// Number or position behind its last event.
    pub(super) end: u64,
    /// The one behind the last event that readers may see.
    pub(super) visible_end: u64,
}

/// What was read again: open messages of a range, and behind which number the read stopped.
pub(super) struct ReadAgain {
    which: Which,
    first: EventNumber,
    /// It is about messages that were handed out before.
    is_open: bool,
    found: Result<(Vec<Message>, EventNumber), Refusal>,
}

/// What happens to a worker.
enum Happening {
    Called(Option<Call>),
    Found(Option<Found>),
    ReadAgain(ReadAgain),
    Stored(super::storing::Stored),
    TimePassed,
    SettingsChanged,
    LeadershipChanged,
}

/// Works on one group.
pub(super) struct Worker {
    pub(super) parts: Arc<Parts>,
    pub(super) stored: Stored,
    pub(super) group: Group,
    pub(super) storing: Storing,
    pub(super) consumers: HashMap<ConsumerId, Connected>,
    pub(super) parked: ParkedMessages,
    pub(super) rate: Rate,
    /// Why it cannot read.
    pub(super) failure: Option<String>,
    /// When a message was taken or settled last.
    pub(super) moved: Instant,
    /// The stream as it was seen last.
    pub(super) source: SourceSeen,
    term: LeaderTerm,
    calls: mpsc::Receiver<Call>,
    reader: Reader,
    following: Option<mpsc::Receiver<Found>>,
    /// Not before this moment it follows its stream again.
    follow_at: Instant,
    reading_again: Option<BoxFuture<'static, ReadAgain>>,
    waiting: VecDeque<Taker>,
    /// Calls about messages of the last leader that were not read again yet.
    deferred: Vec<Call>,
    called: Instant,
    is_resting: bool,
    rested: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Sender<()>>,
    is_ending: bool,
    leader: watch::Receiver<Leader>,
    settings: StreamChange,
}

impl Worker {
    /// Takes a group up as leader in this term.
    pub(super) fn new(
        parts: Arc<Parts>,
        stored: Stored,
        parked: ParkedMessages,
        term: LeaderTerm,
        calls: mpsc::Receiver<Call>,
    ) -> Self {
        let now = Instant::now();
        let reader = Reader::new(parts.streams.clone(), &stored);
        let settings = parts.cluster.store().applied().watch_stream(&stored.name.settings_stream());
        let leader = parts.cluster.leader_changes();
        Self {
            group: Group::new(&stored.settings, stored.progress.clone()),
            storing: Storing::new(&stored, now),
            consumers: HashMap::new(),
            parked,
            rate: Rate::new(now),
            failure: None,
            moved: now,
            source: SourceSeen::default(),
            term,
            calls,
            reader,
            following: None,
            follow_at: now,
            reading_again: None,
            waiting: VecDeque::new(),
            deferred: Vec::new(),
            called: now,
            is_resting: false,
            rested: None,
            ended: None,
            is_ending: false,
            leader,
            settings,
            parts,
            stored,
        }
    }

    /// The metrics of the room.
    pub(super) fn metrics(&self) -> ConsumerMetrics {
        self.parts.metrics.clone()
    }

    /// Works until there is nothing to do, the group is another one, or this node does not lead.
    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.group.expire(now);
            self.hand_out(now);
            self.read();
            self.store(now);
            if self.is_done(now) {
                break;
            }
            let happening = self.next(now).await;
            if !self.takes(happening).await {
                break;
            }
        }
        // Whoever waits in the queue asks the next worker, and consumers connect again.
        self.parts.metrics.forget(&self.stored.name);
    }

    /// What happens next.
    async fn next(&mut self, now: Instant) -> Happening {
        let has_room = self.group.wanted().source_room > 0;
        let wake = self.wake_at(now);
        let store = self.storing.under_way();
        tokio::select! {
            _ = self.leader.changed() => Happening::LeadershipChanged,
            call = self.calls.recv() => Happening::Called(call),
            stored = or_never(store) => Happening::Stored(stored),
            read = or_never(self.reading_again.as_mut()) => Happening::ReadAgain(read),
            found = found(self.following.as_mut(), has_room) => Happening::Found(found),
            () = self.settings.changed() => Happening::SettingsChanged,
            () = tokio::time::sleep_until(wake.into()) => Happening::TimePassed,
        }
    }

    /// Deals with what has happened; false when the work is over.
    async fn takes(&mut self, happening: Happening) -> bool {
        match happening {
            Happening::Called(Some(call)) => {
                if matches!(call, Call::Take { .. } | Call::Describe { .. }) {
                    self.look_at_source().await;
                }
                self.takes_call(call);
            }
            Happening::Called(None) => return false,
            Happening::Found(found) => self.takes_found(found),
            Happening::ReadAgain(read) => {
                self.reading_again = None;
                self.takes_again(read);
                if !self.is_reading_again() {
                    for call in std::mem::take(&mut self.deferred) {
                        self.takes_call(call);
                    }
                }
            }
            Happening::Stored(stored) => return self.takes_stored(stored).await,
            Happening::SettingsChanged => return self.is_current().await,
            Happening::LeadershipChanged => return self.parts.cluster.is_authorized(Some(self.term)),
            Happening::TimePassed => {
                self.drop_gone();
                self.look_at_source().await;
                self.measure(Instant::now());
            }
        }
        true
    }

    fn takes_call(&mut self, call: Call) {
        let now = Instant::now();
        self.called = now;
        match call {
            Call::Take { reply, .. } if self.is_resting => drop(reply.send(Err(CallError::Resting))),
            Call::Take { take, reply } => {
                let (wanted, patience) = match self.waiting.len() {
                    ..MOST_WAITING => (take.wait.unwrap_or(Duration::ZERO), READING_PATIENCE),
                    MOST_WAITING.. => (Duration::ZERO, Duration::ZERO),
                };
                let (until, reading_until, seen) = (now + wanted, now + patience, self.source.visible_end);
                self.waiting.push_back(Taker { take, until, reading_until, seen, reply });
            }
            Call::Settle { reply, .. } if self.is_resting => drop(reply.send(Err(CallError::Resting))),
            call @ Call::Settle { .. } if self.is_reading_again() && self.deferred.len() < CALLS => {
                self.deferred.push(call);
            }
            Call::Settle { ids, settlement, reply } => {
                let settled = ids.into_iter().filter(|id| self.settle(*id, settlement, now)).count();
                if settled > 0 {
                    self.moved = now;
                }
                self.parts.metrics.settled(settlement, settled as u64);
                let _ = reply.send(Ok(()));
            }
            Call::GiveBack { keys, gone: true } => self.group.gone(keys),
            Call::GiveBack { keys, gone: false } => self.group.give_back(keys),
            Call::Connect { reply, .. } if self.is_resting => drop(reply.send(Err(CallError::Resting))),
            Call::Connect { consumer, reply } => drop(reply.send(self.connect(consumer, now))),
            Call::Disconnect(id) => self.disconnect(id),
            Call::Replay { reply, .. } if self.is_resting => drop(reply.send(Err(CallError::Resting))),
            Call::Replay { stop_at, reply } => self.replay(stop_at, reply),
            Call::Describe { reply } => drop(reply.send(Ok(self.describe(now)))),
            Call::Rest { reply } => {
                self.is_resting = true;
                self.rested = Some(reply);
            }
            Call::GoOn => self.is_resting = false,
            Call::End { reply } => {
                self.is_ending = true;
                self.is_resting = true;
                self.ended = Some(reply);
            }
        }
    }

    fn settle(&mut self, id: Uuid, settlement: Settlement, now: Instant) -> bool {
        if self.stored.settings.extra_statistics
            && settlement == Settlement::Acknowledge
            && let Some((consumer, since)) = self.group.holder(id)
            && let Some(connected) = self.consumers.get_mut(&consumer)
        {
            connected.latencies.add(now.saturating_duration_since(since));
        }
        self.group.settle(id, settlement)
    }

    fn connect(&mut self, consumer: NewConsumer, now: Instant) -> Answer<ConsumerId> {
        let most = self.stored.settings.max_subscriber_count;
        if most > 0 && self.consumers.len() as i64 >= most {
            return Err(CallError::TooManyConsumers);
        }
        let NewConsumer { window, from, username, messages } = consumer;
        let (id, latencies) = (self.group.attach(window), Latencies::default());
        self.consumers.insert(id, Connected { from, username, messages, rate: Rate::new(now), latencies });
        Ok(id)
    }

    fn disconnect(&mut self, id: ConsumerId) {
        if self.consumers.remove(&id).is_some() {
            self.group.detach(id);
        }
    }

    /// Disconnects consumers that have gone without a word.
    fn drop_gone(&mut self) {
        let gone = self.consumers.iter().filter(|(_, of)| of.messages.is_closed()).map(|(id, _)| *id);
        for id in gone.collect::<Vec<_>>() {
            self.disconnect(id);
        }
    }

    fn replay(&mut self, stop_at: Option<EventNumber>, reply: oneshot::Sender<Answer<()>>) {
        let end = stop_at.map_or(self.parked.end, |stop_at| stop_at.min(self.parked.end));
        if !self.group.replay(self.parked.first, end.max(self.parked.first)) {
            let busy = "A replay or truncate is already in progress.".to_owned();
            let _ = reply.send(Err(CallError::Failed(busy)));
            return;
        }
        self.storing.begin_replay(end.max(self.parked.first), reply);
    }

    /// Hands out what there is, to those who wait and to those who are connected.
    fn hand_out(&mut self, now: Instant) {
        if self.is_resting {
            for taker in self.waiting.drain(..) {
                let _ = taker.reply.send(Err(CallError::Resting));
            }
            return;
        }
        let mut still_waiting = VecDeque::new();
        while let Some(taker) = self.waiting.pop_front() {
            if taker.reply.is_closed() {
                continue;
            }
            let handed = self.group.take(now, taker.take.count, TAKEN_BYTES);
            if handed.is_empty() && self.waits(&taker, now) {
                still_waiting.push_back(taker);
                continue;
            }
            self.count(&handed, now);
            if let Err(Ok(batch)) = taker.reply.send(Ok(self.batch(handed))) {
                self.group.give_back(keys_of(&batch.messages));
            }
        }
        self.waiting = still_waiting;
        loop {
            let dispatched = self.group.dispatch(now, TAKEN_BYTES);
            if dispatched.is_empty() {
                return;
            }
            for (id, handed) in dispatched {
                self.count(&handed, now);
                let is_sent =
                    self.consumers.get(&id).is_some_and(|of| of.messages.try_send(self.batch(handed)).is_ok());
                if !is_sent {
                    self.disconnect(id);
                }
            }
        }
    }

    fn batch(&self, messages: Vec<Handed>) -> Batch {
        Batch { messages, follows_links: self.stored.settings.resolve_links }
    }

    fn count(&mut self, handed: &[Handed], now: Instant) {
        if !handed.is_empty() {
            self.moved = now;
            self.parts.metrics.handed_out.inc_by(handed.len() as u64);
        }
    }

    /// Whether messages are still to be read again that the last leader has handed out.
    fn is_reading_again(&self) -> bool {
        self.failure.is_none() && self.group.wanted().reread.is_some()
    }

    /// Whether a consumer waits on, for which there is no message now: what was there when it asked
    /// may still be on its way into the machine.
    fn waits(&self, taker: &Taker, now: Instant) -> bool {
        if now < taker.until || now >= taker.reading_until {
            return now < taker.until;
        }
        let wanted = self.group.wanted();
        let is_behind = taker.seen > wanted.source_from;
        self.reading_again.is_some() || wanted.reread.is_some() || wanted.parked_room > 0 || is_behind
    }

    /// Looks how far the stream, or the log, goes.
    async fn look_at_source(&mut self) {
        let name = self.stored.name.clone();
        let look = move |view: &ReadView<'_>| {
            if name.is_on_log() {
                let end = view.next_position()?;
                return Ok(SourceSeen { end, visible_end: end });
            }
            let info = view.stream(name.stream.as_str())?;
            let end = info.last_number.map_or(0, |last| last + 1);
            let visible_end = match info.visibility(Ticks(0)) {
                Visibility::Readable(visible) if visible.bounds.contains(visible.bounds.last) => end,
                Visibility::Readable(_) | Visibility::NotFound | Visibility::Deleted => 0,
            };
            Ok(SourceSeen { end, visible_end })
        };
        if let Ok(seen) = self.parts.cluster.store().read(look).await {
            self.source = seen;
        }
    }

    /// Whether the stream, or the log, has events that were not read yet.
    pub(super) fn is_behind(&self) -> bool {
        self.source.visible_end > self.group.wanted().source_from
    }

    /// Begins to read what the machine has room for.
    fn read(&mut self) {
        let wanted = self.group.wanted();
        if Instant::now() < self.follow_at {
            return;
        }
        if self.reading_again.is_none() {
            let reader = self.reader.clone();
            if let Some((which, range)) = wanted.reread {
                let (first, last) = range.into_inner();
                self.reading_again = Some(Box::pin(async move {
                    let found = match which {
                        Which::Source => reader.again(first, last).await,
                        Which::Parked => reader.parked(first, last).await,
                    };
                    ReadAgain { which, first, is_open: true, found }
                }));
            } else if wanted.parked_room > 0 {
                let (first, end) = (wanted.parked_from, wanted.parked_end);
                let last = end.min(first + wanted.parked_room as u64) - 1;
                self.reading_again = Some(Box::pin(async move {
                    let found = reader.parked(first, last).await;
                    ReadAgain { which: Which::Parked, first, is_open: false, found }
                }));
            }
        }
        if self.following.is_none() && wanted.source_room > 0 {
            self.following = Some(self.reader.follow(wanted.source_from));
        }
    }

    fn takes_found(&mut self, found: Option<Found>) {
        match found {
            Some(Found::Messages(messages, end)) => {
                self.failure = None;
                self.group.read(messages);
                self.group.passed(end);
            }
            Some(Found::Passed(next)) => {
                self.failure = None;
                self.group.passed(next);
            }
            Some(Found::Deleted) => {
                self.failure = Some("the stream is deleted for ever".to_owned());
                self.follow_at = Instant::now() + IDLE;
                self.following = None;
            }
            Some(Found::Failed(reason)) => {
                self.failure = Some(reason);
                self.follow_at = Instant::now() + READ_AGAIN;
                self.following = None;
            }
            None => {
                self.follow_at = Instant::now() + READ_AGAIN;
                self.following = None;
            }
        }
    }

    fn takes_again(&mut self, read: ReadAgain) {
        let ReadAgain { which, first, is_open, found } = read;
        let (messages, end) = match found {
            Ok(found) => found,
            Err(refusal) => {
                self.failure = Some(refusal.to_string());
                self.follow_at = Instant::now() + READ_AGAIN;
                return;
            }
        };
        self.failure = None;
        if end <= first {
            // Nothing was looked at: nothing is known of it.
            self.follow_at = Instant::now() + READ_AGAIN;
        } else if is_open {
            self.group.reread(which, first..=end - 1, messages);
        } else {
            self.group.read_parked(messages);
            self.group.passed_parked(end);
        }
    }

    /// Whether the settings are still those that this worker knows.
    async fn is_current(&mut self) -> bool {
        let name = self.stored.name.clone();
        let stored = self.parts.cluster.store().read(move |view| super::record::read(view, &name)).await;
        match stored {
            Ok(Some(stored)) => stored.generation == self.stored.generation,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Whether all that is to be stored is due at once.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_resting
    }

    /// Whether there is nothing to do any more, and all is stored.
    fn is_done(&mut self, now: Instant) -> bool {
        if self.storing.is_under_way() || self.storing.is_due(&self.group, now, self.is_resting) {
            return false;
        }
        if let Some(rested) = self.rested.take() {
            let _ = rested.send(());
        }
        if self.is_ending {
            if let Some(ended) = self.ended.take() {
                let _ = ended.send(());
            }
            return true;
        }
        let has_work =
            !self.waiting.is_empty() || !self.consumers.is_empty() || self.group.figures(now).outstanding > 0;
        !has_work && now.saturating_duration_since(self.called) >= IDLE && !self.storing.is_dirty(&self.group)
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let ends = self.waiting.iter().flat_map(|taker| [taker.until, taker.reading_until]);
        let takers = ends.filter(|end| *end > now);
        let due = [self.group.next_deadline(), self.storing.due_at(&self.group, now)];
        let first = takers.chain(due.into_iter().flatten()).min();
        first.map_or(now + TICK, |first| first.min(now + TICK)).max(now + Duration::from_millis(1))
    }
}

/// The messages of one answer.
fn keys_of(handed: &[Handed]) -> Vec<Key> {
    handed.iter().map(|handed| handed.key).collect()
}

async fn or_never<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn found(following: Option<&mut mpsc::Receiver<Found>>, has_room: bool) -> Option<Found> {
    match following.filter(|_| has_room) {
        Some(following) => following.recv().await,
        None => pending().await,
    }
}
