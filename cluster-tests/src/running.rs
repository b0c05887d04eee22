//! A node that runs, as a process of this machine or in a container.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use crate::container::Container;
use crate::process::ServerProcess;

/// A killed container has ended by then.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// One or the other.
#[derive(Debug)]
pub(crate) enum Running {
    Process(ServerProcess),
    Container(Container),
}

impl Running {
    /// Process id on this machine.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        match self {
            Self::Process(process) => Ok(process.pid()),
            Self::Container(container) => container.pid(),
        }
    }

    /// The same if it is a process that this one has started.
    pub(crate) fn own_pid(&self) -> Option<u32> {
        match self {
            Self::Process(process) => Some(process.pid()),
            Self::Container(_) => None,
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        match self {
            Self::Process(process) => process.signal(signal),
            Self::Container(container) => container.signal(signal),
        }
    }

    pub(crate) fn pause(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Process(process) => process.pause(),
            Self::Container(container) => container.pause(),
        }
    }

    pub(crate) fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match self {
            Self::Process(process) => process.exited(),
            Self::Container(container) => container.exited(),
        }
    }

    pub(crate) async fn wait_exit(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        match self {
            Self::Process(process) => process.wait_exit(limit).await,
            Self::Container(container) => container.wait_exit(limit).await,
        }
    }

    /// `kill -9`, and its end.
    pub(crate) async fn kill(self) -> anyhow::Result<()> {
        match self {
            Self::Process(process) => process.kill().await,
            Self::Container(container) => {
                // It may end by a signal of before at any moment.
                let killed = container.signal(Signal::KILL);
                let ended = container.wait_exit(KILL_LIMIT).await;
                ended.map(drop).map_err(|error| killed.err().unwrap_or(error))
            }
        }
    }
}
