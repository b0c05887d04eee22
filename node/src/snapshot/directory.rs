//! One snapshot on disk: a directory with the files of a checkpoint and a manifest.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_proto::stored;
use prost::Message;

use crate::files;

/// Name of the manifest in a snapshot directory.
pub(crate) const MANIFEST: &str = "manifest";

/// A complete snapshot on disk. A superseded directory is removed with its last handle: a transfer
/// that still reads it keeps it alive.
#[derive(Debug)]
pub(crate) struct SnapshotDir {
    path: PathBuf,
    manifest: stored::SnapshotManifest,
    /// The last handle removes the directory.
    superseded: AtomicBool,
}

impl SnapshotDir {
    /// Reads the manifest in `path` and checks that every file exists with its size.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path.join(MANIFEST))?;
        let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
        let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(|| damaged("the manifest is cut off".into()))?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return Err(damaged("the manifest is damaged".into()));
        }
        let manifest = stored::SnapshotManifest::decode(body).map_err(|error| damaged(error.to_string()))?;
        for file in &manifest.files {
            check_file_name(&file.name)?;
            if fs::metadata(path.join(&file.name))?.len() != file.bytes {
                return Err(damaged(format!("{} has the wrong size", file.name)));
            }
        }
        Ok(Self::with_manifest(path.to_owned(), manifest))
    }

    pub(super) fn with_manifest(path: PathBuf, manifest: stored::SnapshotManifest) -> Self {
        Self { path, manifest, superseded: AtomicBool::new(false) }
    }

    /// The directory of the files.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The list of its files.
    pub(crate) fn manifest(&self) -> &stored::SnapshotManifest {
        &self.manifest
    }

    /// Size of all files.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.bytes).sum()
    }

    /// Index of the last entry that it covers.
    pub(crate) fn last_index(&self) -> Option<u64> {
        self.manifest.last_applied.as_ref().map(|last| last.index)
    }
}

impl SnapshotDir {
    /// Removes the directory with the last handle.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }
}

impl Drop for SnapshotDir {
    fn drop(&mut self) {
        if !self.superseded.load(Ordering::Acquire) {
            return;
        }
        files::remove_apart((), std::mem::take(&mut self.path));
    }
}

/// An unfinished directory, removed when dropped unless kept.
#[derive(Debug)]
pub(crate) struct Unfinished {
    path: PathBuf,
    keep: bool,
}

impl Unfinished {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let reserved = Self::reserve(path);
        fs::create_dir(&reserved.path)?;
        Ok(reserved)
    }

    pub(super) fn reserve(path: PathBuf) -> Self {
        Self { path, keep: false }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keep(mut self) {
        self.keep = true;
    }

    /// A received snapshot with all its files: writes the manifest, syncs the directory and makes
    /// the snapshot installable. Unless it is installed, it is removed with its last handle.
    pub(crate) fn into_received(self, manifest: stored::SnapshotManifest) -> io::Result<Arc<SnapshotDir>> {
        write_manifest(&self.path, &manifest)?;
        let received = SnapshotDir::with_manifest(self.path.clone(), manifest);
        received.supersede();
        self.keep();
        Ok(Arc::new(received))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.keep {
            files::remove_apart((), std::mem::take(&mut self.path));
        }
    }
}

/// A file of a snapshot has a plain name: it must not lead out of its directory, and it is not the
/// manifest.
pub(super) fn check_file_name(name: &str) -> io::Result<()> {
    let plain = !name.is_empty() && !name.starts_with('.') && name != MANIFEST && !name.contains(['/', '\\', '\0']);
    if plain {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("a snapshot may not have a file named {name:?}")))
}

/// Writes the manifest, the last file of a snapshot, and makes it and the directory durable.
pub(super) fn write_manifest(directory: &Path, manifest: &stored::SnapshotManifest) -> io::Result<()> {
    let body = manifest.encode_to_vec();
    let mut bytes = crc32c::crc32c(&body).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    let path = directory.join(MANIFEST);
    fs::write(&path, bytes)?;
    File::open(&path)?.sync_all()?;
    files::sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_do_not_lead_out_of_the_directory() {
        for name in ["", "../x", "/etc/passwd", "a/b", ".", "..", "manifest", "a\\b"] {
            assert!(check_file_name(name).is_err(), "{name}");
        }
        for name in ["000012.sst", "CURRENT", "MANIFEST-000004", "OPTIONS-000007"] {
            check_file_name(name).unwrap();
        }
    }
}
