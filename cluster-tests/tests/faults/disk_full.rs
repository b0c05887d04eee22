//! A full disk: a clear end, and nothing acknowledged is lost.

use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::history::{Answer, Attempt, History, Recorder, SentEvent, Write};
use headwater_cluster_tests::tmpfs::SmallDisk;
use headwater_cluster_tests::{check, feed, serial};
use rand::RngExt;

/// Room for log and state of a node while the ballast is gone, with a margin for compaction.
const DISK_BYTES: u64 = 512 << 20;

/// The space freed after the crash.
const BALLAST_BYTES: u64 = 384 << 20;

/// Big events fill quickly.
const EVENT_BYTES: usize = 256 << 10;

/// More than can fit: a node that has not failed by then has not noticed.
const MOST_EVENTS: u64 = 4 * DISK_BYTES / EVENT_BYTES as u64;

/// Room for a node that does little.
const START_DISK_BYTES: u64 = 128 << 20;

/// A page of big events must stay small enough for one answer.
const PAGE: usize = 8;

#[tokio::test]
async fn a_node_with_a_full_disk_stops_and_comes_back_with_everything() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(disk) = SmallDisk::mount_or_skip(DISK_BYTES) else { return Ok(()) };
    let ballast = disk.ballast(BALLAST_BYTES)?;
    // Alone, so that every acknowledgement rests on this one disk.
    let options = Options { data_dirs: vec![(1, disk.path().join("data"))], ..Options::default() };
    let mut cluster = Cluster::started(1, options).await?;

    let recorder = Recorder::default();
    for number in 0.. {
        anyhow::ensure!(number < MOST_EVENTS, "{number} events of {EVENT_BYTES} bytes fit on a disk of {DISK_BYTES}");
        let write = append_big_event(&cluster, &recorder, number).await;
        let acknowledged = write.is_acknowledged();
        recorder.write(write);
        if !acknowledged {
            break;
        }
    }
    let log = cluster.ended_for_its_disk(1, Duration::from_secs(10)).await?.context("it goes on with a full disk")?;
    anyhow::ensure!(log.contains("fatal") && log.contains("No space left"), "no clear fatal line:\n{log}");

    std::fs::remove_file(ballast)?;
    cluster.start(1)?;
    cluster.wait_ready(1).await?;
    let write = append_big_event(&cluster, &recorder, MOST_EVENTS).await;
    anyhow::ensure!(write.is_acknowledged(), "with space again writes must go on: {:?}", write.attempts);
    recorder.write(write);

    let history: History = recorder.snapshot();
    let feeds = feed::read_all(cluster.client(), &cluster.bases(), PAGE, Duration::from_secs(1)).await?;
    // The write that met the full disk stays without an answer, as it must.
    let violations: Vec<_> =
        check::data(&history, &feeds).into_iter().filter(|violation| violation.rule != "answered").collect();
    check::none(&violations)?;
    eprintln!("{} events acknowledged before and after", history.acknowledged_events());
    cluster.passed()?;
    Ok(())
}

#[tokio::test]
async fn a_start_on_a_full_disk_ends_with_the_code_of_a_full_disk() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    for has_data in [false, true] {
        let Some(disk) = SmallDisk::mount_or_skip(START_DISK_BYTES) else { return Ok(()) };
        let options = Options { data_dirs: vec![(1, disk.path().join("data"))], ..Options::default() };
        let mut cluster = Cluster::new(1, options)?;
        if has_data {
            cluster.start(1)?;
            cluster.wait_ready(1).await?;
            cluster.terminate(1).await?;
        }
        // As much as there is.
        let _ = disk.ballast(START_DISK_BYTES);
        cluster.start(1)?;
        let log = cluster.ended_for_its_disk(1, Duration::from_secs(30)).await?.context("it goes on")?;
        anyhow::ensure!(log.contains("No space left"), "with data: {has_data}:\n{log}");
    }
    Ok(())
}

async fn append_big_event(cluster: &Cluster, recorder: &Recorder, number: u64) -> Write {
    let mut random = rand::rng();
    let payload: String = (0..EVENT_BYTES).map(|_| char::from(random.random_range(b'!'..=b'Z'))).collect();
    let payload = payload.replace('"', "x");
    let event = SentEvent {
        id: uuid::Uuid::new_v4().to_string(),
        event_type: "big".to_owned(),
        stored_data: format!("{{\n  \"number\": {number},\n  \"payload\": \"{payload}\"\n}}"),
    };
    let mut write = Write {
        stream: "big".to_owned(),
        expected_version: -2,
        events: vec![event],
        must_be_refused: false,
        attempts: Vec::new(),
    };
    let sent_at = recorder.now();
    let answer: Answer = cluster.client().append(&cluster.base(1), &write.stream, -2, &write.events).await;
    write.attempts.push(Attempt { node: 1, sent_at, answered_at: recorder.now(), answer });
    write
}
