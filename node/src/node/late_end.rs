//! The end of a process whose parts do not stop in time.

use std::time::Duration;

use crate::fatal;

/// Ends the process when it has not ended by itself in time. It runs on a thread, which waits
/// neither for other threads nor for the disk.
#[expect(clippy::disallowed_methods, reason = "on a thread of its own")]
pub(super) fn leave_after(deadline: Duration) {
    let watch = std::thread::Builder::new().name("stop-deadline".to_owned()).spawn(move || {
        std::thread::sleep(deadline);
        leave_unfinished("not stopped in time");
    });
    if let Err(error) = watch {
        tracing::warn!(%error, "a thread to end a slow shutdown cannot be started");
    }
}

/// Acknowledged writes are in the log on disk, and the next start recovers from there, as after a
/// crash.
pub(super) fn leave_unfinished(why: &str) -> ! {
    fatal::tell(&format!(
        "{why}: the process ends before all parts have stopped in order; no acknowledged write is lost"
    ));
    fatal::leave(fatal::EXIT_REFUSED)
}
