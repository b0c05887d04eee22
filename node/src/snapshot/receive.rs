//! Receiving a snapshot: every chunk and every file is checked, and all of it is durable before it
//! counts.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use headwater_proto::raft::{SnapshotChunk, SnapshotPart, snapshot_part::Part};
use headwater_proto::stored;

use super::blocking;
use super::directory::{SnapshotDir, Unfinished, check_file_name};
use super::kept::SnapshotStore;
use crate::files::Space;

/// The receiver gives up when no chunk arrives for this long. A paced sender sends several a
/// second.
pub(super) const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Space that must stay free besides the files of a received snapshot: log and state grow
/// meanwhile.
const SPARE_BYTES: u64 = 128 << 20;

/// More files than any state database has. A larger header is refused before memory is allocated
/// for it.
const MAX_FILES: usize = 1_000_000;

/// Why a snapshot is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The sender broke the connection or sent nothing for [`CHUNK_TIMEOUT`].
    #[error("the transfer broke off: {0}")]
    Broken(String),
    /// The received data does not match the manifest; sending it again may help.
    #[error("the snapshot arrived damaged: {0}")]
    Damaged(String),
    /// The disk has no room for it.
    #[error(
        "the snapshot has {needed_bytes} bytes, and the file system of {} has {available_bytes} free: free space or give this server a \
         larger disk, and it is sent again", directory.display()
    )]
    NoRoom {
        /// Size of its files and of the space that must stay free.
        needed_bytes: u64,
        /// Free space.
        available_bytes: u64,
        /// The directory in which it would be received.
        directory: PathBuf,
    },
    /// An error of this node's disk.
    #[error("the snapshot cannot be written: {0}")]
    Disk(#[from] io::Error),
}

/// Reads the first part: the vote of the sending leader, and the manifest. A failed stream carries
/// the reason, for people.
pub(crate) async fn receive_header<S>(parts: &mut S) -> Result<(stored::Vote, stored::SnapshotManifest), ReceiveError>
where
    S: Stream<Item = Result<SnapshotPart, String>> + Unpin,
{
    let Some(SnapshotPart { part: Some(Part::Header(header)) }) = next_part(parts).await? else {
        return Err(ReceiveError::Damaged("the header is missing".to_owned()));
    };
    let vote = header.vote.ok_or_else(|| ReceiveError::Damaged("the vote is missing".to_owned()))?;
    let manifest = header.manifest.ok_or_else(|| ReceiveError::Damaged("the manifest is missing".to_owned()))?;
    if manifest.files.len() > MAX_FILES {
        return Err(ReceiveError::Damaged(format!("{} files", manifest.files.len())));
    }
    let mut names = std::collections::HashSet::new();
    for file in &manifest.files {
        check_file_name(&file.name).map_err(|error| ReceiveError::Damaged(error.to_string()))?;
        if !names.insert(file.name.as_str()) {
            return Err(ReceiveError::Damaged(format!("{} is listed twice", file.name)));
        }
    }
    Ok((vote, manifest))
}

/// Refuses a snapshot that would fill the disk, before gigabytes of it are written.
pub(crate) fn check_room(snapshots: &SnapshotStore, manifest: &stored::SnapshotManifest) -> Result<(), ReceiveError> {
    let directory = snapshots.incoming();
    let needed_bytes = manifest.files.iter().fold(SPARE_BYTES, |sum, file| sum.saturating_add(file.bytes));
    let available_bytes = Space::of(directory)?.available_bytes;
    if needed_bytes > available_bytes {
        return Err(ReceiveError::NoRoom { needed_bytes, available_bytes, directory: directory.to_owned() });
    }
    Ok(())
}

/// Receives all files into `incoming/`, checks every chunk and every file, and makes them durable.
pub(crate) async fn receive_files<S>(
    snapshots: &SnapshotStore,
    manifest: stored::SnapshotManifest,
    parts: &mut S,
) -> Result<Arc<SnapshotDir>, ReceiveError>
where
    S: Stream<Item = Result<SnapshotPart, String>> + Unpin,
{
    let mut incoming = Incoming::new(snapshots.new_incoming()?, manifest);
    while let Some(part) = next_part(parts).await? {
        let Some(Part::Chunk(chunk)) = part.part else {
            return Err(ReceiveError::Damaged("a second header".to_owned()));
        };
        incoming = off_thread(move || {
            incoming.write(&chunk)?;
            Ok(incoming)
        })
        .await?;
    }
    off_thread(move || incoming.finish()).await
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReceiveError> + Send + 'static,
) -> Result<T, ReceiveError> {
    blocking(move || Ok(work())).await?
}

async fn next_part<S>(parts: &mut S) -> Result<Option<SnapshotPart>, ReceiveError>
where
    S: Stream<Item = Result<SnapshotPart, String>> + Unpin,
{
    match tokio::time::timeout(CHUNK_TIMEOUT, parts.next()).await {
        Ok(part) => part.transpose().map_err(ReceiveError::Broken),
        Err(_) => Err(ReceiveError::Broken("no data for too long".to_owned())),
    }
}

/// A snapshot being received.
struct Incoming {
    work: Unfinished,
    manifest: stored::SnapshotManifest,
    /// The file being written: its number, bytes so far, checksum so far.
    open: Option<(File, u64, u32)>,
    /// Files that are complete, checked and synced.
    complete: usize,
}

impl Incoming {
    fn new(work: Unfinished, manifest: stored::SnapshotManifest) -> Self {
        Self { work, manifest, open: None, complete: 0 }
    }

    fn write(&mut self, chunk: &SnapshotChunk) -> Result<(), ReceiveError> {
        self.complete_empty_files()?;
        let Some(file) = self.manifest.files.get(self.complete) else {
            return Err(ReceiveError::Damaged("more data than the manifest says".to_owned()));
        };
        if crc32c::crc32c(&chunk.data) != chunk.crc32c {
            return Err(ReceiveError::Damaged(format!("{} at {}: wrong checksum", file.name, chunk.offset)));
        }
        let (mut handle, written, crc) = match self.open.take() {
            Some(open) => open,
            None => (File::create_new(self.work.path().join(&file.name))?, 0, 0),
        };
        let in_order = chunk.file as usize == self.complete && chunk.offset == written && !chunk.data.is_empty();
        let total = written + chunk.data.len() as u64;
        if !in_order || total > file.bytes {
            return Err(ReceiveError::Damaged(format!("{} at {}: out of order", file.name, chunk.offset)));
        }
        handle.write_all(&chunk.data)?;
        let open = (handle, total, crc32c::crc32c_append(crc, &chunk.data));
        if total < file.bytes {
            self.open = Some(open);
            return Ok(());
        }
        self.complete_file(open)
    }

    fn complete_file(&mut self, (handle, _, crc): (File, u64, u32)) -> Result<(), ReceiveError> {
        let file = &self.manifest.files[self.complete];
        if crc != file.crc32c {
            return Err(ReceiveError::Damaged(format!("{}: wrong checksum", file.name)));
        }
        handle.sync_all()?;
        self.complete += 1;
        Ok(())
    }

    /// A file without content has no chunk.
    fn complete_empty_files(&mut self) -> Result<(), ReceiveError> {
        while self.open.is_none()
            && let Some(file) = self.manifest.files.get(self.complete)
            && file.bytes == 0
        {
            let handle = File::create_new(self.work.path().join(&file.name))?;
            self.complete_file((handle, 0, 0))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Arc<SnapshotDir>, ReceiveError> {
        self.complete_empty_files()?;
        if self.complete < self.manifest.files.len() {
            return Err(ReceiveError::Broken(format!(
                "{} of {} files arrived",
                self.complete,
                self.manifest.files.len()
            )));
        }
        Ok(self.work.into_received(self.manifest)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::super::tests::{Fixture, fixture, parts_of, vote};
    use super::*;

    async fn receive(fixture: &Fixture, parts: Vec<SnapshotPart>) -> Result<Arc<SnapshotDir>, ReceiveError> {
        let mut parts = futures::stream::iter(parts.into_iter().map(Ok));
        let (from, manifest) = receive_header(&mut parts).await?;
        assert_eq!(from, vote());
        receive_files(&fixture.snapshots, manifest, &mut parts).await
    }

    #[tokio::test]
    async fn a_snapshot_arrives_as_it_was_sent() {
        let fixture = fixture();
        let received = receive(&fixture, parts_of(&fixture.source).await).await.unwrap();
        assert_eq!(fs::read(received.path().join("1.sst")).unwrap(), fixture.content);
        assert_eq!(fs::read(received.path().join("EMPTY")).unwrap(), b"");
        assert_eq!(received.manifest(), fixture.source.manifest());
        SnapshotDir::open(received.path()).unwrap();
    }

    #[tokio::test]
    async fn a_corrupted_chunk_is_refused_and_nothing_stays() {
        let fixture = fixture();
        let mut parts = parts_of(&fixture.source).await;
        let Some(Part::Chunk(chunk)) = &mut parts[2].part else { panic!("no chunk") };
        let mut data = chunk.data.to_vec();
        data[9] ^= 1;
        chunk.data = data.into();
        assert!(matches!(receive(&fixture, parts).await, Err(ReceiveError::Damaged(_))));
        let left = || fs::read_dir(fixture.data.path().join("incoming")).unwrap().count();
        let deadline = Instant::now() + Duration::from_secs(10);
        while left() > 1 {
            assert!(Instant::now() < deadline, "more than the source of this test stays");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn chunks_that_check_but_are_not_the_manifests_file_are_refused() {
        let fixture = fixture();
        let mut parts = parts_of(&fixture.source).await;
        let Some(Part::Chunk(chunk)) = &mut parts[2].part else { panic!("no chunk") };
        chunk.data = vec![7; chunk.data.len()].into();
        chunk.crc32c = crc32c::crc32c(&chunk.data);
        assert!(matches!(receive(&fixture, parts).await, Err(ReceiveError::Damaged(_))));
    }

    #[tokio::test]
    async fn a_transfer_that_ends_early_or_skips_a_chunk_is_refused() {
        let fixture = fixture();
        let parts = parts_of(&fixture.source).await;
        let mut short = parts.clone();
        short.pop();
        assert!(matches!(receive(&fixture, short).await, Err(ReceiveError::Broken(_))));
        let mut gap = parts.clone();
        gap.remove(2);
        assert!(matches!(receive(&fixture, gap).await, Err(ReceiveError::Damaged(_))));
        let mut twice = parts;
        twice.push(twice[4].clone());
        assert!(matches!(receive(&fixture, twice).await, Err(ReceiveError::Damaged(_))));
    }

    #[tokio::test]
    async fn a_manifest_that_leads_out_of_the_directory_is_refused() {
        let fixture = fixture();
        let mut parts = parts_of(&fixture.source).await;
        let Some(Part::Header(header)) = &mut parts[0].part else { panic!("no header") };
        header.manifest.as_mut().unwrap().files[0].name = "../../identity".to_owned();
        assert!(matches!(receive(&fixture, parts).await, Err(ReceiveError::Damaged(_))));
    }

    #[test]
    fn a_snapshot_that_does_not_fit_is_refused_before_it_is_received() {
        let fixture = fixture();
        let mut manifest = fixture.source.manifest().clone();
        check_room(&fixture.snapshots, &manifest).unwrap();
        for file in &mut manifest.files {
            file.bytes = u64::MAX / 2;
        }
        let refusal = check_room(&fixture.snapshots, &manifest).unwrap_err();
        assert!(matches!(refusal, ReceiveError::NoRoom { needed_bytes: u64::MAX, .. }), "{refusal}");
        assert!(refusal.to_string().contains("free space"), "{refusal}");
    }
}
