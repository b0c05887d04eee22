//! Messages come back: settled, failed, or to be parked.

use std::fmt;
use std::time::Instant;

use uuid::Uuid;

use super::super::Settlement;
use super::{ConsumerId, Group, Key, Place, Which};

/// A message that has to be parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parking {
    /// Which one.
    pub(crate) key: Key,
    /// Number and stream of the event that the parked link names.
    pub(crate) origin: (u64, String),
    /// Why, in the words of the original.
    pub(crate) reason: String,
}

/// Why a message is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It was handed out again so often.
    Retried(u32),
    /// A consumer wanted it.
    Asked,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retried(count) => write!(formatter, "Reached retry count of {count}"),
            Self::Asked => formatter.write_str("Client explicitly NAK'ed message.\nNacked from HTTP"),
        }
    }
}

impl Group {
    /// Settles a message that is out, whoever has it. False, and nothing is done, when no message
    /// of this id is out. If several are, it is the one with the lowest number. A message that was
    /// open when the group was taken up counts as out, too, until it is handed out again.
    pub(crate) fn settle(&mut self, id: Uuid, settlement: Settlement) -> bool {
        let out = self.out.first_of(id).or_else(|| self.handed_before.first_of(id));
        let Some(key) = out else { return false };
        match settlement {
            Settlement::Acknowledge => {
                if key.which() == Which::Source {
                    self.acknowledged = self.acknowledged.max(Some(key.number()));
                }
                self.take_back(key);
                self.done(key);
            }
            Settlement::Skip => {
                self.take_back(key);
                self.done(key);
            }
            Settlement::Retry => self.fail(key),
            Settlement::Park => {
                self.take_back(key);
                self.park(key, Reason::Asked);
            }
        }
        true
    }

    /// The connected consumer that has the message which [`Self::settle`] would settle, and since
    /// when.
    pub(crate) fn holder(&self, id: Uuid) -> Option<(ConsumerId, Instant)> {
        let key = self.out.first_of(id)?;
        match self.entries.get(&key)?.place {
            Place::Out { since, consumer } => Some((consumer?, since)),
            Place::Waiting | Place::Parking => None,
        }
    }

    /// These messages were handed out, but do not exist any more: they are settled.
    pub(crate) fn gone(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if self.take_back(key) {
                self.done(key);
            }
        }
    }

    /// Takes back what has been out for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            let Some((_, key)) = self.out.oldest() else { return };
            self.fail(key);
        }
    }

    /// When a message will have been out for too long.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.out.oldest()?.0.checked_add(self.timeout?)
    }

    /// Whether messages have to be parked.
    pub(crate) fn has_parking(&self) -> bool {
        !self.parking.is_empty()
    }

    /// The messages that have to be parked. They are open until [`Group::parked`] is called.
    pub(crate) fn parking(&self) -> Vec<Parking> {
        let of = |(key, reason): (&Key, &Reason)| {
            let origin = self.entries.get(key)?.origin.clone();
            Some(Parking { key: *key, origin, reason: reason.to_string() })
        };
        self.parking.iter().filter_map(of).collect()
    }

    /// These messages are parked: they are settled.
    pub(crate) fn parked(&mut self, keys: &[Key]) {
        for key in keys {
            if self.parking.remove(key).is_some() {
                self.done(*key);
            }
        }
    }

    /// A message was not dealt with: it waits to be handed out again, or has to be parked.
    pub(super) fn fail(&mut self, key: Key) {
        if !self.take_back(key) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.retries = entry.retries.saturating_add(1);
        }
        self.failed += 1;
        self.wait_or_park(key);
    }

    /// Takes a message out of the hands of its consumer, the last leader's included. It has to be
    /// put into another place. False if it is not out.
    pub(super) fn take_back(&mut self, key: Key) -> bool {
        let Some(entry) = self.entries.get(&key) else { return false };
        let (id, lane, place) = (entry.id, entry.lane, entry.place);
        match place {
            Place::Out { since, consumer } => {
                self.out.remove(id, key, since);
                self.waiting.release(lane);
                if let Some(consumer) = consumer {
                    self.connected.loses(consumer, key);
                }
                true
            }
            Place::Waiting if self.handed_before.remove(id, key) => {
                let rank = self.rank(key);
                self.waiting.remove(rank, lane);
                if let Some(reading) = self.reading_mut(key.which()) {
                    reading.handed_out(key.number());
                }
                true
            }
            Place::Waiting | Place::Parking => false,
        }
    }

    /// A message waits, or has to be parked because it failed more often than it may. A message
    /// keeps that count until it is parked, so that the next leader parks it, too.
    pub(super) fn wait_or_park(&mut self, key: Key) {
        let rank = self.rank(key);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.retries > self.max_retries {
            return self.park(key, Reason::Retried(self.max_retries));
        }
        entry.place = Place::Waiting;
        self.waiting.add(rank, entry.lane);
        if let Some(reading) = self.reading_mut(key.which()) {
            reading.waits();
        }
    }

    fn park(&mut self, key: Key, reason: Reason) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.place = Place::Parking;
            self.parking.insert(key, reason);
        }
    }

    /// A message is settled. It is in no other place.
    fn done(&mut self, key: Key) {
        self.entries.remove(&key);
        if let Some(reading) = self.reading_mut(key.which()) {
            reading.settled();
        }
        self.settled += 1;
        self.end_replay();
    }
}
