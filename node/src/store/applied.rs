//! How far this node has applied the log, and waiting for it: reads with a minimum position,
//! forwarded writes, long polls.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};

use crate::event::Position;

/// Streams share this many slots for waiting. More would cost memory, fewer would wake more waiters
/// without need.
const STREAM_SLOTS: usize = 1024;

/// A point in the history that this node has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Applied {
    /// Number of log entries applied (= index of the last one + 1; 0 when none).
    pub(crate) log_entries: u64,
    /// Number of events applied = position of the next event.
    pub(crate) next_position: Position,
}

/// Published by the apply thread after each chunk is visible to readers.
#[derive(Debug)]
pub(crate) struct AppliedWatch {
    current: RwLock<Applied>,
    log_waiters: PointWaiters,
    position_waiters: PointWaiters,
    /// One per hash of stream names, and one at the end for the log of all events.
    slots: Arc<[StreamSlot]>,
    hasher: RandomState,
}

impl AppliedWatch {
    pub(super) fn new(applied: Applied) -> Self {
        Self {
            current: RwLock::new(applied),
            log_waiters: PointWaiters::default(),
            position_waiters: PointWaiters::default(),
            slots: (0..=STREAM_SLOTS).map(|_| StreamSlot::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The newest applied point.
    pub(crate) fn current(&self) -> Applied {
        *self.current.read()
    }

    /// Returns once the log entry `index` is applied. Cancel-safe; waits without a deadline, which
    /// callers bring.
    pub(crate) async fn wait_for_log_index(&self, index: u64) {
        self.log_waiters.wait(index, || self.current().log_entries > index).await;
    }

    /// Returns once the event at `position` is applied. Cancel-safe; waits without a deadline.
    pub(crate) async fn wait_for_position(&self, position: Position) {
        self.position_waiters.wait(position, || self.current().next_position > position).await;
    }

    /// A wait for the next change of one stream. Take it **before** reading the stream, then await
    /// [`StreamChange::changed`]; it may wake early (another stream of the same slot), never late.
    pub(crate) fn watch_stream(&self, stream: &str) -> StreamChange {
        self.watch_slot(self.slot_of(stream))
    }

    /// The same for the log of all events.
    pub(crate) fn watch_all(&self) -> StreamChange {
        self.watch_slot(STREAM_SLOTS)
    }

    /// Publishes a new point. Its events must already be visible to readers.
    pub(super) fn publish<'a>(&self, applied: Applied, changed_streams: impl Iterator<Item = &'a str>) {
        let before = std::mem::replace(&mut *self.current.write(), applied);
        self.log_waiters.wake_below(applied.log_entries);
        self.position_waiters.wake_below(applied.next_position);
        for stream in changed_streams {
            self.slots[self.slot_of(stream)].bump();
        }
        if applied.next_position != before.next_position {
            self.slots[STREAM_SLOTS].bump();
        }
    }

    /// Publishes a new point after which any stream may have changed.
    pub(super) fn publish_everything_changed(&self, applied: Applied) {
        self.publish(applied, std::iter::empty());
        self.slots.iter().for_each(StreamSlot::bump);
    }

    fn slot_of(&self, stream: &str) -> usize {
        self.hasher.hash_one(stream) as usize % STREAM_SLOTS
    }

    fn watch_slot(&self, slot: usize) -> StreamChange {
        let seen = self.slots[slot].version.load(Ordering::SeqCst);
        StreamChange { slots: self.slots.clone(), slot, seen }
    }
}

/// A pending change, see [`AppliedWatch::watch_stream`].
#[derive(Debug)]
pub(crate) struct StreamChange {
    slots: Arc<[StreamSlot]>,
    slot: usize,
    /// Version of the slot when this value was taken or last returned.
    seen: u64,
}

impl StreamChange {
    /// Returns after the next change since this value was taken or last returned. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        let slot = &self.slots[self.slot];
        loop {
            let mut notified = std::pin::pin!(slot.notify.notified());
            // Registered before the version is read, so a change in between is not missed.
            notified.as_mut().enable();
            let version = slot.version.load(Ordering::SeqCst);
            if version != self.seen {
                self.seen = version;
                return;
            }
            notified.await;
        }
    }
}

#[derive(Debug, Default)]
struct StreamSlot {
    version: AtomicU64,
    notify: Notify,
}

impl StreamSlot {
    fn bump(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.notify.notify_waiters();
    }
}

/// Waiters in order of their targets: a new point wakes those that it satisfies and no others.
#[derive(Debug, Default)]
struct PointWaiters {
    /// By target, then by ticket.
    waiting: Mutex<BTreeMap<(u64, u64), oneshot::Sender<()>>>,
    /// Number of entries in `waiting`, so that publishing without waiters takes no lock.
    count: AtomicUsize,
    next_ticket: AtomicU64,
}

impl PointWaiters {
    async fn wait(&self, target: u64, is_reached: impl Fn() -> bool) {
        if is_reached() {
            return;
        }
        let key = (target, self.next_ticket.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            waiting.insert(key, sender);
            self.count.store(waiting.len(), Ordering::SeqCst);
        }
        // Removes the entry even when the caller gives up.
        let _registered = Registered { waiters: self, key };
        // A publication between the first check and the registration woke no waiter. The fence
        // pairs with the one in `wake_below`: either the publication sees this entry, or this check
        // sees the publication.
        fence(Ordering::SeqCst);
        if is_reached() {
            return;
        }
        // Only the thread that removes the sender to use it drops it.
        let _ = receiver.await;
    }

    fn wake_below(&self, end: u64) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut waiting = self.waiting.lock();
        let later = waiting.split_off(&(end, 0));
        let reached = std::mem::replace(&mut *waiting, later);
        self.count.store(waiting.len(), Ordering::SeqCst);
        drop(waiting);
        for (_, sender) in reached {
            let _ = sender.send(());
        }
    }
}

struct Registered<'a> {
    waiters: &'a PointWaiters,
    key: (u64, u64),
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.waiting.lock();
        waiting.remove(&self.key);
        self.waiters.count.store(waiting.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn at(n: u64) -> Applied {
        Applied { log_entries: n, next_position: n }
    }

    #[tokio::test]
    async fn a_wait_ends_exactly_when_its_target_is_applied() {
        let watch = AppliedWatch::new(at(3));
        assert!(watch.wait_for_log_index(2).now_or_never().is_some());
        let mut five = Box::pin(watch.wait_for_log_index(5));
        let mut position = Box::pin(watch.wait_for_position(6));
        assert!((&mut five).now_or_never().is_none());
        assert!((&mut position).now_or_never().is_none());
        watch.publish(at(5), std::iter::empty());
        assert!((&mut five).now_or_never().is_none());
        watch.publish(at(6), std::iter::empty());
        assert!((&mut five).now_or_never().is_some());
        assert!((&mut position).now_or_never().is_none());
        watch.publish(at(7), std::iter::empty());
        assert!((&mut position).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_cancelled_wait_leaves_nothing_behind() {
        let watch = AppliedWatch::new(at(0));
        {
            let mut wait = Box::pin(watch.wait_for_position(9));
            assert!((&mut wait).now_or_never().is_none());
            assert_eq!(watch.position_waiters.count.load(Ordering::SeqCst), 1);
        }
        assert_eq!(watch.position_waiters.count.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_change_between_taking_and_awaiting_is_not_missed() {
        let watch = AppliedWatch::new(at(0));
        let mut stream = watch.watch_stream("s");
        let mut all = watch.watch_all();
        assert!(stream.changed().now_or_never().is_none());
        watch.publish(at(1), std::iter::once("s"));
        assert!(stream.changed().now_or_never().is_some());
        assert!(all.changed().now_or_never().is_some());
        assert!(stream.changed().now_or_never().is_none());
        watch.publish_everything_changed(at(2));
        assert!(stream.changed().now_or_never().is_some());
    }
}
