//! The snapshots of one node: finding the newest at the start, naming, replacing and installing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_proto::stored;
use parking_lot::Mutex;

use super::directory::{SnapshotDir, Unfinished};
use crate::apply::{ApplyHandle, ApplyStopped};
use crate::metrics::Metrics;
use crate::store::StateWriter;
use crate::{fatal, files};

/// Prefix of unfinished directories.
const UNFINISHED: &str = ".unfinished-";

/// Where snapshots are kept below a data directory.
const ROOT: &str = "snapshots";

/// The newest complete snapshot below a data directory. Nothing is changed; snapshots that a
/// running node replaces meanwhile are passed over.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn newest_below(data_dir: &Path) -> io::Result<Option<SnapshotDir>> {
    let entries = match fs::read_dir(data_dir.join(ROOT)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let named = entries.flatten().map(|entry| entry.path()).filter(|path| !is_unfinished(path));
    Ok(named.filter_map(|path| SnapshotDir::open(&path).ok()).max_by_key(SnapshotDir::last_index))
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
}

/// The snapshots of one node: the newest one, and the directories where new ones are made.
pub(crate) struct SnapshotStore {
    root: PathBuf,
    incoming: PathBuf,
    current: Mutex<Option<Arc<SnapshotDir>>>,
    /// For unique names of unfinished directories.
    counter: AtomicU64,
    metrics: Arc<Metrics>,
}

impl SnapshotStore {
    /// Opens `snapshots/` under the data directory: keeps the newest complete snapshot, and removes
    /// the others and everything in `incoming/`.
    pub(crate) fn open(data_dir: &Path, metrics: Arc<Metrics>) -> io::Result<Self> {
        let root = data_dir.join(ROOT);
        let incoming = data_dir.join("incoming");
        files::remove(&incoming);
        fs::create_dir_all(&incoming)?;
        fs::create_dir_all(&root)?;
        let mut newest: Option<SnapshotDir> = None;
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(&root)? {
            let path = entry?.path();
            if is_unfinished(&path) {
                leftovers.push(path);
                continue;
            }
            match SnapshotDir::open(&path) {
                Ok(found) if newest.as_ref().is_none_or(|best| best.last_index() < found.last_index()) => {
                    leftovers.extend(newest.replace(found).map(|older| older.path().to_owned()));
                }
                Ok(older) => leftovers.push(older.path().to_owned()),
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
    pub(crate) fn current(&self) -> Option<Arc<SnapshotDir>> {
        self.current.lock().clone()
    }

    /// The directory in which snapshots are received.
    pub(crate) fn incoming(&self) -> &Path {
        &self.incoming
    }

    /// An empty directory for a snapshot to be received; it is removed when dropped.
    pub(crate) fn new_incoming(&self) -> io::Result<Unfinished> {
        Unfinished::create(self.incoming.join(self.counter.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    /// A name for the directory of a snapshot that is being taken, not created yet; the directory
    /// is removed when dropped.
    pub(super) fn new_unfinished(&self) -> Unfinished {
        let name = format!("{UNFINISHED}{}", self.counter.fetch_add(1, Ordering::Relaxed));
        Unfinished::reserve(self.root.join(name))
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Installs a received snapshot: names it, replaces the state by it and makes it the newest.
    /// Consensus has already given up the log below it, so a failure ends the process. An error
    /// means that the node is stopping.
    pub(crate) async fn install(
        self: &Arc<Self>,
        apply: &ApplyHandle,
        received: Arc<SnapshotDir>,
    ) -> Result<(), ApplyStopped> {
        let snapshots = self.clone();
        let replace = move |writer: &mut StateWriter| {
            if let Err(error) = snapshots.replace_state(writer, received) {
                fatal::stop("a received snapshot cannot be installed under snapshots/ and state/", &error);
            }
        };
        apply.run(replace).await
    }

    fn replace_state(&self, writer: &mut StateWriter, received: Arc<SnapshotDir>) -> io::Result<()> {
        let named = if received.path().starts_with(&self.root) {
            received
        } else {
            let work = Unfinished::reserve(received.path().to_owned());
            self.name(work, received.manifest().clone())?
        };
        writer.install(named.path())?;
        self.metrics.snapshots_installed.inc();
        tracing::info!(index = named.last_index(), bytes = named.total_bytes(), "installed a snapshot");
        self.replace_current(named);
        Ok(())
    }

    /// Moves a durable directory to its final name.
    pub(super) fn name(&self, work: Unfinished, manifest: stored::SnapshotManifest) -> io::Result<Arc<SnapshotDir>> {
        let name = match &manifest.last_applied {
            Some(log_id) => format!("{:020}-{:020}", log_id.term, log_id.index),
            None => "empty".to_owned(),
        };
        let path = self.root.join(name);
        // Another handle may hold a directory of this name: the same state, received although it is
        // already here.
        if path.exists() {
            match SnapshotDir::open(&path) {
                Ok(same) => {
                    return Ok(self.current().filter(|current| current.path() == path).unwrap_or(Arc::new(same)));
                }
                Err(_) => files::remove(&path),
            }
        }
        fs::rename(work.path(), &path)?;
        files::sync_directory(&self.root)?;
        work.keep();
        Ok(Arc::new(SnapshotDir::with_manifest(path, manifest)))
    }

    /// Makes `new` the newest snapshot, unless a later one was installed meanwhile.
    pub(super) fn replace_current(&self, new: Arc<SnapshotDir>) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|current| current.last_index() > new.last_index()) {
            new.supersede();
            return;
        }
        if let Some(old) = current.replace(new.clone())
            && old.path() != new.path()
        {
            old.supersede();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::directory::MANIFEST;
    use super::super::take::describe_files;
    use super::*;

    /// A snapshot made of plain files, as if it had been received.
    pub(crate) fn fabricate(snapshots: &SnapshotStore, index: u64, files: &[(&str, &[u8])]) -> Arc<SnapshotDir> {
        let work = snapshots.new_incoming().unwrap();
        for (name, content) in files {
            fs::write(work.path().join(name), content).unwrap();
        }
        let files = describe_files(work.path(), None).unwrap();
        let last_applied = Some(stored::LogId { term: 1, index });
        work.into_received(stored::SnapshotManifest { last_applied, membership: None, files }).unwrap()
    }

    pub(crate) fn named(snapshots: &SnapshotStore, index: u64) -> Arc<SnapshotDir> {
        let received = fabricate(snapshots, index, &[("000001.sst", b"rows"), ("CURRENT", b"x")]);
        let named =
            snapshots.name(Unfinished::reserve(received.path().to_owned()), received.manifest().clone()).unwrap();
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
        let path = named(&snapshots, 7).path().to_owned();
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
    fn an_old_snapshot_stays_while_it_is_being_read() {
        let data = tempfile::tempdir().unwrap();
        let snapshots = SnapshotStore::open(data.path(), Metrics::new()).unwrap();
        let old = named(&snapshots, 7);
        named(&snapshots, 8);
        assert!(old.path().exists());
        let path = old.path().to_owned();
        assert!(old.is_superseded());
        drop(old);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while path.exists() {
            assert!(std::time::Instant::now() < deadline, "the old snapshot was not removed");
            std::thread::yield_now();
        }
    }
}
