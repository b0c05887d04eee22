//! A backup to be read: a directory, an archive in a file, or an archive from standard input.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::archive;
use super::manifest::{self, Manifest, ManifestError};
use crate::files::{NamedWriter, Unusable};

/// Where a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackupSource {
    /// A directory with a manifest.
    Directory(PathBuf),
    /// A file.
    Archive(PathBuf),
    /// `-`
    Stdin,
}

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// It cannot be read.
    #[error("{what}: {error}")]
    Io {
        /// The backup or a file of it.
        what: String,
        /// The reason.
        error: io::Error,
    },
    /// Its manifest is not accepted.
    #[error("{what}: {error}")]
    Manifest {
        /// The backup.
        what: String,
        /// The reason.
        error: ManifestError,
    },
    /// It is not what its manifest says.
    #[error("{what}: {}", damage.join("; "))]
    Damaged {
        /// The backup.
        what: String,
        /// What is wrong.
        damage: Vec<String>,
    },
}

impl SourceError {
    /// An error while `what` was read, unless it names the file that could not be written.
    fn of_io(error: io::Error, what: String) -> Self {
        let Unusable { path, error } = Unusable::from_io(error, Path::new(&what));
        Self::Io { what: path.display().to_string(), error }
    }

    /// Whether the system could not read or write, which says nothing of the backup.
    pub(crate) fn is_of_system(&self) -> bool {
        use io::ErrorKind::{NotFound, PermissionDenied, StorageFull};
        matches!(self, Self::Io { error, .. } if matches!(error.kind(), NotFound | PermissionDenied | StorageFull))
    }
}

/// Size and CRC-32C of the files that were unpacked, by name.
type Unpacked = HashMap<String, (u64, u32)>;

impl BackupSource {
    /// As it is given on the command line.
    pub(crate) fn of(text: &str) -> Self {
        let path = PathBuf::from(text);
        match text {
            "-" => Self::Stdin,
            _ if path.is_dir() => Self::Directory(path),
            _ => Self::Archive(path),
        }
    }

    /// The path, if nothing is there.
    pub(crate) fn missing(&self) -> Option<&Path> {
        match self {
            Self::Archive(path) if !path.exists() => Some(path),
            _ => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Directory(path) | Self::Archive(path) => path.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
        }
    }

    /// Copies its files into `target`, over those of an earlier backup that it adds to.
    fn unpack(&self, target: &Path, unpacked: &mut Unpacked) -> Result<Manifest, SourceError> {
        let failed = |error| SourceError::of_io(error, self.name());
        let mut put = |name: &str, _: u64, content: &mut dyn Read| {
            unpacked.insert(name.to_owned(), write_new(&target.join(name), content)?);
            Ok(())
        };
        let manifest = match self {
            Self::Directory(directory) => {
                let manifest =
                    Manifest::read(directory).map_err(|error| SourceError::Manifest { what: self.name(), error })?;
                for file in &manifest.files {
                    let path = directory.join(manifest::STATE).join(&file.name);
                    let failed = |error| SourceError::of_io(error, path.display().to_string());
                    let mut content = match File::open(&path) {
                        Ok(content) => content,
                        // The backup that this one adds to has it; the end shows whether it was
                        // named.
                        Err(error) if file.in_base && error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(failed(error)),
                    };
                    put(&file.name, file.bytes, &mut content).map_err(failed)?;
                }
                manifest
            }
            Self::Archive(path) => {
                let file = File::open(path).map_err(failed)?;
                archive::read(BufReader::with_capacity(1 << 20, file), put).map_err(failed)?
            }
            Self::Stdin => archive::read(io::stdin().lock(), put).map_err(failed)?,
        };
        Ok(manifest)
    }
}

/// Copies a backup into the existing directory `target`: the files of the last source, and those
/// that it takes over from the ones before it. Everything is synced and has the sums of its
/// manifest.
///
/// # Errors
/// A source cannot be read or is damaged, or a backup is missing that the last one adds to.
pub(crate) fn unpack(sources: &[BackupSource], target: &Path) -> Result<Manifest, SourceError> {
    let mut unpacked = Unpacked::new();
    let mut newest: Option<(String, Manifest)> = None;
    for source in sources {
        let (what, manifest) = (source.name(), source.unpack(target, &mut unpacked)?);
        if let Some((former, before)) = &newest
            && manifest.applied < before.applied
        {
            let damage = vec![format!("it is older than {former}: name the older backup first")];
            return Err(SourceError::Damaged { what, damage });
        }
        newest = Some((what, manifest));
    }
    let Some((what, manifest)) = newest else {
        return Err(SourceError::Damaged { what: "no backup".to_owned(), damage: vec!["none was named".to_owned()] });
    };
    let damage = differences(&manifest, &unpacked);
    if !damage.is_empty() {
        return Err(SourceError::Damaged { what, damage });
    }
    let wanted: HashMap<&str, ()> = manifest.files.iter().map(|file| (file.name.as_str(), ())).collect();
    for name in unpacked.keys().filter(|name| !wanted.contains_key(name.as_str())) {
        let path = target.join(name);
        fs::remove_file(&path).map_err(|error| SourceError::Io { what: path.display().to_string(), error })?;
    }
    Ok(manifest)
}

fn differences(manifest: &Manifest, unpacked: &Unpacked) -> Vec<String> {
    let difference = |file: &manifest::BackupFile| match unpacked.get(&file.name) {
        None if file.in_base => Some(format!(
            "{} is in the backup that this one adds to: name that one first, with a --from of its own",
            file.name
        )),
        None => Some(format!("{} is missing", file.name)),
        Some((bytes, _)) if *bytes != file.bytes => {
            Some(format!("{} has {bytes} bytes instead of {}", file.name, file.bytes))
        }
        Some((_, crc32c)) if *crc32c != file.crc32c => Some(format!("{} has a wrong checksum", file.name)),
        Some(_) => None,
    };
    manifest.files.iter().filter_map(difference).collect()
}

/// The files of a backup in a directory that are not what its manifest says.
pub(crate) fn damaged_files(directory: &Path, manifest: &Manifest, mut progress: impl FnMut(u64)) -> Vec<String> {
    let mut unpacked = Unpacked::new();
    let mut unreadable = Vec::new();
    let mut done = 0;
    for file in &manifest.files {
        let path = directory.join(manifest::STATE).join(&file.name);
        match File::open(&path).and_then(|content| archive::copy(content, &mut io::sink())) {
            Ok(read) => drop(unpacked.insert(file.name.clone(), read)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                unpacked.insert(file.name.clone(), (file.bytes, file.crc32c));
                unreadable.push(format!("{} cannot be read: {error}", path.display()));
            }
        }
        done += file.bytes;
        progress(done);
    }
    unreadable.extend(differences(manifest, &unpacked));
    unreadable
}

fn write_new(path: &Path, content: &mut dyn Read) -> io::Result<(u64, u32)> {
    let named = |error| Unusable::of(path)(error).into_io();
    let file = File::create(path).map_err(named)?;
    let written = archive::copy(content, &mut NamedWriter::new(&file, path))?;
    file.sync_all().map_err(named)?;
    Ok(written)
}
