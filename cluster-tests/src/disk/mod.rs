//! A disk under a node's data directory that does what disks do when the power fails, and worse.
//!
//! It is a file system of this process (FUSE). What was synced lies in files of a directory
//! outside; what was not is kept apart in memory, and a power cut drops it: writes without a sync
//! of their file, and creations, renames and removals without a sync of their directory. With a
//! seed it keeps some of that, as [`Left::Some`] says. That is less than a journalling file system
//! keeps (ext4 and XFS make the name of a new file durable with its first sync, and order
//! operations on names between directories), and what RocksDB asks of one.
//!
//! A power cut takes three steps: the disk goes off ([`Disk::power_off`]), and from that moment
//! nothing has an effect and who asks it waits; the processes that use it are killed; and
//! [`Disk::power_on`] mounts what is left. [`crate::power`] does this to nodes.
//!
//! `content` keeps the bytes of a file, `volume` files and names, `shared` power and faults, and
//! `fuse` speaks to the kernel.

mod content;
mod fuse;
mod shared;
mod volume;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use fuser::{BackgroundSession, Config, MountOption};
use rustix::mount::UnmountFlags;

use self::fuse::Mounted;
use self::shared::Shared;
pub use self::shared::{Counts, Fault};
use self::volume::Volume;
pub use self::volume::{Left, Lost};

/// Space of a new disk: more than any test fills.
const CAPACITY_BYTES: u64 = 64 << 30;

/// Threads that answer the kernel: a read need not wait until another request is done.
const THREADS: usize = 3;

/// A mounted disk. Dropped, it is unmounted; unless the test has passed, its files are left where
/// they were seen, for people.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Shared>,
    mount_point: PathBuf,
    /// `None` only while it is mounted anew.
    session: Option<BackgroundSession>,
    passed: bool,
}

impl Disk {
    /// Mounts an empty disk at `directory/disk`. Needs /dev/fuse, and root or the Debian package
    /// fuse3; the error says so.
    pub fn mount(directory: &Path) -> anyhow::Result<Self> {
        let (mount_point, backing) = (directory.join("disk"), directory.join("synced"));
        for path in [&mount_point, &backing] {
            std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        let shared = Arc::new(Shared::new(Volume::new(backing, CAPACITY_BYTES)));
        let session = Some(mount(&shared, &mount_point)?);
        Ok(Self { shared, mount_point, session, passed: false })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// The power fails: from now on nothing has an effect, and requests wait. Kill the processes
    /// that use the disk, [let go](Self::let_go), and wait for their end.
    pub fn power_off(&self) {
        self.shared.switch_off();
    }

    /// The power will fail by itself after so many more operations: changes of files and names, and
    /// syncs.
    pub fn power_off_after(&self, operations: u64) {
        self.shared.switch_off_after(operations);
    }

    /// Whether the power has failed.
    pub fn is_off(&self) -> bool {
        self.shared.is_off()
    }

    /// Requests that wait for a disk without power, and all later ones, fail: a killed process ends
    /// only when its requests have.
    pub fn let_go(&self) {
        self.shared.let_go();
    }

    /// The power is back: mounts what the cut has left, without any fault. No process may use the
    /// disk.
    pub fn power_on(&mut self, left: Left) -> anyhow::Result<Lost> {
        self.let_go();
        self.unmount()?;
        let lost = self.shared.volume().lose(left).context("cannot keep what is left")?;
        self.shared.set_faults(Vec::new());
        self.shared.switch_on();
        self.session = Some(mount(&self.shared, &self.mount_point)?);
        Ok(lost)
    }

    /// From now on the disk has these faults, and no others.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.shared.set_faults(faults);
    }

    /// From now on only so many bytes can be added.
    pub fn leave_free(&self, bytes: u64) {
        self.shared.volume().leave_free(bytes);
    }

    /// From now on there is space again.
    pub fn free_space(&self) {
        self.leave_free(CAPACITY_BYTES);
    }

    /// What it was asked for.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// The files are no longer needed.
    pub fn passed(&mut self) {
        self.passed = true;
    }

    fn unmount(&mut self) -> anyhow::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        // Lazy, because a process that is just being killed may still hold files open. Only root
        // may do it so; for others the session asks the helper of fuse3.
        let ended = match rustix::mount::unmount(&self.mount_point, UnmountFlags::DETACH) {
            Ok(()) => session.join(),
            Err(_) => session.umount_and_join(),
        };
        // What a session is told that waits for the next request of a mount which is gone.
        let ended = ended.or_else(|error| match error.kind() {
            io::ErrorKind::ConnectionAborted => Ok(()),
            _ => Err(error),
        });
        ended.with_context(|| format!("cannot unmount {}", self.mount_point.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.let_go();
        let unmounted = self.unmount();
        if self.passed {
            return;
        }
        let kept = unmounted.and_then(|()| Ok(self.shared.volume().copy_to(&self.mount_point)?));
        match kept {
            Ok(()) => eprintln!("files of the disk are kept in {}", self.mount_point.display()),
            Err(error) => eprintln!("files of the disk are lost: {error:#}"),
        }
    }
}

fn mount(shared: &Arc<Shared>, mount_point: &Path) -> anyhow::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("headwater-test".to_owned()), MountOption::NoAtime];
    config.n_threads = Some(THREADS);
    fuser::spawn_mount(Mounted::new(shared.clone()), mount_point, &config).with_context(|| {
        format!(
            "cannot mount a file system of this process at {}: that needs the device /dev/fuse (modprobe fuse; in a \
             container --device /dev/fuse --cap-add SYS_ADMIN), and root or the Debian package fuse3 (not fuse)",
            mount_point.display()
        )
    })
}
