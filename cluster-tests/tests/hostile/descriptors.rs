//! Few open files: clients cannot take those that the databases need.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::process::headwater_binary;
use headwater_cluster_tests::{serial, wait};

use crate::attack::{self, Held};
use crate::door::Door;
use crate::honest;

/// More than a node with so few open files takes.
const FEW_FILES: u64 = 400;
const IDLE: usize = 380;

/// Lets both databases change files: the log begins a new one every 25 MB, and the state is flushed
/// as often.
const WRITTEN_BYTES: usize = 64 << 20;
const EVENT_BYTES: usize = 2 << 20;

/// The program with a limit of open files.
struct Limited {
    directory: tempfile::TempDir,
}

impl Limited {
    fn to(files: u64) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let binary = headwater_binary()?.canonicalize()?;
        let script = format!("#!/bin/sh\nulimit -n {files}\nexec '{}' \"$@\"\n", binary.display());
        let path = directory.path().join("headwater");
        std::fs::write(&path, script).context("cannot write the script")?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        Ok(Self { directory })
    }

    fn binary(&self) -> PathBuf {
        self.directory.path().join("headwater")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_take_no_file_from_the_databases_and_no_place_from_clients() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let limited = Limited::to(FEW_FILES)?;
    let options = Options { binary: Some(limited.binary()), ..Options::default() };
    let mut cluster = Cluster::started(1, options).await?;
    let door = Door::of(&cluster, 1)?;
    let idle = attack::all().into_iter().find(|attack| attack.name == "idle connections");
    let idle = idle.context("there is no such attack")?;
    let _held: Held = (idle.begin)(door.clone(), IDLE).await?;
    let data = vec![b'x'; EVENT_BYTES];
    for _ in 0..WRITTEN_BYTES / EVENT_BYTES {
        let (line, id) = (door.request_line("POST", "/streams/written"), uuid::Uuid::new_v4());
        let head = format!("{line}Content-Type: application/octet-stream\r\nES-EventType: t\r\nES-EventId: {id}\r\n");
        let answer = door.exchange(&head, &data).await?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 201 "), "{}", answer.lines().next().unwrap_or_default());
    }
    let figures = honest::work(&door, Duration::from_secs(1)).await?;
    anyhow::ensure!(figures.errors.is_empty(), "{:?}", figures.errors);
    anyhow::ensure!(cluster.exited(1)?.is_none(), "the node ended");
    let open = std::fs::read_dir(format!("/proc/{}/fd", cluster.pid(1)?))?.count() as u64;
    anyhow::ensure!(open < FEW_FILES, "{open} files are open");
    cluster.passed()?;
    Ok(())
}

#[tokio::test]
async fn a_process_with_too_few_open_files_does_not_start_and_says_so() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    for (files, starts) in [(64, false), (255, false), (256, true)] {
        let limited = Limited::to(files)?;
        let options = Options { binary: Some(limited.binary()), ..Options::default() };
        let mut cluster = Cluster::new(1, options)?;
        cluster.start(1)?;
        if starts {
            cluster.wait_ready(1).await.with_context(|| format!("{files} files"))?;
        } else {
            let status = cluster.wait_exit(1, Duration::from_secs(10)).await?;
            let said = format!("may open only {files} files");
            wait::until("the reason is logged", Duration::from_secs(5), || async {
                anyhow::ensure!(cluster.last_log(1).contains(&said), "{}", cluster.last_log(1));
                Ok(())
            })
            .await?;
            anyhow::ensure!(status.code() == Some(1), "{files} files: {status}");
        }
        cluster.passed()?;
    }
    Ok(())
}
