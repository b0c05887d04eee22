//! Makes the state durable, on a thread of its own.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::fatal;
use crate::store::Store;

/// Flush once this many bytes are unflushed. Unflushed entries are replayed at the start (a few
/// hundred thousand per second). But each flush makes new tables, and the more tables there are,
/// the more often every row is rewritten.
pub(super) const FLUSH_BYTES: u64 = 24 << 20;

/// Flush at least this often while anything is unflushed, so that a quiet node has little to replay
/// too.
const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

/// Works until the apply thread has ended, which makes the last flush itself.
pub(super) fn on_request(store: &Store, requests: &Receiver<()>) {
    loop {
        match requests.recv_timeout(FLUSH_INTERVAL) {
            Ok(()) => flush(store),
            Err(RecvTimeoutError::Timeout) if store.unflushed_bytes() > 0 => flush(store),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Makes the state durable. A failure ends the process: how much reached the disk is unknown.
pub(super) fn flush(store: &Store) {
    if let Err(error) = store.flush() {
        fatal::stop("the state database cannot be flushed", &error);
    }
}
