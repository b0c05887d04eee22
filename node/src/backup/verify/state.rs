//! The database: every row is read once, in the order in which it lies on disk.
//!
//! Events, index and ids are compared without a look-up for each: the rows of each stream are
//! summed up by a hash that does not depend on their order, with the sign of the family they are
//! in. Where the sums do not cancel out, [`super::suspects`] looks at the rows of that stream one
//! by one.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use headwater_proto::stored::StreamRecord;
use lru::LruCache;
use uuid::Uuid;

use super::report::Report;
use super::{Progress, suspects};
use crate::event::{EventNumber, EventRef, MAX_NUMBER, Position, StreamMetadata, StreamNameRef};
use crate::store::{Facts, OfflineState, ReadError, event_id_row, event_row, index_row, options, stream_row};

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 4_096;

/// Streams whose numeric ids are remembered while events are read.
const KNOWN_IDS: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// The rows of one stream, summed up.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    /// Events less rows of the index.
    index: u64,
    /// Events less rows of ids.
    ids: u64,
    /// Events with smaller numbers were removed; their rows of index and ids may remain.
    removed_before: EventNumber,
    /// Rows of events with smaller numbers may be gone.
    forgotten_before: EventNumber,
}

/// A walk over the whole database.
struct Walk<'a> {
    state: &'a OfflineState,
    facts: Facts,
    report: &'a mut Report,
    hasher: RandomState,
    sums: HashMap<u64, Sums>,
    /// Numbers that streams lack since they were imported: the first one, and the one behind the
    /// last.
    gaps: HashSet<(u64, EventNumber, EventNumber)>,
    ids: LruCache<String, u64>,
}

/// Checks everything.
pub(super) fn check(state: &OfflineState, report: &mut Report, progress: Progress<'_>) {
    let facts = match state.facts() {
        Ok(facts) => facts,
        Err(error) => return report.damage(error.to_string()),
    };
    let (hasher, sums, ids) = (RandomState::new(), HashMap::new(), LruCache::new(KNOWN_IDS));
    let mut walk = Walk { state, facts, report, hasher, sums, gaps: HashSet::new(), ids };
    walk.streams(progress);
    walk.events(progress);
    walk.index(progress);
    walk.event_ids(progress);
    walk.rest();
    let suspects: Vec<u64> =
        walk.sums.iter().filter(|(_, sums)| sums.index != 0 || sums.ids != 0).map(|(id, _)| *id).collect();
    let Walk { facts, report, .. } = walk;
    suspects::check(state, &facts, suspects, report);
}

impl Walk<'_> {
    fn streams(&mut self, progress: Progress<'_>) {
        let (mut rows, mut damages) = (0, Vec::new());
        let scanned = self.state.scan(options::STREAM, &[], |key, value| {
            rows += 1;
            if rows % PROGRESS_ROWS == 0 {
                progress("streams", rows, 0);
            }
            let name = String::from_utf8_lossy(key);
            match stream_row::decode(&name, value) {
                Ok(record) => {
                    self.gaps.extend(record.gaps.iter().map(|gap| (record.id, gap.first, gap.end)));
                    let StreamRecord { removed_before, forgotten_before, .. } = record;
                    let sums = Sums { removed_before, forgotten_before, ..Sums::default() };
                    if self.sums.insert(record.id, sums).is_some() {
                        damages.push(format!("stream '{name}' has the numeric id of another stream ({})", record.id));
                    }
                    damages.extend(
                        check_record(self.state, &name, &record).unwrap_or_else(|error| vec![error.to_string()]),
                    );
                }
                Err(error) => damages.push(error.to_string()),
            }
            ControlFlow::Continue(())
        });
        self.report.streams = rows;
        self.tell("stream", scanned, damages);
    }

    fn events(&mut self, progress: Progress<'_>) {
        let end = self.facts.next_position;
        let mut next = 0;
        while next < end {
            let from = next;
            let scanned = self.scan_events(&mut next, progress);
            let Err(reason) = scanned else { break };
            let readable = first_readable(self.state, next, end);
            let touched = suspects::touched(self.state, next..readable);
            self.report
                .damage(format!("events at positions {next} to {} cannot be read: {reason}{touched}", readable - 1));
            next = readable.max(from + 1);
        }
        if next < end {
            self.missing(next, end);
        }
    }

    /// Reads on from `next`, which is left at the position after the last event that was read.
    fn scan_events(&mut self, next: &mut Position, progress: Progress<'_>) -> Result<(), String> {
        let (state, end) = (self.state, self.facts.next_position);
        let scanned = state.scan(options::EVENT, &event_row::key(*next), |key, value| {
            let Ok(position) = event_row::position(key) else {
                self.report.damage("family event: a key of a wrong length".to_owned());
                return ControlFlow::Continue(());
            };
            if position > *next {
                self.missing(*next, position);
            }
            *next = position + 1;
            if position >= end {
                self.report.damage(format!("an event at position {position} exists beyond the counters ({end})"));
                return ControlFlow::Break(());
            }
            match event_row::read(position, value) {
                Ok(event) => self.event(&event),
                Err(error) => self.report.damage(error.to_string()),
            }
            if position % PROGRESS_ROWS == 0 {
                progress("events", position, end);
            }
            ControlFlow::Continue(())
        });
        match scanned {
            Ok(()) => {
                if *next < end {
                    self.missing(*next, end);
                }
                *next = end;
                Ok(())
            }
            Err(error) => Err(error.reason),
        }
    }

    fn event(&mut self, event: &EventRef<'_>) {
        self.report.events += 1;
        let id = match self.numeric_id(event.stream) {
            Ok(Some(id)) => id,
            Ok(None) => {
                return self.report.damage(format!(
                    "the event at position {} is number {} of stream '{}', which has no row",
                    event.position, event.number, event.stream
                ));
            }
            Err(error) => return self.report.damage(error.to_string()),
        };
        if event.number == MAX_NUMBER {
            return self.tombstone(event);
        }
        if event.number < self.sums.get(&id).map_or(0, |sums| sums.removed_before) {
            return self.report.damage(format!(
                "event {} of stream '{}', at position {}, was removed and is still there",
                event.number, event.stream, event.position
            ));
        }
        let index = self.hash_of_place(id, event.number, event.position);
        let of_id =
            if event.position < self.facts.ids_before { self.hash_of_id(id, event.event_id, event.number) } else { 0 };
        let sums = self.sums.entry(id).or_default();
        sums.index = sums.index.wrapping_add(index);
        sums.ids = sums.ids.wrapping_add(of_id);
    }

    /// A tombstone is known by the record of its stream alone.
    fn tombstone(&mut self, event: &EventRef<'_>) {
        let record = self.state.stream(event.stream);
        if !matches!(record, Ok(Some(record)) if record.tombstone_position == Some(event.position)) {
            self.report.damage(format!(
                "the tombstone of stream '{}' at position {} is not in the row of the stream",
                event.stream, event.position
            ));
        }
    }

    fn index(&mut self, progress: Progress<'_>) {
        let (mut rows, mut damages) = (0, Vec::new());
        let total = self.report.events;
        let mut last: Option<(u64, EventNumber)> = None;
        let state = self.state;
        let scanned = state.scan(options::INDEX, &[], |key, value| {
            rows += 1;
            if rows % PROGRESS_ROWS == 0 {
                progress("index", rows, total);
            }
            let read = index_row::stream_and_number(key)
                .and_then(|(id, number)| Ok((id, index_row::place_and_heading(key, value)?.0.position, number)));
            let (id, position, number) = match read {
                Ok(read) => read,
                Err(error) => {
                    damages.push(error.to_string());
                    return ControlFlow::Continue(());
                }
            };
            let Sums { removed_before, forgotten_before, .. } = self.sums.get(&id).copied().unwrap_or_default();
            let expected = last.filter(|(of, _)| *of == id).map(|(_, number)| number + 1);
            let is_known = |expected| self.gaps.contains(&(id, expected, number));
            if expected.is_some_and(|expected| expected.max(forgotten_before) < number && !is_known(expected)) {
                damages.push(format!(
                    "stream with numeric id {id} has no event between its numbers {} and {number}",
                    expected.unwrap_or(0) - 1
                ));
            }
            last = Some((id, number));
            if number < removed_before {
                if !state.is_hole(position).unwrap_or(false) {
                    damages.push(format!(
                        "event {number} of the stream with numeric id {id}, at position {position}, is missing \
                         although it was not removed"
                    ));
                }
                return ControlFlow::Continue(());
            }
            let hash = self.hash_of_place(id, number, position);
            let sums = self.sums.entry(id).or_default();
            sums.index = sums.index.wrapping_sub(hash);
            ControlFlow::Continue(())
        });
        self.tell("index", scanned, damages);
    }

    fn event_ids(&mut self, progress: Progress<'_>) {
        let (mut rows, mut damages) = (0, Vec::new());
        let total = self.report.events;
        let state = self.state;
        let scanned = state.scan(options::EVENT_ID, &[], |key, value| {
            rows += 1;
            if rows % PROGRESS_ROWS == 0 {
                progress("event ids", rows, total);
            }
            match event_id_row::id(key).and_then(|id| Ok((id, event_id_row::number(value)?))) {
                Ok(((id, event_id), number)) => {
                    let hash = self.hash_of_id(id, event_id, number);
                    let sums = self.sums.entry(id).or_default();
                    if number < sums.removed_before {
                        return ControlFlow::Continue(());
                    }
                    sums.ids = sums.ids.wrapping_sub(hash);
                }
                Err(error) => damages.push(error.to_string()),
            }
            ControlFlow::Continue(())
        });
        self.tell("event_id", scanned, damages);
    }

    /// The family of which only single rows were looked up.
    fn rest(&mut self) {
        let scanned = self.state.scan(options::SYSTEM, &[], |_, _| ControlFlow::Continue(()));
        self.tell("system", scanned, Vec::new());
    }

    /// Positions without an event that no scavenge removed are damage.
    fn missing(&mut self, from: Position, to: Position) {
        let mut lost: Option<Position> = None;
        for position in from..=to {
            let is_hole = position < to && self.state.is_hole(position).unwrap_or(false);
            if is_hole {
                self.report.removed += 1;
            }
            match lost {
                None if !is_hole && position < to => lost = Some(position),
                Some(first) if is_hole || position == to => {
                    let touched = suspects::touched(self.state, first..position);
                    let last = position - 1;
                    self.report.damage(format!("events at positions {first} to {last} are missing{touched}"));
                    lost = None;
                }
                _ => {}
            }
        }
    }

    fn tell(&mut self, family: &str, scanned: Result<(), crate::store::offline::Unreadable>, damages: Vec<String>) {
        damages.into_iter().for_each(|damage| self.report.damage(damage));
        if let Err(error) = scanned {
            let after = error.after.as_deref().map(|key| suspects::key(family, key)).unwrap_or_default();
            self.report.damage(format!("family {family} cannot be read{after}: {}", error.reason));
        }
    }

    fn numeric_id(&mut self, stream: &str) -> Result<Option<u64>, ReadError> {
        if let Some(id) = self.ids.get(stream) {
            return Ok(Some(*id));
        }
        let id = self.state.stream(stream)?.map(|record| record.id);
        if let Some(id) = id {
            self.ids.put(stream.to_owned(), id);
        }
        Ok(id)
    }

    fn hash_of_place(&self, id: u64, number: EventNumber, position: Position) -> u64 {
        self.hasher.hash_one((id, number, position))
    }

    fn hash_of_id(&self, id: u64, event_id: Uuid, number: EventNumber) -> u64 {
        self.hasher.hash_one((id, event_id, number))
    }
}

/// What is wrong with the row of a stream, as far as other rows tell.
fn check_record(state: &OfflineState, name: &str, record: &StreamRecord) -> Result<Vec<String>, ReadError> {
    let mut damages = Vec::new();
    if record.forgotten_before > 0 && record.last_number.is_none_or(|last| last + 1 < record.forgotten_before) {
        damages.push(format!("the row of stream '{name}' has forgotten its last number"));
    }
    if let Some(position) = record.tombstone_position {
        let row = state.get(options::EVENT, &event_row::key(position))?;
        let is_tombstone = match &row {
            Some(row) => {
                event_row::read(position, row).is_ok_and(|event| event.number == MAX_NUMBER && event.stream == name)
            }
            None => state.is_hole(position)?,
        };
        if !is_tombstone {
            damages
                .push(format!("stream '{name}' is deleted by a tombstone at position {position}, which is not there"));
        }
        return Ok(damages);
    }
    let stored = record.metadata.clone().map(stream_row::metadata_from_stored);
    match last_metadata(state, name)? {
        Described::Removed => {}
        Described::As(meaning) if meaning == stored => {}
        Described::As(_) => {
            damages
                .push(format!("the row of stream '{name}' has other metadata than the last event of its metastream"));
        }
    }
    Ok(damages)
}

/// What the last event of a metastream says.
enum Described {
    /// The event is gone.
    Removed,
    As(Option<StreamMetadata>),
}

fn last_metadata(state: &OfflineState, name: &str) -> Result<Described, ReadError> {
    let metastream = StreamNameRef::new(name).metastream();
    let Some(record) = state.stream(&metastream)? else { return Ok(Described::As(None)) };
    let Some(position) = state.last_position(record.id)? else { return Ok(Described::As(None)) };
    let Some(row) = state.get(options::EVENT, &event_row::key(position))? else { return Ok(Described::Removed) };
    let event = event_row::read(position, &row)?;
    Ok(Described::As(if event.is_json { StreamMetadata::parse(event.data) } else { None }))
}

/// The first position from `from` on whose event can be read, or `end`. The files are damaged in
/// between, so it is looked for in steps that grow, and then back.
fn first_readable(state: &OfflineState, from: Position, end: Position) -> Position {
    let can_be_read = |position: Position| state.first_key(options::EVENT, &event_row::key(position)).is_ok();
    let mut step = 1;
    let mut unreadable = from;
    let mut readable = loop {
        let next = from.saturating_add(step).min(end);
        if next == end || can_be_read(next) {
            break next;
        }
        unreadable = next;
        step *= 2;
    };
    while unreadable + 1 < readable {
        let middle = unreadable + (readable - unreadable) / 2;
        if can_be_read(middle) { readable = middle } else { unreadable = middle }
    }
    readable
}
