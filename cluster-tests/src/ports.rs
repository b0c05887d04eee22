//! TCP ports on loopback that belong to one test for as long as it lives.
//!
//! Taking port 0 from the kernel and releasing it would be a race: a node that is killed and
//! restarted must get the same port again, and meanwhile any outgoing connection of the machine may
//! take it. So ports come from below the kernel's ephemeral range, and a lock on a file named after
//! the port keeps other test processes away.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::ops::Range;

use anyhow::Context;

/// Below `net.ipv4.ip_local_port_range` (32768 on Linux), so that no outgoing connection ever gets
/// one of these ports.
const RANGE: Range<u16> = 15_000..32_000;

/// A port that no other user of this module takes while this value lives.
#[derive(Debug)]
pub struct ReservedPort {
    /// The number.
    port: u16,
    /// Holds the lock. The kernel releases it when the file is closed, even when this process is
    /// killed.
    _lock: File,
}

impl ReservedPort {
    /// Reserves a port on which nothing listens at this moment.
    pub fn any() -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join("headwater-test-ports");
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let first = rand::random_range(RANGE);
        for port in (first..RANGE.end).chain(RANGE.start..first) {
            let path = directory.join(port.to_string());
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            if lock.try_lock().is_err() {
                continue;
            }
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(Self { port, _lock: lock });
            }
        }
        anyhow::bail!("no free port between {} and {}", RANGE.start, RANGE.end)
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_twice() {
        let held: Vec<ReservedPort> = (0..50).map(|_| ReservedPort::any().unwrap()).collect();
        let mut numbers: Vec<u16> = held.iter().map(ReservedPort::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), held.len());
    }
}
