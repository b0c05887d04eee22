//! What has to hold, checked while the cluster runs.
//!
//! What a node sends, what it has applied and what clients were answered are compared with what is
//! known from all nodes together. A fact that was seen once holds for ever, through all crashes.

use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::raft::{AppendRequest, VoteRequest};
use headwater_proto::stored::Entry;
use prost::Message;

use super::network::{Arrival, Part};
use super::node::Node;
use super::trace::{Trace, hash_of};
use crate::event::{EventNumber, Position, Ticks, WriteOutcome};
use crate::raft::ServerState;

/// A rule is broken; the text says which, and how.
pub(super) type Checked = Result<(), String>;

/// A write as a client knows it.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) stream: String,
    pub(super) ids: Vec<u128>,
    pub(super) expected: i64,
}

/// An event of the log.
struct Known {
    hash: u64,
    stream: String,
    number: EventNumber,
    id: u128,
}

/// Everything that was seen.
#[derive(Default)]
pub(super) struct Facts {
    leaders: BTreeMap<u64, u64>,
    /// What the entry of this index and term contains.
    entries: BTreeMap<(u64, u64), u64>,
    /// Term and content of each committed entry.
    committed: BTreeMap<u64, (u64, u64)>,
    events: Vec<Known>,
    /// Events after so many entries.
    positions: BTreeMap<u64, Position>,
    places: BTreeMap<(String, u128), Position>,
    last_numbers: BTreeMap<String, EventNumber>,
    newest_time: BTreeMap<String, Ticks>,
    acknowledged: Vec<(Write, EventNumber, Position)>,
    /// Ids of writes that are certainly not stored.
    refused: BTreeSet<u128>,
    /// The newest position that a write or read has shown to a client.
    pub(super) shown: Position,
}

impl Facts {
    /// Terms with a leader.
    pub(super) fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Number of the newest event of a stream that anybody has seen.
    pub(super) fn last_number(&self, stream: &str) -> Option<EventNumber> {
        self.last_numbers.get(stream).copied()
    }

    /// Looks at what arrives from a node.
    pub(super) fn see_message(&mut self, arrival: &Arrival, trace: &Trace) -> Checked {
        let Arrival { call, from, to, path, part, is_answer } = arrival;
        let method = path.rsplit('/').next().unwrap_or_default();
        match part {
            Part::Data(_) if method == "InstallSnapshot" && !is_answer => return Ok(()),
            Part::Data(bytes) => {
                let sign = if *is_answer { '<' } else { '>' };
                trace.note(format_args!("{from}{sign}{to} {method} #{call} {:016x}", hash_of(bytes)));
                if !is_answer {
                    for message in messages(bytes) {
                        self.see_request(method, message)?;
                    }
                }
            }
            Part::Open(..) => trace.note(format_args!("{from}>{to} {method} #{call} opens")),
            Part::Head(_) | Part::Trailers(_) | Part::End => {}
            Part::Cancel | Part::Lost | Part::Broken => {
                trace.note(format_args!("{from}-{to} {method} #{call} {part:?}"))
            }
        }
        Ok(())
    }

    fn see_request(&mut self, method: &str, message: &[u8]) -> Checked {
        match method {
            "Append" => {
                let request = AppendRequest::decode(message).map_err(|error| error.to_string())?;
                if let Some(vote) = request.vote {
                    self.see_leader(vote.term, vote.node_id.unwrap_or_default())?;
                }
                for entry in request.entries {
                    let Some(id) = &entry.log_id else { continue };
                    self.see_entry(id.index, id.term, hash_of(&entry.encode_to_vec()))?;
                }
                Ok(())
            }
            "Vote" => VoteRequest::decode(message).map(drop).map_err(|error| error.to_string()),
            _ => Ok(()),
        }
    }

    fn see_leader(&mut self, term: u64, leader: u64) -> Checked {
        let known = *self.leaders.entry(term).or_insert(leader);
        if known == leader { Ok(()) } else { Err(format!("two leaders of term {term}: {known:x} and {leader:x}")) }
    }

    fn see_entry(&mut self, index: u64, term: u64, content: u64) -> Checked {
        let known = *self.entries.entry((index, term)).or_insert(content);
        if known == content { Ok(()) } else { Err(format!("two entries with index {index} and term {term}")) }
    }

    /// Looks at what a node has applied since the last look, and at its log if it has become the
    /// leader.
    pub(super) fn see_node(&mut self, node: &mut Node, trace: &Trace) -> Checked {
        let Some(parts) = node.parts().cloned() else { return Ok(()) };
        let applied = parts.store.applied().current();
        let (entries, events) = node.checked;
        if (applied.log_entries, applied.next_position) == (entries, events) {
            return Ok(());
        }
        let number = node.number;
        trace.note(format_args!("{number} applied {} {}", applied.log_entries, applied.next_position));
        for (index, term, content) in contents(&parts.log_entries(entries..applied.log_entries)) {
            self.see_entry(index, term, content)?;
            let known = *self.committed.entry(index).or_insert((term, content));
            if known != (term, content) {
                return Err(format!("node {number} has applied another entry {index}: {term} instead of {}", known.0));
            }
        }
        self.see_events(number, &parts.store, events..applied.next_position)?;
        let known = *self.positions.entry(applied.log_entries).or_insert(applied.next_position);
        if known != applied.next_position {
            let (entries, next) = (applied.log_entries, applied.next_position);
            return Err(format!("after {entries} entries node {number} has {next} events and another one {known}"));
        }
        node.checked = (applied.log_entries, applied.next_position);
        Ok(())
    }

    fn see_events(&mut self, number: usize, store: &crate::store::Store, events: std::ops::Range<Position>) -> Checked {
        for position in events {
            let event = store.view(|view| {
                let row = view.row_at(position).map_err(|error| error.to_string())?;
                let row = row.ok_or_else(|| format!("node {number} has no event at {position}"))?;
                row.event().map(|event| event.to_recorded()).map_err(|error| error.to_string())
            })?;
            let hash = hash_of(&format!("{event:?}"));
            match self.events.get(position as usize) {
                Some(known) if known.hash == hash => {}
                Some(_) => return Err(format!("node {number} has another event at {position}: {event:?}")),
                None => self.learn(position, hash, event)?,
            }
        }
        Ok(())
    }

    fn learn(&mut self, position: Position, hash: u64, event: crate::event::RecordedEvent) -> Checked {
        let (stream, number, id) = (event.stream, event.number, event.event_id.as_u128());
        if self.places.insert((stream.clone(), id), position).is_some() {
            return Err(format!("event id {id:x} is twice in {stream}, the second time at {position}"));
        }
        if self.refused.contains(&id) {
            return Err(format!("event {id:x} of a refused write is stored at {position}"));
        }
        let next = self.last_numbers.get(&stream).map_or(0, |last| last + 1);
        if number != next {
            return Err(format!("the event at {position} is number {number} of {stream} instead of {next}"));
        }
        let newest = self.newest_time.entry(stream.clone()).or_default();
        if event.time < *newest {
            return Err(format!("time goes back in {stream} at {position}: {} after {newest}", event.time));
        }
        *newest = event.time;
        self.last_numbers.insert(stream.clone(), number);
        self.events.push(Known { hash, stream, number, id });
        Ok(())
    }

    /// A leader has every entry that was committed in an earlier term.
    pub(super) fn see_role(&mut self, node: &mut Node, trace: &Trace) -> Checked {
        let Some(parts) = node.parts().cloned() else { return Ok(()) };
        let seen = parts.consensus().seen();
        if seen.state != ServerState::Leader || seen.term == node.led_term {
            return Ok(());
        }
        node.led_term = seen.term;
        trace.note(format_args!("{} leads in term {}", node.number, seen.term));
        self.see_leader(seen.term, node.id.0)?;
        let extent = parts.log_extent();
        let log = parts.log_entries(extent.clone());
        let log: BTreeMap<u64, (u64, u64)> =
            contents(&log).map(|(index, term, content)| (index, (term, content))).collect();
        for (index, entry) in self.committed.range(extent.start..) {
            if entry.0 < seen.term && log.get(index) != Some(entry) {
                return Err(format!("the leader of term {} lacks the committed entry {index}", seen.term));
            }
        }
        Ok(())
    }

    /// A write was acknowledged.
    pub(super) fn acknowledge(&mut self, write: Write, outcome: &WriteOutcome) -> Checked {
        let WriteOutcome::Appended { first_number, position, repeated } = *outcome else { return Ok(()) };
        if !repeated && write.expected >= -1 && first_number as i64 != write.expected + 1 {
            return Err(format!("{write:?} was stored as number {first_number}"));
        }
        self.shown = self.shown.max(position + 1);
        self.is_stored(&write, first_number, position)?;
        self.acknowledged.push((write, first_number, position));
        Ok(())
    }

    /// A write is certainly not stored, and nobody tries it again.
    pub(super) fn refuse(&mut self, write: &Write) -> Checked {
        for id in &write.ids {
            if self.places.contains_key(&(write.stream.clone(), *id)) {
                return Err(format!("event {id:x} of a refused write is stored"));
            }
            self.refused.insert(*id);
        }
        Ok(())
    }

    fn is_stored(&self, write: &Write, first_number: EventNumber, last: Position) -> Checked {
        let Some(first) = (last + 1).checked_sub(write.ids.len() as u64) else {
            return Err(format!("{write:?} was acknowledged as ending at {last}"));
        };
        for (place, id) in write.ids.iter().enumerate() {
            let position = first + place as u64;
            let is_there = self.events.get(position as usize).is_some_and(|known| {
                known.stream == write.stream && known.number == first_number + place as u64 && known.id == *id
            });
            if !is_there {
                return Err(format!("event {id:x} of {} was acknowledged and is not at {position}", write.stream));
            }
        }
        Ok(())
    }

    /// A read with the leader's barrier was answered; `before` is what was shown before it began.
    pub(super) fn see_read(&mut self, next_position: Position, before: Position) -> Checked {
        if next_position < before {
            return Err(format!("a read by the leader shows {next_position} events after {before} were shown"));
        }
        self.shown = self.shown.max(next_position);
        Ok(())
    }

    /// At the end: this member has everything, from the first event on.
    pub(super) fn see_end(&mut self, node: &Node) -> Checked {
        let Some(parts) = node.parts() else { return Err(format!("node {} does not run", node.number)) };
        let applied = parts.store.applied().current();
        if applied.next_position != self.events.len() as u64 {
            return Err(format!("node {} has {} of {} events", node.number, applied.next_position, self.events.len()));
        }
        self.see_events(node.number, &parts.store, 0..applied.next_position)?;
        for (write, first_number, position) in &self.acknowledged {
            self.is_stored(write, *first_number, *position)?;
        }
        let extent = parts.log_extent();
        let log = parts.log_entries(extent.start..applied.log_entries);
        if log.len() as u64 != applied.log_entries.saturating_sub(extent.start) {
            return Err(format!("the log of node {} has holes", node.number));
        }
        for (index, term, content) in contents(&log) {
            if self.committed.get(&index) != Some(&(term, content)) {
                return Err(format!("the log of node {} has another entry {index}", node.number));
            }
        }
        self.see_streams(node)
    }

    fn see_streams(&self, node: &Node) -> Checked {
        let Some(parts) = node.parts() else { return Ok(()) };
        for (stream, last) in &self.last_numbers {
            let info = parts.store.view(|view| view.stream(stream)).map_err(|error| error.to_string())?;
            let Some(id) = info.id else { return Err(format!("node {} does not know {stream}", node.number)) };
            if info.last_number != Some(*last) {
                return Err(format!("node {} ends {stream} at {:?} instead of {last}", node.number, info.last_number));
            }
            let places = parts.store.view(|view| view.places(id, 0..=*last)).map_err(|error| error.to_string())?;
            if places.len() as u64 != last + 1 {
                return Err(format!("node {} has {} places in {stream}, up to {last}", node.number, places.len()));
            }
        }
        Ok(())
    }
}

/// Index, term and content of entries.
fn contents(entries: &[Entry]) -> impl Iterator<Item = (u64, u64, u64)> {
    entries.iter().filter_map(|entry| {
        let id = entry.log_id.as_ref()?;
        Some((id.index, id.term, hash_of(&entry.encode_to_vec())))
    })
}

/// The gRPC messages in these bytes.
fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some((message, rest)) = rest.split_at_checked(length) else { break };
        found.push(message);
        bytes = rest;
    }
    found
}
