//! Group commit: one thread syncs everything written so far, for all callers that wait.
//!
//! There is no timer. While one sync runs, callers gather; the next sync serves them all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::disk::Disk;
use super::durable_mark::{Durable, DurableMark};
use super::{OnDurable, SyncObserver, SyncReport};
use crate::deliberate::{self, Fault};
use crate::fatal;
#[cfg(test)]
use crate::threads;

/// Callers that may wait for a sync. Further callers block until the disk has caught up: a disk
/// this far behind must slow the node down instead of filling its memory.
const MAX_WAITING: usize = 16 * 1024;
/// After waiting this long for the disk, the apply thread logs it and goes on waiting: it must not
/// apply entries that are not durable, and a failed sync ends the process.
const SLOW_SYNC: Duration = Duration::from_secs(10);

/// Who runs the syncs.
pub(super) enum Syncs {
    /// A thread of their own.
    OnThread(JoinHandle<()>),
    /// A task of a simulated node.
    #[cfg(test)]
    Simulated,
}

/// The work that waits for the next sync.
#[derive(Default)]
struct Waiting {
    callbacks: Vec<OnDurable>,
    /// Bytes of entries written since the last sync was started.
    bytes: u64,
    /// Files below this index may be removed once the new beginning of the log is durable.
    drop_files_before: Option<u64>,
    /// No thread will take further work.
    closed: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.callbacks.is_empty() && self.drop_files_before.is_none()
    }
}

/// The mark on disk and its content.
struct Marked {
    file: DurableMark,
    value: Durable,
}

/// Shared by the writer, the sync thread and the waiting callers.
pub(super) struct GroupCommit {
    disk: Disk,
    /// Index after the last entry written.
    written_end: AtomicU64,
    /// Index after the last durable entry. Changed under `durable_lock`, so that no waiting thread
    /// misses a change.
    durable_end: AtomicU64,
    durable_lock: Mutex<()>,
    durable_news: Condvar,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// The same for the task of a simulated node.
    #[cfg(test)]
    arrived_simulated: tokio::sync::Notify,
    taken: Condvar,
    /// Held during a sync and during a truncation: a sync must not publish an end that a truncation
    /// has revoked.
    marked: Mutex<Marked>,
    observer: SyncObserver,
}

impl GroupCommit {
    /// Takes over an open log whose entries before `end` are durable, and starts the sync thread.
    pub(super) fn start(
        disk: Disk,
        file: DurableMark,
        end: u64,
        observer: SyncObserver,
    ) -> std::io::Result<(Arc<Self>, Syncs)> {
        let value = Durable { end, sequence: disk.sequence() };
        let group = Arc::new(Self {
            disk,
            written_end: AtomicU64::new(end),
            durable_end: AtomicU64::new(end),
            durable_lock: Mutex::new(()),
            durable_news: Condvar::new(),
            waiting: Mutex::new(Waiting::default()),
            arrived: Condvar::new(),
            #[cfg(test)]
            arrived_simulated: tokio::sync::Notify::new(),
            taken: Condvar::new(),
            marked: Mutex::new(Marked { file, value }),
            observer,
        });
        #[cfg(test)]
        if threads::simulated::is_on() {
            tokio::spawn(Arc::clone(&group).run_simulated());
            return Ok((group, Syncs::Simulated));
        }
        let thread = {
            let group = Arc::clone(&group);
            std::thread::Builder::new().name("log-sync".to_owned()).spawn(move || group.run())?
        };
        Ok((group, Syncs::OnThread(thread)))
    }

    /// The underlying database.
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Records that the log now ends before `end`; `bytes` were written, and `callback` waits for
    /// their sync.
    pub(super) fn written(&self, end: u64, bytes: u64, callback: OnDurable) {
        self.written_end.store(end, Ordering::Release);
        self.enqueue(|waiting| {
            waiting.bytes += bytes;
            waiting.callbacks.push(callback);
        });
    }

    /// Runs `callback` after the sync of everything written so far.
    pub(super) fn after_sync(&self, callback: OnDurable) {
        self.enqueue(|waiting| waiting.callbacks.push(callback));
    }

    /// Records that the log now begins at `first` and may end later than before (`end`).
    pub(super) fn purged(&self, first: u64, end: u64) {
        self.written_end.store(end, Ordering::Release);
        self.enqueue(|waiting| waiting.drop_files_before = Some(first));
    }

    /// Removes the entries from `index` on by calling `delete`. The mark is lowered first, so a
    /// crash in between leaves a log that is longer than the mark, never shorter. Durable on
    /// return.
    pub(super) fn truncate(&self, index: u64, delete: impl FnOnce()) {
        let mut marked = self.marked.lock();
        if marked.value.end > index {
            marked.value.end = index;
            let lowered = marked.value;
            or_stop(marked.file.record_synced(lowered), &marked.file);
        }
        self.written_end.store(index, Ordering::Release);
        delete();
        self.sync_now(&mut marked);
    }

    /// Index after the last durable entry.
    pub(super) fn durable_end(&self) -> u64 {
        self.durable_end.load(Ordering::Acquire)
    }

    /// Blocks until every entry before `end` is durable.
    pub(super) fn wait_durable(&self, end: u64) {
        if self.durable_end() >= end {
            return;
        }
        let mut guard = self.durable_lock.lock();
        while self.durable_end() < end {
            if self.durable_news.wait_for(&mut guard, SLOW_SYNC).timed_out() {
                let durable = self.durable_end();
                tracing::warn!(durable, wanted = end, "the disk has not synced the log for {SLOW_SYNC:?}");
            }
        }
    }

    /// Lets the sync thread finish the waiting work and end. Later callers sync by themselves.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake();
        self.taken.notify_all();
    }

    fn enqueue(&self, add: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock();
        // This wait needs no deadline: it ends with the current sync, or with the process.
        while waiting.callbacks.len() >= MAX_WAITING && !waiting.closed {
            self.taken.wait(&mut waiting);
        }
        add(&mut waiting);
        if waiting.closed {
            let batch = take(&mut waiting);
            drop(waiting);
            self.commit(batch);
            return;
        }
        drop(waiting);
        self.wake();
    }

    fn wake(&self) {
        self.arrived.notify_one();
        #[cfg(test)]
        self.arrived_simulated.notify_one();
    }

    fn run(&self) {
        loop {
            let patience = self.marked.lock().file.sync_is_due_in();
            let batch = self.next_batch(patience);
            if !batch.is_empty() {
                self.commit(batch);
                continue;
            }
            self.sync_mark();
            if batch.closed {
                return;
            }
        }
    }

    /// The loop of a simulated node, as a task.
    #[cfg(test)]
    async fn run_simulated(self: Arc<Self>) {
        loop {
            self.arrived_simulated.notified().await;
            threads::simulated::sync_pause().await;
            if self.finish() {
                return;
            }
        }
    }

    /// Syncs what waits, in place; true when no more will come.
    #[cfg(test)]
    pub(super) fn finish(&self) -> bool {
        let batch = take(&mut self.waiting.lock());
        let closed = batch.closed;
        if !batch.is_empty() {
            self.commit(batch);
        }
        closed
    }

    /// The waiting work; nothing when none arrived within `patience`, or when no more will arrive.
    fn next_batch(&self, patience: Option<Duration>) -> Waiting {
        let mut waiting = self.waiting.lock();
        while waiting.is_empty() && !waiting.closed {
            match patience {
                None => self.arrived.wait(&mut waiting),
                Some(patience) if self.arrived.wait_for(&mut waiting, patience).timed_out() => break,
                Some(_) => {}
            }
        }
        let batch = take(&mut waiting);
        drop(waiting);
        self.taken.notify_all();
        batch
    }

    /// Syncs once, then completes the batch in order.
    fn commit(&self, mut batch: Waiting) {
        let started = Instant::now();
        if deliberate::is(Fault::AckBeforeSync) {
            self.publish(self.written_end.load(Ordering::Acquire));
            batch.callbacks.drain(..).for_each(|callback| callback());
        }
        if deliberate::is(Fault::AckBeforeSync) || deliberate::is_armed(Fault::FollowerAckBeforeSync) {
            deliberate::dawdle();
        }
        self.sync_now(&mut self.marked.lock());
        let report = SyncReport { duration: started.elapsed(), callers: batch.callbacks.len(), bytes: batch.bytes };
        for callback in batch.callbacks {
            callback();
        }
        if let Some(end) = batch.drop_files_before {
            self.disk.drop_files_before(end);
        }
        (self.observer)(&report);
    }

    /// The mark is synced a limited time after it was written: with one of the next syncs, or here
    /// when there is none.
    fn sync_mark(&self) {
        let file = &mut self.marked.lock().file;
        if file.sync_is_due_in().is_some() {
            or_stop(file.sync(), file);
        }
    }

    fn sync_now(&self, marked: &mut Marked) {
        // Both are read before the sync, which may or may not cover later writes.
        let durable = Durable { end: self.written_end.load(Ordering::Acquire), sequence: self.disk.sequence() };
        self.disk.sync();
        // Before any caller learns of it, so that the mark never lags behind what was acknowledged.
        or_stop(marked.file.record(durable), &marked.file);
        marked.value = durable;
        self.publish(durable.end);
    }

    /// Tells who waits for it that the log is durable up to `end`.
    fn publish(&self, end: u64) {
        let _guard = self.durable_lock.lock();
        self.durable_end.store(end, Ordering::Release);
        self.durable_news.notify_all();
    }
}

fn take(waiting: &mut Waiting) -> Waiting {
    let closed = waiting.closed;
    std::mem::replace(waiting, Waiting { closed, ..Waiting::default() })
}

fn or_stop(result: std::io::Result<()>, file: &DurableMark) {
    if let Err(error) = result {
        fatal::stop(&format!("writing {}", file.path().display()), &error);
    }
}
