//! Subcommands of the program, run against the nodes of a test.

pub(crate) use headwater_cluster_tests::program::{backup, run, said};
