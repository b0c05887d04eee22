//! File system operations for the rooms that keep directories.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Makes creations, renames and removals in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a directory and its parents, and makes their names durable: otherwise a power loss would
/// take everything in it.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::create_dir_all(path)?;
    missing.into_iter().try_for_each(sync_name)
}

/// Replaces the content of a file, atomically and durably: after a crash the file holds the old or
/// the new content.
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
    pub total_bytes: u64,
    /// Free space for users other than root.
    pub available_bytes: u64,
    /// Used space.
    pub used_bytes: u64,
}

impl Space {
    /// Of the file system that contains `path`.
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
    fn a_file_system_is_measured() {
        let directory = tempfile::tempdir().unwrap();
        let space = Space::of(directory.path()).unwrap();
        assert!(space.available_bytes <= space.total_bytes && space.used_bytes <= space.total_bytes, "{space:?}");
        assert!(Space::of(&directory.path().join("absent")).is_err());
    }
}
