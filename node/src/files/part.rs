//! A file that is there only when it is complete: until then it has another name, and is locked for
//! the process that writes it. A process that was killed leaves such a file behind; the next one
//! that writes beside it removes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{parent, sync_name};

/// Behind the name of a file that is being written.
pub(crate) const PART_SUFFIX: &str = ".headwater-part";

/// Parts of other files that nobody has written to for so long, and nobody has locked, are removed.
/// The time is for file systems that show locks only to the machine that holds them.
const ABANDONED_AFTER: Duration = Duration::from_secs(3_600);

/// A file or directory, and why it cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub(crate) struct Unusable {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

impl Unusable {
    /// Of this path.
    pub(crate) fn of(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self { path, error }
    }

    /// As an error of the system, for code that passes on such errors.
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::new(self.error.kind(), self)
    }

    /// What [`Self::into_io`] made an error of the system of; of `otherwise` where it did not.
    pub(crate) fn from_io(error: io::Error, otherwise: &Path) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::of(otherwise))
    }
}

/// Names the file in errors of writing, for code that reads and writes and passes on what goes
/// wrong with either.
pub(crate) struct NamedWriter<W> {
    inner: W,
    path: PathBuf,
}

impl<W> NamedWriter<W> {
    /// Writes to `inner`, which is the file at `path`.
    pub(crate) fn new(inner: W, path: &Path) -> Self {
        Self { inner, path: path.to_owned() }
    }

    fn name(&self, error: io::Error) -> io::Error {
        // Whoever repeats an interrupted write looks at the kind.
        Unusable { path: self.path.clone(), error }.into_io()
    }
}

impl<W: io::Write> io::Write for NamedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).map_err(|error| self.name(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(|error| self.name(error))
    }
}

/// A file that is being written. Dropped before [`Self::finish`], nothing is left of it.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: File,
    part: PathBuf,
    target: PathBuf,
}

impl PartFile {
    /// Begins the file `target`, for the user of this process alone.
    ///
    /// # Errors
    /// It exists, or another process is writing it, or the directory cannot be written to.
    pub(crate) fn create(target: &Path) -> Result<Self, Unusable> {
        require_absent(target)?;
        remove_abandoned(parent(target));
        let mut part = target.as_os_str().to_owned();
        part.push(PART_SUFFIX);
        let part = PathBuf::from(part);
        let file = open_locked(&part).map_err(Unusable::of(&part))?;
        let this = Self { file, part, target: target.to_owned() };
        // What a killed process has written of it.
        this.file.set_len(0).map_err(Unusable::of(&this.part))?;
        Ok(this)
    }

    /// Where to write.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// The name of the file while it is written.
    pub(crate) fn path(&self) -> &Path {
        &self.part
    }

    /// Makes what was written durable, and gives it its name.
    ///
    /// # Errors
    /// See [`Self::create`]; nothing is left then.
    pub(crate) fn finish(mut self) -> Result<(), Unusable> {
        self.file.flush().and_then(|()| self.file.sync_all()).map_err(Unusable::of(&self.part))?;
        require_absent(&self.target)?;
        fs::rename(&self.part, &self.target).map_err(Unusable::of(&self.target))?;
        sync_name(&self.target).map_err(Unusable::of(&self.target))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // It has its name already, or would only take the place of the next attempt.
        let _ = fs::remove_file(&self.part);
    }
}

/// Refuses to write over something.
fn require_absent(target: &Path) -> Result<(), Unusable> {
    if fs::symlink_metadata(target).is_err() {
        return Ok(());
    }
    let error = io::Error::new(io::ErrorKind::AlreadyExists, "the file exists; name one that does not");
    Err(Unusable { path: target.to_owned(), error })
}

/// Opens a file and locks it, so that nobody else writes or removes it.
fn open_locked(part: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(part)?;
        if !lock(&file)? {
            return Err(io::Error::other(
                "another process is writing this file; wait for its end, or name another one",
            ));
        }
        // Somebody may have removed the name between both.
        if fs::metadata(part).is_ok_and(|named| file.metadata().is_ok_and(|own| own.ino() == named.ino())) {
            return Ok(file);
        }
    }
}

/// Whether the lock is ours; also where the file system has no locks.
fn lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP | rustix::io::Errno::NOLCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Removes what killed processes have left in a directory. What cannot be looked at stays.
fn remove_abandoned(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let is_part = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(PART_SUFFIX));
        if is_part && is_abandoned(&path).unwrap_or(false) {
            let _ = fs::remove_file(&path);
        }
    }
}

fn is_abandoned(part: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().write(true).open(part)?;
    let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
    Ok(age >= ABANDONED_AFTER && lock(&file)?)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_when_it_is_complete_and_is_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("a");
        let mut part = PartFile::create(&target).unwrap();
        part.file().write_all(b"all of it").unwrap();
        assert_eq!(names(directory.path()), ["a.headwater-part"]);
        let error = PartFile::create(&target).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        part.finish().unwrap();
        assert_eq!(names(directory.path()), ["a"]);
        assert_eq!(fs::read(&target).unwrap(), b"all of it");
        let error = PartFile::create(&target).unwrap_err();
        assert_eq!((error.error.kind(), error.path), (io::ErrorKind::AlreadyExists, target));
    }

    #[test]
    fn nothing_is_left_of_what_did_not_come_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("a");
        drop(PartFile::create(&target).unwrap());
        assert!(names(directory.path()).is_empty());
        // Something of that name appears meanwhile.
        let part = PartFile::create(&target).unwrap();
        fs::write(&target, b"other").unwrap();
        part.finish().unwrap_err();
        assert_eq!(names(directory.path()), ["a"]);
        assert_eq!(fs::read(&target).unwrap(), b"other");
    }

    #[test]
    fn what_a_killed_process_left_is_taken_over_or_removed() {
        let directory = tempfile::tempdir().unwrap();
        let left = |name: &str| {
            let path = directory.path().join(name);
            fs::write(&path, b"a part of an earlier attempt").unwrap();
            path
        };
        let old = |path: &Path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - 2 * ABANDONED_AFTER).unwrap();
            file
        };
        left("a.headwater-part");
        left("fresh.headwater-part");
        left("other");
        old(&left("old.headwater-part"));
        let written = old(&left("slow.headwater-part"));
        assert!(lock(&written).unwrap());
        let mut part = PartFile::create(&directory.path().join("a")).unwrap();
        part.file().write_all(b"x").unwrap();
        part.finish().unwrap();
        assert_eq!(names(directory.path()), ["a", "fresh.headwater-part", "other", "slow.headwater-part"]);
        assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"x");
    }
}
