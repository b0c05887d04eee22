//! The end of a node that may no longer serve: a failed write or sync, or damaged files.

/// Exit code of a process that stopped because its disk failed it.
pub const EXIT_STORAGE: i32 = 74; // EX_IOERR of sysexits.h

/// Logs `what` failed and why, and ends the process at once.
///
/// Nothing is flushed, closed or retried on the way out: after a failed fsync the kernel may have
/// dropped the dirty pages, so whatever this process believes about its files may be wrong.
/// What was acknowledged is in the log on disk; the next start recovers from there.
pub fn stop(what: &str, error: &dyn std::fmt::Display) -> ! {
    tracing::error!(%error, "fatal: {what}; the node stops now and must be started again once the cause is removed");
    eprintln!("headwater: fatal: {what}: {error}");
    // SAFETY: `_exit` has no preconditions. `std::process::exit` would run destructors of RocksDB's
    // statics while its threads still work.
    unsafe { libc::_exit(EXIT_STORAGE) }
}
