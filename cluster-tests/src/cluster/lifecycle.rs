//! Nodes start, freeze, end and come back.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

use super::{Cluster, READY_LIMIT, SHUTDOWN_LIMIT};
use crate::links::Ruler;
use crate::process::{EXIT_STORAGE, ServerProcess};
use crate::running::Running;
use crate::wait;

impl Cluster {
    /// Starts a node as configured.
    pub fn start(&mut self, id: u16) -> anyhow::Result<()> {
        self.start_with(id, &[])
    }

    /// Starts a node with further options.
    pub fn start_with(&mut self, id: u16, options: &[&str]) -> anyhow::Result<()> {
        let members = self.members();
        self.start_as(id, &members, options)
    }

    /// Starts a node with another member list.
    pub fn start_as(&mut self, id: u16, members: &str, options: &[&str]) -> anyhow::Result<()> {
        if let Some(container) = self.node(id).container.clone() {
            anyhow::ensure!(options.is_empty(), "a container has its options already, not {options:?}");
            container.start()?;
            if let Some(filters) = self.ruler()?.filters() {
                filters.put(id, container.place()?)?;
            }
            self.node_mut(id).process = Some(Running::Container(container));
            return Ok(());
        }
        let log_directory = self.directory().join("logs");
        std::fs::create_dir_all(&log_directory).context("cannot create the log directory")?;
        let data_dir = self.node(id).data_dir.display().to_string();
        let node = self.node(id);
        let (program, mut arguments) = node.command(node.binary.as_ref().unwrap_or(&self.binary));
        arguments
            .extend(["--server-id", &id.to_string(), "--members", members, "--data-dir", &data_dir].map(str::to_owned));
        arguments.extend(node.door.map(|_| format!("--raft-listen=127.0.0.1:{}", node.raft.number())));
        arguments.extend(self.certificates.iter().flat_map(|certificates| certificates.options(id)));
        arguments.extend(self.extra.iter().cloned());
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let mut environment = self.environment.clone();
        if let Some(clocks) = &self.clocks {
            environment.extend(clocks.environment(id)?);
        }
        // Of retired nodes of this id, too.
        let starts = self.nodes.iter().map(|node| node.logs.len()).sum::<usize>() + self.retired_logs.len();
        let node = self.node_mut(id);
        anyhow::ensure!(node.process.is_none(), "node {id} already runs");
        let log = log_directory.join(format!("node-{id}-start-{}.log", starts + 1));
        node.logs.push(log.clone());
        let process = ServerProcess::spawn_with(&program, &arguments, &environment, &log)?;
        let pid = process.pid();
        node.process = Some(Running::Process(process));
        match &self.ruler {
            Some(Ruler::Proxies(links)) => links.open(id, pid),
            Some(Ruler::Filters(_)) | None => Ok(()),
        }
    }

    /// Starts every node that does not run.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        for id in self.ids() {
            if self.node(id).process.is_none() {
                self.start(id)?;
            }
        }
        Ok(())
    }

    /// Process id of a running node.
    pub fn pid(&self, id: u16) -> anyhow::Result<u32> {
        let process = self.node(id).process.as_ref().with_context(|| format!("node {id} does not run"))?;
        process.pid()
    }

    /// Waits until a node reports that it is ready; fails at once when its process ends.
    pub async fn wait_ready(&mut self, id: u16) -> anyhow::Result<()> {
        let base = self.base(id);
        let client = self.client.clone();
        let started = std::time::Instant::now();
        while !client.is_ready(&base).await {
            if let Some(status) = self.exited(id)? {
                anyhow::bail!("node {id} ended before it was ready: {status}\n{}", self.log_tail(id));
            }
            anyhow::ensure!(
                started.elapsed() < READY_LIMIT,
                "node {id} is not ready after {READY_LIMIT:?}\n{}",
                self.log_tail(id)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.liveness.set(id, true);
        Ok(())
    }

    /// Waits until every running node is ready.
    pub async fn wait_all_ready(&mut self) -> anyhow::Result<()> {
        for id in self.ids() {
            if self.node(id).process.is_some() {
                self.wait_ready(id).await?;
            }
        }
        Ok(())
    }

    /// `kill -9`.
    pub async fn kill(&mut self, id: u16) -> anyhow::Result<()> {
        let process = self.take_down(id)?;
        let pid = process.own_pid();
        process.kill().await?;
        self.ended(id, pid);
        Ok(())
    }

    /// `kill -9` of all running nodes, as close together as the system calls permit.
    pub async fn kill_all(&mut self) -> anyhow::Result<()> {
        let running: Vec<u16> = self.ids().into_iter().filter(|id| self.node(*id).process.is_some()).collect();
        self.kill_each(&running, || ()).await
    }

    /// `kill -9` of these nodes. `killed` runs when each of them has the signal, before their end
    /// is awaited: a process that waits for its disk ends only when the disk answers.
    pub async fn kill_each(&mut self, ids: &[u16], killed: impl FnOnce()) -> anyhow::Result<()> {
        let take_down = |id: &u16| Ok((*id, self.take_down(*id)?));
        let mut processes = ids.iter().map(take_down).collect::<anyhow::Result<Vec<_>>>()?;
        for (_, process) in &mut processes {
            process.signal(Signal::KILL)?;
        }
        killed();
        for (id, process) in processes {
            let pid = process.own_pid();
            process.kill().await?;
            self.ended(id, pid);
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for the node to end.
    pub async fn terminate(&mut self, id: u16) -> anyhow::Result<ExitStatus> {
        let mut process = self.take_down(id)?;
        process.signal(Signal::TERM)?;
        let status = process.wait_exit(SHUTDOWN_LIMIT).await?;
        self.ended(id, process.own_pid());
        Ok(status)
    }

    /// Sends SIGTERM, without waiting for the end of the process.
    pub fn ask_to_end(&mut self, id: u16) -> anyhow::Result<()> {
        self.liveness.set(id, false);
        self.process_mut(id)?.signal(Signal::TERM)
    }

    /// SIGSTOP: the process keeps its sockets and does nothing.
    pub fn pause(&mut self, id: u16) -> anyhow::Result<()> {
        self.liveness.set(id, false);
        self.process_mut(id)?.pause()
    }

    /// SIGCONT. The load uses the node again once [`Self::wait_ready`] has seen it ready.
    pub fn resume(&mut self, id: u16) -> anyhow::Result<()> {
        self.process_mut(id)?.signal(Signal::CONT)
    }

    /// How a started node ended, or `None` while it runs.
    pub fn exited(&mut self, id: u16) -> anyhow::Result<Option<ExitStatus>> {
        self.process_mut(id)?.exited()
    }

    /// Waits for a node to end by itself.
    pub async fn wait_exit(&mut self, id: u16, limit: Duration) -> anyhow::Result<ExitStatus> {
        let status = self.process_mut(id)?.wait_exit(limit).await?;
        let pid = self.take_down(id)?.own_pid();
        self.ended(id, pid);
        Ok(status)
    }

    /// Waits for a node to end by itself because its disk failed it, or its files are damaged;
    /// returns what it wrote since its start. `None` if it still runs then.
    pub async fn ended_for_its_disk(&mut self, id: u16, limit: Duration) -> anyhow::Result<Option<String>> {
        let status = match self.wait_exit(id, limit).await {
            Err(_) if self.pid(id).is_ok() && self.exited(id)?.is_none() => return Ok(None),
            status => status?,
        };
        let log = self.last_log(id);
        let panicked = log.contains("panicked at") || log.contains("panic;");
        anyhow::ensure!(
            status.code() == Some(EXIT_STORAGE) && !panicked,
            "node {id} must end with {EXIT_STORAGE} and without a panic, not with {status}:\n{log}"
        );
        Ok(Some(log))
    }

    /// Removes everything a stopped node has on disk.
    pub fn wipe(&mut self, id: u16) -> anyhow::Result<()> {
        let node = self.node(id);
        anyhow::ensure!(node.process.is_none(), "node {id} still runs");
        std::fs::remove_dir_all(&node.data_dir).with_context(|| format!("cannot remove {}", node.data_dir.display()))
    }

    /// Others find the port of an ended process closed, and nothing is left of its clock and of the
    /// rules for what it gets.
    pub(super) fn ended(&self, id: u16, pid: Option<u32>) {
        if let Some(Ruler::Proxies(links)) = &self.ruler {
            links.close(id);
        }
        // A container loses its namespace; others outlive their processes.
        if let (Some(Ruler::Filters(filters)), Some(_)) = (&self.ruler, &self.node(id).container) {
            filters.remove(id);
        }
        if let (Some(clocks), Some(pid)) = (&self.clocks, pid) {
            clocks.forget(pid);
        }
    }

    fn take_down(&mut self, id: u16) -> anyhow::Result<Running> {
        self.liveness.set(id, false);
        self.node_mut(id).process.take().with_context(|| format!("node {id} does not run"))
    }

    fn process_mut(&mut self, id: u16) -> anyhow::Result<&mut Running> {
        self.node_mut(id).process.as_mut().with_context(|| format!("node {id} does not run"))
    }

    /// Sends SIGHUP and waits until the node logs that it has loaded its certificates again.
    pub async fn reload(&mut self, id: u16) -> anyhow::Result<()> {
        let loaded = |log: String| log.matches("loaded the certificates again").count();
        let before = loaded(self.last_log(id));
        self.process_mut(id)?.signal(Signal::HUP)?;
        wait::until("certificates loaded again", READY_LIMIT, || async {
            anyhow::ensure!(loaded(self.last_log(id)) > before, "not yet\n{}", self.log_tail(id));
            Ok(())
        })
        .await
    }
}
