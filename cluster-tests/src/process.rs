//! A node as a process of the operating system: started, signalled and awaited by its own pid.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use crate::client::{ADMIN, OPERATOR};

/// A process that has not stopped by then waits for its disk or is stuck in the kernel.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

/// A server process that runs or has just ended. Its output goes to a file.
#[derive(Debug)]
pub struct ServerProcess {
    /// Killed when dropped, so that a failing test leaves nothing behind.
    child: Child,
    /// Stored separately, because `Child::id` is empty once the process was awaited.
    pid: u32,
    /// The file for standard output and standard error.
    log: PathBuf,
}

impl ServerProcess {
    /// Starts `program` with `arguments`; both output streams go to the new file `log`.
    pub fn spawn(program: &Path, arguments: &[String], log: &Path) -> anyhow::Result<Self> {
        Self::spawn_with(program, arguments, &[], log)
    }

    /// The same with variables of the environment.
    pub fn spawn_with(
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = Command::new(program);
        // A variable from the developer's shell must not reconfigure the nodes under test.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HEADWATER_")) {
            command.env_remove(name);
        }
        let child = command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("RUST_BACKTRACE", "1")
            .env("HEADWATER_DEFAULT_ADMIN_PASSWORD", ADMIN.1)
            .env("HEADWATER_DEFAULT_OPS_PASSWORD", OPERATOR.1)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the log file")?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().context("the process ended before it had a pid")?;
        Ok(Self { child, pid, log: log.to_owned() })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to this process. Fails when it has ended.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(status) = self.exited()? {
            anyhow::bail!("process {} has already ended: {status}", self.pid);
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("pid out of range")?;
        // The child was not awaited yet, so the pid still belongs to it.
        rustix::process::kill_process(pid, signal).with_context(|| format!("cannot signal process {}", self.pid))
    }

    /// Sends SIGSTOP and waits until it takes effect. The signal stops the process only when one of
    /// its threads handles it; on a busy machine the other threads may go on working and answering
    /// until then.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        let started = std::time::Instant::now();
        while !self.all_threads_stopped()? {
            anyhow::ensure!(started.elapsed() < PAUSE_LIMIT, "process {} does not stop", self.pid);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn all_threads_stopped(&self) -> anyhow::Result<bool> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid)).context("no such process")? {
            // A thread may end meanwhile.
            let Ok(status) = std::fs::read_to_string(thread?.path().join("stat")) else { continue };
            // The state follows the name, which is in brackets and may contain anything.
            if !status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How it ended, or `None` while it runs.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot ask for the exit status")
    }

    /// Waits for the process to end by itself.
    pub async fn wait_exit(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => status.context("cannot await the process"),
            Err(_) => anyhow::bail!("process {} still runs after {limit:?}; log: {}", self.pid, self.log.display()),
        }
    }

    /// `kill -9`, and waits until the kernel has removed it.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill process {}", self.pid))
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

/// Exit code of a node whose disk failed it, or whose files are damaged (sysexits: EX_IOERR).
pub const EXIT_STORAGE: i32 = 74;

/// Finds the `headwater` binary: `HEADWATER_BIN`, else in the same target directory as the running
/// program.
pub fn headwater_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("HEADWATER_BIN") {
        let path = PathBuf::from(path);
        anyhow::ensure!(path.is_file(), "HEADWATER_BIN names {}, which is not a file", path.display());
        return Ok(path);
    }
    let own = std::env::current_exe().context("cannot find the running program")?;
    // Test binaries lie in target/<profile>/deps, ordinary ones in target/<profile>.
    let candidates: Vec<PathBuf> =
        own.ancestors().skip(1).take(2).map(|directory| directory.join("headwater")).collect();
    candidates.iter().find(|path| path.is_file()).cloned().with_context(|| {
        format!(
            "there is no headwater binary at {}: run `cargo build -p headwater` first (with --release for the bench), or set HEADWATER_BIN",
            candidates.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stopped_process_is_killed_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut process =
            ServerProcess::spawn(Path::new("/bin/sleep"), &["1000".to_owned()], &directory.path().join("sleep.log"))
                .unwrap();
        process.pause().unwrap();
        assert!(process.all_threads_stopped().unwrap());
        assert!(process.exited().unwrap().is_none());
        tokio::time::timeout(Duration::from_secs(5), process.kill()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_exit_code_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = ServerProcess::spawn(
            Path::new("/bin/sh"),
            &["-c".to_owned(), "exit 74".to_owned()],
            &directory.path().join("sh.log"),
        )
        .unwrap();
        assert_eq!(process.wait_exit(Duration::from_secs(5)).await.unwrap().code(), Some(74));
        assert!(process.signal(Signal::TERM).is_err());
    }
}
