//! The stages of this process that readiness depends on.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Each stage is reached once, in this order, and never left; a rival may come and go.
#[derive(Default)]
pub(super) struct Lifecycle {
    /// This node has caught up with everything it had acknowledged before it was started.
    recovered: AtomicBool,
    /// There are users; without them no caller can log in.
    users_exist: AtomicBool,
    /// An ordered shutdown has begun: clients should go elsewhere, and are served until the port
    /// for them is closed.
    stopping: AtomicBool,
    /// Another cluster wants to be this one, see [`Self::set_rival`].
    rival: Mutex<Option<String>>,
    /// Whether it is set: every request asks.
    has_rival: AtomicBool,
    /// Why this node is not part of a cluster yet, see [`Self::set_formation`].
    formation: Mutex<Option<String>>,
}

impl Lifecycle {
    /// The node has recovered.
    pub(super) fn set_recovered(&self) {
        self.recovered.store(true, Ordering::Release);
    }

    /// Whether [`Self::set_recovered`] was called.
    pub(super) fn has_recovered(&self) -> bool {
        self.recovered.load(Ordering::Acquire)
    }

    /// There are users.
    pub(super) fn set_users_exist(&self) {
        self.users_exist.store(true, Ordering::Release);
    }

    /// Whether [`Self::set_users_exist`] was called.
    pub(super) fn users_exist(&self) -> bool {
        self.users_exist.load(Ordering::Acquire)
    }

    /// An ordered shutdown has begun.
    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::set_stopping`] was called.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// A listed server holds the data of another cluster although this one was restored for it, or
    /// not any more: of two clusters that clients of one list would write to, neither may serve.
    /// The same where this disk was restored for a list and the cluster has not begun.
    pub(super) fn set_rival(&self, rival: Option<String>) {
        self.has_rival.store(rival.is_some(), Ordering::Release);
        *self.rival.lock() = rival;
    }

    /// What [`Self::set_rival`] was told, a sentence.
    pub(super) fn rival(&self) -> Option<String> {
        self.rival.lock().clone()
    }

    /// Why this node is not part of a cluster yet, a sentence; `None` once it is.
    pub(super) fn set_formation(&self, waits: Option<String>) {
        *self.formation.lock() = waits;
    }

    /// What [`Self::set_formation`] was told.
    pub(super) fn formation(&self) -> Option<String> {
        self.formation.lock().clone()
    }

    /// Whether there is a rival.
    pub(super) fn has_rival(&self) -> bool {
        self.has_rival.load(Ordering::Acquire)
    }
}
