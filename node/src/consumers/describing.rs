//! What a worker tells of its group, and looks at once a second.

use std::time::{Duration, Instant, SystemTime};

use super::group::Figures;
use super::info::{ConnectionInfo, GroupInfo, age, last_before};
use super::record;
use super::worker::Worker;
use crate::event::Ticks;

/// A group is told to be stalled when it has had messages for so long, and nothing happened.
const STALLED_AFTER: Duration = Duration::from_secs(30);

impl Worker {
    /// What is told of the group.
    pub(super) fn describe(&mut self, now: Instant) -> GroupInfo {
        self.measure(now);
        let figures = self.group.figures(now);
        let clock = Ticks::from_system_time(SystemTime::now());
        GroupInfo {
            name: self.stored.name.clone(),
            settings: self.stored.settings.clone(),
            filter: self.stored.filter.clone(),
            status: self.status(&figures),
            average_items_per_second: self.rate.per_second(),
            total_items_processed: figures.handed,
            count_since_last_measurement: self.rate.unmeasured(figures.handed),
            last_checkpointed: self.storing.last_checkpointed(),
            last_acknowledged: figures.acknowledged.max(self.storing.last_checkpointed()),
            last_known: last_before(self.source.end),
            read_buffer_count: figures.buffered as u64,
            retry_buffer_count: figures.retrying as u64,
            in_flight: figures.in_flight as u64,
            outstanding: figures.outstanding as u64,
            oldest_outstanding: figures.oldest_outstanding,
            parked: self.parked.end - self.parked.first,
            oldest_parked: age(self.parked.oldest, clock),
            stalled_since: self.stalled_since(&figures, now, clock),
            failure: self.failure.clone(),
            connections: self.connections(&figures),
        }
    }

    fn connections(&self, figures: &Figures) -> Vec<ConnectionInfo> {
        let of = |of: &super::group::ConsumerFigures| {
            let connected = self.consumers.get(&of.id)?;
            Some(ConnectionInfo {
                from: connected.from.clone(),
                username: connected.username.clone(),
                average_items_per_second: connected.rate.per_second(),
                total_items_processed: of.handed,
                count_since_last_measurement: connected.rate.unmeasured(of.handed),
                available_slots: of.free as u64,
                in_flight_messages: of.in_flight as u64,
                latencies: connected.latencies.figures(),
            })
        };
        figures.consumers.iter().filter_map(of).collect()
    }

    /// The flags of the original that fit.
    fn status(&self, figures: &Figures) -> String {
        let is_behind = self.is_behind();
        let mut flags = vec![if is_behind { "Behind" } else { "Live" }];
        if is_behind && self.failure.is_none() {
            flags.push("OutstandingPageRequest");
        }
        if figures.is_replaying {
            flags.push("ReplayingParkedMessages");
        }
        flags.join(", ")
    }

    /// Since when there are messages to hand out, or to wait for, and none was taken or settled.
    fn stalled_since(&self, figures: &Figures, now: Instant, clock: Ticks) -> Option<Ticks> {
        let still = now.saturating_duration_since(self.moved);
        let has_messages = figures.buffered + figures.retrying > 0 || figures.is_held_back || self.is_behind();
        let ticks = u64::try_from(still.as_nanos() / 100).unwrap_or(u64::MAX);
        (has_messages && still >= STALLED_AFTER).then(|| Ticks(clock.0.saturating_sub(ticks)))
    }

    /// Looks at the clock: measures rates, and publishes the figures.
    pub(super) fn measure(&mut self, now: Instant) {
        let figures = self.group.figures(now);
        self.rate.update(figures.handed, now);
        for of in &figures.consumers {
            if let Some(connected) = self.consumers.get_mut(&of.id) {
                connected.rate.update(of.handed, now);
            }
        }
        let done = self.group.progress().checkpoint();
        let clock = Ticks::from_system_time(SystemTime::now());
        let is_stalled = self.stalled_since(&figures, now, clock).is_some();
        let lag = (last_before(self.source.end) - done).max(0);
        let parked = self.parked.end - self.parked.first;
        self.parts.metrics.tell(&self.stored.name, lag, figures.oldest_outstanding, parked, is_stalled);
    }

    /// Looks at what is stored of the parked messages.
    pub(super) async fn look_at_parked(&mut self) {
        let name = self.stored.name.clone();
        if let Ok(parked) = self.parts.cluster.store().read(move |view| record::parked(view, &name)).await {
            self.parked = parked;
        }
    }
}
