//! Sending and receiving a snapshot: its manifest, then every file in order, in checksummed chunks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use headwater_proto::raft::{SnapshotChunk, SnapshotHeader, SnapshotPart, snapshot_part::Part};
use headwater_proto::stored;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::codec;
use super::snapshot::{SnapshotDir, SnapshotStore, Unfinished, blocking, check_file_name};
use super::types::Vote;
use crate::fatal;
use crate::files::Space;

/// Bytes of a file in one chunk: large enough that the per-message cost vanishes, small enough to pace smoothly.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 4;

/// The receiver gives up when no chunk arrives for this long; a paced sender sends several a second.
pub const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// The sender gives up when the connection takes no part for this long: later than a receiver that gets none, so that its word comes first.
/// There is no deadline for the whole, which takes as long as the network needs for it.
const SEND_STALL: Duration = Duration::from_secs(60);

/// Time for what follows the last chunk: what is on the way still, syncing, opening and swapping the state.
const INSTALL_GRACE: Duration = Duration::from_secs(600);

/// What has to be free besides the files of a snapshot that is received: log and state go on meanwhile.
const SPARE_BYTES: u64 = 128 << 20;

/// A receiver whose disk does not take a snapshot is offered the next after this pause: space is seldom made within a second.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// More files than any state database has; a header beyond that is refused before anything is allocated for it.
const MAX_FILES: usize = 1_000_000;

/// Why a snapshot is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The sender broke the connection or sent nothing for [`CHUNK_TIMEOUT`].
    #[error("the transfer broke off: {0}")]
    Broken(String),
    /// What arrived is not what the manifest says; sending it again may help.
    #[error("the snapshot arrived damaged: {0}")]
    Damaged(String),
    /// It would not fit.
    #[error(
        "the snapshot has {needed_bytes} bytes, and the file system of {} has {available_bytes} free: free space or give this server a \
         larger disk, and it is sent again", directory.display()
    )]
    NoRoom {
        /// Size of its files and what has to stay free.
        needed_bytes: u64,
        /// What is free.
        available_bytes: u64,
        /// Where it would be received.
        directory: PathBuf,
    },
    /// This node's disk.
    #[error("the snapshot cannot be written: {0}")]
    Disk(#[from] io::Error),
}

/// Why a snapshot of this node cannot be sent.
#[derive(Debug, thiserror::Error)]
enum ReadFailure {
    /// A file is not what the manifest says, or cannot be read any more.
    #[error("{}: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    /// Another attempt may succeed.
    #[error("{}: {error}", path.display())]
    Disk { path: PathBuf, error: io::Error },
}

impl ReadFailure {
    fn of(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        let gone = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound);
        if gone || error.raw_os_error() == Some(libc::EIO) {
            return Self::Damaged { path, what: error.to_string() };
        }
        Self::Disk { path, error }
    }
}

/// Tells when a transfer is stuck. The value under watch: whether the last part was taken.
pub struct Progress(watch::Receiver<bool>);

impl Progress {
    /// Of a transfer whose parts pass through the stream returned.
    pub fn of<S: Stream>(parts: S) -> (Self, impl Stream<Item = S::Item>) {
        let (taken, progress) = watch::channel(false);
        let all_taken = taken.clone();
        let end = futures::stream::poll_fn(move |_| {
            all_taken.send_replace(true);
            Poll::Ready(None)
        });
        let part_taken = move |_: &S::Item| {
            taken.send_replace(false);
        };
        (Self(progress), parts.inspect(part_taken).chain(end))
    }

    /// Waits until no part was taken for [`SEND_STALL`], or until [`INSTALL_GRACE`] after the last one.
    pub async fn ceases(self) {
        self.ceases_within(SEND_STALL, INSTALL_GRACE).await;
    }

    async fn ceases_within(mut self, stall: Duration, grace: Duration) {
        loop {
            let patience = if *self.0.borrow_and_update() { grace } else { stall };
            match tokio::time::timeout(patience, self.0.changed()).await {
                Ok(Ok(())) => {}
                // The connection has let go of the stream, after its end as a rule.
                Ok(Err(_)) => return tokio::time::sleep(grace).await,
                Err(_) => return,
            }
        }
    }
}

/// The parts of a snapshot, read by a thread of their own at no more than the given rate. The thread ends when the stream is dropped.
pub fn send(
    directory: Arc<SnapshotDir>,
    vote: &Vote,
    bytes_per_second: u64,
) -> impl Stream<Item = SnapshotPart> + use<> {
    let (parts, stream) = mpsc::channel(CHUNKS_AHEAD);
    let header =
        SnapshotHeader { vote: Some(codec::vote_to_message(vote)), manifest: Some(directory.manifest().clone()) };
    let spawned = std::thread::Builder::new().name("snapshot-send".to_owned()).spawn(move || {
        // The receiver sees a stream that ends too early and refuses it; the sender hears of that in the answer.
        match read_parts(&directory, header, bytes_per_second, &parts) {
            Ok(()) => {}
            // It would be sent again and again, and no node that needs it could ever take part. Another leader has its own copy.
            Err(error @ ReadFailure::Damaged { .. }) => {
                let what = "a file of this node's snapshot is damaged, and the state may share it: start the node on an empty data \
                            directory with --rejoin";
                fatal::stop(what, &error);
            }
            Err(error @ ReadFailure::Disk { .. }) => tracing::error!(%error, "a snapshot cannot be read"),
        }
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread to send a snapshot");
    }
    ReceiverStream::new(stream)
}

fn read_parts(
    directory: &SnapshotDir,
    header: SnapshotHeader,
    bytes_per_second: u64,
    parts: &mpsc::Sender<SnapshotPart>,
) -> Result<(), ReadFailure> {
    let started = Instant::now();
    let mut sent = 0;
    if parts.blocking_send(SnapshotPart { part: Some(Part::Header(header)) }).is_err() {
        return Ok(());
    }
    for (number, file) in directory.manifest().files.iter().enumerate() {
        let path = directory.path().join(&file.name);
        let mut reader = File::open(&path).map_err(|error| ReadFailure::of(&path, error))?;
        let (mut offset, mut crc) = (0, 0);
        while offset < file.bytes {
            let length = (file.bytes - offset).min(CHUNK_BYTES as u64);
            let mut data = vec![0; length as usize];
            reader.read_exact(&mut data).map_err(|error| ReadFailure::of(&path, error))?;
            crc = crc32c::crc32c_append(crc, &data);
            if offset + length == file.bytes && crc != file.crc32c {
                return Err(ReadFailure::Damaged { path, what: "wrong checksum".to_owned() });
            }
            let chunk = SnapshotChunk { file: number as u32, offset, crc32c: crc32c::crc32c(&data), data: data.into() };
            if parts.blocking_send(SnapshotPart { part: Some(Part::Chunk(chunk)) }).is_err() {
                return Ok(());
            }
            offset += length;
            sent += length;
            let due = Duration::from_secs_f64(sent as f64 / bytes_per_second.max(1) as f64);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
    Ok(())
}

/// Reads the first part.
pub async fn receive_header<S>(parts: &mut S) -> Result<(Vote, stored::SnapshotManifest), ReceiveError>
where
    S: Stream<Item = Result<SnapshotPart, tonic::Status>> + Unpin,
{
    let Some(SnapshotPart { part: Some(Part::Header(header)) }) = next_part(parts).await? else {
        return Err(ReceiveError::Damaged("the header is missing".to_owned()));
    };
    let vote = header.vote.as_ref().ok_or_else(|| ReceiveError::Damaged("the vote is missing".to_owned()))?;
    let vote = codec::vote_from_message(vote).map_err(|error| ReceiveError::Damaged(error.to_string()))?;
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

/// Refuses a snapshot that would fill the disk before gigabytes of it are written.
pub fn check_room(snapshots: &SnapshotStore, manifest: &stored::SnapshotManifest) -> Result<(), ReceiveError> {
    let directory = snapshots.incoming();
    let needed_bytes = manifest.files.iter().fold(SPARE_BYTES, |sum, file| sum.saturating_add(file.bytes));
    let available_bytes = Space::of(directory)?.available_bytes;
    if needed_bytes > available_bytes {
        return Err(ReceiveError::NoRoom { needed_bytes, available_bytes, directory: directory.to_owned() });
    }
    Ok(())
}

/// Receives all files into `incoming/`, checks every chunk and every file, and makes them durable.
pub async fn receive_files<S>(
    snapshots: &SnapshotStore,
    manifest: stored::SnapshotManifest,
    parts: &mut S,
) -> Result<Arc<SnapshotDir>, ReceiveError>
where
    S: Stream<Item = Result<SnapshotPart, tonic::Status>> + Unpin,
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
    S: Stream<Item = Result<SnapshotPart, tonic::Status>> + Unpin,
{
    match tokio::time::timeout(CHUNK_TIMEOUT, parts.next()).await {
        Ok(part) => part.transpose().map_err(|status| ReceiveError::Broken(status.message().to_owned())),
        Err(_) => Err(ReceiveError::Broken("no data for too long".to_owned())),
    }
}

/// A snapshot on its way in.
struct Incoming {
    work: Unfinished,
    manifest: stored::SnapshotManifest,
    /// The file being written: its number, bytes so far, checksum so far.
    open: Option<(File, u64, u32)>,
    /// Files complete, checked and synced.
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

    /// Files without a byte have no chunk.
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

    use super::super::snapshot::tests::fabricate;
    use super::super::types::NodeId;
    use super::*;
    use crate::metrics::Metrics;

    const RATE: u64 = 1 << 40;

    struct Fixture {
        data: tempfile::TempDir,
        snapshots: SnapshotStore,
        source: Arc<SnapshotDir>,
        content: Vec<u8>,
    }

    /// A snapshot with a file of several chunks, an empty one and a small one.
    fn fixture() -> Fixture {
        let data = tempfile::tempdir().unwrap();
        let snapshots = SnapshotStore::open(data.path(), Metrics::new()).unwrap();
        let content: Vec<u8> = (0..CHUNK_BYTES * 2 + 17).map(|i| i as u8).collect();
        let source = fabricate(&snapshots, 5, &[("1.sst", &content), ("EMPTY", b""), ("last", b"end")]);
        Fixture { data, snapshots, source, content }
    }

    async fn parts_of(source: &Arc<SnapshotDir>) -> Vec<SnapshotPart> {
        send(source.clone(), &Vote::new_committed(3, NodeId(1)), RATE).collect().await
    }

    async fn receive(fixture: &Fixture, parts: Vec<SnapshotPart>) -> Result<Arc<SnapshotDir>, ReceiveError> {
        let mut parts = futures::stream::iter(parts.into_iter().map(Ok));
        let (vote, manifest) = receive_header(&mut parts).await?;
        assert_eq!(vote, Vote::new_committed(3, NodeId(1)));
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

    #[test]
    fn a_damaged_file_is_found_by_the_node_that_sends_it() {
        let fixture = fixture();
        let path = fixture.source.path().join("1.sst");
        let read = || {
            let (parts, _stream) = mpsc::channel(16);
            let header = SnapshotHeader { vote: None, manifest: None };
            read_parts(&fixture.source, header, RATE, &parts)
        };
        read().unwrap();
        let mut damaged = fixture.content.clone();
        damaged[CHUNK_BYTES + 9] ^= 1;
        for content in [&damaged[..], &fixture.content[1..]] {
            fs::write(&path, content).unwrap();
            let failure = read().unwrap_err();
            assert!(matches!(&failure, ReadFailure::Damaged { path: named, .. } if *named == path), "{failure}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(), Err(ReadFailure::Damaged { .. })));
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

    #[tokio::test]
    async fn a_transfer_may_take_as_long_as_it_goes_on() {
        const STALL: Duration = Duration::from_secs(1);
        const GRACE: Duration = Duration::from_millis(300);
        const PAUSE: Duration = Duration::from_millis(200);
        const PARTS: u32 = 8;
        let (parts, source) = mpsc::channel::<()>(1);
        let (progress, taken) = Progress::of(ReceiverStream::new(source));
        tokio::spawn(taken.collect::<Vec<_>>());
        tokio::spawn(async move {
            for _ in 0..PARTS {
                tokio::time::sleep(PAUSE).await;
                parts.send(()).await.unwrap();
            }
        });
        let started = Instant::now();
        progress.ceases_within(STALL, GRACE).await;
        assert!(started.elapsed() >= PAUSE * PARTS + GRACE, "given up after {:?}", started.elapsed());

        let (progress, _untaken) = Progress::of(futures::stream::pending::<()>());
        let started = Instant::now();
        progress.ceases_within(STALL, 100 * STALL).await;
        assert!(started.elapsed() < 50 * STALL, "nothing was taken");
    }
}
