//! Deterministic simulation: a cluster in one thread, on simulated time, from a seed
//! (docs/adr/0029-simulation.md).
//!
//! The nodes are real from the wire down: openraft on its adapters, the log and the state in
//! RocksDB, the apply loop, snapshots, and gRPC messages. Simulated are time, network, clocks, what
//! a power cut leaves of the disks, and the clients. What happens follows from the seed, so a seed
//! that finds a fault finds it again.

mod clients;
mod disk;
mod entropy;
mod facts;
mod flaw;
mod network;
mod node;
mod process;
mod schedule;
mod tests;
mod trace;
mod world;
