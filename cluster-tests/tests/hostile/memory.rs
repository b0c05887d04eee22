//! The memory of a process, as the kernel counts it.

use anyhow::Context;

/// The memory of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pid: u32,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// Resident bytes now.
    pub(crate) fn resident(self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most that was resident since [`Self::forget_peak`].
    pub(crate) fn peak(self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    /// The peak is what is resident now.
    pub(crate) fn forget_peak(self) -> anyhow::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5").context("cannot reset the peak of memory")
    }

    fn status(self, name: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).context("no such process")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("not a number")?;
        Ok(kib << 10)
    }
}

/// Bytes as people read them.
pub(crate) fn mib(bytes: u64) -> u64 {
    bytes >> 20
}
