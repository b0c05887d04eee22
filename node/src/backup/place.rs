//! The place of a backup that is being written. Nothing is left there of one that did not come to
//! its end, and what a killed process has left is taken over.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::manifest::{self, Manifest};
use crate::files::{self, NamedWriter, PART_SUFFIX, PartFile, Unusable};

/// Where a backup goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A directory with a manifest.
    Directory(PathBuf),
    /// A tar archive.
    Plain(PathBuf),
    /// A compressed one.
    Compressed(PathBuf),
    /// A compressed one, to a pipe.
    Stdout,
}

impl Target {
    /// By the name of it.
    pub(super) fn of(path: &Path) -> Self {
        let (path, name) = (path.to_owned(), path.to_string_lossy().into_owned());
        match &*name {
            "-" => Self::Stdout,
            name if name.ends_with(".tar") => Self::Plain(path),
            name if name.ends_with(".zst") => Self::Compressed(path),
            _ => Self::Directory(path),
        }
    }
}

/// A backup in a directory. Its manifest is begun first and finished last, so what a killed process
/// left is known by it.
pub(super) struct NewDirectory {
    path: PathBuf,
    /// It was not there before.
    is_new: bool,
    /// Held by this process, and so is what else is in the directory.
    manifest: Option<PartFile>,
    is_held: bool,
}

impl NewDirectory {
    /// Begins a backup in this directory, which is made if it does not exist.
    pub(super) fn begin(path: &Path) -> Result<Self, Unusable> {
        let is_new = !path.exists();
        if !is_new && !is_empty(path).map_err(Unusable::of(path))? {
            let error = io::Error::other("the directory is not empty; name a new one for each backup");
            return Err(Unusable { path: path.to_owned(), error });
        }
        files::create_directory(path).map_err(Unusable::of(path))?;
        // From here on it is removed when something goes wrong.
        let mut this = Self { path: path.to_owned(), is_new, manifest: None, is_held: false };
        this.manifest = Some(PartFile::create(&path.join(manifest::FILE_NAME))?);
        this.is_held = true;
        files::remove(&this.state());
        files::create_directory(&this.state()).map_err(Unusable::of(&this.state()))?;
        Ok(this)
    }

    /// Where its files go.
    pub(super) fn state(&self) -> PathBuf {
        self.path.join(manifest::STATE)
    }

    /// Makes what was written a backup.
    pub(super) fn finish(mut self, manifest: &Manifest) -> io::Result<()> {
        files::sync_directory(&self.state())?;
        if let Some(mut part) = self.manifest.take() {
            let path = part.path().to_owned();
            NamedWriter::new(part.file(), &path).write_all(&manifest.encode()?)?;
            part.finish().map_err(Unusable::into_io)?;
        }
        Ok(())
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if self.path.join(manifest::FILE_NAME).exists() {
            return;
        }
        self.manifest = None;
        if self.is_held {
            files::remove(&self.state());
        }
        if self.is_new {
            // Only an empty one goes: somebody else may have put something there meanwhile.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Whether there is nothing, or only what a killed process has left of a backup.
fn is_empty(directory: &Path) -> io::Result<bool> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<OsString> = names.collect::<io::Result<_>>()?;
    let part = OsString::from(format!("{}{PART_SUFFIX}", manifest::FILE_NAME));
    let is_left = names.contains(&part) && names.iter().all(|name| *name == part || name == manifest::STATE);
    Ok(names.is_empty() || is_left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_is_written() {
        for (name, target) in [
            ("-", Target::Stdout),
            ("b/monday", Target::Directory("b/monday".into())),
            ("b.tar", Target::Plain("b.tar".into())),
            ("b.tar.zst", Target::Compressed("b.tar.zst".into())),
        ] {
            assert_eq!(Target::of(Path::new(name)), target);
        }
    }
}
