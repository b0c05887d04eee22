//! Real processes, real sockets, real faults: the harness that starts Headwater nodes on loopback,
//! loads them, injects faults and judges the result.
//!
//! It speaks HTTP to the binary and reads its files and exit codes; it never links the node. A
//! fault test reads as one straight line: build a [`cluster::Cluster`], start a
//! [`workload::Workload`], inject the fault, heal, read every node's `$all` with [`feed`], and hand
//! history and feeds to [`check`].

pub mod certificates;
pub mod chaos;
pub mod check;
pub mod client;
pub mod clock;
pub mod cluster;
mod command;
pub mod consumers;
pub mod container;
pub mod disk;
pub mod feed;
pub mod files;
pub mod history;
pub mod links;
pub mod namespaces;
pub mod observations;
pub mod ports;
pub mod power;
pub mod process;
pub mod program;
pub mod readers;
pub mod release;
pub mod removal;
mod running;
pub mod scenario;
pub mod serial;
pub mod tmpfs;
pub mod usage;
pub mod wait;
pub mod workload;
