//! Programs of the system that answer and end: `ip`, `nft`, the container engine.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal};

/// A program that takes longer hangs; a container may take 30 s to stop in order.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command to its end, with this input. An error unless it ends with success.
pub(crate) fn run(command: &mut Command, input: &str) -> anyhow::Result<Output> {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let pid = child.id();
    // What it does not read, it tells about.
    let _ = child.stdin.take().context("no input")?.write_all(input.as_bytes());
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let Ok(output) = end.recv_timeout(LIMIT) else {
        // The thread has not yet awaited it, so the pid is still its own.
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        anyhow::bail!("{name} does not end");
    };
    let output = output.with_context(|| format!("cannot await {name}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{name}: {}: {told}", output.status);
    Ok(output)
}

/// The same; returns what it says.
pub(crate) fn said(command: &mut Command) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&run(command, "")?.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_what_it_was_told_or_fails_with_its_words() {
        assert_eq!(run(&mut Command::new("cat"), "hello").unwrap().stdout, b"hello");
        let failed = said(Command::new("sh").args(["-c", "echo no >&2; exit 3"])).unwrap_err().to_string();
        assert!(failed.contains("no") && failed.contains('3'), "{failed}");
    }
}
