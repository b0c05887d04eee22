//! Threads that everybody waits for get the processor first, and those that nobody waits for the
//! smallest share.
//!
//! The log's sync thread needs little time, a few hundredths of what the workers need, but while it
//! stands in line behind them for a slice of theirs nothing is committed, and when it is done with
//! waiting the workers have nothing left to do. The same holds for the apply thread.

use std::io;

/// Time after which the kernel may let another thread go on. It is the other side of being let in
/// early: since Linux 6.12 a thread that asks for short slices goes before those with long ones,
/// which needs no privilege. Older kernels ignore it.
const SLICE_NS: u64 = 100_000;

/// Nice value that root, or who may use it, gets: on older kernels it does the same.
const NICE: i32 = -10;

/// `SCHED_FLAG_RESET_ON_FORK`: threads that such a thread starts, RocksDB's for flushes and
/// compactions perhaps, are ordinary ones.
const NOT_INHERITED: u64 = 1;

/// `struct sched_attr` of sched_setattr(2), first version.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Lets the calling thread run as soon as it has something to do, as far as this system allows.
pub(crate) fn run_promptly() {
    let own = own_nice();
    if let Err(error) = set(own.min(NICE)).or_else(|_| set(own)) {
        tracing::debug!(%error, "the kernel was not told which threads are urgent");
    }
}

/// Lets the calling thread have the smallest share of the processor when others want it. Every
/// thread may ask for that.
pub(crate) fn run_last() {
    // SAFETY: it changes a number of the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) } != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "the kernel was not told which threads can wait");
    }
}

fn own_nice() -> i32 {
    // SAFETY: it reads a number of the calling thread.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

fn set(nice: i32) -> io::Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: NOT_INHERITED,
        nice,
        priority: 0,
        runtime_ns: SLICE_NS,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: the kernel reads `size` bytes from the pointer, which stays valid for the call; 0 is
    // the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_always_ask_to_run_promptly() {
        std::thread::spawn(|| set(own_nice())).join().unwrap().unwrap();
    }

    #[test]
    fn a_thread_started_by_an_urgent_one_is_not_urgent() {
        let before = own_nice();
        let urgent = || {
            run_promptly();
            std::thread::spawn(own_nice).join().unwrap()
        };
        let started = std::thread::spawn(urgent).join().unwrap();
        // The kernel sets what was below zero to zero.
        assert!(started >= before.max(0), "{started}");
    }
}
