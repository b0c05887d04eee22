//! What is told of a group (contract/services 3.5).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::GroupName;
use super::log_filter::LogFilter;
use super::record::{ParkedMessages, Stored};
use super::settings::Settings;
use crate::event::Ticks;

/// What is told of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GroupInfo {
    /// Its names.
    pub(crate) name: GroupName,
    /// Its settings.
    pub(crate) settings: Settings,
    /// What a group on the log shares out of it; all events without one.
    #[serde(default)]
    pub(crate) filter: Option<LogFilter>,
    /// Flags, joined by `, `.
    pub(crate) status: String,
    /// Messages handed out in the last measured second.
    pub(crate) average_items_per_second: f64,
    /// Messages handed out since the leader took the group up.
    pub(crate) total_items_processed: u64,
    /// Messages handed out since the last measurement.
    pub(crate) count_since_last_measurement: u64,
    /// All events up to this number, or position, are settled, by the last checkpoint; -1 before
    /// the first.
    pub(crate) last_checkpointed: i64,
    /// Highest event that was acknowledged; -1 for none.
    pub(crate) last_acknowledged: i64,
    /// Last event of the stream, or of the log; -1 for none.
    pub(crate) last_known: i64,
    /// Messages read ahead that nobody has got yet.
    pub(crate) read_buffer_count: u64,
    /// Messages that wait to be handed out again.
    pub(crate) retry_buffer_count: u64,
    /// Messages that connected consumers have.
    pub(crate) in_flight: u64,
    /// Messages that any consumer has.
    pub(crate) outstanding: u64,
    /// How long the oldest of them has been out.
    pub(crate) oldest_outstanding: Option<Duration>,
    /// Parked messages.
    pub(crate) parked: u64,
    /// How long ago the oldest of them was parked.
    pub(crate) oldest_parked: Option<Duration>,
    /// Since when there are messages to hand out and none was taken or settled.
    pub(crate) stalled_since: Option<Ticks>,
    /// Why it cannot go on, in a sentence.
    pub(crate) failure: Option<String>,
    /// Consumers that are connected.
    pub(crate) connections: Vec<ConnectionInfo>,
}

/// What is told of a connected consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConnectionInfo {
    /// Its address.
    pub(crate) from: String,
    /// Its login, or `anonymous`.
    pub(crate) username: String,
    /// Messages it got in the last measured second.
    pub(crate) average_items_per_second: f64,
    /// Messages it got.
    pub(crate) total_items_processed: u64,
    /// Messages it got since the last measurement.
    pub(crate) count_since_last_measurement: u64,
    /// Messages it may get before it settles one.
    pub(crate) available_slots: u64,
    /// Messages it has.
    pub(crate) in_flight_messages: u64,
    /// How long its messages took, in milliseconds by name, if the settings want to know.
    #[serde(default)]
    pub(crate) latencies: Vec<(String, u64)>,
}

impl GroupInfo {
    /// What is stored of a group: nobody works on it.
    pub(super) fn of_stored(stored: &Stored, parked: ParkedMessages, end: u64, now: Ticks) -> Self {
        let done = stored.progress.checkpoint();
        let open: u64 = stored.progress.source.open.iter().map(|run| run.last - run.first + 1).sum();
        let is_behind = stored.progress.source.next < end || open > 0;
        Self {
            name: stored.name.clone(),
            settings: stored.settings.clone(),
            filter: stored.filter.clone(),
            status: if is_behind { "Behind".to_owned() } else { "Live".to_owned() },
            average_items_per_second: 0.0,
            total_items_processed: 0,
            count_since_last_measurement: 0,
            last_checkpointed: if stored.has_checkpoint { done } else { -1 },
            last_acknowledged: if stored.has_checkpoint { done } else { -1 },
            last_known: last_before(end),
            read_buffer_count: 0,
            retry_buffer_count: open,
            in_flight: 0,
            outstanding: 0,
            oldest_outstanding: None,
            parked: parked.end - parked.first,
            oldest_parked: age(parked.oldest, now),
            stalled_since: None,
            failure: None,
            connections: Vec::new(),
        }
    }
}

/// The number before this one; -1 for none.
pub(super) fn last_before(end: u64) -> i64 {
    end.checked_sub(1).map_or(-1, |last| last as i64)
}

/// The time from then until now.
pub(super) fn age(then: Option<Ticks>, now: Ticks) -> Option<Duration> {
    then.map(|then| Duration::from_nanos(now.0.saturating_sub(then.0).saturating_mul(100)))
}

/// How many things happen in a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    since: std::time::Instant,
    at_begin: u64,
    last: f64,
}

impl Rate {
    /// Nothing has happened yet.
    pub(super) fn new(now: std::time::Instant) -> Self {
        Self { since: now, at_begin: 0, last: 0.0 }
    }

    /// Takes over that there were so many by now. Measures anew once a second.
    pub(super) fn update(&mut self, total: u64, now: std::time::Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= Duration::from_secs(1) {
            self.last = (total - self.at_begin.min(total)) as f64 / passed.as_secs_f64();
            (self.since, self.at_begin) = (now, total);
        }
    }

    /// Of the last measured time.
    pub(super) fn per_second(&self) -> f64 {
        self.last
    }

    /// Since the last measurement.
    pub(super) fn unmeasured(&self, total: u64) -> u64 {
        total.saturating_sub(self.at_begin)
    }
}
