//! What a process uses, as the kernel counts it.

use std::time::Duration;

use anyhow::Context;
use procfs::process::Process;

fn process(pid: u32) -> anyhow::Result<Process> {
    Process::new(i32::try_from(pid)?).with_context(|| format!("process {pid} does not exist"))
}

/// CPU time of all threads of a process so far, user and system.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = process(pid)?.stat().with_context(|| format!("cannot read the times of process {pid}"))?;
    Ok(Duration::from_nanos((stat.utime + stat.stime) * 1_000_000_000 / procfs::ticks_per_second()))
}

/// Sum of [`cpu_time`] over processes.
pub fn cpu_time_of_all(pids: &[u32]) -> anyhow::Result<Duration> {
    pids.iter().map(|pid| cpu_time(*pid)).sum()
}

/// Resident memory now, and the highest it ever was, in bytes.
pub fn resident_bytes(pid: u32) -> anyhow::Result<(u64, u64)> {
    let status = process(pid)?.status().with_context(|| format!("cannot read the memory of process {pid}"))?;
    let (now, highest) = status.vmrss.zip(status.vmhwm).context("the kernel does not report resident memory")?;
    Ok((now * 1024, highest * 1024))
}

/// From now on the highest is what is resident now.
pub fn forget_highest_resident(pid: u32) -> anyhow::Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset the peak of memory")
}

/// Bytes that a process caused to be written to storage.
pub fn written_bytes(pid: u32) -> anyhow::Result<u64> {
    Ok(process(pid)?.io().with_context(|| format!("cannot read the IO of process {pid}"))?.write_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_has_used_memory_and_time() {
        let pid = std::process::id();
        let (now, highest) = resident_bytes(pid).unwrap();
        assert!(now > 0 && highest >= now);
        forget_highest_resident(pid).unwrap();
        let before = cpu_time(pid).unwrap();
        let started = std::time::Instant::now();
        while started.elapsed() < Duration::from_millis(200) {
            std::hint::spin_loop();
        }
        assert!(cpu_time(pid).unwrap() > before);
        written_bytes(pid).unwrap();
    }
}
