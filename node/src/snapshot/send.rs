//! Sending a snapshot: its manifest, then every file in order, in checksummed chunks.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use headwater_proto::raft::{SnapshotChunk, SnapshotHeader, SnapshotPart, snapshot_part::Part};
use headwater_proto::stored;
use rustix::io::Errno;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::directory::SnapshotDir;
use crate::deliberate::{self, Fault};
use crate::fatal;

/// Bytes of a file in one chunk: large enough to make the cost per message negligible, small enough
/// for smooth pacing.
pub(super) const CHUNK_BYTES: usize = 512 << 10;

/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 4;

/// The sender gives up when the connection takes no part for this long. This is longer than a
/// receiver waits, so that the receiver reports first. There is no deadline for the whole transfer,
/// which takes as long as the network needs.
const SEND_STALL: Duration = Duration::from_secs(60);

/// Time for the work after the last chunk: data in flight, syncing, opening and swapping the state.
const INSTALL_GRACE: Duration = Duration::from_secs(600);

/// A receiver whose disk has no room for a snapshot is offered the next one after this pause: space
/// is seldom freed within a second.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Why this node cannot send a snapshot.
#[derive(Debug, thiserror::Error)]
enum ReadFailure {
    /// A file does not match the manifest, or can no longer be read.
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
        if gone || Errno::from_io_error(&error) == Some(Errno::IO) {
            return Self::Damaged { path, what: error.to_string() };
        }
        Self::Disk { path, error }
    }
}

/// Detects a stalled transfer. The watched value: whether the last part was taken.
pub(crate) struct TransferWatch(watch::Receiver<bool>);

impl TransferWatch {
    /// Watches a transfer whose parts pass through the returned stream.
    pub(crate) fn of<S: Stream>(parts: S) -> (Self, impl Stream<Item = S::Item>) {
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

    /// Waits until no part was taken for [`SEND_STALL`], or until [`INSTALL_GRACE`] after the last
    /// part.
    pub(crate) async fn stalled(self) {
        self.stalled_within(SEND_STALL, INSTALL_GRACE).await;
    }

    async fn stalled_within(mut self, stall: Duration, grace: Duration) {
        loop {
            let patience = if *self.0.borrow_and_update() { grace } else { stall };
            match tokio::time::timeout(patience, self.0.changed()).await {
                Ok(Ok(())) => {}
                // The connection has dropped the stream, usually after its end.
                Ok(Err(_)) => return tokio::time::sleep(grace).await,
                Err(_) => return,
            }
        }
    }
}

/// The parts of a snapshot, sent in the name of the leader in `vote`. A separate thread reads them
/// at no more than the given rate; it ends when the stream is dropped.
pub(crate) fn send(
    directory: Arc<SnapshotDir>,
    vote: stored::Vote,
    bytes_per_second: u64,
) -> impl Stream<Item = SnapshotPart> + use<> {
    let (parts, stream) = mpsc::channel(CHUNKS_AHEAD);
    let header = SnapshotHeader { vote: Some(vote), manifest: Some(directory.manifest().clone()) };
    #[cfg(test)]
    if crate::threads::simulated::is_on() {
        let mut parts = Vec::new();
        read_or_stop(&directory, header, |part, _| {
            parts.push(part);
            ControlFlow::Continue(())
        });
        return futures::stream::iter(parts).left_stream();
    }
    let spawned = std::thread::Builder::new().name("snapshot-send".to_owned()).spawn(move || {
        let started = Instant::now();
        read_or_stop(&directory, header, |part, sent_bytes| {
            send_paced(&parts, part, started, sent_bytes, bytes_per_second)
        });
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread to send a snapshot");
    }
    let stream = ReceiverStream::new(stream);
    #[cfg(test)]
    let stream = stream.right_stream();
    stream
}

/// Hands over a part, and waits until it is due for all bytes so far.
#[expect(clippy::disallowed_methods, reason = "runs on the thread that reads the snapshot")]
fn send_paced(
    parts: &mpsc::Sender<SnapshotPart>,
    part: SnapshotPart,
    started: Instant,
    sent_bytes: u64,
    bytes_per_second: u64,
) -> ControlFlow<()> {
    if parts.blocking_send(part).is_err() {
        return ControlFlow::Break(());
    }
    let due = Duration::from_secs_f64(sent_bytes as f64 / bytes_per_second.max(1) as f64);
    std::thread::sleep(due.saturating_sub(started.elapsed()));
    ControlFlow::Continue(())
}

fn read_or_stop(
    directory: &SnapshotDir,
    header: SnapshotHeader,
    take: impl FnMut(SnapshotPart, u64) -> ControlFlow<()>,
) {
    // The receiver refuses a stream that ends too early, and the sender learns of it from the
    // answer.
    match read_parts(directory, header, take) {
        Ok(()) => {}
        // It would be sent again and again, and no node that needs it could ever take part. Another
        // leader has its own copy.
        Err(error @ ReadFailure::Damaged { .. }) => {
            let what = "a file of this node's snapshot is damaged, and the state may share it: start the node on an empty data \
                        directory with --rejoin";
            fatal::stop(what, &error);
        }
        Err(error @ ReadFailure::Disk { .. }) => tracing::error!(%error, "a snapshot cannot be read"),
    }
}

/// Gives `take` each part, with the bytes of files read so far, until it breaks off.
fn read_parts(
    directory: &SnapshotDir,
    header: SnapshotHeader,
    mut take: impl FnMut(SnapshotPart, u64) -> ControlFlow<()>,
) -> Result<(), ReadFailure> {
    let mut sent = 0;
    if take(SnapshotPart { part: Some(Part::Header(header)) }, sent).is_break() {
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
            let is_last = number + 1 == directory.manifest().files.len() && offset + length == file.bytes;
            if is_last && deliberate::is(Fault::DropLastChunk) {
                return Ok(());
            }
            offset += length;
            sent += length;
            if take(SnapshotPart { part: Some(Part::Chunk(chunk)) }, sent).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::fixture;
    use super::*;

    #[test]
    fn a_damaged_file_is_found_by_the_node_that_sends_it() {
        let fixture = fixture();
        let path = fixture.source.path().join("1.sst");
        let read = || {
            let header = SnapshotHeader { vote: None, manifest: None };
            read_parts(&fixture.source, header, |_, _| ControlFlow::Continue(()))
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
    async fn a_transfer_may_take_as_long_as_it_makes_progress() {
        const STALL: Duration = Duration::from_secs(1);
        const GRACE: Duration = Duration::from_millis(300);
        const PAUSE: Duration = Duration::from_millis(200);
        const PARTS: u32 = 8;
        let (parts, source) = mpsc::channel::<()>(1);
        let (progress, taken) = TransferWatch::of(ReceiverStream::new(source));
        tokio::spawn(taken.collect::<Vec<_>>());
        tokio::spawn(async move {
            for _ in 0..PARTS {
                tokio::time::sleep(PAUSE).await;
                parts.send(()).await.unwrap();
            }
        });
        let started = Instant::now();
        progress.stalled_within(STALL, GRACE).await;
        assert!(started.elapsed() >= PAUSE * PARTS + GRACE, "given up after {:?}", started.elapsed());

        let (progress, _untaken) = TransferWatch::of(futures::stream::pending::<()>());
        let started = Instant::now();
        progress.stalled_within(STALL, 100 * STALL).await;
        assert!(started.elapsed() < 50 * STALL, "nothing was taken");
    }
}
