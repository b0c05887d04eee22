//! The program `chaos`: a cluster under all kinds of load, struck by faults in an order that a seed
//! decides, healed, read and judged.
//!
//! A run has phases: bootstrap, load with faults, heal (every node has to be ready and to take
//! writes within a limit), final reads on every node, files of the stopped nodes, check. It leaves
//! a directory with `history.jsonl` (every write with its attempts), `nemesis.jsonl` (every fault),
//! the logs of the nodes and `verdict.json`. docs/correctness.md says how to use it and what it
//! proves.

mod artefacts;
mod clocks;
mod disks;
mod last_reads;
mod mode;
pub mod mutants;
mod nemesis;
mod power;
pub mod recovery;
mod run;
mod schedule;
mod strike;
mod upkeep;
mod verdict;

pub use mode::{Mode, ModeName};
pub use nemesis::Nemesis;
pub use power::why_not as why_no_power_cuts;
pub use run::{BULK, Request, run};
pub use verdict::{Outcome, Verdict};
