//! Taking a backup of a running node: a checkpoint of the state at one applied entry, which is
//! removed when it was sent, when its receiver goes away, and at the next start.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::future::BoxFuture;
use headwater_proto::stored;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use uuid::Uuid;

use super::archive::ArchiveWriter;
use super::hashes::{RangeHash, RangeHasher};
use super::manifest::{self, Applied, BackupFile, Manifest};
use super::pace::{self, Pace};
use crate::access::Administrator;
use crate::apply::ApplyHandle;
use crate::event::{Position, Ticks};
use crate::files::{self, Unusable};
use crate::store::{OfflineState, OpenError, ReadError};
use crate::transport::LocalIdentity;

/// Directory of checkpoints that are being sent, below the data directory: on its file system, so
/// that a checkpoint consists of links.
const DIRECTORY: &str = "backup";

/// Bytes of the archive that are handed over at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces read ahead of the receiver.
const PIECES_AHEAD: usize = 4;

/// Bytes at the end of a table that tell it from every other one: its properties, with a random id
/// of the process that wrote it.
const TAIL_BYTES: u64 = 64 << 10;

/// What is wanted of a backup.
#[derive(Debug, Default)]
pub(crate) struct BackupRequest {
    /// The manifest of a former backup: its tables are left out.
    pub(crate) since: Option<Manifest>,
    /// How fast files may be read.
    pub(crate) bytes_per_second: Option<u64>,
}

/// Why no backup was begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// Another one is under way.
    #[error("A backup of this node is under way. Wait for its end, or ask another node")]
    Busy,
    /// The node belongs to no cluster yet, or is stopping.
    #[error("This node has nothing to back up yet")]
    NotReady,
    /// The checkpoint cannot be made or read.
    #[error("the checkpoint for a backup: {0}")]
    Io(#[from] io::Error),
    /// The same.
    #[error("the checkpoint for a backup: {0}")]
    Open(#[from] OpenError),
    /// The same.
    #[error("the checkpoint for a backup: {0}")]
    Read(#[from] ReadError),
}

/// The backups of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Backups {
    inner: Arc<Inner>,
}

/// Waits until this node has everything that was acknowledged anywhere before the call; false when
/// it knows no leader that could tell.
pub(crate) type CatchUp = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

struct Inner {
    catch_up: CatchUp,
    apply: ApplyHandle,
    identity: Arc<LocalIdentity>,
    directory: PathBuf,
    /// One backup at a time.
    turn: Arc<Semaphore>,
}

/// The archive of a backup on its way, piece by piece; an error is its last piece.
pub(crate) type Pieces = mpsc::Receiver<io::Result<Bytes>>;

impl Backups {
    /// The backups of the node with this data directory. Removes what a crash left of one.
    pub(crate) fn new(apply: ApplyHandle, catch_up: CatchUp, identity: Arc<LocalIdentity>, data_dir: &Path) -> Self {
        let directory = data_dir.join(DIRECTORY);
        // Each by itself: a new one may appear beside them meanwhile.
        let left = fs::read_dir(&directory).into_iter().flatten().flatten();
        left.for_each(|entry| files::remove_apart((), entry.path()));
        let turn = Arc::new(Semaphore::new(1));
        Self { inner: Arc::new(Inner { catch_up, apply, identity, directory, turn }) }
    }

    /// Takes a checkpoint of everything that was acknowledged by now and begins to send it. It ends
    /// early when the receiver is dropped. Without a leader it has what this node has, and its
    /// manifest says so: that is when a copy may be needed most.
    ///
    /// # Errors
    /// See [`BackupError`]; nothing is left of the attempt.
    pub(crate) async fn begin(&self, request: BackupRequest, _by: &Administrator) -> Result<Pieces, BackupError> {
        let inner = &self.inner;
        let turn = inner.turn.clone().try_acquire_owned().map_err(|_| BackupError::Busy)?;
        let cluster_id = inner.identity.cluster_id().map(Uuid::from_bytes).ok_or(BackupError::NotReady)?;
        let may_lack_newest = !(inner.catch_up)().await;
        if may_lack_newest {
            tracing::warn!("backup: no leader answers; events that other nodes have acknowledged may be missing in it");
        }
        // Flushed here, not on the apply thread: little is left for the checkpoint there.
        inner.apply.flush().await?;
        // What an earlier process left may still be under removal.
        let name = Uuid::new_v4().simple().to_string();
        let checkpoint = Checkpoint { path: inner.directory.join(name), _turn: turn };
        let (parent, target) = (inner.directory.clone(), checkpoint.path.clone());
        let at = checkpoint.path.clone();
        let named = move |error| Unusable::of(&at)(error).into_io();
        let create = tokio::task::spawn_blocking(move || files::create_directory(&parent));
        create.await.map_err(io::Error::other)?.map_err(&named)?;
        let taken = inner.apply.run(move |writer| writer.checkpoint(&target).map(|()| writer.generation())).await;
        let generation = taken.map_err(|_| BackupError::NotReady)?.map_err(named)?;
        let database = format!("{}-{generation}", inner.identity.node_id());
        let describe = tokio::task::spawn_blocking(move || {
            let mut manifest = describe(&checkpoint.path, cluster_id, database)?;
            manifest.may_lack_newest = may_lack_newest;
            Ok::<_, BackupError>((checkpoint, manifest))
        });
        let (checkpoint, manifest) = describe.await.map_err(io::Error::other)??;
        tracing::info!(
            index = manifest.applied.index,
            next_position = manifest.next_position,
            files = manifest.files.len(),
            bytes = manifest.total_bytes(),
            "backup: begun"
        );
        send(checkpoint, manifest, request)
    }

    /// The hash of the events from `from` to `to` (exclusive), or of as many of them as may be read
    /// at once.
    ///
    /// # Errors
    /// The state cannot be read at the moment.
    pub(crate) async fn hash(
        &self,
        from: Position,
        to: Position,
        _for: &Administrator,
    ) -> Result<RangeHash, ReadError> {
        let store = self.inner.apply.store();
        store
            .read_apart(move |view| {
                let next_position = view.next_position()?;
                let mut hasher = RangeHasher::new(from, to.min(next_position));
                view.log_up(from..to, |event| Ok(hasher.add(&event)))?;
                hasher.finish(next_position, |position| view.is_hole(position))
            })
            .await
    }
}

/// The files of a checkpoint; removed when dropped, and then the next backup may begin.
struct Checkpoint {
    path: PathBuf,
    _turn: OwnedSemaphorePermit,
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        files::remove_apart((), std::mem::take(&mut self.path));
    }
}

/// The manifest of a checkpoint, without the sums of its files.
fn describe(checkpoint: &Path, cluster_id: Uuid, database: String) -> Result<Manifest, BackupError> {
    let facts = OfflineState::open(checkpoint)?.facts()?;
    let last_applied = facts.mark.last_applied.ok_or(BackupError::NotReady)?;
    let last_applied = stored::LogId::decode(&last_applied[..]).map_err(io::Error::other)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(checkpoint)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| io::Error::other(format!("file name {name:?}")))?;
        if !manifest::is_plain(&name) {
            return Err(io::Error::other(format!("a database has no file named {name:?}")).into());
        }
        let (bytes, tail_crc32c) = (entry.metadata()?.len(), tail_of(&entry.path())?);
        found.push(BackupFile { name, bytes, crc32c: 0, tail_crc32c, in_base: false });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_id: cluster_id.to_string(),
        database,
        state_format: facts.format,
        applied: Applied { term: last_applied.term, index: last_applied.index },
        next_position: facts.next_position,
        newest_event_time: facts.newest_time.map(|time| time.to_string()),
        taken_at: Ticks::from_system_time(SystemTime::now()).to_string(),
        may_lack_newest: false,
        files: found,
    })
}

/// CRC-32C of the end of a file.
pub(super) fn tail_of(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(crc32c::crc32c(&tail))
}

/// Reads the archive on a thread of its own.
fn send(checkpoint: Checkpoint, manifest: Manifest, request: BackupRequest) -> Result<Pieces, BackupError> {
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    let rate = request.bytes_per_second.unwrap_or(pace::DEFAULT_BYTES_PER_SECOND);
    let thread = std::thread::Builder::new().name("backup-send".to_owned()).spawn(move || {
        let writer =
            PieceWriter { pieces: pieces.clone(), piece: Vec::with_capacity(PIECE_BYTES), pace: Pace::new(rate) };
        match write_archive(&checkpoint.path, manifest, request.since.as_ref(), writer) {
            Ok(bytes) => tracing::info!(bytes, "backup: sent"),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                tracing::info!("backup: given up, because its receiver went away");
            }
            Err(error) => {
                tracing::error!(%error, "backup: given up");
                hand_over(&pieces, Err(error));
            }
        }
        // Before the receiver sees the end: then it may begin the next backup.
        drop(checkpoint);
        drop(pieces);
    });
    thread?;
    Ok(receiver)
}

/// Bytes of the files that were sent.
fn write_archive(
    checkpoint: &Path,
    mut manifest: Manifest,
    since: Option<&Manifest>,
    writer: PieceWriter,
) -> io::Result<u64> {
    let known: HashMap<&str, &BackupFile> = since.map(|since| since.tables_of(&manifest.database)).unwrap_or_default();
    let mut archive = ArchiveWriter::new(writer);
    let mut sent = 0;
    for file in &mut manifest.files {
        let same = |known: &&&BackupFile| known.bytes == file.bytes && known.tail_crc32c == file.tail_crc32c;
        if let Some(known) = known.get(file.name.as_str()).filter(same) {
            (file.crc32c, file.in_base) = (known.crc32c, true);
            continue;
        }
        let content = File::open(checkpoint.join(&file.name))?;
        file.crc32c = archive.file(&file.name, file.bytes, content)?;
        sent += file.bytes;
    }
    archive.finish(&manifest)?;
    Ok(sent)
}

/// Hands an archive over piece by piece, at the rate of the backup.
struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
    pace: Pace,
}

impl PieceWriter {
    #[expect(clippy::disallowed_methods, reason = "on the thread of the backup")]
    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let bytes = piece.len() as u64;
        if !hand_over(&self.pieces, Ok(piece.into())) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        std::thread::sleep(self.pace.after(bytes));
        Ok(())
    }
}

/// False when the receiver is gone.
#[expect(clippy::disallowed_methods, reason = "on the thread of the backup")]
fn hand_over(pieces: &mpsc::Sender<io::Result<Bytes>>, piece: io::Result<Bytes>) -> bool {
    pieces.blocking_send(piece).is_ok()
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.hand_over() }
    }
}
