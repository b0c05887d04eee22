//! The manifest of a backup: the file `backup.json`, the last one of every backup. A backup without
//! it was cut off.
//!
//! ```json
//! {"format":1,"crc32c":"9ae0daaf","backup":{"database":"1.5f0c6f7e1b7a-1","nextPosition":42,..}}
//! ```
//!
//! The checksum is that of the text of `backup`. A later version of Headwater that changes its
//! meaning raises `format`, and this one refuses it by that number.

use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

use headwater_proto::stored;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[cfg(test)]
use crate::files;

/// Name of the manifest.
pub(crate) const FILE_NAME: &str = "backup.json";

/// Directory of the files of the database in a backup.
pub(crate) const STATE: &str = "state";

/// The format that this version writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;

/// What a backup is, and what it consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// Version of the program that took it.
    pub(crate) version: String,
    /// The cluster that it is of.
    pub(crate) cluster_id: String,
    /// The database that the names of the files belong to: within one, a table never changes under
    /// its name.
    pub(crate) database: String,
    /// Version of the encodings in the database.
    pub(crate) state_format: u32,
    /// The last log entry whose effect it holds.
    pub(crate) applied: Applied,
    /// It holds every event below this position.
    pub(crate) next_position: u64,
    /// When the newest event was stamped, as RFC 3339.
    pub(crate) newest_event_time: Option<String>,
    /// When the backup was begun, as RFC 3339.
    pub(crate) taken_at: String,
    /// The node had no leader to ask: others may have acknowledged events that it did not have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) may_lack_newest: bool,
    /// All files of the database, by name.
    pub(crate) files: Vec<BackupFile>,
}

/// The last applied log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// Term of its leader.
    pub(crate) term: u64,
    /// Index in the log.
    pub(crate) index: u64,
}

impl From<Applied> for stored::LogId {
    fn from(applied: Applied) -> Self {
        Self { term: applied.term, index: applied.index }
    }
}

/// A file of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupFile {
    /// Its name in [`STATE`].
    pub(crate) name: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// CRC-32C of the whole file.
    pub(crate) crc32c: u32,
    /// CRC-32C of its last 64 KiB, where a table says which one it is.
    pub(crate) tail_crc32c: u32,
    /// The file is not in this archive, but in the backup that it adds to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) in_base: bool,
}

impl BackupFile {
    /// Whether it is a table of the database; other files change under their name.
    pub(crate) fn is_table(&self) -> bool {
        is_table(&self.name)
    }
}

/// See [`BackupFile::is_table`].
pub(crate) fn is_table(name: &str) -> bool {
    name.ends_with(".sst")
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u32,
    crc32c: String,
    #[serde(borrow)]
    backup: &'a RawValue,
}

/// The part of it that every format has.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// Why a manifest is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// There is none.
    #[error("there is no {FILE_NAME}: this is no backup, or one that was cut off")]
    Missing,
    /// It cannot be read.
    #[error("{FILE_NAME} cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("{FILE_NAME} is damaged: {0}")]
    Damaged(String),
    /// A later version wrote it.
    #[error(
        "this backup has format {found}, and this program knows formats up to {FORMAT}: use the version of Headwater \
         that took it, or a later one"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
}

impl Manifest {
    /// The text of the file.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let backup = serde_json::value::to_raw_value(self)?;
        let crc32c = format!("{:08x}", crc32c::crc32c(backup.get().as_bytes()));
        let mut text = serde_json::to_vec(&Envelope { format: FORMAT, crc32c, backup: &backup })?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// It is damaged, of a later format, or names files that cannot be in a database.
    pub(crate) fn decode(text: &[u8]) -> Result<Self, ManifestError> {
        let damaged = |what: &dyn std::fmt::Display| ManifestError::Damaged(what.to_string());
        let AnyFormat { format } = serde_json::from_slice(text).map_err(|error| damaged(&error))?;
        if format > FORMAT {
            return Err(ManifestError::Newer { found: format });
        }
        let envelope: Envelope<'_> = serde_json::from_slice(text).map_err(|error| damaged(&error))?;
        let crc32c = format!("{:08x}", crc32c::crc32c(envelope.backup.get().as_bytes()));
        if crc32c != envelope.crc32c {
            return Err(damaged(&"wrong checksum"));
        }
        let manifest: Self = serde_json::from_str(envelope.backup.get()).map_err(|error| damaged(&error))?;
        match manifest.files.iter().find(|file| !is_plain(&file.name)) {
            Some(file) => Err(damaged(&format!("it names a file {:?}", file.name))),
            None => Ok(manifest),
        }
    }

    /// Reads that of a backup in a directory.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub(crate) fn read(directory: &Path) -> Result<Self, ManifestError> {
        match fs::read(directory.join(FILE_NAME)) {
            Ok(text) => Self::decode(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ManifestError::Missing),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes it into the directory of a backup, as the last step of a backup does.
    #[cfg(test)]
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        files::replace(&directory.join(FILE_NAME), &self.encode()?)
    }

    /// The tables that a later backup need not send again, by name.
    pub(crate) fn tables_of(&self, database: &str) -> HashMap<&str, &BackupFile> {
        let tables = self.files.iter().filter(|file| file.is_table() && self.database == database);
        tables.map(|file| (file.name.as_str(), file)).collect()
    }

    /// Bytes that only the same backup has, however many archives it came in.
    pub(crate) fn identifying(&self) -> io::Result<Vec<u8>> {
        let mut complete = self.clone();
        complete.files.iter_mut().for_each(|file| file.in_base = false);
        complete.files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(serde_json::to_vec(&complete)?)
    }

    /// Bytes of all files.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Whether a name is one that a database gives its files: it must not lead out of its directory.
pub(crate) fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn manifest() -> Manifest {
        let table = BackupFile { name: "000007.sst".into(), bytes: 9, crc32c: 1, tail_crc32c: 2, in_base: true };
        Manifest {
            version: "0.1.0".into(),
            cluster_id: "c".into(),
            database: "1.00-1".into(),
            state_format: 4,
            applied: Applied { term: 1, index: 9 },
            next_position: 3,
            newest_event_time: None,
            taken_at: "2026-01-01T00:00:00Z".into(),
            may_lack_newest: true,
            files: vec![BackupFile { name: "CURRENT".into(), in_base: false, ..table.clone() }, table],
        }
    }

    #[test]
    fn a_manifest_round_trips_and_each_changed_byte_is_noticed() {
        let text = manifest().encode().unwrap();
        assert_eq!(Manifest::decode(&text).unwrap(), manifest());
        let inside = text.iter().position(|byte| *byte == b'v').unwrap();
        for at in inside..text.len() - 2 {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(Manifest::decode(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number_whatever_else_it_has() {
        let error = Manifest::decode(br#"{"format":7,"parts":[1]}"#).unwrap_err();
        assert!(matches!(error, ManifestError::Newer { found: 7 }));
        assert!(error.to_string().contains("format 7"), "{error}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "../x", "a/b", ".", "..", ".x", "a\\b", "a\0"] {
            assert!(!is_plain(name), "{name}");
            let mut manifest = manifest();
            manifest.files[0].name = name.into();
            assert!(matches!(Manifest::decode(&manifest.encode().unwrap()), Err(ManifestError::Damaged(_))));
        }
    }

    #[test]
    fn only_tables_of_the_same_database_are_left_out() {
        let manifest = manifest();
        assert_eq!(manifest.tables_of("1.00-1").into_keys().collect::<Vec<_>>(), ["000007.sst"]);
        assert!(manifest.tables_of("1.00-2").is_empty());
    }
}
