//! The built binary as an operator runs it: its process, its signals and its log.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::client;
use super::nodes::Places;
use super::{PATIENCE, block_until};

/// The built binary; only integration tests have it.
const BINARY: Option<&str> = option_env!("CARGO_BIN_EXE_headwater");

fn command(arguments: &[impl AsRef<str>]) -> Command {
    let mut command = Command::new(BINARY.unwrap());
    command.args(arguments.iter().map(AsRef::as_ref));
    command
}

/// Runs the binary to its end.
pub(crate) fn output(arguments: &[impl AsRef<str>]) -> Output {
    command(arguments).output().unwrap()
}

/// Standard output of a run that succeeds.
pub(crate) fn run(arguments: &[impl AsRef<str>]) -> String {
    let output = output(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A running node; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Log lines that [`Self::wait_for`] has not passed yet.
    lines: mpsc::Receiver<String>,
    /// The whole log so far.
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start(arguments: &[impl AsRef<str>]) -> Self {
        Self::start_in(arguments, &[])
    }

    /// With further variables in its environment.
    pub(crate) fn start_in(arguments: &[impl AsRef<str>], environment: &[(&str, &str)]) -> Self {
        let mut command = command(arguments);
        command.envs(environment.iter().copied());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let reader = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                eprintln!("node: {line}");
                kept.lock().unwrap().push(line.clone());
                // A test that waits for nothing has dropped nothing: the log is read to its end.
                let _ = sender.send(line);
            }
        });
        Self { child, lines, log }
    }

    /// Starts a single node on free ports, waits until it is ready and gives its base.
    pub(crate) fn start_single(options: &[&str]) -> (Self, String) {
        let places = Places::new(1);
        let mut arguments = vec!["--http-listen", &places.http[0], "--raft-listen", &places.raft[0]];
        arguments.extend(options);
        let mut process = Self::start(&arguments);
        process.wait_for(&["listening"]);
        let base = format!("http://{}", places.http[0]);
        block_until("the node is ready", || {
            assert_eq!(process.exited(), None, "the node ended");
            client::send(&base, "GET", "/health/ready", &[], b"").status < 300
        });
        (process, base)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How the node ended, or `None` while it runs.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// The next log line with these words.
    pub(crate) fn wait_for(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no log line with {words:?}"));
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    /// Waits until the log has a line with these words, be it one that [`Self::wait_for`] has
    /// passed.
    pub(crate) fn has_said(&self, words: &[&str]) {
        block_until(&format!("a log line with {words:?}"), || {
            self.log().iter().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    /// The whole log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
