//! File system operations for the rooms that keep directories, and for subcommands that write
//! files.

mod part;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub(crate) use part::{NamedWriter, PART_SUFFIX, PartFile, Unusable};
use rustix::fs::Access;
use rustix::process::{Flock, FlockType};

/// Makes creations, renames and removals in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a directory and what lies above it, for the user of this process alone, and makes their
/// names durable: else a loss of power takes all that is in it.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    missing.into_iter().try_for_each(sync_name)
}

/// What group and others may do with a file.
const OF_OTHERS: u32 = 0o077;

/// Takes from group and others every right to a directory and all that is below it. Links are left
/// alone, and so is what they lead to. What cannot be closed does not keep the rest open.
///
/// # Errors
/// The first thing that stayed open, and why.
pub(crate) fn make_private(root: &Path) -> Result<(), StaysOpen> {
    let mut first = None;
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        match close_to_others(&path, path == root) {
            Ok(below) => open.extend(below),
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => drop(first.get_or_insert(StaysOpen { path, source })),
        }
    }
    first.map_or(Ok(()), Err)
}

/// Something below a directory that others may look at all the same.
#[derive(Debug, thiserror::Error)]
#[error("{} stays open to other users: {source}", path.display())]
pub(crate) struct StaysOpen {
    path: PathBuf,
    source: io::Error,
}

/// What [`make_private`] will leave open below a directory, and what this process may not use
/// there, the first of each. Nothing is changed.
pub(crate) fn look_through(root: &Path) -> LookedThrough {
    let own = rustix::process::geteuid();
    let mut found = LookedThrough::default();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = if path == root { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
        let metadata = match metadata {
            Ok(metadata) if metadata.is_symlink() => continue,
            Ok(metadata) => metadata,
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                found.unusable.get_or_insert((path, error));
                continue;
            }
        };
        let is_ours = own.is_root() || metadata.uid() == own.as_raw();
        if metadata.permissions().mode() & OF_OTHERS != 0 && !is_ours {
            found.stays_open.get_or_insert_with(|| path.clone());
        }
        if let Err(error) = may_use(&path, metadata.is_dir()) {
            found.unusable.get_or_insert((path, error));
        } else if metadata.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    found
}

/// What was seen below a directory.
#[derive(Debug, Default)]
pub(crate) struct LookedThrough {
    /// It belongs to another user, and others may look at it.
    pub(crate) stays_open: Option<PathBuf>,
    /// It cannot be read or written.
    pub(crate) unusable: Option<(PathBuf, io::Error)>,
}

/// Whether this process may read and write a file, and create something in a directory.
pub(crate) fn may_use(path: &Path, is_directory: bool) -> io::Result<()> {
    let entered = if is_directory { Access::EXEC_OK } else { Access::empty() };
    match rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | entered) {
        Err(error) if error != rustix::io::Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// The process that holds a lock on this file, as databases do while they are open. The id is that
/// in the namespace of this process; 0 if it has none there.
pub(crate) fn lock_holder(path: &Path) -> Option<i32> {
    let file = File::open(path).ok()?;
    let wanted = Flock::from(FlockType::WriteLock);
    let held = rustix::process::fcntl_getlk(&file, &wanted).ok()??;
    Some(held.pid.map_or(0, |pid| pid.as_raw_nonzero().get()))
}

/// Closes one file or directory; what is in it. The root may be a link to the directory that is
/// meant.
fn close_to_others(path: &Path, is_root: bool) -> io::Result<Vec<PathBuf>> {
    let metadata = if is_root { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
    if metadata.is_symlink() {
        return Ok(Vec::new());
    }
    let mode = metadata.permissions().mode();
    if mode & OF_OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & !OF_OTHERS))?;
    }
    if metadata.is_dir() { fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect() } else { Ok(Vec::new()) }
}

/// Puts `content` in the place of a file, at once and durably: after a crash there is the old or
/// the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_name(path)
}

/// Makes the name of a file or directory durable: otherwise a power loss would take it with
/// everything in it.
pub(crate) fn sync_name(path: &Path) -> io::Result<()> {
    sync_directory(parent(path))
}

/// The directory that contains `path`.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes a directory that is no longer needed. If that fails, the next start tries again.
pub(crate) fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a directory that is no longer needed");
        }
        _ => {}
    }
}

/// Drops `holder`, then removes the directory, both on a thread of its own: unlinking large files
/// can take long, and their last handle may belong to an async task or to the apply thread.
pub(crate) fn remove_apart<T: Send + 'static>(holder: T, path: PathBuf) {
    #[cfg(test)]
    if crate::threads::simulated::is_on() {
        drop(holder);
        return remove(&path);
    }
    let removal = std::thread::Builder::new().name("remove-files".to_owned()).spawn(move || {
        drop(holder);
        remove(&path);
    });
    if let Err(error) = removal {
        tracing::warn!(%error, "a thread to remove files cannot be started: they stay until the next start");
    }
}

/// The file system of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// Its size.
    pub(crate) total_bytes: u64,
    /// Free space for users other than root.
    pub(crate) available_bytes: u64,
    /// Used space.
    pub(crate) used_bytes: u64,
}

impl Space {
    /// The figures of the file system that contains `path`.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let space = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        Ok(Self {
            total_bytes: bytes(space.f_blocks),
            available_bytes: bytes(space.f_bavail),
            used_bytes: bytes(space.f_blocks.saturating_sub(space.f_bfree)),
        })
    }
}

/// Where files that need not survive are written quickest: in memory, where there is room for the
/// snapshots of some nodes; containers often have 64 MiB there.
#[cfg(any(test, fuzzing))]
pub(crate) fn quickest_directory() -> PathBuf {
    const ROOM_BYTES: u64 = 1 << 30;
    let memory = Path::new("/dev/shm");
    let has_room = Space::of(memory).is_ok_and(|space| space.available_bytes >= ROOM_BYTES);
    if has_room { memory.to_owned() } else { std::env::temp_dir() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn files_go_after_their_holder_and_not_on_the_thread_that_lets_go() {
        struct Holder(PathBuf, std::thread::ThreadId, Arc<std::sync::atomic::AtomicBool>);
        impl Drop for Holder {
            fn drop(&mut self) {
                let apart = self.0.exists() && std::thread::current().id() != self.1;
                self.2.store(apart, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), b"x").unwrap();
        let apart = Arc::default();
        remove_apart(Holder(path.clone(), std::thread::current().id(), Arc::clone(&apart)), path.clone());
        let deadline = Instant::now() + Duration::from_secs(10);
        while path.exists() {
            assert!(Instant::now() < deadline, "not removed");
            std::thread::yield_now();
        }
        assert!(apart.load(std::sync::atomic::Ordering::SeqCst));
    }

    #[test]
    fn directories_are_made_and_files_replaced() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        create_directory(&deep).unwrap();
        create_directory(&deep).unwrap();
        let file = deep.join("file");
        for content in [&b"one"[..], b""] {
            replace(&file, content).unwrap();
            assert_eq!(fs::read(&file).unwrap(), content);
        }
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 1, "nothing is left of the replacement");
        assert_eq!((parent(Path::new("data")), parent(&file)), (Path::new("."), &*deep));
    }

    #[test]
    fn a_directory_is_closed_with_all_below_it_and_nothing_behind_links() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
        let open = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let (target, data) = (elsewhere.path().join("file"), root.path().join("data"));
        create_directory(&data.join("log/deep")).unwrap();
        assert_eq!((mode(&data), mode(&data.join("log/deep"))), (0o700, 0o700));
        for path in [&target, &data.join("identity"), &data.join("log/deep/000001.sst")] {
            fs::write(path, b"x").unwrap();
            open(path, 0o644);
        }
        for path in [&data, &data.join("log"), &data.join("log/deep"), elsewhere.path()] {
            open(path, 0o755);
        }
        std::os::unix::fs::symlink(&target, data.join("link-to-file")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), data.join("log/link-to-directory")).unwrap();
        // The data directory itself may be a link.
        let named = root.path().join("named");
        std::os::unix::fs::symlink(&data, &named).unwrap();
        make_private(&named).unwrap();
        for (path, expected) in [
            (&data, 0o700),
            (&data.join("identity"), 0o600),
            (&data.join("log"), 0o700),
            (&data.join("log/deep"), 0o700),
            (&data.join("log/deep/000001.sst"), 0o600),
            (&target, 0o644),
            (&elsewhere.path().to_owned(), 0o755),
        ] {
            assert_eq!(mode(path), expected, "{}", path.display());
        }
        make_private(&root.path().join("absent")).unwrap();
    }

    #[test]
    fn a_file_system_is_measured() {
        let directory = tempfile::tempdir().unwrap();
        let space = Space::of(directory.path()).unwrap();
        assert!(space.available_bytes <= space.total_bytes && space.used_bytes <= space.total_bytes, "{space:?}");
        assert!(Space::of(&directory.path().join("absent")).is_err());
    }
}
