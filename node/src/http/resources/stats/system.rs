//! What the system knows of this process and this machine: files under /proc and the file system of
//! the data.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::files::Space;

/// Times since boot in the files of /proc are in ticks of this length, on every Linux that Rust
/// runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// This process.
#[derive(Debug, Default)]
pub struct Process {
    /// Seconds of processor time used, by all threads.
    pub cpu_seconds: f64,
    /// Threads at the moment.
    pub threads: u64,
    /// Memory in use that is not swapped out.
    pub resident_bytes: u64,
    /// Read from and written to disks, and the number of system calls that read and wrote (files,
    /// sockets and all).
    pub read_bytes: u64,
    /// See [`Self::read_bytes`].
    pub written_bytes: u64,
    /// See [`Self::read_bytes`].
    pub reads: u64,
    /// See [`Self::read_bytes`].
    pub writes: u64,
}

impl Process {
    /// As it is now.
    pub fn now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        // The name in parentheses may hold anything; the numbers begin behind it, with the state,
        // field 3.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let status = fs::read_to_string("/proc/self/status")?;
        // Not everybody may read it: then these figures are 0.
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        Ok(Self {
            cpu_seconds: (field(14) + field(15)) as f64 / TICKS_PER_SECOND,
            threads: field(20),
            resident_bytes: value(&status, "VmRSS:") * 1024,
            read_bytes: value(&io, "read_bytes:"),
            written_bytes: value(&io, "write_bytes:"),
            reads: value(&io, "syscr:"),
            writes: value(&io, "syscw:"),
        })
    }
}

/// This machine.
#[derive(Debug, Default)]
pub struct Machine {
    /// Processor time since boot in seconds, all cores together: of work, and of everything.
    pub busy_seconds: f64,
    /// See [`Self::busy_seconds`].
    pub total_seconds: f64,
    /// Memory that programs can have.
    pub available_bytes: u64,
}

impl Machine {
    /// As it is now.
    pub fn now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        // user nice system idle iowait irq softirq steal; what follows is part of these.
        let ticks: Vec<f64> = ticks.take(8).filter_map(|text| text.parse().ok()).collect();
        let total: f64 = ticks.iter().sum();
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        let memory = fs::read_to_string("/proc/meminfo")?;
        Ok(Self {
            busy_seconds: (total - idle) / TICKS_PER_SECOND,
            total_seconds: total / TICKS_PER_SECOND,
            available_bytes: value(&memory, "MemAvailable:") * 1024,
        })
    }
}

/// The number behind `name` in a file of lines like `name value`.
fn value(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The file system that holds a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Drive {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its size, and what is left for others than root.
    pub total_bytes: u64,
    /// See [`Self::total_bytes`].
    pub available_bytes: u64,
    /// What is taken.
    pub used_bytes: u64,
}

impl Drive {
    /// Of `directory`.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let directory = fs::canonicalize(directory)?;
        let space = Space::of(&directory)?;
        Ok(Self {
            mount: mount_of(&directory, &fs::read_to_string("/proc/self/mounts")?),
            total_bytes: space.total_bytes,
            available_bytes: space.available_bytes,
            used_bytes: space.used_bytes,
        })
    }
}

/// The longest mount point above `directory`, from the list of mounts.
fn mount_of(directory: &Path, mounts: &str) -> PathBuf {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let above =
        points.map(|point| PathBuf::from(point.replace("\\040", " "))).filter(|point| directory.starts_with(point));
    above.max_by_key(|point| point.components().count()).unwrap_or_else(|| PathBuf::from("/"))
}

/// What the kernel holds for a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// This end.
    pub local: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    /// Bytes sent that the other end has not confirmed.
    pub unconfirmed_bytes: u64,
    /// Bytes received that were not read.
    pub unread_bytes: u64,
}

/// All TCP connections of this machine (or of its network namespace).
pub fn sockets() -> Vec<Socket> {
    let mut found = Vec::new();
    for file in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(socket));
    }
    found
}

/// One line of /proc/net/tcp: `sl local_address rem_address st tx_queue:rx_queue ...`, all
/// hexadecimal.
fn socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote, _state) = (address(fields.next()?)?, address(fields.next()?)?, fields.next()?);
    let (unconfirmed, unread) = fields.next()?.split_once(':')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Socket { local, remote, unconfirmed_bytes: number(unconfirmed)?, unread_bytes: number(unread)? })
}

/// `0100007F:0041`: the words of the address as this machine keeps them, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(index * 8)?);
            }
            // What was accepted on a socket for both kinds is written in the longer one.
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
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
        let mounts = "a / ext4 rw 0 0\nb /var ext4 rw 0 0\nc /var/my\\040data ext4 rw 0 0\nd /va ext4 rw 0 0\n";
        for (directory, mount) in [("/var/lib", "/var"), ("/variable", "/"), ("/var/my data/x", "/var/my data")] {
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
    fn addresses_of_both_kinds_are_read() {
        let four = if cfg!(target_endian = "little") { "0100007F:0841" } else { "7F000001:0841" };
        assert_eq!(address(four), Some("127.0.0.1:2113".parse().unwrap()));
        if cfg!(target_endian = "little") {
            let mapped = "0000000000000000FFFF00000100007F:0841";
            assert_eq!(address(mapped), Some("127.0.0.1:2113".parse().unwrap()));
            assert_eq!(address("00000000000000000000000001000000:0001"), Some("[::1]:1".parse().unwrap()));
        }
        assert_eq!(address("01"), None);
        assert_eq!(socket("  sl  local_address rem_address   st"), None);
    }
}
