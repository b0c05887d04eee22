//! A worker stores how far its group has come.

use std::time::Instant;

use super::storing::{Stored, Then};
use super::worker::Worker;

impl Worker {
    /// Begins to store what has to be stored by now.
    pub(super) fn store(&mut self, now: Instant) {
        if !self.storing.is_under_way() && self.storing.is_due(&self.group, now, self.is_at_rest()) {
            self.storing.begin(self.parts.clone(), self.stored.name.clone(), &self.group, self.parked.first);
        }
    }

    /// Takes over what became of a write; false when the group has to be taken up anew.
    pub(super) async fn takes_stored(&mut self, stored: Stored) -> bool {
        match self.storing.finish(stored, &mut self.group, Instant::now()) {
            Then::Stored(parked) => {
                self.parts.metrics.checkpoints.inc();
                self.parts.metrics.parked.inc_by(parked as u64);
                self.look_at_parked().await;
                true
            }
            Then::Again => true,
            Then::TakeUpAnew(outcome) => {
                // The next call begins with what is stored.
                tracing::info!(group = %self.stored.name.key(), %outcome, "the group is taken up anew");
                false
            }
        }
    }
}
