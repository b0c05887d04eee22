//! Power cuts, and disks that fail or lie: the nodes' data lie on file systems that forget what was
//! not synced (`headwater_cluster_tests::disk`).
//!
//! A majority has synced what is acknowledged, so nothing acknowledged may be missing after the
//! power of all nodes was cut at once. The tests of lying disks, at the end, show that a missing
//! sync would be noticed. `POWER_SEED` and `POWER_ROUNDS` repeat or prolong the cuts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::check::Violation;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::disk::{Fault, Left, Lost};
use headwater_cluster_tests::feed;
use headwater_cluster_tests::history::History;
use headwater_cluster_tests::power::Disks;
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{check, scenario, serial, wait};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::PROGRESS_LIMIT;
use crate::random_faults::from_environment;

/// Seed of the cuts without `POWER_SEED`.
const SEED: u64 = 20_261_129;
/// Rounds of each test of cuts without `POWER_ROUNDS`: each kind of cut, with and without remains.
const ROUNDS: u32 = 6;

/// No node is left to serve in some cuts: start, recovery and an election come first.
const RESUME_LIMIT: Duration = Duration::from_secs(15);

/// A node that meets a broken disk ends within this.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Operations on the disk that the first start takes, at least.
const OPERATIONS_OF_A_START: u64 = 150;

/// Operations on the disk under load until a power failure, at most: some flushes and snapshots.
const MOST_OPERATIONS: u64 = 1_500;

/// Operations on the disk of a follower from its start until it has installed a snapshot, at most.
const MOST_OPERATIONS_OF_AN_INSTALLATION: u64 = 450;

/// So much longer does each sync of a slow disk take: a hundred times as long as that of a good
/// one.
const SLOW_SYNC: Duration = Duration::from_millis(150);

/// The disk itself, through the kernel: what files do, and what is left of them.
#[tokio::test]
async fn the_disk_does_what_a_disk_does_until_its_power_is_cut() -> anyhow::Result<()> {
    let Some(mut disks) = Disks::mount_or_skip(1)? else { return Ok(()) };
    let root = disks.of(1)?.path().to_owned();
    let (data, copy) = (root.join("data"), root.join("copy"));
    for directory in [&data, &copy] {
        fs::create_dir(directory)?;
    }
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(&root)?;
    let synced = data.join("synced");
    fs::write(&synced, vec![7; 3 << 20])?;
    sync(&synced)?;
    fs::hard_link(&synced, copy.join("linked"))?;
    fs::write(data.join("new.tmp"), b"new")?;
    fs::rename(data.join("new.tmp"), data.join("new"))?;
    sync(&data)?;
    sync(&copy)?;
    let mut file = File::options().append(true).open(&synced)?;
    file.write_all(b"and more")?;
    fs::write(copy.join("unsynced"), b"x")?;
    let removed = copy.join("deep");
    fs::create_dir(&removed)?;
    (0..200).try_for_each(|number| fs::write(removed.join(number.to_string()), b"x"))?;
    fs::remove_dir_all(&removed)?;
    let lock = File::options().read(true).write(true).open(&synced)?;
    lock.try_lock()?;
    anyhow::ensure!(file.try_lock().is_err(), "a lock keeps others out");
    anyhow::ensure!(synced.metadata()?.nlink() == 2 && synced.metadata()?.len() == (3 << 20) + 8, "{synced:?}");
    anyhow::ensure!(fs::read(&synced)?.ends_with(b"\x07and more"), "bytes are read as they were written");
    drop((file, lock));

    let lost = disks.restart(1, Left::Synced)?;
    anyhow::ensure!(lost.bytes == 8 + 3 + 1 + 200 && lost.names > 400, "{lost:?}");
    anyhow::ensure!(fs::read(&synced)? == vec![7; 3 << 20] && fs::read(copy.join("linked"))? == vec![7; 3 << 20]);
    anyhow::ensure!(fs::read(data.join("new"))?.is_empty(), "the name was synced, and not the bytes");
    let names =
        fs::read_dir(&copy)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()?;
    anyhow::ensure!(names == ["linked"], "{names:?}");
    disks.passed();
    Ok(())
}

/// Snapshots and purges go on all the time.
fn busy() -> Options {
    let extra = ["--snapshot-log-bytes", "300000", "--keep-log-bytes", "100000"];
    Options { extra: extra.map(str::to_owned).to_vec(), ..Options::default() }
}

fn load() -> Rate {
    Rate { payload_bytes: 1_000, ..Rate::default() }
}

/// Strictly what was synced, or by a seed some more.
fn left(random: &mut StdRng) -> Left {
    if random.random_bool(0.5) { Left::Synced } else { Left::Some(random.random()) }
}

fn seed_and_rounds() -> anyhow::Result<(u64, u32)> {
    let seed = from_environment("POWER_SEED")?.unwrap_or(SEED);
    let rounds = from_environment("POWER_ROUNDS")?.unwrap_or(ROUNDS);
    eprintln!("POWER_SEED={seed} POWER_ROUNDS={rounds}");
    Ok((seed, rounds))
}

/// Lines of a node that lost its power while it took or received a snapshot.
const PROVOKED: &[&str] = &["WARN*removing a snapshot that is not complete", "WARN*a snapshot was not"];

#[tokio::test]
async fn power_cuts_of_one_node_of_a_majority_and_of_all_lose_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (seed, rounds) = seed_and_rounds()?;
    let mut random = StdRng::seed_from_u64(seed);
    let Some(mut disks) = Disks::mount_or_skip(3)? else { return Ok(()) };
    let mut cluster = Cluster::started(3, disks.options(busy())).await?;
    let workload = Workload::start(&cluster, load())?;

    let mut lost = Lost::default();
    for round in 1..=rounds {
        workload.progress(random.random_range(50..150), PROGRESS_LIMIT).await?;
        let leader = cluster.leader().await?;
        let nodes: Vec<u16> = match round % 3 {
            0 => vec![1, 2, 3],
            1 => vec![leader],
            // The leader and another one.
            _ => vec![leader, leader % 3 + 1],
        };
        let remains = BTreeMap::from([1, 2, 3].map(|id| (id, left(&mut random))));
        let taken = disks.cut(&mut cluster, &nodes, |id| remains[&id]).await?;
        lost.add(taken);
        let what = format!("round {round}: power cut of {nodes:?}, leader {leader}: {taken:?}");
        eprintln!("{what}");
        workload.recorder().fault(what);
        cluster.start_all()?;
        cluster.wait_all_ready().await.map_err(|error| error.context(format!("POWER_SEED={seed}, round {round}")))?;
    }
    eprintln!("{rounds} cuts, lost of what was not synced: {lost:?}");
    anyhow::ensure!(lost.bytes > 0 && lost.names > 0, "the cuts took nothing, so they were none");

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, PROVOKED).await?;
    disks.passed();
    Ok(())
}

/// Not between two writes of a client, but between any two steps of a node on its disk: also in the
/// middle of a start, of a flush, of a snapshot.
#[tokio::test]
async fn a_power_failure_at_any_operation_of_a_single_node_loses_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (seed, rounds) = seed_and_rounds()?;
    let mut random = StdRng::seed_from_u64(seed);
    let Some(mut disks) = Disks::mount_or_skip(1)? else { return Ok(()) };
    let mut cluster = Cluster::new(1, disks.options(busy()))?;
    let workload = Workload::start(&cluster, load())?;

    for round in 1..=rounds {
        let hits_the_start = round % 2 == 1;
        let operations = random.random_range(0..if hits_the_start { OPERATIONS_OF_A_START } else { MOST_OPERATIONS });
        if hits_the_start {
            disks.of(1)?.power_off_after(operations);
            cluster.start(1)?;
        } else {
            cluster.start(1)?;
            cluster.wait_ready(1).await.map_err(|error| error.context(format!("POWER_SEED={seed}, round {round}")))?;
            workload.progress(20, PROGRESS_LIMIT).await?;
            disks.of(1)?.power_off_after(operations);
        }
        disks.failed(1, PROGRESS_LIMIT).await?;
        let remains = left(&mut random);
        let taken = disks.cut(&mut cluster, &[1], |_| remains).await?;
        let what = format!("round {round}: power failure after {operations} operations, {remains:?}: {taken:?}");
        eprintln!("{what}");
        workload.recorder().fault(what);
    }
    cluster.start(1)?;
    cluster.wait_ready(1).await.map_err(|error| error.context(format!("POWER_SEED={seed}")))?;

    scenario::judge(&mut cluster, workload, PROGRESS_LIMIT, PROVOKED).await?;
    disks.passed();
    Ok(())
}

/// A received snapshot replaces log and state, in several steps.
#[tokio::test]
async fn a_power_failure_while_a_snapshot_is_installed_loses_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (seed, rounds) = seed_and_rounds()?;
    let mut random = StdRng::seed_from_u64(seed);
    let Some(mut disks) = Disks::mount_or_skip(3)? else { return Ok(()) };
    let mut cluster = Cluster::started(3, disks.options(busy())).await?;
    let workload = Workload::start(&cluster, load())?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    let follower = cluster.follower().await?;
    disks.cut(&mut cluster, &[follower], |_| Left::Synced).await?;
    workload.recorder().fault(format!("power cut of the follower {follower}"));
    let leader = cluster.base(cluster.leader().await?);
    let built = "headwater_snapshots_built_total";
    let before = cluster.client().metric(&leader, built).await?;
    wait::until("snapshots, and a log that begins after the follower's", PROGRESS_LIMIT, || async {
        let now = cluster.client().metric(&leader, built).await?;
        anyhow::ensure!(now >= before + 3.0, "{now}, at first {before}");
        Ok(())
    })
    .await?;

    let mut unfinished = 0;
    for round in 1..=rounds {
        let operations = random.random_range(OPERATIONS_OF_A_START / 2..MOST_OPERATIONS_OF_AN_INSTALLATION);
        disks.of(follower)?.power_off_after(operations);
        cluster.start(follower)?;
        disks.failed(follower, PROGRESS_LIMIT).await?;
        let log = cluster.last_log(follower);
        let (installing, installed) = (log.contains("receiving a snapshot"), log.contains("installed a snapshot"));
        unfinished += u32::from(installing && !installed);
        let remains = left(&mut random);
        let taken = disks.cut(&mut cluster, &[follower], |_| remains).await?;
        eprintln!("round {round}: after {operations} operations, {remains:?}, {installing}, {installed}: {taken:?}");
    }
    anyhow::ensure!(unfinished > 0, "no power failure hit a snapshot between its first byte and its installation");
    cluster.start(follower)?;
    cluster.wait_ready(follower).await.map_err(|error| error.context(format!("POWER_SEED={seed}")))?;

    let provoked = [PROVOKED, &["WARN*the snapshot was not sent"]];
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &provoked.concat()).await?;
    disks.passed();
    Ok(())
}

/// The node must not acknowledge what a failed sync was to cover, and must not try again: the
/// kernel has forgotten the bytes.
#[tokio::test]
async fn a_leader_whose_sync_fails_once_ends_and_the_others_go_on() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(mut disks) = Disks::mount_or_skip(3)? else { return Ok(()) };
    let mut cluster = Cluster::started(3, disks.options(busy())).await?;
    let workload = Workload::start(&cluster, load())?;

    for path in ["/log/", "/state/"] {
        workload.progress(100, PROGRESS_LIMIT).await?;
        let leader = cluster.leader().await?;
        disks.of(leader)?.set_faults(vec![Fault::SyncFails { path, times: Some(1) }]);
        ends_for_its_disk(&mut cluster, leader, "Input/output error").await?;
        workload.recorder().fault(format!("a sync of {path} failed on the leader {leader}"));
        // The disk is good again, and has what it had.
        disks.restart(leader, Left::Synced)?;
        workload.resumed(PROGRESS_LIMIT).await?;
        cluster.start(leader)?;
        cluster.wait_ready(leader).await?;
    }

    let provoked = [PROVOKED, &["ERROR*fatal*Input/output error", "RocksDB:*Input/output error"]];
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &provoked.concat()).await?;
    disks.passed();
    Ok(())
}

#[tokio::test]
async fn a_follower_whose_disk_is_full_ends_and_comes_back() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(mut disks) = Disks::mount_or_skip(3)? else { return Ok(()) };
    let mut cluster = Cluster::started(3, disks.options(busy())).await?;
    let workload = Workload::start(&cluster, load())?;

    workload.progress(50, PROGRESS_LIMIT).await?;
    let follower = cluster.follower().await?;
    disks.of(follower)?.leave_free(100_000);
    ends_for_its_disk(&mut cluster, follower, "No space left").await?;
    workload.recorder().fault(format!("the disk of node {follower} is full"));
    workload.progress(100, PROGRESS_LIMIT).await?;
    disks.of(follower)?.free_space();
    disks.restart(follower, Left::Synced)?;
    cluster.start(follower)?;
    cluster.wait_ready(follower).await?;

    let provoked = [PROVOKED, &["ERROR*fatal*No space left", "RocksDB:*No space left"]];
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &provoked.concat()).await?;
    disks.passed();
    Ok(())
}

#[tokio::test]
async fn a_slow_disk_of_the_leader_delays_writes_and_refuses_none() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(mut disks) = Disks::mount_or_skip(3)? else { return Ok(()) };
    let mut cluster = Cluster::started(3, disks.options(busy())).await?;
    let workload = Workload::start(&cluster, load())?;

    workload.progress(50, PROGRESS_LIMIT).await?;
    let leader = cluster.leader().await?;
    disks.of(leader)?.set_faults(vec![Fault::SyncTakes(SLOW_SYNC)]);
    workload.recorder().fault(format!("each sync of the leader {leader} takes {SLOW_SYNC:?}"));
    workload.progress(300, PROGRESS_LIMIT).await?;
    anyhow::ensure!(cluster.leader().await? == leader, "a slow disk is no reason for an election");
    disks.of(leader)?.set_faults(Vec::new());

    let (history, _) = scenario::judge(&mut cluster, workload, RESUME_LIMIT, PROVOKED).await?;
    let refused = history.writes.iter().filter(|write| !write.is_acknowledged() && !write.must_be_refused).count();
    anyhow::ensure!(refused == 0, "{refused} writes were not acknowledged");
    disks.passed();
    Ok(())
}

#[tokio::test]
async fn a_node_that_cannot_read_its_disk_ends() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(mut disks) = Disks::mount_or_skip(1)? else { return Ok(()) };
    let mut cluster = Cluster::started(1, disks.options(Options::default())).await?;
    let workload = Workload::start(&cluster, load())?;
    workload.progress(200, PROGRESS_LIMIT).await?;
    let history = workload.stop().await?;
    cluster.terminate(1).await?;

    for path in ["/identity", "/log/", "/state/"] {
        disks.of(1)?.set_faults(vec![Fault::ReadFails { path }]);
        cluster.start(1)?;
        ends_for_its_disk(&mut cluster, 1, "Input/output error").await?;
    }
    // And in the middle of its work.
    disks.of(1)?.set_faults(Vec::new());
    cluster.start(1)?;
    cluster.wait_ready(1).await?;
    disks.of(1)?.set_faults(vec![Fault::ReadFails { path: ".sst" }]);
    let read = feed::read_all(cluster.client(), &cluster.bases(), 1000, Duration::ZERO).await;
    anyhow::ensure!(read.is_err(), "the disk was not read: {:?}", disks.of(1)?.counts());
    ends_for_its_disk(&mut cluster, 1, "Input/output error").await?;

    disks.of(1)?.set_faults(Vec::new());
    cluster.start(1)?;
    cluster.wait_ready(1).await?;
    check::none(&violations_of(&cluster, &history).await?)?;
    cluster.passed()?;
    disks.passed();
    Ok(())
}

/// The test of these tests: the same load, checkers and power cut, on disks that report a sync and
/// do nothing.
#[tokio::test]
async fn with_disks_that_do_not_sync_a_power_cut_loses_events_and_the_checkers_say_so() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(mut disks) = Disks::mount_or_skip(3)? else { return Ok(()) };
    let mut cluster = Cluster::started(3, disks.options(busy())).await?;
    let workload = Workload::start(&cluster, load())?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    for id in cluster.ids() {
        disks.of(id)?.set_faults(vec![Fault::SyncLies { path: "" }]);
    }
    workload.progress(200, PROGRESS_LIMIT).await?;
    let history = workload.stop().await?;
    check::none(&violations_of(&cluster, &history).await?)?;

    let lost = disks.cut(&mut cluster, &[1, 2, 3], |_| Left::Synced).await?;
    cluster.start_all()?;
    cluster.wait_all_ready().await?;
    let violations = violations_of(&cluster, &history).await?;
    let missing = violations.iter().filter(|violation| violation.rule == "stored").count();
    eprintln!("{lost:?}: {missing} acknowledged events are missing on the nodes");
    anyhow::ensure!(missing >= 3 * 190, "of 200 events only {missing} are reported as missing, on three nodes");
    cluster.passed()?;
    disks.passed();
    Ok(())
}

/// A disk that lies about the log and not about the mark of its end: the node cannot have what it
/// acknowledged, knows that, and refuses.
#[tokio::test]
async fn a_log_that_lost_what_was_synced_is_refused() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(mut disks) = Disks::mount_or_skip(1)? else { return Ok(()) };
    let mut cluster = Cluster::started(1, disks.options(Options::default())).await?;
    let workload = Workload::start(&cluster, load())?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    disks.of(1)?.set_faults(vec![Fault::SyncLies { path: ".log" }]);
    // Longer than the second after which the mark is synced at the latest.
    workload.progress(400, PROGRESS_LIMIT).await?;
    workload.stop().await?;

    disks.cut(&mut cluster, &[1], |_| Left::Synced).await?;
    cluster.start(1)?;
    ends_for_its_disk(&mut cluster, 1, "was acknowledged as stored").await?;
    cluster.passed()?;
    disks.passed();
    Ok(())
}

/// Waits until a node has ended by itself, for the reason that its disk gave.
async fn ends_for_its_disk(cluster: &mut Cluster, id: u16, reason: &str) -> anyhow::Result<()> {
    let log = cluster.ended_for_its_disk(id, END_LIMIT).await?;
    let log = log.with_context(|| format!("node {id} goes on, and must end for {reason:?}"))?;
    anyhow::ensure!(log.contains(reason), "node {id} must end for {reason:?}:\n{log}");
    Ok(())
}

async fn violations_of(cluster: &Cluster, history: &History) -> anyhow::Result<Vec<Violation>> {
    let feeds = feed::read_all(cluster.client(), &cluster.bases(), 1000, PROGRESS_LIMIT).await?;
    Ok(check::data(history, &feeds))
}
