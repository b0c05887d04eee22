//! One look at all figures. A sample serves all requests of a second.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::system::{self, Drive, Machine, Process, Socket};
use crate::cluster::view::{ClusterView, Connection, Ends, Figures};
use crate::event::Ticks;

/// How long a sample is used.
const LIFETIME: Duration = Duration::from_secs(1);

/// One figure.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// Its place: groups, then its name.
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    /// Category and title for people, where it has them.
    pub(super) title: Option<(&'static str, &'static str)>,
}

impl Leaf {
    pub(super) fn new(path: &[&str], value: impl Into<Value>) -> Self {
        Self { path: path.iter().map(|name| (*name).to_owned()).collect(), value: value.into(), title: None }
    }

    pub(super) fn titled(path: &[&str], value: impl Into<Value>, category: &'static str, title: &'static str) -> Self {
        Self { title: Some((category, title)), ..Self::new(path, value) }
    }
}

/// Bytes over one connection between nodes.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    pub(super) id: Uuid,
    pub(super) server: Option<u16>,
    pub(super) is_outgoing: bool,
    pub(super) is_tls: bool,
    pub(super) ends: Ends,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    /// Bytes in the kernel that the other end has not confirmed.
    pub(super) pending_send_bytes: u64,
    /// Bytes in the kernel that this node has not read.
    pub(super) pending_received_bytes: u64,
}

impl Transfer {
    fn new(connection: &Connection, sockets: &HashMap<(SocketAddr, SocketAddr), Socket>) -> Self {
        let socket = sockets.get(&(connection.ends.local, connection.ends.remote));
        Self {
            id: connection.id,
            server: connection.server,
            is_outgoing: connection.is_outgoing,
            is_tls: connection.is_tls,
            ends: connection.ends,
            sent_bytes: connection.sent_bytes(),
            received_bytes: connection.received_bytes(),
            pending_send_bytes: socket.map_or(0, |socket| socket.unconfirmed_bytes),
            pending_received_bytes: socket.map_or(0, |socket| socket.unread_bytes),
        }
    }
}

/// All figures of one moment.
pub(crate) struct Sample {
    pub(super) leaves: Vec<Leaf>,
    pub(super) connections: Vec<Transfer>,
}

/// Figures that only grow; rates are differences of two of these.
#[derive(Debug, Clone)]
struct Counts {
    at: Instant,
    process_cpu_seconds: f64,
    machine_busy_seconds: f64,
    machine_total_seconds: f64,
    sent_bytes: u64,
    received_bytes: u64,
    figures: Option<Figures>,
}

struct Taken {
    sample: Arc<Sample>,
    counts: Counts,
}

/// Takes samples, one per [`LIFETIME`] at most, and keeps the last one.
pub(crate) struct Stats {
    started: SystemTime,
    data_dir: PathBuf,
    /// The first sample's rates count from here.
    start: Option<Counts>,
    last: Mutex<Option<Taken>>,
}

impl Stats {
    /// For a process that begins now and keeps its data in `data_dir`.
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        let start = (Process::now().ok()).zip(Machine::now().ok()).map(|(process, machine)| Counts {
            at: Instant::now(),
            process_cpu_seconds: process.cpu_seconds,
            machine_busy_seconds: machine.busy_seconds,
            machine_total_seconds: machine.total_seconds,
            sent_bytes: 0,
            received_bytes: 0,
            figures: None,
        });
        Self { started: SystemTime::now(), data_dir, start, last: Mutex::new(None) }
    }

    /// The figures of this second; `None` when the system does not provide them.
    pub(crate) async fn sample(&self, cluster: &ClusterView) -> Option<Arc<Sample>> {
        // Requests that come meanwhile wait, and get the same sample.
        let mut last = self.last.lock().await;
        if let Some(taken) = last.as_ref().filter(|taken| taken.counts.at.elapsed() < LIFETIME) {
            return Some(taken.sample.clone());
        }
        let before = last.as_ref().map(|taken| &taken.counts).or(self.start.as_ref()).cloned()?;
        let (cluster, started, data_dir) = (cluster.clone(), self.started, self.data_dir.clone());
        // Files under /proc are made while they are read.
        let taken = tokio::task::spawn_blocking(move || take(&cluster, started, &data_dir, &before)).await;
        match taken {
            Ok(Ok(taken)) => Some(last.insert(taken).sample.clone()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no statistics");
                None
            }
            Err(_) => None,
        }
    }
}

fn take(
    cluster: &ClusterView,
    started: SystemTime,
    data_dir: &std::path::Path,
    before: &Counts,
) -> std::io::Result<Taken> {
    let (process, machine, drive) = (Process::now()?, Machine::now()?, Drive::of(data_dir)?);
    let (traffic, figures) = (cluster.traffic(), cluster.figures());
    let sockets = system::sockets().into_iter().map(|socket| ((socket.local, socket.remote), socket)).collect();
    let connections: Vec<_> = traffic.open().iter().map(|one| Transfer::new(one, &sockets)).collect();
    let counts = Counts {
        at: Instant::now(),
        process_cpu_seconds: process.cpu_seconds,
        machine_busy_seconds: machine.busy_seconds,
        machine_total_seconds: machine.total_seconds,
        sent_bytes: traffic.sent_bytes(),
        received_bytes: traffic.received_bytes(),
        figures: Some(figures),
    };
    let mut leaves = of_process(started, &process, &counts, before);
    leaves.extend(of_tcp(&connections, &counts, before));
    leaves.extend(of_machine(&machine, &drive, before));
    leaves.extend(of_node(figures, counts.at - before.at, before.figures));
    Ok(Taken { sample: Arc::new(Sample { leaves, connections }), counts })
}

fn of_process(started: SystemTime, process: &Process, now: &Counts, before: &Counts) -> Vec<Leaf> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = percent(now.process_cpu_seconds - before.process_cpu_seconds, (now.at - before.at).as_secs_f64());
    let leaf = |name: &str, value: u64| Leaf::new(&["proc", name], value);
    let io = |name: &str, value: u64| Leaf::new(&["proc", "diskIo", name], value);
    vec![
        Leaf::new(&["proc", "startTime"], Ticks::from_system_time(started).to_string()),
        leaf("id", u64::from(std::process::id())),
        Leaf::titled(&["proc", "mem"], process.resident_bytes, "Process", "Resident memory in bytes"),
        Leaf::titled(&["proc", "cpu"], cpu, "Process", "Processor time in percent of one core"),
        Leaf::titled(
            &["proc", "cpuScaled"],
            rounded(cpu / cores as f64),
            "Process",
            "Processor time in percent of all cores",
        ),
        leaf("threadsCount", process.threads),
        io("readBytes", process.read_bytes),
        io("writtenBytes", process.written_bytes),
        io("readOps", process.reads),
        io("writeOps", process.writes),
    ]
}

fn of_tcp(connections: &[Transfer], now: &Counts, before: &Counts) -> Vec<Leaf> {
    let period = now.at - before.at;
    let (sent, received) = (now.sent_bytes - before.sent_bytes, now.received_bytes - before.received_bytes);
    let sum = |figure: fn(&Transfer) -> u64| connections.iter().map(figure).sum::<u64>();
    let leaf = |name: &str, value: u64| Leaf::new(&["proc", "tcp", name], value);
    vec![
        leaf("connections", connections.len() as u64),
        Leaf::new(&["proc", "tcp", "receivingSpeed"], per_second(received, period)),
        Leaf::new(&["proc", "tcp", "sendingSpeed"], per_second(sent, period)),
        Leaf::new(&["proc", "tcp", "measureTime"], time_span(period)),
        leaf("pendingReceived", sum(|one| one.pending_received_bytes)),
        leaf("pendingSend", sum(|one| one.pending_send_bytes)),
        leaf("receivedBytesSinceLastRun", received),
        leaf("receivedBytesTotal", now.received_bytes),
        leaf("sentBytesSinceLastRun", sent),
        leaf("sentBytesTotal", now.sent_bytes),
    ]
}

fn of_machine(machine: &Machine, drive: &Drive, before: &Counts) -> Vec<Leaf> {
    let busy = machine.busy_seconds - before.machine_busy_seconds;
    let cpu = percent(busy, machine.total_seconds - before.machine_total_seconds);
    let mount = drive.mount.to_string_lossy();
    let space = |name: &str, value: Value| Leaf::new(&["sys", "drive", &mount, name], value);
    let usage = percent(drive.used_bytes as f64, drive.total_bytes as f64).round();
    vec![
        Leaf::titled(&["sys", "cpu"], cpu, "Machine", "Processor time in percent of all cores"),
        Leaf::titled(&["sys", "freeMem"], machine.available_bytes, "Machine", "Available memory in bytes"),
        space("availableBytes", drive.available_bytes.into()),
        space("totalBytes", drive.total_bytes.into()),
        space("usage", format!("{usage}%").into()),
        space("usedBytes", drive.used_bytes.into()),
    ]
}

/// One queue of the node.
struct Queue {
    /// As in the document, and for people.
    key: &'static str,
    name: &'static str,
    length: u64,
    done: u64,
    /// At the sample before.
    done_before: u64,
}

fn of_node(now: Figures, period: Duration, before: Option<Figures>) -> Vec<Leaf> {
    // The first period begins with the process, and so do the counts of writes; the log may be
    // older.
    let log_before = before.unwrap_or(now);
    let queues = [
        Queue {
            key: "proposals",
            name: "Proposals",
            length: now.proposals_waiting,
            done: now.proposed,
            done_before: before.map_or(0, |before| before.proposed),
        },
        Queue {
            key: "forwards",
            name: "Forwards",
            length: now.forwards_waiting,
            done: now.forwarded,
            done_before: before.map_or(0, |before| before.forwarded),
        },
        Queue {
            key: "logWriter",
            name: "Log Writer",
            length: now.log_written - now.log_durable,
            done: now.log_durable,
            done_before: log_before.log_durable,
        },
        Queue {
            key: "apply",
            name: "Apply",
            length: now.committed - now.applied,
            done: now.applied,
            done_before: log_before.applied,
        },
    ];
    let mut leaves = vec![
        Leaf::new(&["es", "checksum"], now.log_durable),
        Leaf::new(&["es", "checksumNonFlushed"], now.log_written),
    ];
    for queue in queues {
        let leaf = |name: &str, value: Value| Leaf::new(&["es", "queue", queue.key, name], value);
        let speed = per_second(queue.done.saturating_sub(queue.done_before), period);
        leaves.push(leaf("queueName", queue.name.into()));
        leaves.push(leaf("groupName", "".into()));
        leaves.push(Leaf {
            title: Some(("Queue Stats", "Items per second")),
            ..leaf("avgItemsPerSecond", (speed.round() as u64).into())
        });
        leaves.push(Leaf { title: Some(("Queue Stats", "Items that wait")), ..leaf("length", queue.length.into()) });
        leaves.push(leaf("totalItemsProcessed", queue.done.into()));
    }
    leaves
}

/// Two digits are more than any of these figures is good for.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { rounded(100.0 * (part / whole).max(0.0)) } else { 0.0 }
}

fn per_second(count: u64, period: Duration) -> f64 {
    let seconds = period.as_secs_f64();
    if seconds > 0.0 { rounded(count as f64 / seconds) } else { 0.0 }
}

/// As .NET prints a span of time.
fn time_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let days = if days > 0 { format!("{days}.") } else { String::new() };
    let ticks = span.subsec_nanos() / 100;
    format!("{days}{hours:02}:{minutes:02}:{:02}.{ticks:07}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_printed_as_the_reference_prints_them() {
        assert_eq!(time_span(Duration::from_millis(1_234)), "00:00:01.2340000");
        assert_eq!(time_span(Duration::from_secs(86_400 + 3_661)), "1.01:01:01.0000000");
    }

    #[test]
    fn rates_are_differences_over_the_time_between_two_samples() {
        let first = Figures {
            proposals_waiting: 0,
            proposed: 10,
            forwards_waiting: 0,
            forwarded: 0,
            log_written: 1_000,
            log_durable: 990,
            committed: 980,
            applied: 970,
        };
        let second = Figures { proposed: 50, log_durable: 1_000, applied: 980, proposals_waiting: 3, ..first };
        let value = |leaves: &[Leaf], queue: &str, name: &str| {
            let path = ["es", "queue", queue, name];
            leaves.iter().find(|leaf| leaf.path == path).map(|leaf| leaf.value.clone()).unwrap()
        };
        let leaves = of_node(second, Duration::from_secs(2), Some(first));
        assert_eq!(value(&leaves, "proposals", "avgItemsPerSecond"), 20);
        assert_eq!(value(&leaves, "proposals", "length"), 3);
        assert_eq!(value(&leaves, "logWriter", "avgItemsPerSecond"), 5);
        assert_eq!(value(&leaves, "logWriter", "length"), 0);
        let at_start = of_node(first, Duration::from_secs(1), None);
        assert_eq!(
            value(&at_start, "apply", "avgItemsPerSecond"),
            0,
            "what was applied before this process does not count"
        );
        assert_eq!(value(&at_start, "apply", "length"), 10);
        assert_eq!((percent(1.0, 8.0), percent(1.0, 0.0), percent(-1.0, 2.0)), (12.5, 0.0, 0.0));
    }
}
