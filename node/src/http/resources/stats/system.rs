//! What the system knows of this process and this machine: files under /proc and the file system of
//! the data.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use procfs::{Current, CurrentSI, ProcError};

use crate::files::Space;

/// This process.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Seconds of processor time used, by all threads.
    pub(crate) cpu_seconds: f64,
    /// Threads at the moment.
    pub(crate) threads: u64,
    /// Memory in use that is not swapped out.
    pub(crate) resident_bytes: u64,
    /// Bytes read from disks.
    pub(crate) read_bytes: u64,
    /// Bytes written to disks.
    pub(crate) written_bytes: u64,
    /// System calls that read: files, sockets and all.
    pub(crate) reads: u64,
    /// System calls that wrote.
    pub(crate) writes: u64,
}

impl Process {
    /// The figures at this moment.
    pub(super) fn now() -> io::Result<Self> {
        let process = procfs::process::Process::myself().map_err(unreadable)?;
        let stat = process.stat().map_err(unreadable)?;
        let status = process.status().map_err(unreadable)?;
        // A hardened system may forbid this file: its figures are 0 then.
        let io = process.io().ok();
        let figure = |read: fn(&procfs::process::Io) -> u64| io.as_ref().map_or(0, read);
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            threads: u64::try_from(stat.num_threads).unwrap_or(0),
            resident_bytes: status.vmrss.unwrap_or(0) * 1024,
            read_bytes: figure(|io| io.read_bytes),
            written_bytes: figure(|io| io.write_bytes),
            reads: figure(|io| io.syscr),
            writes: figure(|io| io.syscw),
        })
    }
}

/// This machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Processor time since boot that was spent on work, in seconds, all cores together.
    pub(crate) busy_seconds: f64,
    /// All processor time since boot, in seconds, all cores together.
    pub(crate) total_seconds: f64,
    /// Memory that programs can have.
    pub(crate) available_bytes: u64,
}

impl Machine {
    /// The figures at this moment.
    pub(super) fn now() -> io::Result<Self> {
        let cpu = procfs::KernelStats::current().map_err(unreadable)?.total;
        // Guest time is part of user time.
        let busy =
            [cpu.irq, cpu.softirq, cpu.steal].into_iter().flatten().sum::<u64>() + cpu.user + cpu.nice + cpu.system;
        let idle = cpu.idle + cpu.iowait.unwrap_or(0);
        let ticks_per_second = procfs::ticks_per_second() as f64;
        Ok(Self {
            busy_seconds: busy as f64 / ticks_per_second,
            total_seconds: (busy + idle) as f64 / ticks_per_second,
            available_bytes: procfs::Meminfo::current().map_err(unreadable)?.mem_available.unwrap_or(0),
        })
    }
}

fn unreadable(error: ProcError) -> io::Error {
    io::Error::other(error)
}

/// The file system that holds a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Drive {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Its size, and what is left for others than root.
    pub(crate) total_bytes: u64,
    /// See [`Self::total_bytes`].
    pub(crate) available_bytes: u64,
    /// What is taken.
    pub(crate) used_bytes: u64,
}

impl Drive {
    /// Of `directory`.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let directory = fs::canonicalize(directory)?;
        let space = Space::of(&directory)?;
        Ok(Self {
            mount: mount_of(&directory, mount_points()?),
            total_bytes: space.total_bytes,
            available_bytes: space.available_bytes,
            used_bytes: space.used_bytes,
        })
    }
}

fn mount_points() -> io::Result<impl Iterator<Item = PathBuf>> {
    let mounts = procfs::process::Process::myself().and_then(|process| process.mountinfo()).map_err(unreadable)?;
    Ok(mounts.0.into_iter().map(|mount| mount.mount_point))
}

/// The longest mount point above `directory`.
fn mount_of(directory: &Path, mount_points: impl Iterator<Item = PathBuf>) -> PathBuf {
    let above = mount_points.filter(|point| directory.starts_with(point));
    above.max_by_key(|point| point.components().count()).unwrap_or_else(|| PathBuf::from("/"))
}

/// What the kernel holds for a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    /// This end.
    pub(crate) local: SocketAddr,
    /// The other end.
    pub(crate) remote: SocketAddr,
    /// Bytes sent that the other end has not confirmed.
    pub(crate) unconfirmed_bytes: u64,
    /// Bytes received that the process has not read.
    pub(crate) unread_bytes: u64,
}

/// All TCP connections of this machine (or of its network namespace).
pub(super) fn sockets() -> Vec<Socket> {
    let tables = [procfs::net::tcp(), procfs::net::tcp6()];
    let entries = tables.into_iter().flatten().flatten();
    entries
        .map(|entry| Socket {
            local: canonical(entry.local_address),
            remote: canonical(entry.remote_address),
            unconfirmed_bytes: entry.tx_queue.into(),
            unread_bytes: entry.rx_queue.into(),
        })
        .collect()
}

/// An IPv4 address that was accepted on a socket of both kinds is listed as an IPv6 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn this_process_and_machine_are_read() {
        let process = Process::now().unwrap();
        assert!(process.threads >= 1 && process.resident_bytes > 100_000, "{process:?}");
        let machine = Machine::now().unwrap();
        assert!(machine.total_seconds > machine.busy_seconds && machine.available_bytes > 0, "{machine:?}");
    }

    #[test]
    fn the_file_system_of_a_directory_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let drive = Drive::of(directory.path()).unwrap();
        assert!(directory.path().canonicalize().unwrap().starts_with(&drive.mount));
        assert!(drive.total_bytes >= drive.used_bytes && drive.total_bytes > 0, "{drive:?}");
        assert!(Drive::of(Path::new("/nowhere at all")).is_err());
        let mounts = ["/", "/var", "/var/my data", "/va"];
        for (directory, mount) in [("/var/lib", "/var"), ("/variable", "/"), ("/var/my data/x", "/var/my data")] {
            let mounts = mounts.into_iter().map(PathBuf::from);
            assert_eq!(mount_of(Path::new(directory), mounts), Path::new(mount));
        }
    }

    #[test]
    fn bytes_that_were_not_read_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        one.write_all(b"12345").unwrap();
        // They have arrived when they can be seen without being taken.
        other.peek(&mut [0; 5]).unwrap();
        let ends = (other.local_addr().unwrap(), other.peer_addr().unwrap());
        let unread = || {
            let all = sockets();
            all.iter().find(|socket| (socket.local, socket.remote) == ends).map(|socket| socket.unread_bytes)
        };
        assert_eq!(unread(), Some(5));
        other.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(unread(), Some(0));
    }

    #[test]
    fn mapped_addresses_are_the_ones_they_stand_for() {
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:2113".parse().unwrap();
        assert_eq!(canonical(mapped), "127.0.0.1:2113".parse().unwrap());
        assert_eq!(canonical("[::1]:1".parse().unwrap()), "[::1]:1".parse().unwrap());
    }
}
