//! A small file system in memory that a test can fill.

use std::ffi::CString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::mount::{MountFlags, UnmountFlags};

/// A size-limited tmpfs, unmounted and removed when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    mount_point: PathBuf,
    _root: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts a tmpfs of `bytes`. Needs root; the error says so.
    pub fn mount(bytes: u64) -> anyhow::Result<Self> {
        let root = tempfile::tempdir().context("cannot create a temporary directory")?;
        let mount_point = root.path().join("disk");
        std::fs::create_dir(&mount_point).context("cannot create the mount point")?;
        let size = CString::new(format!("size={bytes}")).context("not a size")?;
        rustix::mount::mount("headwater-test", &mount_point, "tmpfs", MountFlags::empty(), size.as_c_str())
            .context("mounting a tmpfs is not permitted here")?;
        Ok(Self { mount_point, _root: root })
    }

    /// The same for a test, which is skipped with a message where mounting is not permitted.
    pub fn mount_or_skip(bytes: u64) -> Option<Self> {
        // Not by `eprintln!`, whose lines are not shown when a test passes.
        let tell = |reason: &anyhow::Error| drop(writeln!(std::io::stderr(), "SKIPPED, needs root: {reason:#}"));
        Self::mount(bytes).inspect_err(tell).ok()
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Occupies `bytes` of the space; deleting the returned file frees them.
    pub fn ballast(&self, bytes: u64) -> anyhow::Result<PathBuf> {
        let path = self.mount_point.join("ballast");
        let file = std::fs::File::create(&path).context("cannot create the ballast file")?;
        std::io::copy(&mut std::io::Read::take(std::io::repeat(7), bytes), &mut &file)
            .context("cannot write the ballast file")?;
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy, because a process that is just being killed may still hold files open.
        if let Err(error) = rustix::mount::unmount(&self.mount_point, UnmountFlags::DETACH) {
            eprintln!("could not unmount {}: {error}", self.mount_point.display());
        }
    }
}
