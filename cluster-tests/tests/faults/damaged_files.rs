//! Torn tails and flipped bytes: a node refuses with the name of the file, or has everything. Never
//! wrong data.
//!
//! A cluster of one is the hard case: no other node can restore what its disk lost, so a node that
//! starts must have every event.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::feed::{FeedReader, NodeFeed};
use headwater_cluster_tests::history::History;
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{check, files, serial};

use crate::PROGRESS_LIMIT;

/// Every start ends in one of the allowed ways within this.
const OUTCOME_LIMIT: Duration = Duration::from_secs(30);

/// How a start on damaged files ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Non-zero exit at start or at the first touch of the damage, with a message that names a
    /// file.
    Refused,
    /// It serves, and all it serves is right and complete.
    Complete,
}

/// A stopped single node whose files are put back before each damage.
struct Patient {
    cluster: Cluster,
    history: History,
    /// The feed of the healthy node.
    healthy: NodeFeed,
    /// Copy of the healthy files.
    backup: PathBuf,
}

impl Patient {
    /// Loads a node and stops it: by kill (the log holds entries that the state lacks) or in order
    /// (the state is flushed).
    async fn prepare(kill: bool) -> anyhow::Result<Self> {
        Self::prepare_with(kill, Options::default()).await
    }

    async fn prepare_with(kill: bool, options: Options) -> anyhow::Result<Self> {
        let mut cluster = Cluster::started(1, options).await?;
        let workload = Workload::start(&cluster, Rate { payload_bytes: 500, ..Rate::default() })?;
        workload.progress(200, PROGRESS_LIMIT).await?;
        if !kill {
            // A flushed part and a part that is only in the log.
            cluster.terminate(1).await?;
            cluster.start(1)?;
            cluster.wait_ready(1).await?;
            workload.progress(50, PROGRESS_LIMIT).await?;
        }
        let history = workload.stop().await?;
        let healthy = read(&cluster).await?;
        check::none(&check::data(&history, std::slice::from_ref(&healthy)))?;
        if kill {
            cluster.kill(1).await?;
        } else {
            cluster.terminate(1).await?;
        }
        let backup = cluster.directory().join("backup");
        files::copy_directory(cluster.data_dir(1), &backup)?;
        Ok(Self { cluster, history, healthy, backup })
    }

    /// Puts the healthy files back, applies `damage` to the file with this path below the data
    /// directory, starts the node, judges, and stops it.
    async fn try_with(
        &mut self,
        file: &Path,
        damage: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        self.cluster.wipe(1)?;
        files::copy_directory(&self.backup, self.cluster.data_dir(1))?;
        damage(&self.cluster.data_dir(1).join(file))?;
        self.cluster.start(1)?;
        if self.serves_or_ends().await? {
            match read(&self.cluster).await {
                Ok(feed) => return self.judge_served(&feed).await,
                // The damage lies where only a read touches it: the node must end instead of
                // serving on.
                Err(error) => eprintln!("a read failed: {error:#}"),
            }
        }
        let log = self.cluster.ended_for_its_disk(1, OUTCOME_LIMIT).await?;
        Self::judge_refused(file, &log.context("it goes on")?)
    }

    /// Waits until the node is ready (true) or has ended (false).
    async fn serves_or_ends(&mut self) -> anyhow::Result<bool> {
        let base = self.cluster.base(1);
        let client = self.cluster.client().clone();
        let started = std::time::Instant::now();
        loop {
            if self.cluster.exited(1)?.is_some() {
                return Ok(false);
            }
            if client.is_ready(&base).await {
                return Ok(true);
            }
            anyhow::ensure!(
                started.elapsed() < OUTCOME_LIMIT,
                "neither ready nor ended:\n{}",
                self.cluster.last_log(1)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn judge_served(&mut self, feed: &NodeFeed) -> anyhow::Result<Outcome> {
        check::none(&check::data(&self.history, std::slice::from_ref(feed)))?;
        anyhow::ensure!(feed.events == self.healthy.events, "the node serves something else than before");
        self.cluster.kill(1).await?;
        Ok(Outcome::Complete)
    }

    fn judge_refused(file: &Path, log: &str) -> anyhow::Result<Outcome> {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        anyhow::ensure!(log.contains(&name), "the message does not name {}:\n{log}", file.display());
        Ok(Outcome::Refused)
    }
}

async fn read(cluster: &Cluster) -> anyhow::Result<NodeFeed> {
    let mut reader = FeedReader::new(1, &cluster.base(1), 1000);
    reader.read_on(cluster.client()).await?;
    Ok(reader.into_feed())
}

#[tokio::test]
async fn a_torn_tail_of_the_log_is_refused_or_recovered_completely() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut patient = Patient::prepare(true).await?;
    let wal = files::newest_wal(&patient.backup.join("log"))?.strip_prefix(&patient.backup)?.to_owned();
    let length = patient.backup.join(&wal).metadata()?.len();

    for bytes in [1, 7, 100, 4_000, length / 2] {
        let outcome = patient.try_with(&wal, |path| files::cut(path, bytes.min(length))).await?;
        eprintln!("{} without its last {bytes} of {length} bytes: {outcome:?}", wal.display());
    }
    // Bytes behind the last acknowledged record are the remains of a crash in the middle of a
    // write: no reason to refuse.
    for bytes in [3, 500] {
        let outcome = patient.try_with(&wal, |path| files::append_rubbish(path, bytes)).await?;
        eprintln!("{} with {bytes} bytes of rubbish behind it: {outcome:?}", wal.display());
    }
    // The patient is healthy again when its files are.
    assert_eq!(patient.try_with(&wal, |_| Ok(())).await?, Outcome::Complete);
    patient.cluster.passed()?;
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_is_missing_or_misnamed_is_refused() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut patient = Patient::prepare(false).await?;
    let files = files::files_below(&patient.backup)?;
    let relative = |name: &str| -> anyhow::Result<Vec<PathBuf>> {
        let is_meant =
            |path: &&PathBuf| path.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name));
        // Snapshots have such files, too, and nothing at the start depends on them.
        let of_databases = files.iter().filter(is_meant).map(|path| path.strip_prefix(&patient.backup));
        let paths =
            of_databases.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|path| !path.starts_with("snapshots"));
        Ok(paths.map(Path::to_owned).collect())
    };
    let (manifests, pointers) = (relative("MANIFEST-")?, relative("CURRENT")?);
    anyhow::ensure!(manifests.len() == 2 && pointers.len() >= 2, "log and state: {manifests:?}, {pointers:?}");
    for manifest in manifests {
        let outcome = patient.try_with(&manifest, |path| Ok(std::fs::remove_file(path)?)).await?;
        anyhow::ensure!(outcome == Outcome::Refused, "{} removed: {outcome:?}", manifest.display());
    }
    for pointer in pointers {
        for content in ["MANIFEST-999999\n", "", "nonsense\n"] {
            let outcome = patient.try_with(&pointer, |path| Ok(std::fs::write(path, content)?)).await;
            let outcome = outcome.map_err(|error| error.context(format!("{content:?} in {}", pointer.display())))?;
            anyhow::ensure!(outcome == Outcome::Refused, "{content:?} in {}: {outcome:?}", pointer.display());
        }
    }
    patient.cluster.passed()?;
    Ok(())
}

#[tokio::test]
async fn a_flipped_byte_in_log_or_state_is_refused_or_harmless() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    for kill in [true, false] {
        let mut patient = Patient::prepare(kill).await?;
        for file in files::files_below(&patient.backup)? {
            let file = file.strip_prefix(&patient.backup)?.to_owned();
            let length = patient.backup.join(&file).metadata()?.len();
            for offset in offsets(&file, length) {
                let outcome = patient.try_with(&file, |path| files::flip_byte(path, offset)).await;
                let outcome = outcome.map_err(|error| error.context(format!("byte {offset} of {}", file.display())))?;
                eprintln!("byte {offset} of {length} in {} flipped: {outcome:?}", file.display());
            }
        }
        patient.cluster.passed()?;
    }
    Ok(())
}

/// Nothing is read of a snapshot at a start but its manifest: without it, the log and the state
/// have to do.
#[tokio::test]
async fn a_flipped_byte_in_a_snapshot_is_refused_or_harmless() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let extra = ["--snapshot-log-bytes", "50000", "--keep-log-bytes", "0"];
    let options = Options { extra: extra.map(str::to_owned).to_vec(), ..Options::default() };
    let mut patient = Patient::prepare_with(true, options).await?;
    let files = files::files_below(&patient.backup.join("snapshots"))?;
    anyhow::ensure!(!files.is_empty(), "there is no snapshot");
    for file in files {
        let length = file.metadata()?.len();
        if length == 0 {
            continue;
        }
        let file = file.strip_prefix(&patient.backup)?.to_owned();
        let outcome = patient.try_with(&file, |path| files::flip_byte(path, length / 2)).await;
        let outcome = outcome.map_err(|error| error.context(format!("{}", file.display())))?;
        eprintln!("{}: {outcome:?}", file.display());
    }
    patient.cluster.passed()?;
    Ok(())
}

/// Where to flip: three places in data files, one in small files, none in files that RocksDB never
/// reads back.
fn offsets(file: &Path, length: u64) -> Vec<u64> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ignored = name.starts_with("LOG") || name == "LOCK" || name == "IDENTITY" || name.starts_with("OPTIONS");
    match length {
        0 => Vec::new(),
        _ if ignored => Vec::new(),
        1..=64 => vec![length / 2],
        _ if name.ends_with(".log") || name.ends_with(".sst") => vec![length / 10, length / 2, length - 20],
        _ => vec![length / 2],
    }
}
