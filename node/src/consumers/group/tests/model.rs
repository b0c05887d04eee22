//! The machine against a book of all messages, under random operations, crashes and changes of
//! settings. In the end everything is acknowledged.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::book::{Book, Line, State};
use super::world::World;
use super::*;
use crate::consumers::settings::Strategy;

const STEP: Duration = Duration::from_millis(400);

#[derive(Debug, Clone)]
enum Operation {
    /// Messages with these lanes are appended, each behind a gap of numbers or not.
    Append(Vec<(u64, bool)>),
    Truncate,
    Read(usize),
    Take {
        count: usize,
        max_bytes: u64,
    },
    Attach(usize),
    Detach(usize),
    Dispatch(u64),
    Settle(usize, Settlement),
    SettleWhatIsNotOut(usize, Settlement),
    GiveBack(usize),
    Gone(usize),
    TimePasses,
    Park(usize),
    Replay,
    Store,
    Crash,
    ChangeSettings(Strategy),
}

/// Everything of one case.
struct Case {
    settings: Settings,
    group: Group,
    world: World,
    book: Book,
    now: Instant,
    consumers: Vec<(ConsumerId, usize)>,
    /// Who got the messages of a lane since consumers came or went.
    pins: BTreeMap<u64, ConsumerId>,
    stored: (Progress, Book),
    /// Where the last replay ends.
    replay_end: u64,
}

impl Case {
    fn new(settings: Settings) -> Self {
        let book = Book {
            max_retries: settings.max_retry_count as u32,
            is_ordered: settings.strategy == Strategy::OrderedByStream,
            ..Book::default()
        };
        let progress = Progress::starting_at(0);
        Self {
            group: Group::new(&settings, progress.clone()),
            settings,
            world: World::default(),
            now: Instant::now(),
            consumers: Vec::new(),
            pins: BTreeMap::new(),
            stored: (progress, book.clone()),
            book,
            replay_end: 0,
        }
    }

    fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Append(messages) => self.append(&messages),
            Operation::Truncate => self.truncate(),
            Operation::Read(most) => {
                self.read(most);
            }
            Operation::Take { count, max_bytes } => drop(self.take(count, max_bytes)),
            Operation::Attach(window) => {
                self.consumers.push((self.group.attach(window), window));
                self.pins.clear();
            }
            Operation::Detach(at) => self.detach(at),
            Operation::Dispatch(max_bytes) => drop(self.dispatch(max_bytes)),
            Operation::Settle(at, settlement) => self.settle(at, settlement),
            Operation::SettleWhatIsNotOut(at, settlement) => {
                let key = pick(&self.book.keys(|line| !matches!(line.state, State::Out { .. })), at);
                // The last leader may have handed it out, or another message of this id is out.
                if let Some(id) = key.map(|key| self.book.lines[&key].message.id) {
                    assert_eq!(self.group.settle(id, settlement), self.book.settle(id, settlement));
                }
            }
            Operation::GiveBack(at) => {
                let keys: Vec<_> = self.book.out().into_iter().skip(at % 4).collect();
                self.group.give_back(keys.clone());
                keys.into_iter().for_each(|key| self.book.wait_or_park(key));
            }
            Operation::Gone(at) => {
                if let Some(key) = pick(&self.book.out(), at) {
                    self.group.gone([key]);
                    self.book.set(key, State::Settled);
                }
            }
            Operation::TimePasses => self.time_passes(),
            Operation::Park(count) => self.park(count),
            Operation::Replay => self.replay(),
            Operation::Store => self.store(),
            Operation::Crash => self.take_up(self.settings.clone()),
            Operation::ChangeSettings(strategy) => {
                self.store();
                self.take_up(Settings { strategy, ..self.settings.clone() });
            }
        }
        self.book.read(&self.group);
        check(&self.group);
        self.book.agrees(&self.group.progress());
    }

    fn append(&mut self, messages: &[(u64, bool)]) {
        for (lane, gap) in messages {
            if *gap {
                self.world.source.skip();
            }
            let number = self.world.source.end;
            // Some have one id.
            let message =
                Message { id: id(if number.is_multiple_of(5) { 0 } else { number }), ..in_lane(number, *lane) };
            self.book.enter(&message);
            self.world.source.append(message);
        }
    }

    fn truncate(&mut self) {
        let below = self.world.source.end.saturating_sub(4);
        self.world.source.truncate(below);
        self.book.forget_gone(&self.world);
    }

    fn read(&mut self, most: usize) -> bool {
        let has_read = self.world.read(&mut self.group, most);
        self.book.read(&self.group);
        has_read
    }

    fn take(&mut self, count: usize, max_bytes: u64) -> Vec<Handed> {
        let expected = self.book.take(count, max_bytes);
        let handed = self.group.take(self.now, count, max_bytes);
        assert_eq!(handed.iter().map(|handed| (handed.key, handed.retries)).collect::<Vec<_>>(), expected);
        handed.iter().for_each(|handed| self.book.hand_out(handed.key, self.now, None));
        handed
    }

    fn dispatch(&mut self, max_bytes: u64) -> Vec<Handed> {
        let ready = self.book.ready();
        let dispatched = self.group.dispatch(self.now, max_bytes);
        let mut all = Vec::new();
        for (consumer, handed) in dispatched {
            let order = |handed: &Handed| ready.iter().position(|key| *key == handed.key).unwrap();
            assert!(handed.is_sorted_by_key(order), "{handed:?} of {ready:?}");
            for handed in handed {
                let line = &self.book.lines[&handed.key];
                assert_eq!((handed.retries, handed.id), (line.retries, line.message.id));
                let lane = line.message.lane;
                assert!(!self.book.is_busy(lane), "lane {lane} has a message out");
                if !self.is_unpinned() {
                    assert_eq!(*self.pins.entry(lane).or_insert(consumer), consumer, "lane {lane}");
                }
                self.book.hand_out(handed.key, self.now, Some(consumer));
                all.push(handed);
            }
        }
        self.nobody_is_passed_over(&ready, &all, max_bytes);
        all
    }

    /// Windows hold, and nothing waits that could be handed out.
    fn nobody_is_passed_over(&self, ready: &[Key], all: &[Handed], max_bytes: u64) {
        let free = |(id, window): &(ConsumerId, usize)| window.checked_sub(self.book.in_flight(*id).len()).unwrap();
        let free: Vec<_> = self.consumers.iter().map(free).collect();
        let bytes: u64 = all.iter().map(|handed| handed.bytes).sum();
        assert!(bytes <= max_bytes || all.len() == 1);
        if self.is_unpinned() {
            let handed: BTreeSet<_> = all.iter().map(|handed| handed.key).collect();
            assert_eq!(handed, ready[..all.len()].iter().copied().collect(), "the first ones are handed out");
        }
        let is_complete = self.consumers.is_empty() || max_bytes < NO_LIMIT || all.len() == ready.len();
        let has_room =
            if self.is_unpinned() { free.iter().any(|free| *free > 0) } else { free.iter().all(|free| *free > 0) };
        assert!(is_complete || !has_room, "{ready:?} {all:?} {free:?}");
    }

    fn is_unpinned(&self) -> bool {
        matches!(self.settings.strategy, Strategy::RoundRobin | Strategy::DispatchToSingle)
    }

    fn detach(&mut self, at: usize) {
        if self.consumers.is_empty() {
            return;
        }
        let (consumer, _) = self.consumers.remove(at % self.consumers.len());
        self.pins.clear();
        let had = self.book.in_flight(consumer);
        self.group.detach(consumer);
        had.into_iter().for_each(|key| self.book.fail(key));
    }

    fn settle(&mut self, at: usize, settlement: Settlement) {
        if let Some(key) = pick(&self.book.out(), at) {
            let id = self.book.lines[&key].message.id;
            assert!(self.group.settle(id, settlement));
            assert!(self.book.settle(id, settlement));
        }
    }

    fn time_passes(&mut self) {
        self.now += STEP;
        if let Some(timeout) = self.settings.message_timeout() {
            let first = self.book.lines.values().filter_map(|line| match line.state {
                State::Out { since, .. } => Some(since + timeout),
                _ => None,
            });
            assert_eq!(self.group.next_deadline(), first.min());
            if let Some(latest) = self.now.checked_sub(timeout) {
                self.book.expire(latest);
            }
        }
        self.group.expire(self.now);
    }

    fn park(&mut self, count: usize) {
        let parking = self.group.parking();
        let keys: Vec<_> = parking.iter().map(|parking| parking.key).collect();
        assert_eq!(keys, self.book.keys(|line| line.state == State::Parking));
        for key in &keys[..count.min(keys.len())] {
            let lane = self.book.lines[key].message.lane;
            let number = self.world.parked.end;
            self.world.parked.append(Message { lane, ..parked_message(number, key.number()) });
            self.group.parked(&[*key]);
            self.book.set(*key, State::Settled);
        }
    }

    fn replay(&mut self) {
        let may = !self.group.figures(self.now).is_replaying;
        assert_eq!(self.group.replay(0, self.world.parked.end), may);
        if may {
            self.replay_end = self.world.parked.end;
            self.book.lines.retain(|key, _| key.which() == Which::Source);
            for key in self.world.parked.keys() {
                self.book.enter(self.world.message(key).unwrap());
            }
        }
    }

    fn store(&mut self) {
        let text = serde_json::to_string(&self.group.progress()).unwrap();
        let progress: Progress = serde_json::from_str(&text).unwrap();
        self.group.checkpointed(&progress);
        assert_eq!(self.group.settled_since_checkpoint(), 0);
        if progress.replay.is_none() {
            // The owner removes what was replayed.
            self.world.parked.truncate(self.replay_end);
        }
        self.stored = (progress, self.book.clone());
    }

    /// Another leader goes on from what was stored.
    fn take_up(&mut self, settings: Settings) {
        let (progress, book) = self.stored.clone();
        // Messages that were appended meanwhile are still there.
        let mut lines = book.lines;
        for (key, line) in &self.book.lines {
            if key.which() == Which::Source && !lines.contains_key(key) {
                lines.insert(*key, Line::unread(line.message.clone()));
            }
        }
        let is_ordered = settings.strategy == Strategy::OrderedByStream;
        self.book = Book { lines, is_ordered, ..book }.taken_up(&self.world);
        self.stored.1 = self.book.clone();
        self.group = Group::new(&settings, progress.clone());
        self.replay_end = progress.replay.as_ref().map_or(0, |replay| replay.end);
        assert_eq!(self.group.progress(), progress);
        (self.settings, self.consumers, self.pins) = (settings, Vec::new(), BTreeMap::new());
    }

    /// All consumers acknowledge from now on: everything is handed out.
    fn finish(&mut self, by_dispatch: bool) {
        if by_dispatch && self.consumers.is_empty() {
            self.consumers = (0..2).map(|_| (self.group.attach(3), 3)).collect();
        }
        let rounds = 4 * self.book.lines.len() + 10;
        for _ in 0..rounds {
            while self.read(3) {}
            self.park(usize::MAX);
            for key in self.book.out() {
                let id = self.book.lines[&key].message.id;
                assert!(
                    self.group.settle(id, Settlement::Acknowledge) && self.book.settle(id, Settlement::Acknowledge)
                );
            }
            let handed = if by_dispatch { self.dispatch(NO_LIMIT) } else { self.take(3, NO_LIMIT) };
            check(&self.group);
            if handed.is_empty() && self.book.unsettled() == 0 {
                break;
            }
        }
        assert_eq!(self.book.unsettled(), 0, "{:?}", self.book);
        while self.read(3) {}
        let end = self.world.source.end;
        let progress = self.group.progress();
        assert_eq!((progress.source, progress.replay), (Way::starting_at(end), None));
        assert!(self.group.entries.is_empty());
    }
}

fn pick(keys: &[Key], at: usize) -> Option<Key> {
    (!keys.is_empty()).then(|| keys[at % keys.len()])
}

fn any_strategy() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop::sample::select(vec![
        Strategy::RoundRobin,
        Strategy::DispatchToSingle,
        Strategy::Pinned,
        Strategy::OrderedByStream,
    ])
}

fn any_settlement() -> impl proptest::strategy::Strategy<Value = Settlement> {
    let rare = prop::sample::select(vec![Settlement::Skip, Settlement::Park]);
    prop_oneof![3 => Just(Settlement::Acknowledge), 2 => Just(Settlement::Retry), 1 => rare]
}

fn any_operation() -> impl proptest::strategy::Strategy<Value = Operation> {
    let bytes = || prop_oneof![3 => Just(NO_LIMIT), 1 => 0..50_u64];
    let messages = prop::collection::vec((0..6_u64, prop::bool::weighted(0.2)), 1..8);
    prop_oneof![
        6 => messages.prop_map(Operation::Append),
        1 => Just(Operation::Truncate),
        8 => (1..6_usize).prop_map(Operation::Read),
        6 => (1..6_usize, bytes()).prop_map(|(count, max_bytes)| Operation::Take { count, max_bytes }),
        2 => (1..4_usize).prop_map(Operation::Attach),
        1 => any::<usize>().prop_map(Operation::Detach),
        6 => bytes().prop_map(Operation::Dispatch),
        10 => (any::<usize>(), any_settlement()).prop_map(|(at, settlement)| Operation::Settle(at, settlement)),
        2 => (any::<usize>(), any_settlement()).prop_map(|(at, how)| Operation::SettleWhatIsNotOut(at, how)),
        1 => any::<usize>().prop_map(Operation::GiveBack),
        1 => any::<usize>().prop_map(Operation::Gone),
        4 => Just(Operation::TimePasses),
        2 => (1..4_usize).prop_map(Operation::Park),
        1 => Just(Operation::Replay),
        3 => Just(Operation::Store),
        1 => Just(Operation::Crash),
        1 => any_strategy().prop_map(Operation::ChangeSettings),
    ]
}

fn any_settings() -> impl proptest::strategy::Strategy<Value = Settings> {
    (any_strategy(), 0..4_i64, prop::sample::select(vec![0_i64, 1_000]), 2..12_i64).prop_map(
        |(strategy, max_retry_count, message_timeout_milliseconds, buffer_size)| Settings {
            max_retry_count,
            message_timeout_milliseconds,
            buffer_size,
            read_batch_size: 1,
            ..with(strategy)
        },
    )
}

proptest! {
    #[test]
    fn every_message_is_in_one_place_and_none_is_lost(
        settings in any_settings(),
        operations in prop::collection::vec(any_operation(), 1..80),
        by_dispatch: bool,
    ) {
        let mut case = Case::new(settings);
        for operation in operations {
            case.run(operation);
        }
        case.finish(by_dispatch);
    }
}
