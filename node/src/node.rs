//! Composition root: open stores, start raft, start listeners, ordered shutdown.
