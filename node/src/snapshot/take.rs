//! Taking a snapshot: a checkpoint of the state, its checksums and its manifest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use headwater_proto::stored;
use prost::Message;

use super::blocking;
use super::directory::{SnapshotDir, Unfinished, check_file_name, write_manifest};
use super::kept::SnapshotStore;
use crate::apply::ApplyHandle;
use crate::store::Store;

/// Bytes read at a time to compute a checksum.
const READ_BYTES: usize = 1 << 20;

impl SnapshotStore {
    /// Takes a checkpoint of the applied state and makes it the newest snapshot. Returns the
    /// current snapshot when nothing was applied since. After an error nothing has changed, and
    /// another attempt may succeed.
    pub(crate) async fn build(self: &Arc<Self>, apply: &ApplyHandle) -> io::Result<Arc<SnapshotDir>> {
        // Flushed here, not on the apply thread: only what is committed from now on is left for the
        // checkpoint there.
        apply.flush().await?;
        let work = self.new_unfinished();
        let target = work.path().to_owned();
        apply.run(move |writer| writer.checkpoint(&target)).await??;
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
            && previous.manifest().last_applied == manifest.last_applied
        {
            return Ok(previous.clone());
        }
        manifest.files = describe_files(work.path(), previous.as_deref())?;
        write_manifest(work.path(), &manifest)?;
        let built = self.name(work, manifest)?;
        self.metrics().snapshots_built.inc();
        tracing::info!(
            index = built.last_index(),
            files = built.manifest().files.len(),
            bytes = built.total_bytes(),
            "took a snapshot"
        );
        self.replace_current(built.clone());
        Ok(built)
    }
}

/// Names, sizes and checksums of the files in a checkpoint, each of them synced. A table file that
/// is also in the previous snapshot (the same inode: tables never change) keeps its checksum, so
/// that a snapshot of a large state reads only new files.
pub(super) fn describe_files(
    directory: &Path,
    previous: Option<&SnapshotDir>,
) -> io::Result<Vec<stored::SnapshotFile>> {
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

/// The files of snapshots below `data_dir` that are not what their manifests say, each in a
/// sentence. Snapshots that are being made do not count.
pub(crate) fn damaged_files(data_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(data_dir.join("snapshots")).into_iter().flatten().flatten();
    let named = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    named.flat_map(|entry| damage_of(&entry.path())).collect()
}

fn damage_of(snapshot: &Path) -> Vec<String> {
    let snapshot = match SnapshotDir::open(snapshot) {
        Ok(snapshot) => snapshot,
        Err(error) => return vec![error.to_string()],
    };
    let damage = |file: &stored::SnapshotFile| {
        let path = snapshot.path().join(&file.name);
        match checksum(&path) {
            Ok(found) if found == file.crc32c => None,
            Ok(_) => Some(format!("{} has a wrong checksum", path.display())),
            Err(error) => Some(format!("{} cannot be read: {error}", path.display())),
        }
    };
    snapshot.manifest().files.iter().filter_map(damage).collect()
}

fn known_checksum(previous: &SnapshotDir, name: &str, path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    if !name.ends_with(".sst") {
        return None;
    }
    let known = previous.manifest().files.iter().find(|file| file.name == name)?;
    let (old, new) = (fs::metadata(previous.path().join(name)).ok()?, fs::metadata(path).ok()?);
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

#[cfg(test)]
mod tests {
    use super::super::kept::tests::named;
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn checksums_are_taken_over_for_the_same_table_only() {
        let data = tempfile::tempdir().unwrap();
        let snapshots = SnapshotStore::open(data.path(), Metrics::new()).unwrap();
        let old = named(&snapshots, 7);
        let next = data.path().join("next");
        fs::create_dir(&next).unwrap();
        fs::hard_link(old.path().join("000001.sst"), next.join("000001.sst")).unwrap();
        assert!(known_checksum(&old, "000001.sst", &next.join("000001.sst")).is_some());
        fs::remove_file(next.join("000001.sst")).unwrap();
        fs::write(next.join("000001.sst"), b"rows").unwrap();
        assert!(known_checksum(&old, "000001.sst", &next.join("000001.sst")).is_none());
    }
}
