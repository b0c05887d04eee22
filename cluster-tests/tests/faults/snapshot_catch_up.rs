//! A follower that was away for longer than the log is kept.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::check::availability::RESUME_LIMIT;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::tmpfs::SmallDisk;
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{check, feed, files, scenario, serial, wait};

use crate::PROGRESS_LIMIT;

/// Snapshots after this much log, so that a few seconds of load purge the entries that the absent
/// follower needs.
const SNAPSHOT_LOG_BYTES: &str = "400000";

/// Almost nothing is kept below a snapshot.
const KEEP_LOG_BYTES: &str = "50000";

/// A file system in memory that every Linux has: nothing can be moved there from a disk.
const OTHER_FILE_SYSTEM: &str = "/dev/shm";

/// Complaints of a node that cannot install a snapshot, and of the leader that sent it.
const INSTALL_FAILED: &[&str] = &["cannot be installed", "WARN*the snapshot was not sent"];

/// Room for a node's log and state, but not also for the ballast and the reserve that a node keeps
/// free when it receives a snapshot.
const DISK_BYTES: u64 = 512 << 20;

/// See [`DISK_BYTES`].
const BALLAST_BYTES: u64 = 400 << 20;

/// Events per page when a whole log is read.
const PAGE: usize = 1_000;

/// How long a leader waits after a refusal.
const PAUSE_OF_THE_SENDER: Duration = Duration::from_secs(10);

/// Complaints of a node that has no room for a snapshot, and of the leader.
const NO_ROOM: &[&str] = &["WARN*a snapshot was not received*free space", "WARN*the snapshot was not sent*free space"];

#[tokio::test]
async fn a_follower_behind_the_purged_log_is_brought_back_by_a_snapshot() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (mut cluster, workload, follower) = follower_behind_the_log(None).await?;

    cluster.start(follower)?;
    cluster.wait_ready(follower).await?;
    // A follower may be ready while it is a few hundred entries behind, so the snapshot may still
    // be on its way.
    let base = cluster.base(follower);
    wait::until("the follower is brought back by a snapshot", PROGRESS_LIMIT, || async {
        let installed = cluster.client().metric(&base, "headwater_snapshots_installed_total").await?;
        anyhow::ensure!(installed >= 1.0, "none was installed");
        Ok(())
    })
    .await?;
    workload.progress(100, PROGRESS_LIMIT).await?;

    // An installed state is as durable as a written one.
    cluster.kill(follower).await?;
    cluster.start(follower)?;
    cluster.wait_ready(follower).await?;

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_node_that_cannot_install_a_snapshot_stops_and_comes_back() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (mut cluster, workload, follower) = follower_behind_the_log(None).await?;
    let snapshots = cluster.data_dir(follower).join("snapshots");
    let away = cluster.data_dir(follower).join("snapshots-away");
    let elsewhere = tempfile::tempdir_in(OTHER_FILE_SYSTEM)?;
    std::fs::rename(&snapshots, &away)?;
    std::os::unix::fs::symlink(elsewhere.path(), &snapshots)?;
    cluster.start(follower)?;

    let log = cluster.ended_for_its_disk(follower, PROGRESS_LIMIT).await?.context("it goes on")?;
    anyhow::ensure!(log.contains("fatal") && log.contains("cannot be installed"), "no clear fatal line:\n{log}");

    std::fs::remove_file(&snapshots)?;
    std::fs::rename(&away, &snapshots)?;
    cluster.start(follower)?;
    cluster.wait_ready(follower).await?;
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, INSTALL_FAILED).await?;
    Ok(())
}

#[tokio::test]
async fn a_follower_without_room_for_a_snapshot_says_so_and_gets_it_once_there_is_room() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(disk) = SmallDisk::mount_or_skip(DISK_BYTES) else { return Ok(()) };
    let (mut cluster, workload, follower) = follower_behind_the_log(Some(disk.path().join("data"))).await?;
    let ballast = disk.ballast(BALLAST_BYTES)?;
    cluster.start(follower)?;
    let refusals = |cluster: &Cluster| cluster.last_log(follower).matches("free space").count();
    wait::until("the follower says that it has no room", PROGRESS_LIMIT, || async {
        anyhow::ensure!(refusals(&cluster) > 0, "not yet");
        Ok(())
    })
    .await?;
    tokio::time::sleep(PAUSE_OF_THE_SENDER / 2).await;
    anyhow::ensure!(refusals(&cluster) == 1, "{} within half a pause", refusals(&cluster));

    std::fs::remove_file(ballast)?;
    cluster.wait_ready(follower).await?;
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, NO_ROOM).await?;
    Ok(())
}

/// Bit rot where nothing looks until the snapshot is needed.
#[tokio::test]
async fn a_leader_whose_snapshot_is_damaged_ends_and_another_brings_the_follower_back() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (mut cluster, workload, follower) = follower_behind_the_log(None).await?;
    // No newer snapshot comes in its place.
    let history = workload.stop().await?;
    let leader = cluster.leader().await?;
    let snapshots = files::files_below(&cluster.data_dir(leader).join("snapshots"))?;
    // A file that the state does not share, in each snapshot that is there.
    let own = snapshots.iter().filter(|path| path.to_string_lossy().contains("/MANIFEST-"));
    let damaged: Vec<_> = own.map(|path| files::flip_byte(path, 100).map(|()| path)).collect::<Result<_, _>>()?;
    anyhow::ensure!(!damaged.is_empty(), "no snapshot among {snapshots:?}");

    cluster.start(follower)?;
    let log = cluster.ended_for_its_disk(leader, PROGRESS_LIMIT).await?.context("it goes on")?;
    let names_it = damaged.iter().any(|path| log.contains(&path.display().to_string()));
    anyhow::ensure!(names_it, "{damaged:?}:\n{log}");
    cluster.wait_ready(follower).await?;
    cluster.wipe(leader)?;
    cluster.start_with(leader, &["--rejoin"])?;
    cluster.wait_ready(leader).await?;

    let feeds = feed::read_all(cluster.client(), &cluster.bases(), PAGE, PROGRESS_LIMIT).await?;
    check::none(&check::data(&history, &feeds))?;
    cluster.passed()?;
    Ok(())
}

/// Three nodes under load, one of which is down and needs log that the others have purged: the
/// third if it is given a place of its own, otherwise one that does not lead.
async fn follower_behind_the_log(place_of_third: Option<PathBuf>) -> anyhow::Result<(Cluster, Workload, u16)> {
    let extra = ["--snapshot-log-bytes", SNAPSHOT_LOG_BYTES, "--keep-log-bytes", KEEP_LOG_BYTES];
    let third = place_of_third.map(|place| (3, place));
    let data_dirs = third.clone().into_iter().collect();
    let options = Options { extra: extra.map(str::to_owned).to_vec(), data_dirs, ..Options::default() };
    let mut cluster = Cluster::started(3, options).await?;
    let rate = Rate { payload_bytes: 2_000, ..Rate::default() };
    let workload = Workload::start(&cluster, rate)?;
    workload.progress(100, PROGRESS_LIMIT).await?;

    let follower = match third {
        Some((id, _)) => id,
        None => cluster.follower().await?,
    };
    cluster.kill(follower).await?;
    workload.recorder().fault(format!("follower {follower} goes away"));
    // The first snapshot may come right after the follower went, and a purge comes after its
    // snapshot: with the third, the log below the second is gone, a whole snapshot's distance above
    // the follower's last entry.
    let mut before = Vec::new();
    for (id, base) in cluster.bases().into_iter().filter(|(id, _)| *id != follower) {
        before.push((id, base.clone(), cluster.client().metric(&base, "headwater_snapshots_built_total").await?));
    }
    wait::until("three more snapshots on every living node", PROGRESS_LIMIT, || async {
        for (id, base, count) in &before {
            let now = cluster.client().metric(base, "headwater_snapshots_built_total").await?;
            anyhow::ensure!(now >= count + 3.0, "node {id} has built {now}, at first {count}");
        }
        Ok(())
    })
    .await?;
    Ok((cluster, workload, follower))
}
