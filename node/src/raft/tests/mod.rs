//! The room as a whole: openraft's own suite, and three nodes without the rooms above.

mod cluster;
mod storage_suite;
