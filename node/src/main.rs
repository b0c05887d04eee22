//! Flags to configuration to [`headwater::node`] to exit code.

fn main() {}
