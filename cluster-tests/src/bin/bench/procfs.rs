//! Figures of the kernel about a process.

use std::time::Duration;

use anyhow::Context;

/// CPU time of all threads of a process so far, user and system.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field is the program's name in parentheses and may contain anything.
    let fields = stat.rsplit_once(')').context("no name in stat")?.1;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or_default()).sum();
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// Sum of [`cpu_time`] over processes.
pub(crate) fn cpu_time_of_all(pids: &[u32]) -> anyhow::Result<Duration> {
    pids.iter().map(|pid| cpu_time(*pid)).sum()
}

/// Resident memory now, and the highest it ever was, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<(u64, u64)> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
        let number = line.split_whitespace().nth(1).with_context(|| format!("no number in {line}"))?;
        number.parse::<u64>().with_context(|| format!("no number in {line}"))
    };
    Ok((kib("VmRSS:")? * 1024, kib("VmHWM:")? * 1024))
}

/// Bytes that a process caused to be written to storage.
pub(crate) fn written_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/io");
    let io = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes")?;
    line.trim().parse().context("write_bytes is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_has_used_memory_and_time() {
        let pid = std::process::id();
        let (now, highest) = resident_bytes(pid).unwrap();
        assert!(now > 0 && highest >= now);
        let before = cpu_time(pid).unwrap();
        let started = std::time::Instant::now();
        while started.elapsed() < Duration::from_millis(200) {
            std::hint::spin_loop();
        }
        assert!(cpu_time(pid).unwrap() > before);
        written_bytes(pid).unwrap();
    }
}
