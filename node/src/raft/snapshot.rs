//! Snapshots: checkpoints of the state database in directories of their own, each with a manifest.
//!
//! `snapshots/<term>-<index>/` holds the files of a checkpoint (hard links) and `manifest`: [`stored::SnapshotManifest`] behind its
//! CRC-32C (4 bytes, big-endian). The manifest is written last and the directory gets its name after everything in it is durable, so
//! a directory with that name is complete. Anything else found at start is what a crash left behind.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use headwater_proto::stored;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use parking_lot::Mutex;
use prost::Message;

use super::apply::{self, ApplyHandle, ApplyStopped};
use super::codec;
use super::types::{LogId, StoredMembership, TypeConfig};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::{fatal, files};

/// Name of the manifest in a snapshot directory.
pub const MANIFEST: &str = "manifest";

/// Prefix of directories under work.
const UNFINISHED: &str = ".unfinished-";

/// Bytes read at a time to compute a checksum.
const READ_BYTES: usize = 1 << 20;

/// openraft's view of a snapshot.
pub type Snapshot = SnapshotOf<TypeConfig, Arc<SnapshotDir>>;
/// What openraft knows of a snapshot without its data.
pub type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

/// A complete snapshot on disk. The directory goes with the last handle once the snapshot was superseded: a transfer that still
/// reads it keeps it alive.
#[derive(Debug)]
pub struct SnapshotDir {
    path: PathBuf,
    manifest: stored::SnapshotManifest,
    meta: SnapshotMeta,
    /// Remove the directory with the last handle.
    superseded: AtomicBool,
}

impl SnapshotDir {
    /// Reads the manifest in `path` and checks that every file is there in its size.
    pub fn open(path: &Path) -> io::Result<Self> {
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
        Self::with_manifest(path.to_owned(), manifest)
    }

    fn with_manifest(path: PathBuf, manifest: stored::SnapshotManifest) -> io::Result<Self> {
        let meta = meta_of(&manifest)?;
        Ok(Self { path, manifest, meta, superseded: AtomicBool::new(false) })
    }

    /// Where the files are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it.
    pub fn manifest(&self) -> &stored::SnapshotManifest {
        &self.manifest
    }

    /// What openraft knows of it.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Size of all files.
    pub fn total_bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.bytes).sum()
    }

    /// Index of the last entry in it.
    pub fn last_index(&self) -> Option<u64> {
        self.meta.last_log_id.map(|log_id| log_id.index)
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

/// The snapshots of one node: the newest, and the place where others come into being.
pub struct SnapshotStore {
    root: PathBuf,
    incoming: PathBuf,
    current: Mutex<Option<Arc<SnapshotDir>>>,
    /// For unique names of directories under work.
    counter: AtomicU64,
    metrics: Arc<Metrics>,
}

impl SnapshotStore {
    /// Opens `snapshots/` under the data directory: keeps the newest complete one, removes the rest and everything in `incoming/`.
    pub fn open(data_dir: &Path, metrics: Arc<Metrics>) -> io::Result<Self> {
        let root = data_dir.join("snapshots");
        let incoming = data_dir.join("incoming");
        files::remove(&incoming);
        fs::create_dir_all(&incoming)?;
        fs::create_dir_all(&root)?;
        let mut newest: Option<SnapshotDir> = None;
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(&root)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED)) {
                leftovers.push(path);
                continue;
            }
            match SnapshotDir::open(&path) {
                Ok(found) if newest.as_ref().is_none_or(|best| best.last_index() < found.last_index()) => {
                    leftovers.extend(newest.replace(found).map(|older| older.path.clone()));
                }
                Ok(older) => leftovers.push(older.path.clone()),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "removing a snapshot that is not complete");
                    leftovers.push(path);
                }
            }
        }
        leftovers.iter().for_each(|path| files::remove(path));
        files::sync_directory(&root)?;
        files::sync_directory(data_dir)?;
        let current = Mutex::new(newest.map(Arc::new));
        Ok(Self { root, incoming, current, counter: AtomicU64::new(0), metrics })
    }

    /// The newest snapshot.
    pub fn current(&self) -> Option<Arc<SnapshotDir>> {
        self.current.lock().clone()
    }

    /// Where snapshots are received.
    pub fn incoming(&self) -> &Path {
        &self.incoming
    }

    /// An empty directory for a snapshot to be received; it goes when dropped.
    pub fn new_incoming(&self) -> io::Result<Unfinished> {
        Unfinished::create(self.incoming.join(self.counter.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    /// Takes a checkpoint of what is applied now and makes it the newest snapshot. Returns the present one when nothing was applied since.
    /// After an error everything is as before, and another attempt may succeed.
    pub async fn build(self: &Arc<Self>, apply: &ApplyHandle) -> io::Result<Arc<SnapshotDir>> {
        // Not on the apply thread: what remains for the checkpoint there is what was committed since.
        let store = apply.store().clone();
        blocking(move || {
            apply::flush(&store);
            Ok(())
        })
        .await?;
        let name = format!("{UNFINISHED}{}", self.counter.fetch_add(1, Ordering::Relaxed));
        let work = Unfinished::reserve(self.root.join(name));
        let target = work.path().to_owned();
        apply.run(move |store| store.checkpoint(&target)).await??;
        let snapshots = self.clone();
        blocking(move || snapshots.finish(work)).await
    }

    /// Checksums, syncs and names a checkpoint.
    fn finish(&self, work: Unfinished) -> io::Result<Arc<SnapshotDir>> {
        let mark = Store::checkpoint_mark(work.path())?;
        let invalid = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let last_applied = mark.last_applied.map(|bytes| stored::LogId::decode(&bytes[..]));
        let membership = mark.membership.map(|bytes| stored::Membership::decode(&bytes[..]));
        let previous = self.current();
        let mut manifest = stored::SnapshotManifest {
            last_applied: last_applied.transpose().map_err(|error| invalid(&error))?,
            membership: membership.transpose().map_err(|error| invalid(&error))?,
            files: Vec::new(),
        };
        if let Some(previous) = previous.as_ref()
            && previous.manifest.last_applied == manifest.last_applied
        {
            return Ok(previous.clone());
        }
        manifest.files = describe_files(work.path(), previous.as_deref())?;
        write_manifest(work.path(), &manifest)?;
        let built = self.name(work, manifest)?;
        self.metrics.snapshots_built.inc();
        tracing::info!(
            index = built.last_index(),
            files = built.manifest.files.len(),
            bytes = built.total_bytes(),
            "took a snapshot"
        );
        self.replace_current(built.clone());
        Ok(built)
    }

    /// Installs a received snapshot: gives it its name, replaces the state by it and makes it the newest. Consensus has given up the
    /// log below it by then, so a failure ends the process. An error means that the node is stopping.
    pub async fn install(
        self: &Arc<Self>,
        apply: &ApplyHandle,
        received: Arc<SnapshotDir>,
    ) -> Result<(), ApplyStopped> {
        let snapshots = self.clone();
        let replace = move |store: &Store| {
            if let Err(error) = snapshots.replace_state(store, received) {
                fatal::stop("a received snapshot cannot be installed under snapshots/ and state/", &error);
            }
        };
        apply.run(replace).await
    }

    /// On the apply thread.
    fn replace_state(&self, store: &Store, received: Arc<SnapshotDir>) -> io::Result<()> {
        let named = if received.path.starts_with(&self.root) {
            received
        } else {
            let work = Unfinished::reserve(received.path.clone());
            self.name(work, received.manifest.clone())?
        };
        store.install(&named.path)?;
        self.metrics.snapshots_installed.inc();
        tracing::info!(index = named.last_index(), bytes = named.total_bytes(), "installed a snapshot");
        self.replace_current(named);
        Ok(())
    }

    /// Moves a durable directory to its final name.
    fn name(&self, work: Unfinished, manifest: stored::SnapshotManifest) -> io::Result<Arc<SnapshotDir>> {
        let name = match &manifest.last_applied {
            Some(log_id) => format!("{:020}-{:020}", log_id.term, log_id.index),
            None => "empty".to_owned(),
        };
        let path = self.root.join(name);
        // Another handle may hold a directory of this name: the same state, received although it is here already.
        if path.exists() {
            match SnapshotDir::open(&path) {
                Ok(same) => return Ok(self.current().filter(|current| current.path == path).unwrap_or(Arc::new(same))),
                Err(_) => files::remove(&path),
            }
        }
        fs::rename(work.path(), &path)?;
        files::sync_directory(&self.root)?;
        work.keep();
        Ok(Arc::new(SnapshotDir::with_manifest(path, manifest)?))
    }

    /// Makes `new` the newest snapshot, unless a later one was installed while it was built.
    fn replace_current(&self, new: Arc<SnapshotDir>) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|current| current.last_index() > new.last_index()) {
            new.superseded.store(true, Ordering::Release);
            return;
        }
        if let Some(old) = current.replace(new.clone())
            && old.path != new.path
        {
            old.superseded.store(true, Ordering::Release);
        }
    }
}

/// A directory under work, removed when dropped unless kept.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    keep: bool,
}

impl Unfinished {
    fn create(path: PathBuf) -> io::Result<Self> {
        let reserved = Self::reserve(path);
        fs::create_dir(&reserved.path)?;
        Ok(reserved)
    }

    fn reserve(path: PathBuf) -> Self {
        Self { path, keep: false }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn keep(mut self) {
        self.keep = true;
    }

    /// A received snapshot whose files are all there: writes the manifest, syncs the directory and makes it installable. It is removed with
    /// its last handle unless it was installed.
    pub fn into_received(self, manifest: stored::SnapshotManifest) -> io::Result<Arc<SnapshotDir>> {
        write_manifest(&self.path, &manifest)?;
        let received = SnapshotDir::with_manifest(self.path.clone(), manifest)?;
        received.superseded.store(true, Ordering::Release);
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

/// What openraft is told of a manifest.
pub fn meta_of(manifest: &stored::SnapshotManifest) -> io::Result<SnapshotMeta> {
    let membership = manifest.membership.clone().map(codec::stored_membership_from_message);
    let membership = membership.transpose().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let last_log_id: Option<LogId> = manifest.last_applied.as_ref().map(codec::log_id_from_message);
    Ok(SnapshotMeta { last_log_id, last_membership: membership.unwrap_or_else(StoredMembership::default) })
}

/// A file of a snapshot is a plain name: it must not lead out of its directory, and it is not the manifest.
pub fn check_file_name(name: &str) -> io::Result<()> {
    let plain = !name.is_empty() && !name.starts_with('.') && name != MANIFEST && !name.contains(['/', '\\', '\0']);
    if plain {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("a snapshot may not have a file named {name:?}")))
}

/// Names, sizes and checksums of the files in a checkpoint, each of them synced. The checksum of a table file that the previous snapshot has
/// as well (the same inode: tables never change) is taken over, so that a snapshot of a large state reads only what is new.
fn describe_files(directory: &Path, previous: Option<&SnapshotDir>) -> io::Result<Vec<stored::SnapshotFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| io::Error::other(format!("file name {name:?}")))?;
        check_file_name(&name)?;
        let path = entry.path();
        let bytes = entry.metadata()?.len();
        File::open(&path)?.sync_all()?;
        let crc32c = match previous.and_then(|previous| known_checksum(previous, &name, &path)) {
            Some(known) => known,
            None => checksum(&path)?,
        };
        files.push(stored::SnapshotFile { name, bytes, crc32c });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn known_checksum(previous: &SnapshotDir, name: &str, path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    if !name.ends_with(".sst") {
        return None;
    }
    let known = previous.manifest.files.iter().find(|file| file.name == name)?;
    let (old, new) = (fs::metadata(previous.path.join(name)).ok()?, fs::metadata(path).ok()?);
    let same = old.ino() == new.ino() && old.dev() == new.dev() && new.len() == known.bytes;
    same.then_some(known.crc32c)
}

fn checksum(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut crc = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(crc);
        }
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
    }
}

/// Writes the manifest, the last file of a snapshot, and makes it and the directory durable.
fn write_manifest(directory: &Path, manifest: &stored::SnapshotManifest) -> io::Result<()> {
    let body = manifest.encode_to_vec();
    let mut bytes = crc32c::crc32c(&body).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    let path = directory.join(MANIFEST);
    fs::write(&path, bytes)?;
    File::open(&path)?.sync_all()?;
    files::sync_directory(directory)
}

/// Runs blocking file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A snapshot made of plain files, as if received.
    pub(in crate::raft) fn fabricate(
        snapshots: &SnapshotStore,
        index: u64,
        files: &[(&str, &[u8])],
    ) -> Arc<SnapshotDir> {
        let work = snapshots.new_incoming().unwrap();
        for (name, content) in files {
            fs::write(work.path().join(name), content).unwrap();
        }
        let files = describe_files(work.path(), None).unwrap();
        let last_applied = Some(stored::LogId { term: 1, index });
        work.into_received(stored::SnapshotManifest { last_applied, membership: None, files }).unwrap()
    }

    fn named(snapshots: &SnapshotStore, index: u64) -> Arc<SnapshotDir> {
        let received = fabricate(snapshots, index, &[("000001.sst", b"rows"), ("CURRENT", b"x")]);
        let named = snapshots.name(Unfinished::reserve(received.path.clone()), received.manifest.clone()).unwrap();
        snapshots.replace_current(named.clone());
        named
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_complete_snapshot_is_found_again_and_leftovers_of_a_crash_are_removed() {
        let data = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        {
            let snapshots = SnapshotStore::open(data.path(), metrics.clone()).unwrap();
            named(&snapshots, 7);
        }
        let root = data.path().join("snapshots");
        fs::create_dir(root.join(".unfinished-3")).unwrap();
        fs::create_dir(root.join("00000000000000000001-00000000000000000009")).unwrap();
        fs::create_dir(data.path().join("incoming/5")).unwrap();
        let snapshots = SnapshotStore::open(data.path(), metrics).unwrap();
        assert_eq!(snapshots.current().unwrap().last_index(), Some(7));
        assert_eq!(names(&root), ["00000000000000000001-00000000000000000007"]);
        assert!(names(&data.path().join("incoming")).is_empty());
    }

    #[test]
    fn a_snapshot_with_a_damaged_manifest_or_a_short_file_does_not_count() {
        let data = tempfile::tempdir().unwrap();
        let snapshots = SnapshotStore::open(data.path(), Metrics::new()).unwrap();
        let path = named(&snapshots, 7).path.clone();
        let manifest = path.join(MANIFEST);
        let mut bytes = fs::read(&manifest).unwrap();
        fs::write(path.join("CURRENT"), b"").unwrap();
        assert!(SnapshotDir::open(&path).is_err());
        fs::write(path.join("CURRENT"), b"x").unwrap();
        assert!(SnapshotDir::open(&path).is_ok());
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&manifest, bytes).unwrap();
        assert!(SnapshotDir::open(&path).is_err());
    }

    #[test]
    fn an_old_snapshot_stays_as_long_as_somebody_reads_it() {
        let data = tempfile::tempdir().unwrap();
        let snapshots = SnapshotStore::open(data.path(), Metrics::new()).unwrap();
        let old = named(&snapshots, 7);
        named(&snapshots, 8);
        assert!(old.path.exists());
        let path = old.path.clone();
        assert!(old.superseded.load(Ordering::Acquire));
        drop(old);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while path.exists() {
            assert!(std::time::Instant::now() < deadline, "the old snapshot was not removed");
            std::thread::yield_now();
        }
    }

    #[test]
    fn checksums_are_taken_over_for_the_same_table_only() {
        let data = tempfile::tempdir().unwrap();
        let snapshots = SnapshotStore::open(data.path(), Metrics::new()).unwrap();
        let old = named(&snapshots, 7);
        let next = data.path().join("next");
        fs::create_dir(&next).unwrap();
        fs::hard_link(old.path.join("000001.sst"), next.join("000001.sst")).unwrap();
        assert!(known_checksum(&old, "000001.sst", &next.join("000001.sst")).is_some());
        fs::remove_file(next.join("000001.sst")).unwrap();
        fs::write(next.join("000001.sst"), b"rows").unwrap();
        assert!(known_checksum(&old, "000001.sst", &next.join("000001.sst")).is_none());
    }

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
