//! What the handle of a disk and the threads that serve it share: the files, the power and the
//! faults.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::Errno;

use super::volume::Volume;

/// A way in which a disk fails a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A sync of a file whose path contains this reports success, and nothing is durable. The
    /// mount point itself has an empty path.
    SyncLies {
        /// Part of the path below the mount point.
        path: &'static str,
    },
    /// Syncs of files whose path contains this fail with EIO. As on Linux, the bytes of each are
    /// gone, and a later sync does not miss them.
    SyncFails {
        /// Part of the path below the mount point.
        path: &'static str,
        /// How many more fail; `None` means all.
        times: Option<u64>,
    },
    /// A sync takes so much longer, and covers what was written before it began.
    SyncTakes(Duration),
    /// Reads of files whose path contains this fail with EIO.
    ReadFails {
        /// Part of the path below the mount point.
        path: &'static str,
    },
}

/// What a disk was asked for since it was mounted first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes of files and names, and syncs.
    pub operations: u64,
    /// Syncs of files and directories.
    pub syncs: u64,
    /// Those of them that took longer by a [`Fault`].
    pub slow_syncs: u64,
    /// Requests that met a [`Fault`], or no space.
    pub failed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// Nothing has an effect any more, and who asks, waits.
    Off,
    /// Who asks, or has asked, gets an error.
    Gone,
}

#[derive(Debug)]
struct Supply {
    power: Power,
    /// Operations until the power fails by itself.
    operations_left: Option<u64>,
}

/// Whether a request changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Looks,
    Changes,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    volume: Mutex<Volume>,
    supply: Mutex<Supply>,
    supply_news: Condvar,
    faults: Mutex<Vec<Fault>>,
    /// How often the power came back.
    starts: AtomicU64,
    operations: AtomicU64,
    syncs: AtomicU64,
    slow_syncs: AtomicU64,
    failed: AtomicU64,
}

/// What becomes of a sync.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SyncFate {
    Works,
    Lies,
    Fails,
}

impl Shared {
    pub(super) fn new(volume: Volume) -> Self {
        Self {
            volume: Mutex::new(volume),
            supply: Mutex::new(Supply { power: Power::On, operations_left: None }),
            supply_news: Condvar::new(),
            faults: Mutex::default(),
            starts: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            slow_syncs: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// The files.
    pub(super) fn volume(&self) -> MutexGuard<'_, Volume> {
        lock(&self.volume)
    }

    /// Carries out a request, while there is power.
    pub(super) fn serve<T>(
        &self,
        request: Request,
        work: impl FnOnce(&mut Volume) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.wait_for_power(request)?;
        let result = work(&mut self.volume());
        if matches!(&result, Err(error) if i32::from(*error) == i32::from(Errno::ENOSPC)) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Returns while there is power; waits while it is off, and then fails.
    pub(super) fn wait_for_power(&self, request: Request) -> Result<(), Errno> {
        let mut supply = lock(&self.supply);
        if request == Request::Changes && supply.power == Power::On {
            self.operations.fetch_add(1, Ordering::Relaxed);
            match &mut supply.operations_left {
                Some(0) => supply.power = Power::Off,
                Some(left) => *left -= 1,
                None => {}
            }
        }
        // It ends with the handle of the disk, at the latest.
        while supply.power == Power::Off {
            supply = self.supply_news.wait(supply).unwrap_or_else(PoisonError::into_inner);
        }
        if supply.power == Power::On { Ok(()) } else { Err(Errno::EIO) }
    }

    pub(super) fn switch_off(&self) {
        lock(&self.supply).power = Power::Off;
    }

    pub(super) fn switch_off_after(&self, operations: u64) {
        lock(&self.supply).operations_left = Some(operations);
    }

    pub(super) fn is_off(&self) -> bool {
        lock(&self.supply).power != Power::On
    }

    pub(super) fn let_go(&self) {
        lock(&self.supply).power = Power::Gone;
        self.supply_news.notify_all();
    }

    pub(super) fn switch_on(&self) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        *lock(&self.supply) = Supply { power: Power::On, operations_left: None };
    }

    /// How often the power came back: what began before the last time must not end after it.
    pub(super) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    pub(super) fn set_faults(&self, faults: Vec<Fault>) {
        *lock(&self.faults) = faults;
    }

    pub(super) fn counts(&self) -> Counts {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            operations: value(&self.operations),
            syncs: value(&self.syncs),
            slow_syncs: value(&self.slow_syncs),
            failed: value(&self.failed),
        }
    }

    /// How much longer the sync takes that begins now.
    pub(super) fn sync_delay(&self) -> Duration {
        let delay = |fault: &Fault| if let Fault::SyncTakes(delay) = fault { Some(*delay) } else { None };
        let delay = lock(&self.faults).iter().find_map(delay).unwrap_or_default();
        self.slow_syncs.fetch_add(u64::from(!delay.is_zero()), Ordering::Relaxed);
        delay
    }

    /// What becomes of a sync of this node.
    pub(super) fn sync_fate(&self, volume: &Volume, node: u64) -> SyncFate {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        for fault in lock(&self.faults).iter_mut() {
            match fault {
                Fault::SyncLies { path } if contains(&volume.path(node), path) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    return SyncFate::Lies;
                }
                Fault::SyncFails { path, times } if *times != Some(0) && contains(&volume.path(node), path) => {
                    if let Some(left) = times {
                        *left -= 1;
                    }
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    return SyncFate::Fails;
                }
                _ => {}
            }
        }
        SyncFate::Works
    }

    /// Whether a read of this node fails.
    pub(super) fn read_fails(&self, volume: &Volume, node: u64) -> bool {
        let fails = lock(&self.faults).iter().any(|fault| match fault {
            Fault::ReadFails { path } => contains(&volume.path(node), path),
            _ => false,
        });
        self.failed.fetch_add(u64::from(fails), Ordering::Relaxed);
        fails
    }
}

fn contains(path: &Path, part: &str) -> bool {
    path.to_string_lossy().contains(part)
}

/// A thread that panicked has failed its test; what it left is looked at all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::super::volume::ROOT;
    use super::*;

    fn shared() -> (tempfile::TempDir, Shared) {
        let directory = tempfile::tempdir().unwrap();
        let shared = Shared::new(Volume::new(directory.path().to_owned(), 100));
        (directory, shared)
    }

    #[test]
    fn the_power_fails_at_an_operation_and_who_waits_is_let_go() {
        let (_directory, shared) = shared();
        shared.switch_off_after(1);
        let create = |name| shared.serve(Request::Changes, |volume| volume.create(ROOT, OsStr::new(name), 0o600));
        create("a").unwrap();
        shared.serve(Request::Looks, |_| Ok(())).unwrap();
        assert!(!shared.is_off());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| create("b"));
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            while !shared.is_off() {
                assert!(std::time::Instant::now() < deadline, "the power is still on");
                std::thread::yield_now();
            }
            assert!(!waiting.is_finished());
            shared.let_go();
            assert!(waiting.join().unwrap().is_err());
        });
        shared.switch_on();
        assert_eq!(shared.volume().list(ROOT).unwrap().len(), 1, "what waited had no effect");
        create("c").unwrap();
        assert_eq!(shared.counts().operations, 3);
    }

    #[test]
    fn a_sync_fails_where_and_as_often_as_it_was_said() {
        let (_directory, shared) = shared();
        let mut volume = shared.volume();
        let [log, other] = ["a.log", "other"].map(|name| volume.create(ROOT, OsStr::new(name), 0o600).unwrap());
        let fate = |node| shared.sync_fate(&volume, node);
        shared.set_faults(vec![Fault::SyncFails { path: ".log", times: Some(1) }]);
        assert_eq!([fate(other), fate(log), fate(log)], [SyncFate::Works, SyncFate::Fails, SyncFate::Works]);
        shared.set_faults(vec![Fault::SyncFails { path: ".log", times: None }]);
        assert_eq!([fate(log), fate(log)], [SyncFate::Fails, SyncFate::Fails]);
        shared.set_faults(vec![Fault::SyncLies { path: "" }]);
        assert_eq!([fate(log), fate(ROOT)], [SyncFate::Lies, SyncFate::Lies]);
        shared.set_faults(vec![Fault::ReadFails { path: ".log" }]);
        assert!(shared.read_fails(&volume, log) && !shared.read_fails(&volume, other));
        assert_eq!((shared.counts().failed, fate(log)), (6, SyncFate::Works));
    }
}
