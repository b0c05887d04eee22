//! Faults against real nodes on loopback. One file per kind of fault, each test one straight line
//! of phases.
//!
//! Run with `make faults`; the tests take turns by themselves (`headwater_cluster_tests::serial`),
//! whatever `--test-threads` says. A failed test names the directory in which it leaves data and
//! logs of its nodes.

mod certificates;
mod clocks;
mod consumers;
mod damaged_files;
mod denied_writes;
mod disk_full;
mod formation;
mod join;
mod kill_all;
mod kill_leader;
mod leader_ends;
mod membership;
mod no_quorum;
mod ordered_shutdown;
mod paused_leader;
mod power;
mod program;
mod random_faults;
mod read_your_writes;
mod restored;
mod restored_on_each;
mod rolling_restart;
mod scavenge;
mod snapshot_catch_up;
mod upgrade;
mod wiped_disk;

use std::time::Duration;

/// Long enough for a hundred events in a debug build on a busy machine.
const PROGRESS_LIMIT: Duration = Duration::from_secs(30);
