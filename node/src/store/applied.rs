//! How far this node has applied the log, to wait for: reads with a minimum position, forwarded writes, long polls.

use crate::event::Position;

/// A point in the history that this node has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Number of log entries applied (= index of the last one + 1; 0 when none).
    pub log_entries: u64,
    /// Number of events applied = position of the next event.
    pub next_position: Position,
}

/// Published by the apply thread after each chunk is visible to readers.
#[derive(Debug)]
pub struct AppliedWatch {}

impl AppliedWatch {
    /// What is applied now.
    pub fn current(&self) -> Applied {
        unimplemented!()
    }

    /// Returns once the log entry `index` is applied; cancel-safe, waits for ever otherwise (callers bring the deadline).
    pub async fn wait_for_log_index(&self, index: u64) {
        let _ = index;
        unimplemented!()
    }

    /// Returns once the event at `position` is applied; cancel-safe, waits for ever otherwise.
    pub async fn wait_for_position(&self, position: Position) {
        let _ = position;
        unimplemented!()
    }

    /// A wait for the next change of one stream. Take it **before** reading the stream, then await
    /// [`StreamChange::changed`]; it may wake early (another stream of the same slot), never late.
    pub fn watch_stream(&self, stream: &str) -> StreamChange {
        let _ = stream;
        unimplemented!()
    }

    /// The same for the log of all events.
    pub fn watch_all(&self) -> StreamChange {
        unimplemented!()
    }
}

/// A pending change, see [`AppliedWatch::watch_stream`].
#[derive(Debug)]
pub struct StreamChange {}

impl StreamChange {
    /// Returns after the next change since this value was taken or last returned.
    pub async fn changed(&mut self) {
        unimplemented!()
    }
}
