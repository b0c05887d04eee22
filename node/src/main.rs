//! The program: [`headwater::main`] with an allocator.

use std::process::ExitCode;

/// Payloads are allocated by one thread and freed by another, where glibc's arenas grow and
/// contend. With the allocator of glibc, appends are at 0.97 of their rate at 1.07 of the processor
/// time, and a node that served pages needs 186 MiB instead of 158 (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    headwater::main()
}
