//! What surrounds a simulated node: the duration of its syncs, its disk, its random numbers.
//!
//! A simulation owns its thread, and sets the surroundings of a node before it lets that node run.
//! On all other threads there are none, and nodes run as they do in production.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// The surroundings of one node.
pub(crate) trait Surroundings {
    /// How long the next sync of the log takes.
    fn sync_takes(&self) -> Duration;
    /// How long the next chunk takes to be applied.
    fn apply_takes(&self) -> Duration;
    /// Whether the node's own log is durable up to this index (exclusive).
    fn is_durable(&self, end: u64) -> bool;
    /// The log in this directory was synced.
    fn synced(&self, log: &Path);
    /// A random number.
    fn random(&self) -> u64;
    /// The node ends itself.
    fn failed(&self, why: String);
}

thread_local! {
    static HERE: RefCell<Option<Rc<dyn Surroundings>>> = const { RefCell::new(None) };
}

/// Ends with the turn of the node.
pub(crate) struct Turn {
    before: Option<Rc<dyn Surroundings>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // What is dropped here may ask for its surroundings.
        drop(HERE.replace(self.before.take()));
    }
}

/// What this thread does from here on, it does as the node with these surroundings.
pub(crate) fn enter(surroundings: Rc<dyn Surroundings>) -> Turn {
    Turn { before: HERE.replace(Some(surroundings)) }
}

/// The surroundings of the node whose turn it is; `None` outside simulations.
pub(crate) fn here() -> Option<Rc<dyn Surroundings>> {
    HERE.with_borrow(Clone::clone)
}

/// Whether this thread runs a simulated node.
pub(crate) fn is_on() -> bool {
    HERE.with_borrow(Option::is_some)
}

/// Waits as long as a simulated sync takes.
pub(crate) async fn sync_pause() {
    pause(here().map(|here| here.sync_takes())).await;
}

/// Waits as long as a simulated chunk takes, and until the node's own log is durable so far.
pub(crate) async fn apply_pause(end: u64) {
    pause(here().map(|here| here.apply_takes())).await;
    while here().is_some_and(|here| !here.is_durable(end)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn pause(duration: Option<Duration>) {
    if let Some(duration) = duration.filter(|duration| !duration.is_zero()) {
        tokio::time::sleep(duration).await;
    }
}

/// Tells a simulation that the log was synced.
pub(crate) fn synced(log: &Path) {
    if let Some(here) = here() {
        here.synced(log);
    }
}

/// Where a process would end, a simulated node panics, and the simulation knows why.
pub(crate) fn fail(why: &dyn std::fmt::Display) {
    if let Some(here) = here() {
        let why = why.to_string();
        here.failed(why.clone());
        panic!("{why}");
    }
}
