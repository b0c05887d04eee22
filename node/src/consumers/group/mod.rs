//! The machine of one group of competing consumers (contract/services 3.6): which message waits,
//! which one is out and for how long, which one has to be parked.
//!
//! It has no clock, no disk and no task. Its owner reads what it wants ([`Group::wanted`]), hands
//! out what it gives ([`Group::take`], [`Group::dispatch`]), tells it what came back
//! ([`Group::settle`], [`Group::expire`]), parks what has to be parked ([`Group::parking`]), and
//! keeps its progress ([`Group::progress`]). Each message that was read and is not settled is in
//! exactly one place ([`Place`]). All others below [`Way::next`] are settled, or are still to be
//! read again after a change of leader. So what is settled takes no memory, and what is not has a
//! bound: `MAX_BUFFERED_MESSAGES` of the stream of the group and as many of its parked messages.
//!
//! A message keeps its count of retries in the progress: a message that is out when the leader dies
//! is handed out again with the same count, and one that had to be parked for its count is parked.

mod connected;
mod figures;
mod hand_out;
mod out;
mod pinned;
mod progress;
mod rank;
mod reading;
mod settle;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::settings::Settings;
use connected::Connected;
use out::{ById, Out};
use rank::Rank;
use reading::Reading;
use waiting::Waiting;

pub(crate) use connected::{ConsumerFigures, ConsumerId};
pub(crate) use figures::Figures;
pub(crate) use hand_out::Handed;
pub(crate) use progress::{Key, Progress, Replay, Run, Way, Which};
pub(crate) use settle::Parking;

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Which one.
    pub(crate) key: Key,
    /// What it is acknowledged by: the id of the event in the stream of the group, or of the link
    /// in the stream of parked messages.
    pub(crate) id: Uuid,
    /// Bytes of what a consumer gets.
    pub(crate) bytes: u64,
    /// Hash of what keeps messages together by the strategy: source stream, or correlation id.
    pub(crate) lane: u64,
    /// Number and stream of the event that the link to it names if it is parked: of the target if
    /// links are followed.
    pub(crate) origin: (u64, String),
}

/// What a group wants to read: first what is open, then new messages. Reading less is all right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Open messages to read again, for [`Group::reread`].
    pub(crate) reread: Option<(Which, RangeInclusive<u64>)>,
    /// Where the new messages of the stream of the group begin, for [`Group::read`].
    pub(crate) source_from: u64,
    /// How many of them may be read.
    pub(crate) source_room: usize,
    /// Where the parked messages begin that were not read yet, for [`Group::read_parked`].
    pub(crate) parked_from: u64,
    /// Where those end that are replayed.
    pub(crate) parked_end: u64,
    /// How many of them may be read.
    pub(crate) parked_room: usize,
}

#[cfg(test)]
impl Wanted {
    /// Whether there is no room for anything.
    fn is_nothing(&self) -> bool {
        self.reread.is_none() && self.source_room == 0 && self.parked_room == 0
    }
}

/// The machine of one group. See the module.
pub(crate) struct Group {
    /// How long a message may be out; `None` for ever.
    timeout: Option<Duration>,
    /// How often a message is handed out again before it is parked.
    max_retries: u32,
    /// How many messages are read ahead.
    buffered: usize,
    /// Every message that was read and is not settled.
    entries: BTreeMap<Key, Entry>,
    source: Reading,
    replay: Option<Replaying>,
    waiting: Waiting,
    out: Out,
    /// Messages that wait because they were open when the group was taken up. The last leader may
    /// have handed them out, so they can be settled until they are handed out again.
    handed_before: ById,
    /// Messages that have to be parked, and why.
    parking: BTreeMap<Key, settle::Reason>,
    connected: Connected,
    /// Messages settled in the life of the group.
    settled: u64,
    /// How often a message failed in the life of the group.
    failed: u64,
    /// How many of these the last checkpoint has: settled messages, and failures.
    checkpointed: (u64, u64),
    /// [`Way::next`] of the source in the last checkpoint.
    checkpointed_next: u64,
    /// Messages handed out.
    handed: u64,
    /// The highest number in the stream of the group that was acknowledged.
    acknowledged: Option<u64>,
}

/// A message that is not settled.
struct Entry {
    id: Uuid,
    bytes: u64,
    lane: u64,
    origin: (u64, String),
    /// How often it was handed out before: before this time if it is out.
    retries: u32,
    place: Place,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It waits in [`Waiting`].
    Waiting,
    /// A consumer has it: this one, or one that is not connected. It stands in [`Out`].
    Out { since: Instant, consumer: Option<ConsumerId> },
    /// It has to be parked, and stands in `Group::parking`.
    Parking,
}

/// The replay that goes on.
struct Replaying {
    reading: Reading,
    end: u64,
}

impl Group {
    /// A group that goes on from a progress. What is open has to be read again before anything new.
    pub(crate) fn new(settings: &Settings, progress: Progress) -> Self {
        let replaying = |Replay { way, end }| Replaying { reading: Reading::new(way), end };
        let checkpointed_next = progress.source.next;
        let mut group = Self {
            timeout: settings.message_timeout(),
            max_retries: u32::try_from(settings.max_retry_count.max(0)).unwrap_or(u32::MAX),
            buffered: settings.buffered(),
            entries: BTreeMap::new(),
            source: Reading::new(progress.source),
            replay: progress.replay.map(replaying),
            waiting: Waiting::new(settings.strategy),
            out: Out::default(),
            handed_before: ById::default(),
            parking: BTreeMap::new(),
            connected: Connected::new(settings.strategy),
            settled: progress.settled,
            failed: progress.failed,
            checkpointed: (progress.settled, progress.failed),
            checkpointed_next,
            handed: 0,
            acknowledged: None,
        };
        group.end_replay();
        group
    }

    /// What to read next. Nothing new while the buffer is full, and nothing while as many messages
    /// are held as may be.
    pub(crate) fn wanted(&self) -> Wanted {
        let again = |which| self.reading(which)?.wanted_again().map(|range| (which, range));
        let parked = self.replay.as_ref();
        let parked_from = parked.map_or(0, |replay| replay.reading.read());
        let parked_end = parked.map_or(0, |replay| replay.end);
        let left = usize::try_from(parked_end.saturating_sub(parked_from)).unwrap_or(usize::MAX);
        Wanted {
            reread: again(Which::Parked).or_else(|| again(Which::Source)),
            source_from: self.source.read(),
            source_room: self.source.room(self.buffered),
            parked_from,
            parked_end,
            parked_room: parked.map_or(0, |replay| replay.reading.room(self.buffered).min(left)),
        }
    }

    /// Takes new messages of the source, ascending from [`Wanted::source_from`], not more than
    /// there is room for. Those that were read before are ignored.
    pub(crate) fn read(&mut self, messages: Vec<Message>) {
        for message in messages {
            if message.key.which() == Which::Source && message.key.number() >= self.source.read() {
                self.add_new(message);
            }
        }
    }

    /// The source has nothing below this number that was not given.
    pub(crate) fn passed(&mut self, next: u64) {
        self.source.passed(next);
    }

    /// Takes open messages again: all in the range that still exist. The others that are open there
    /// are settled, because they are gone. The range may be a shorter one with the same beginning
    /// as the wanted one. What is not open is ignored.
    pub(crate) fn reread(&mut self, which: Which, range: RangeInclusive<u64>, messages: Vec<Message>) {
        let Some(reading) = self.reading_mut(which) else { return };
        let open = reading.take_unread(&range);
        let mut gone: u64 = open.iter().map(Run::len).sum();
        for message in messages {
            let number = message.key.number();
            let run = open.partition_point(|run| run.last < number);
            let Some(run) = open.get(run).filter(|run| run.has(number)) else { continue };
            if message.key.which() == which && !self.entries.contains_key(&message.key) {
                gone -= 1;
                let (id, key) = (message.id, message.key);
                self.add(message, run.retries);
                if !self.parking.contains_key(&key) {
                    self.handed_before.add(id, key);
                }
            }
        }
        self.settled += gone;
        self.end_replay();
    }

    /// Begins to hand out parked messages again: those from `first` up to, not including, `end`.
    /// False, and nothing begins, while another replay goes on.
    pub(crate) fn replay(&mut self, first: u64, end: u64) -> bool {
        if self.replay.is_some() {
            return false;
        }
        self.replay = Some(Replaying { reading: Reading::new(Way::starting_at(first)), end });
        self.end_replay();
        true
    }

    /// Takes parked messages that are replayed, ascending from [`Wanted::parked_from`], not more
    /// than there is room for. Others are ignored.
    pub(crate) fn read_parked(&mut self, messages: Vec<Message>) {
        for message in messages {
            let Some(replay) = &self.replay else { return };
            let wanted = replay.reading.read()..replay.end;
            if message.key.which() == Which::Parked && wanted.contains(&message.key.number()) {
                self.add_new(message);
            }
        }
    }

    /// There is no parked message below this number that was not given. The replay ends when this
    /// is its end, and all its messages are settled.
    pub(crate) fn passed_parked(&mut self, next: u64) {
        if let Some(replay) = &mut self.replay {
            replay.reading.passed(next.min(replay.end));
        }
        self.end_replay();
    }

    /// What has to be kept. A replay that has ended is no longer in it: remove its messages from
    /// the stream of parked messages before this progress is stored, or another replay finds them
    /// again.
    pub(crate) fn progress(&self) -> Progress {
        let replay = |replay: &Replaying| Replay { way: self.way(Which::Parked, &replay.reading), end: replay.end };
        Progress {
            source: self.way(Which::Source, &self.source),
            replay: self.replay.as_ref().map(replay),
            settled: self.settled,
            failed: self.failed,
        }
    }

    /// How many messages were settled since the progress that was stored last.
    pub(crate) fn settled_since_checkpoint(&self) -> u64 {
        self.settled.saturating_sub(self.checkpointed.0)
    }

    /// Whether a message has failed since the progress that was stored last. Its count is worth a
    /// checkpoint: else a message that fails always is not parked where leaders change often.
    pub(crate) fn has_failed_since_checkpoint(&self) -> bool {
        self.failed > self.checkpointed.1
    }

    /// How far the group has come in its source since the progress that was stored last, whether or
    /// not there were messages.
    pub(crate) fn passed_since_checkpoint(&self) -> u64 {
        self.source.next().saturating_sub(self.checkpointed_next)
    }

    /// This progress is stored.
    pub(crate) fn checkpointed(&mut self, of: &Progress) {
        self.checkpointed = (of.settled, of.failed);
        self.checkpointed_next = of.source.next;
    }

    /// What is told of the group.
    pub(crate) fn figures(&self, now: Instant) -> Figures {
        let parked = self.replay.as_ref().map(|replay| &replay.reading);
        let both = |count: fn(&Reading) -> usize| count(&self.source) + parked.map_or(0, count);
        let consumers = self.connected.figures();
        let is_full = self.source.room(self.buffered) == 0 && self.source.wanted_again().is_none();
        Figures {
            buffered: both(Reading::untouched),
            retrying: both(Reading::retrying),
            in_flight: consumers.iter().map(|consumer| consumer.in_flight).sum(),
            outstanding: self.out.len(),
            oldest_outstanding: self.out.oldest().map(|(since, _)| now.saturating_duration_since(since)),
            parking: self.parking.len(),
            handed: self.handed,
            acknowledged: self.acknowledged.map_or(-1, |number| i64::try_from(number).unwrap_or(i64::MAX)),
            is_replaying: self.replay.is_some(),
            is_held_back: is_full && self.waiting.first().is_none(),
            consumers,
        }
    }

    fn way(&self, which: Which, reading: &Reading) -> Way {
        let next = reading.next();
        let held = self.entries.range(which.key(0)..which.key(next));
        let mut open: Vec<_> = held.map(|(key, entry)| Run::of(key.number(), entry.retries)).collect();
        open.extend(reading.unread().copied());
        open.sort_unstable_by_key(|run| run.first);
        Way { next, open: Run::joined(open) }
    }

    fn reading(&self, which: Which) -> Option<&Reading> {
        match which {
            Which::Source => Some(&self.source),
            Which::Parked => self.replay.as_ref().map(|replay| &replay.reading),
        }
    }

    fn reading_mut(&mut self, which: Which) -> Option<&mut Reading> {
        match which {
            Which::Source => Some(&mut self.source),
            Which::Parked => self.replay.as_mut().map(|replay| &mut replay.reading),
        }
    }

    fn add_new(&mut self, message: Message) {
        if let Some(reading) = self.reading_mut(message.key.which()) {
            reading.is_new(message.key.number());
            self.add(message, 0);
        }
    }

    /// Takes a message that was read: it waits, or has to be parked if it failed often enough.
    fn add(&mut self, message: Message, retries: u32) {
        let Message { key, id, bytes, lane, origin } = message;
        if let Some(reading) = self.reading_mut(key.which()) {
            reading.holds();
        }
        self.entries.insert(key, Entry { id, bytes, lane, origin, retries, place: Place::Waiting });
        self.wait_or_park(key);
    }

    /// The place of a message among those that wait.
    fn rank(&self, key: Key) -> Rank {
        let is_new = key.which() == Which::Source && self.source.is_untouched(key.number());
        Rank { is_new, key }
    }

    /// Ends the replay when all its messages were read and are settled.
    fn end_replay(&mut self) {
        let is_done = |replay: &Replaying| replay.reading.read() >= replay.end && replay.reading.is_settled();
        if self.replay.as_ref().is_some_and(is_done) {
            self.replay = None;
        }
    }
}
