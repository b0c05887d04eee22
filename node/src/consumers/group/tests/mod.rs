//! The machine of a group: each rule, and all of them under random operations.

mod book;
mod model;
mod progress;
mod rules;
mod strategies;
mod world;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::*;
use crate::consumers::Settlement;
use crate::consumers::settings::{MAX_BUFFERED_MESSAGES, Strategy};

/// More than any messages of a test have.
const NO_LIMIT: u64 = u64::MAX;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The id of every message with this number in the stream.
fn id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

/// A message of the stream that is alone in its lane.
fn message(number: u64) -> Message {
    in_lane(number, number)
}

fn in_lane(number: u64, lane: u64) -> Message {
    Message { key: Key::Source(number), id: id(number), bytes: 10, lane, origin: (number, "a".to_owned()) }
}

/// A parked message, which leads to the event with this number.
fn parked_message(number: u64, of: u64) -> Message {
    let id = Uuid::from_u128(1 << 64 | u128::from(number));
    Message { key: Key::Parked(number), id, bytes: 10, lane: of, origin: (of, "a".to_owned()) }
}

fn settings() -> Settings {
    Settings { max_retry_count: 2, ..Settings::default() }
}

fn with(strategy: Strategy) -> Settings {
    Settings { strategy, ..settings() }
}

/// A group that has read so many messages, from number 0 on.
fn filled(settings: &Settings, messages: u64) -> Group {
    let mut group = Group::new(settings, Progress::starting_at(0));
    group.read((0..messages).map(message).collect());
    check(&group);
    group
}

/// Numbers in the stream of what was handed out.
fn numbers(handed: &[Handed]) -> Vec<u64> {
    handed.iter().map(|handed| handed.key.number()).collect()
}

/// Numbers and counts of what was handed out.
fn counts(handed: &[Handed]) -> Vec<(u64, u32)> {
    handed.iter().map(|handed| (handed.key.number(), handed.retries)).collect()
}

/// Every message is in exactly one place, and all counts are right.
fn check(group: &Group) {
    let ready: BTreeSet<Key> = group.waiting.keys().collect();
    let out: BTreeSet<Key> = group.out.keys().collect();
    let parking: BTreeSet<Key> = group.parking.keys().copied().collect();
    assert_eq!(ready.len() + out.len() + parking.len(), group.entries.len());
    for (key, entry) in &group.entries {
        let places = (ready.contains(key), out.contains(key), parking.contains(key));
        let expected = match entry.place {
            Place::Waiting => (true, false, false),
            Place::Out { .. } => (false, true, false),
            Place::Parking => (false, false, true),
        };
        assert_eq!(places, expected, "{key:?}");
    }
    assert!(group.handed_before.keys().all(|key| ready.contains(&key)));
    for which in [Which::Source, Which::Parked] {
        let held = group.entries.keys().filter(|key| key.which() == which);
        let waiting = ready.iter().filter(|key| key.which() == which);
        let expected = (held.count(), waiting.count());
        assert_eq!(group.reading(which).map_or((0, 0), Reading::counts), expected, "{which:?}");
    }
    let figures = group.figures(Instant::now());
    assert_eq!((figures.outstanding, figures.parking), (out.len(), parking.len()));
    assert_eq!(figures.buffered + figures.retrying, ready.len());
    let connected = |entry: &&Entry| matches!(entry.place, Place::Out { consumer: Some(_), .. });
    assert_eq!(figures.in_flight, group.entries.values().filter(connected).count());
}
