//! Starting nodes for tests and talking to them: nodes inside the test program ([`nodes`]), and the
//! built binary as a process ([`process`]).

#![allow(dead_code, reason = "each test program uses its part of this room")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]

pub(crate) mod client;
pub(crate) mod nodes;
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod secrets;

use std::time::{Duration, Instant};

/// How long a node or a cluster may take for anything, on a machine that builds something else
/// meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);

/// Waits until the condition holds; a test fails when it does not within [`PATIENCE`].
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// The same for tests that run on threads.
pub(crate) fn block_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(POLL);
    }
}
