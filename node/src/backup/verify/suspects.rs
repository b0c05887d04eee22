//! What a damage touches: the streams whose rows do not fit together, and the events behind
//! positions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{ControlFlow, Range};

use super::report::Report;
use crate::event::{EventNumber, MAX_NUMBER, Position};
use crate::store::{Facts, OfflineState, ReadError, event_id_row, event_row, index_row, options, stream_row};

/// Streams that are named for one damage.
const MAX_STREAMS_NAMED: usize = 10;

/// Looks at every row of these streams, given by their numeric ids.
pub(super) fn check(state: &OfflineState, facts: &Facts, suspects: Vec<u64>, report: &mut Report) {
    if suspects.is_empty() {
        return;
    }
    let suspects: HashSet<u64> = suspects.into_iter().collect();
    let names = names_of(state, &suspects);
    for id in &suspects {
        let unnamed = format!("with numeric id {id}, which has no row");
        let name = names.get(id).map_or(unnamed, |name| format!("'{name}'"));
        let record = names.get(id).and_then(|name| state.stream(name).ok().flatten());
        let removed_before = record.map_or(0, |record| record.removed_before);
        for damage in [index_of(state, *id, &name), ids_of(state, *id, &name, removed_before)] {
            match damage {
                Ok(damages) => damages.into_iter().for_each(|damage| report.damage(damage)),
                Err(error) => report.damage(error.to_string()),
            }
        }
    }
    events_of(state, facts, &names, report);
}

/// Rows of the index of a stream that name no event of that stream and number.
fn index_of(state: &OfflineState, id: u64, name: &str) -> Result<Vec<String>, ReadError> {
    let mut damages = Vec::new();
    each_of(state, options::INDEX, id, |key, value| {
        let (number, position) = (index_row::number(key)?, index_row::position(value)?);
        match state.get(options::EVENT, &event_row::key(position))? {
            Some(row) => {
                let event = event_row::read(position, &row)?;
                if event.number != number || format!("'{}'", event.stream) != name {
                    damages.push(format!(
                        "the index of stream {name} says that its event {number} is at position {position}, where event {} of \
                         stream '{}' is",
                        event.number, event.stream
                    ));
                }
            }
            None if state.is_hole(position)? => {}
            None => damages.push(format!("event {number} of stream {name}, at position {position}, is missing")),
        }
        Ok(())
    })?;
    Ok(damages)
}

/// Rows of ids of a stream that no event of that number has.
fn ids_of(state: &OfflineState, id: u64, name: &str, removed_before: EventNumber) -> Result<Vec<String>, ReadError> {
    let mut damages = Vec::new();
    each_of(state, options::EVENT_ID, id, |key, value| {
        let ((_, event_id), number) = (event_id_row::id(key)?, event_id_row::number(value)?);
        if number < removed_before {
            return Ok(());
        }
        let Some(position) = state.position_of(id, number)? else {
            damages.push(format!(
                "event id {event_id} is recorded for event {number} of stream {name}, which the index lacks"
            ));
            return Ok(());
        };
        let Some(row) = state.get(options::EVENT, &event_row::key(position))? else { return Ok(()) };
        if event_row::read(position, &row)?.event_id != event_id {
            damages.push(format!(
                "event id {event_id} is recorded for event {number} of stream {name}, which has another"
            ));
        }
        Ok(())
    })?;
    Ok(damages)
}

/// Events of these streams that the index or the ids lack.
fn events_of(state: &OfflineState, facts: &Facts, names: &BTreeMap<u64, String>, report: &mut Report) {
    let ids: HashMap<&str, u64> = names.iter().map(|(id, name)| (name.as_str(), *id)).collect();
    let walked = state.events(0, |event| {
        let Some(id) = ids.get(event.stream).filter(|_| event.number != MAX_NUMBER) else {
            return Ok(ControlFlow::Continue(()));
        };
        let place = format!("event {} of stream '{}', at position {}", event.number, event.stream, event.position);
        if state.position_of(*id, event.number)? != Some(event.position) {
            report.damage(format!("{place}, is not in the index"));
        }
        let first = state.get(options::EVENT_ID, &event_id_row::key(*id, event.event_id))?;
        let first = first.map(|row| event_id_row::number(&row)).transpose()?;
        if event.position < facts.ids_before && first.is_none_or(|first| first > event.number) {
            report.damage(format!("the id of {place}, is not recorded"));
        }
        Ok(ControlFlow::Continue(()))
    });
    // What cannot be read was told before.
    drop(walked);
}

/// The streams that have events at these positions, by the index, in words.
pub(super) fn touched(state: &OfflineState, positions: Range<Position>) -> String {
    let mut numbers: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
    let scanned = state.scan(options::INDEX, &[], |key, value| {
        if let (Ok((id, number)), Ok(position)) = (index_row::stream_and_number(key), index_row::position(value))
            && positions.contains(&position)
        {
            let entry = numbers.entry(id).or_insert((number, number, 0));
            *entry = (entry.0.min(number), entry.1.max(number), entry.2 + 1);
        }
        ControlFlow::Continue(())
    });
    // The part that could be read names what it can.
    drop(scanned);
    if numbers.is_empty() {
        return String::new();
    }
    let names = names_of(state, &numbers.keys().copied().collect());
    let mut words: Vec<String> = Vec::new();
    for (id, (first, last, _)) in numbers.iter().take(MAX_STREAMS_NAMED) {
        let name = names.get(id).map_or_else(|| format!("with numeric id {id}"), |name| format!("'{name}'"));
        let which = if first == last { format!("{first}") } else { format!("{first} to {last}") };
        words.push(format!("{which} of stream {name}"));
    }
    let more = numbers.len().saturating_sub(MAX_STREAMS_NAMED);
    let more = if more > 0 { format!(" and {more} more streams") } else { String::new() };
    format!("; among them are events {}{more}", words.join(", "))
}

/// A key in words.
pub(super) fn key(family: &str, key: &[u8]) -> String {
    let words = match family {
        "stream" => format!("stream '{}'", String::from_utf8_lossy(key)),
        "index" => match index_row::stream_and_number(key) {
            Ok((id, number)) => format!("event {number} of the stream with numeric id {id}"),
            Err(_) => return String::new(),
        },
        "event_id" => match event_id_row::id(key) {
            Ok((id, event_id)) => format!("id {event_id} of the stream with numeric id {id}"),
            Err(_) => return String::new(),
        },
        _ => return String::new(),
    };
    format!(" after {words}")
}

fn names_of(state: &OfflineState, ids: &HashSet<u64>) -> BTreeMap<u64, String> {
    let mut names = BTreeMap::new();
    let scanned = state.scan(options::STREAM, &[], |key, value| {
        let name = String::from_utf8_lossy(key);
        if let Ok(record) = stream_row::decode(&name, value)
            && ids.contains(&record.id)
        {
            names.insert(record.id, name.into_owned());
        }
        ControlFlow::Continue(())
    });
    // Those that could not be read are named by their ids.
    drop(scanned);
    names
}

fn each_of(
    state: &OfflineState,
    family: &str,
    id: u64,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut failed = None;
    state.scan(family, &id.to_be_bytes(), |key, value| {
        if key.get(..8) != Some(&id.to_be_bytes()[..]) {
            return ControlFlow::Break(());
        }
        match visit(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}
