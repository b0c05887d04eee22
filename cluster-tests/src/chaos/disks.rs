//! Disks that are slow, full, or cannot sync or read; and files of a stopped node that have
//! changed.
//!
//! A node whose disk fails it has to end with the exit code for that. Then its disk is good again
//! and has what was synced, or by a seed some of the rest, and the node comes back with the others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::nemesis::Nemesis;
use super::schedule::Blow;
use super::strike::Field;
use super::{power, upkeep};
use crate::cluster::Cluster;
use crate::disk::Fault;
use crate::feed::{FeedReader, NodeFeed};
use crate::files;

/// A slow disk takes at most so much longer for each sync.
const LONGEST_SYNC_MS: u64 = 300;

/// Bytes that a full disk still takes: what a node has begun, and not the next table.
const LEFT_FREE_BYTES: u64 = 100_000;

/// A node that meets a broken disk ends within this, if its load reaches the disk at all.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Events per page when the log of a node with a changed byte is read.
const PAGE: usize = 512;

/// Log lines that a kind of fault provokes on the node whose disk it strikes.
pub(super) fn provoked(nemesis: Nemesis) -> &'static [&'static str] {
    match nemesis {
        Nemesis::SyncError | Nemesis::ReadError => &["ERROR*fatal*Input/output error", "RocksDB:*Input/output error"],
        Nemesis::FullDisk => {
            &["ERROR*fatal*No space left", "RocksDB:*No space left", "RocksDB:*free space*is less than"]
        }
        _ => &[],
    }
}

/// A disk that is slow.
pub(super) struct Slowed {
    node: u16,
    /// Slow syncs before.
    before: u64,
}

impl Slowed {
    /// Whether a sync has taken longer.
    pub(super) fn has_effect(&self, field: &Field) -> anyhow::Result<bool> {
        Ok(field.disks()?.of(self.node)?.counts().slow_syncs > self.before)
    }
}

/// The disk of a node is slow from now on. `None` if no node runs.
pub(super) async fn slow(field: &mut Field, blow: &Blow) -> anyhow::Result<Option<Slowed>> {
    let Some(node) = victim(field, blow).await else { return Ok(None) };
    let longer = Duration::from_millis(1 + (blow.pick >> 33) % LONGEST_SYNC_MS);
    let disk = field.disks()?.of(node)?;
    let before = disk.counts().slow_syncs;
    disk.set_faults(vec![Fault::SyncTakes(longer)]);
    field.note(blow.nemesis.name(), &format!("node {node}, {longer:?} longer"));
    Ok(Some(Slowed { node, before }))
}

/// The disk of a node fails, until the node has ended; returns whether it has.
pub(super) async fn fail(field: &mut Field, blow: &Blow) -> anyhow::Result<bool> {
    let Some(node) = victim(field, blow).await else { return Ok(false) };
    field.note(blow.nemesis.name(), &format!("node {node}"));
    let disk = field.disks()?.of(node)?;
    match blow.nemesis {
        Nemesis::SyncError => disk.set_faults(vec![Fault::SyncFails { path: "", times: None }]),
        Nemesis::ReadError => disk.set_faults(vec![Fault::ReadFails { path: "" }]),
        _ => disk.leave_free(LEFT_FREE_BYTES),
    }
    if field.cluster.ended_for_its_disk(node, END_LIMIT).await?.is_none() {
        // Cut off or without load, it may not have asked its disk for anything, and must not do so
        // just when it is wanted again.
        field.disks()?.heal();
        return Ok(false);
    }
    field.disks_mut()?.restart(node, power::left(blow, node))?;
    field.went_down(&[node], None);
    Ok(true)
}

/// A byte changes in a file of a stopped node, which starts with it: it may refuse, and name the
/// file, at the start or later, and must not show anything but the log. Its disk is replaced then.
pub(super) async fn rot(field: &mut Field, node: u16, blow: &Blow) -> anyhow::Result<bool> {
    // The disk is lost in the end, and with a second one a majority would be.
    field.cluster.wait_all_ready().await?;
    let status = field.cluster.terminate(node).await?;
    anyhow::ensure!(status.success(), "an ordered shutdown of node {node} ended with {status}");
    let (file, offset) = place(field.cluster.data_dir(node), blow.pick)?;
    files::flip_byte(&file, offset)?;
    field.cluster.start(node)?;
    let refused = refuses(&mut field.cluster, node, &file).await?;
    field.note(blow.nemesis.name(), &format!("node {node}, byte {offset} of {}, refused {refused}", file.display()));
    field.damaged.push(field.cluster.last_log_name(node));
    let cluster = &mut field.cluster;
    if !refused {
        cluster.kill(node).await?;
    }
    cluster.wipe(node)?;
    cluster.start_with(node, &["--rejoin"])?;
    cluster.wait_ready(node).await?;
    Ok(true)
}

/// A node that runs: the leader, or another one.
async fn victim(field: &Field, blow: &Blow) -> Option<u16> {
    let free = field.free();
    let any = free.get(blow.pick as usize % free.len().max(1)).copied();
    match blow.pick >> 32 & 1 {
        0 => upkeep::leader(&field.cluster, &free).await.or(any),
        _ => any,
    }
}

/// Whether a node with a changed file has refused, at its start or when all of its log was read.
async fn refuses(cluster: &mut Cluster, node: u16, file: &Path) -> anyhow::Result<bool> {
    let serves = match cluster.wait_ready(node).await {
        Ok(()) => true,
        Err(_) if cluster.exited(node)?.is_some() => false,
        Err(error) => return Err(error),
    };
    if serves && let Ok(shown) = read(cluster, node).await {
        let other = cluster.ids().into_iter().find(|id| *id != node).context("no other node")?;
        let right = read(cluster, other).await?;
        let is_same = shown.events.iter().zip(&right.events).all(|(shown, right)| shown == right);
        anyhow::ensure!(is_same, "node {node} with a changed byte in {} shows another log", file.display());
        return Ok(false);
    }
    let log = cluster.ended_for_its_disk(node, END_LIMIT).await?;
    let log = log.with_context(|| format!("node {node} cannot be read and goes on"))?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    anyhow::ensure!(log.contains(&name), "node {node} does not name {}:\n{log}", file.display());
    Ok(true)
}

async fn read(cluster: &Cluster, node: u16) -> anyhow::Result<NodeFeed> {
    let mut reader = FeedReader::new(node, &cluster.base(node), PAGE);
    reader.read_on(cluster.client()).await?;
    Ok(reader.into_feed())
}

/// A byte in one of the files that a node reads.
fn place(data_dir: &Path, pick: u64) -> anyhow::Result<(PathBuf, u64)> {
    let is_read = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        !["LOG", "LOCK", "IDENTITY", "OPTIONS"].iter().any(|ignored| name.starts_with(ignored))
    };
    let length = |path: &PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
    let mut files = files::files_below(data_dir)?;
    files.retain(|path| is_read(path) && length(path) > 0);
    anyhow::ensure!(!files.is_empty(), "there are no files in {}", data_dir.display());
    let file = files.swap_remove(pick as usize % files.len());
    let offset = (pick >> 16) % length(&file);
    Ok((file, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_changes_in_a_file_that_is_read() {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in [("LOG", "a"), ("LOCK", ""), ("CURRENT", "abc"), ("000004.log", "")] {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        for pick in [0, 1 << 16, 5 << 16 | 7] {
            let (file, offset) = place(directory.path(), pick).unwrap();
            assert_eq!((file, offset), (directory.path().join("CURRENT"), (pick >> 16) % 3));
        }
        std::fs::remove_file(directory.path().join("CURRENT")).unwrap();
        assert!(place(directory.path(), 0).is_err());
    }
}
