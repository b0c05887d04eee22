//! The rules of a group written a second time, as searches through a list of all messages.

use std::collections::BTreeMap;

use super::world::World;
use super::*;

/// Where a message is, as far as its readers can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has to be read, for the first time or again.
    Unread,
    Waiting,
    Out {
        since: Instant,
        consumer: Option<ConsumerId>,
    },
    Parking,
    Settled,
}

#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) state: State,
    pub(super) retries: u32,
    /// It was handed out before, or was open when the group was taken up.
    pub(super) is_touched: bool,
    /// It waits, and was open when the group was taken up.
    pub(super) is_from_before: bool,
    /// It did not exist any more when it was to be read.
    pub(super) is_gone: bool,
    pub(super) message: Message,
}

impl Line {
    pub(super) fn unread(message: Message) -> Self {
        let state = State::Unread;
        Self { state, retries: 0, is_touched: false, is_from_before: false, is_gone: false, message }
    }
}

/// One line for each message that the group has to deal with.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    pub(super) lines: BTreeMap<Key, Line>,
    pub(super) max_retries: u32,
    pub(super) is_ordered: bool,
}

impl Book {
    pub(super) fn enter(&mut self, message: &Message) {
        self.lines.insert(message.key, Line::unread(message.clone()));
    }

    pub(super) fn set(&mut self, key: Key, state: State) {
        self.lines.get_mut(&key).unwrap().state = state;
    }

    pub(super) fn keys(&self, is: impl Fn(&Line) -> bool) -> Vec<Key> {
        self.lines.iter().filter(|(_, line)| is(line)).map(|(key, _)| *key).collect()
    }

    pub(super) fn out(&self) -> Vec<Key> {
        self.keys(|line| matches!(line.state, State::Out { .. }))
    }

    pub(super) fn unsettled(&self) -> usize {
        self.keys(|line| line.state != State::Settled).len()
    }

    pub(super) fn is_busy(&self, lane: u64) -> bool {
        self.is_ordered && self.out().iter().any(|key| self.lines[key].message.lane == lane)
    }

    /// What may be handed out now, in its order.
    pub(super) fn ready(&self) -> Vec<Key> {
        let mut waiting = self.keys(|line| line.state == State::Waiting);
        waiting.sort_by_key(|key| (key.which() == Which::Source && !self.lines[key].is_touched, *key));
        waiting.retain(|key| !self.is_busy(self.lines[key].message.lane));
        if self.is_ordered {
            let mut lanes = BTreeSet::new();
            waiting.retain(|key| lanes.insert(self.lines[key].message.lane));
        }
        waiting
    }

    /// What a consumer that asks gets.
    pub(super) fn take(&self, count: usize, max_bytes: u64) -> Vec<(Key, u32)> {
        let (mut taken, mut left) = (Vec::new(), max_bytes);
        for key in self.ready().into_iter().take(count) {
            let line = &self.lines[&key];
            if !taken.is_empty() && line.message.bytes > left {
                break;
            }
            left = left.saturating_sub(line.message.bytes);
            taken.push((key, line.retries));
        }
        taken
    }

    pub(super) fn hand_out(&mut self, key: Key, since: Instant, consumer: Option<ConsumerId>) {
        let line = self.lines.get_mut(&key).unwrap();
        assert_eq!(line.state, State::Waiting, "{key:?} is in one place only");
        assert!(line.retries <= self.max_retries);
        (line.state, line.is_touched) = (State::Out { since, consumer }, true);
        line.is_from_before = false;
    }

    pub(super) fn wait_or_park(&mut self, key: Key) {
        let is_over = self.lines[&key].retries > self.max_retries;
        self.set(key, if is_over { State::Parking } else { State::Waiting });
    }

    pub(super) fn fail(&mut self, key: Key) {
        self.lines.get_mut(&key).unwrap().retries += 1;
        self.wait_or_park(key);
    }

    pub(super) fn settle(&mut self, id: Uuid, settlement: Settlement) -> bool {
        let before = self.keys(|line| line.is_from_before);
        let known = self.out().into_iter().chain(before).find(|key| self.lines[key].message.id == id);
        let Some(key) = known else { return false };
        self.lines.get_mut(&key).unwrap().is_from_before = false;
        match settlement {
            Settlement::Acknowledge | Settlement::Skip => self.set(key, State::Settled),
            Settlement::Retry => self.fail(key),
            Settlement::Park => self.set(key, State::Parking),
        }
        true
    }

    /// Takes back what was handed out at this time or before.
    pub(super) fn expire(&mut self, latest: Instant) {
        for key in self.keys(|line| matches!(line.state, State::Out { since, .. } if since <= latest)) {
            self.fail(key);
        }
    }

    pub(super) fn in_flight(&self, of: ConsumerId) -> Vec<Key> {
        self.keys(|line| matches!(line.state, State::Out { consumer, .. } if consumer == Some(of)))
    }

    /// No message from here on was handed out.
    fn next(&self, which: Which) -> u64 {
        let lines = self.lines.iter().filter(|(key, _)| key.which() == which);
        let touched = lines.filter(|(_, line)| line.is_touched || line.state == State::Settled && !line.is_gone);
        touched.map(|(key, _)| key.number() + 1).max().unwrap_or(0)
    }

    /// What the next leader finds: all that is not settled has to be read again.
    pub(super) fn taken_up(mut self, world: &World) -> Self {
        let nexts = (self.next(Which::Source), self.next(Which::Parked));
        for (key, line) in &mut self.lines {
            let next = if key.which() == Which::Source { nexts.0 } else { nexts.1 };
            line.is_touched = key.number() < next;
            line.is_from_before = false;
            if line.state != State::Settled {
                line.state = State::Unread;
            }
        }
        self.forget_gone(world);
        self
    }

    /// Messages that do not exist and were not read are settled.
    pub(super) fn forget_gone(&mut self, world: &World) {
        for (key, line) in &mut self.lines {
            if line.state == State::Unread && !world.stream(key.which()).has(key.number()) {
                (line.state, line.is_gone) = (State::Settled, true);
            }
        }
    }

    /// After the group has read: what it holds now, it waits to hand out.
    pub(super) fn read(&mut self, group: &Group) {
        for key in self.keys(|line| line.state == State::Unread) {
            if group.entries.contains_key(&key) {
                self.wait_or_park(key);
                let line = self.lines.get_mut(&key).unwrap();
                line.is_from_before = line.is_touched && line.state == State::Waiting;
            }
        }
    }

    /// The progress has every message that is not settled, and no other.
    pub(super) fn agrees(&self, progress: &Progress) {
        for (key, line) in self.lines.iter().filter(|(_, line)| !line.is_gone) {
            let way = match (key, &progress.replay) {
                (Key::Source(_), _) => &progress.source,
                (Key::Parked(_), Some(replay)) => &replay.way,
                (Key::Parked(_), None) => {
                    assert_eq!(line.state, State::Settled, "{key:?} is lost with its replay");
                    continue;
                }
            };
            let number = key.number();
            let run = way.open.iter().find(|run| (run.first..=run.last).contains(&number));
            let is_settled = number < way.next && run.is_none();
            assert_eq!(is_settled, line.state == State::Settled, "{key:?} {line:?} {way:?}");
            if let Some(run) = run {
                assert_eq!(run.retries, line.retries, "{key:?}");
            }
            assert!(number < way.next || !line.is_touched, "{key:?} was handed out");
        }
        let first = self.keys(|line| line.state != State::Settled).into_iter().find(|key| key.which() == Which::Source);
        if let Some(first) = first {
            assert!(progress.checkpoint() < first.number() as i64);
        }
    }
}
