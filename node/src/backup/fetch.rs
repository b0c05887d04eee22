//! `headwater backup`: takes the archive that a node sends and writes it to a directory, a file or
//! a pipe. Every sum is compared on the way, and nothing counts as a backup that did not come to
//! its end.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::archive::{self, ArchiveWriter};
use super::manifest::{self, Manifest, ManifestError};
use super::place::{NewDirectory, Target};
use crate::client::{Call, Client, ClientError, Progress, Repeat, Unit};
use crate::config::BackupFlags;
use crate::files::{NamedWriter, PartFile, Unusable};

/// Pieces that wait for the disk or the pipe.
const PIECES_AHEAD: usize = 4;

/// Level of compression: tables are compressed already, and a node sends them at a bounded rate.
const ZSTD_LEVEL: i32 = 1;

/// What is said to somebody who ends a backup early.
const INTERRUPTED: &str = "interrupted; nothing is left of this backup";

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The node.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The former backup.
    #[error("--since {path}: {error}")]
    Since {
        /// What was named.
        path: PathBuf,
        /// The reason.
        error: ManifestError,
    },
    /// The place for the backup.
    #[error("{path}: {error}")]
    Io {
        /// The place.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The system.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<Unusable> for FetchError {
    fn from(Unusable { path, error }: Unusable) -> Self {
        Self::Io { path, error }
    }
}

/// Returns when the process is asked to end. From then on a further signal does nothing: what is
/// left of the backup is removed first.
fn interruption() -> io::Result<Pin<Box<dyn Future<Output = ()>>>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(Box::pin(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }))
}

/// Takes a backup as the flags say.
///
/// # Errors
/// See [`FetchError`]; no file is left that could be taken for a backup.
pub(crate) async fn backup(flags: &BackupFlags) -> Result<(), FetchError> {
    let since = flags.since.as_deref().map(former).transpose()?;
    let client = Client::of(&flags.from, &flags.client, crate::client::PASSWORD_VARIABLE)?;
    let former = since.as_ref().map(|since| serde_json::value::to_raw_value(&since.envelope)).transpose();
    let former = former.map_err(io::Error::other)?;
    let wanted = json!({ "bytesPerSecond": flags.bytes_per_second, "since": former });
    let call = Call::post("/admin/backup", Repeat::IfNotDone).body("application/json", wanted.to_string());
    let target = Target::of(&flags.to);
    let mut interrupted = interruption()?;
    // Before anything is asked of the node: the place may be of no use.
    let place = Place::begin(&target)?;
    let mut response = tokio::select! {
        response = client.open(&call) => response?,
        () = &mut interrupted => return Err(io::Error::other(INTERRUPTED).into()),
    };

    let (pieces, receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES_AHEAD);
    let base = since.and_then(|since| since.directory);
    let writing = tokio::task::spawn_blocking(move || place.fill(PieceReader::new(receiver), base.as_deref()));
    loop {
        let piece = tokio::select! {
            piece = response.chunk() => match piece {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => break,
                Err(error) => Err(io::Error::other(format!("the node sent only a part: {error}"))),
            },
            () = &mut interrupted => Err(io::Error::other(INTERRUPTED)),
        };
        let was_last = piece.is_err();
        if pieces.send(piece).await.is_err() || was_last {
            break;
        }
    }
    drop(pieces);
    let written = writing.await.map_err(io::Error::other)?;
    let done = written.map_err(|error| FetchError::from(Unusable::from_io(error, &flags.to)))?;
    if done.manifest.may_lack_newest {
        tell!(
            "headwater: the node had no leader: events that other nodes have acknowledged may be missing in this backup"
        );
    }
    tell!(
        "headwater: backup complete: events before position {}, newest from {}, {} files, {} of {} bytes sent",
        done.manifest.next_position,
        done.manifest.newest_event_time.as_deref().unwrap_or("never"),
        done.manifest.files.len(),
        done.sent,
        done.manifest.total_bytes(),
    );
    Ok(())
}

/// A former backup.
struct Former {
    /// Its manifest as it was written.
    envelope: Box<serde_json::value::RawValue>,
    /// Where its files are, unless only its manifest was named.
    directory: Option<PathBuf>,
}

fn former(path: &Path) -> Result<Former, FetchError> {
    let failed = |error| FetchError::Since { path: path.to_owned(), error };
    let (file, directory) =
        if path.is_dir() { (path.join(manifest::FILE_NAME), Some(path.to_owned())) } else { (path.to_owned(), None) };
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(failed(ManifestError::Missing)),
        Err(error) => return Err(failed(error.into())),
    };
    Manifest::decode(text.as_bytes()).map_err(failed)?;
    let envelope = serde_json::value::RawValue::from_string(text.trim().to_owned());
    let envelope = envelope.map_err(|error| failed(ManifestError::Damaged(error.to_string())))?;
    Ok(Former { envelope, directory })
}

/// What was written.
struct Written {
    manifest: Manifest,
    /// Bytes of files that the node sent.
    sent: u64,
}

/// The place of a backup that is being written.
enum Place {
    Directory(NewDirectory),
    Plain(PartFile),
    Compressed(PartFile),
    Stdout,
}

impl Place {
    fn begin(target: &Target) -> Result<Self, Unusable> {
        Ok(match target {
            Target::Directory(path) => Self::Directory(NewDirectory::begin(path)?),
            Target::Plain(path) => Self::Plain(PartFile::create(path)?),
            Target::Compressed(path) => Self::Compressed(PartFile::create(path)?),
            Target::Stdout => Self::Stdout,
        })
    }

    /// Writes the backup; nothing is left of it when that fails.
    fn fill(self, from: PieceReader, base: Option<&Path>) -> io::Result<Written> {
        match self {
            Self::Directory(directory) => {
                let written = fill(from, &directory.state(), base)?;
                directory.finish(&written.manifest)?;
                Ok(written)
            }
            Self::Plain(part) => into_file(part, |file| into_archive(from, file).map(|(written, _)| written)),
            Self::Compressed(part) => into_file(part, |file| compressed(from, file)),
            Self::Stdout => compressed(from, io::stdout().lock()),
        }
    }
}

fn compressed(from: PieceReader, to: impl Write) -> io::Result<Written> {
    let (written, encoder) = into_archive(from, zstd::Encoder::new(to, ZSTD_LEVEL)?)?;
    encoder.finish()?.flush()?;
    Ok(written)
}

/// The archive is written anew, so that its end is reached only when everything in it was right.
fn into_archive<W: Write>(from: PieceReader, to: W) -> io::Result<(Written, W)> {
    let mut archive = ArchiveWriter::new(to);
    let mut sums = Sums::default();
    let manifest = archive::read(from, |name, bytes, content| {
        let crc32c = archive.file(name, bytes, content)?;
        sums.add(name, bytes, crc32c);
        Ok(())
    })?;
    let sent = sums.compare(&manifest)?;
    let to = archive.finish(&manifest)?;
    Ok((Written { manifest, sent }, to))
}

fn into_file(
    mut part: PartFile,
    write: impl FnOnce(NamedWriter<&mut File>) -> io::Result<Written>,
) -> io::Result<Written> {
    let path = part.path().to_owned();
    let written = write(NamedWriter::new(part.file(), &path))?;
    part.finish().map_err(Unusable::into_io)?;
    Ok(written)
}

/// Files that the node did not send are taken from the former backup. Without it the manifest says
/// that they are there.
fn fill(from: PieceReader, state: &Path, base: Option<&Path>) -> io::Result<Written> {
    let mut sums = Sums::default();
    let mut manifest = archive::read(from, |name, bytes, content| {
        let path = state.join(name);
        let file = File::create(&path).map_err(|error| Unusable::of(&path)(error).into_io())?;
        let (_, crc32c) = archive::copy(content, &mut NamedWriter::new(&file, &path))?;
        file.sync_all().map_err(|error| Unusable::of(&path)(error).into_io())?;
        sums.add(name, bytes, crc32c);
        Ok(())
    })?;
    let sent = sums.compare(&manifest)?;
    let Some(base) = base else { return Ok(Written { manifest, sent }) };
    for file in manifest.files.iter_mut().filter(|file| file.in_base) {
        let (old, new) = (base.join(manifest::STATE).join(&file.name), state.join(&file.name));
        take_over(&old, &new).map_err(|error| Unusable::from_io(error, &old).into_io())?;
        if fs::metadata(&new)?.len() != file.bytes {
            return Err(io::Error::other(format!(
                "{} has not {} bytes: verify that backup",
                old.display(),
                file.bytes
            )));
        }
        file.in_base = false;
    }
    Ok(Written { manifest, sent })
}

/// Tables never change, so two backups may share one; where they cannot, it is copied.
fn take_over(old: &Path, new: &Path) -> io::Result<()> {
    if fs::hard_link(old, new).is_ok() {
        return Ok(());
    }
    let copy = File::create(new).map_err(|error| Unusable::of(new)(error).into_io())?;
    archive::copy(File::open(old)?, &mut NamedWriter::new(&copy, new))?;
    copy.sync_all().map_err(|error| Unusable::of(new)(error).into_io())
}

/// Sizes and CRC-32C of what was sent.
#[derive(Default)]
struct Sums(HashMap<String, (u64, u32)>);

impl Sums {
    fn add(&mut self, name: &str, bytes: u64, crc32c: u32) {
        self.0.insert(name.to_owned(), (bytes, crc32c));
    }

    /// Whether everything that the manifest says was sent, as it says; the number of bytes.
    fn compare(&self, manifest: &Manifest) -> io::Result<u64> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        for file in manifest.files.iter().filter(|file| !file.in_base) {
            if self.0.get(&file.name) != Some(&(file.bytes, file.crc32c)) {
                return Err(invalid(format!("{} was not sent as it is on the node", file.name)));
            }
        }
        Ok(self.0.values().map(|(bytes, _)| bytes).sum())
    }
}

/// Reads what comes from the node, with progress.
struct PieceReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
    progress: Progress,
}

impl PieceReader {
    fn new(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { pieces, rest: Bytes::new(), progress: Progress::new("received", Unit::Bytes, None) }
    }
}

impl Read for PieceReader {
    #[expect(clippy::disallowed_methods, reason = "on a thread that may block")]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
            self.progress.advance(self.rest.len() as u64);
        }
        let piece = self.rest.split_to(self.rest.len().min(buffer.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Drop for PieceReader {
    fn drop(&mut self) {
        self.progress.finish();
    }
}
