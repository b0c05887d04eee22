//! The log of a stopped node, read from its first entry to its last without changing a file.

use std::path::Path;

use bytes::Bytes;
use rocksdb::DB;

use super::durable_mark::DurableMark;
use super::{MAX_OPEN_TABLES, keys, options};
use crate::{fatal, record_files};

/// The entries of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entries {
    /// Index of the first one.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) count: u64,
}

/// Damage in the small files of the log in `directory` that each say of themselves whether they are
/// whole: the MANIFEST, what names it, and the write-ahead logs, also those that are only kept to
/// be used again.
pub(crate) fn damaged_files(directory: &Path) -> Vec<String> {
    let manifest = record_files::check_manifest(directory).err();
    let wals = record_files::damaged_wals(directory);
    let wals = wals.unwrap_or_else(|error| vec![format!("{} cannot be read: {error}", directory.display())]);
    manifest.into_iter().chain(wals).collect()
}

/// Reads every entry of the log in `directory` and shows it to `check`.
///
/// # Errors
/// What is wrong: the log cannot be read, lacks an entry, or ends before its acknowledged end.
pub(crate) fn check(directory: &Path, check: impl Fn(Bytes) -> Result<(), String>) -> Result<Entries, String> {
    let in_log = |what: String| format!("the log in {}: {what}", directory.display());
    let promised = DurableMark::read(directory).map_err(|error| in_log(format!("durable-end: {error}")))?;
    let promised = promised.ok_or_else(|| in_log("the file durable-end is missing".to_owned()))?;
    let database = options::database(false, MAX_OPEN_TABLES);
    let complaint = |error: rocksdb::Error| in_log(fatal::name_files(directory, error.as_ref()));
    let db = DB::open_cf_descriptors_read_only(&database, directory, options::families(), false).map_err(complaint)?;
    let family = |name: &str| db.cf_handle(name).ok_or_else(|| in_log(format!("family {name} is missing")));
    let first = db.get_cf(family(options::META)?, keys::FIRST).map_err(complaint)?;
    let first =
        first.as_deref().map_or(Some(0), keys::index).ok_or_else(|| in_log("its beginning is damaged".into()))?;
    let mut rows = db.raw_iterator_cf(family(options::ENTRIES)?);
    let mut next = first;
    rows.seek(keys::entry(first));
    while let Some((key, value)) = rows.item() {
        if keys::index(key) != Some(next) {
            return Err(in_log(format!("entry {next} is missing")));
        }
        check(Bytes::copy_from_slice(value)).map_err(|reason| in_log(format!("entry {next} is damaged ({reason})")))?;
        next += 1;
        rows.next();
    }
    rows.status().map_err(|error| in_log(format!("entries from {next} on cannot be read: {error}")))?;
    if next < promised.end {
        return Err(in_log(format!(
            "it ends before entry {next}, but everything before entry {} was acknowledged",
            promised.end
        )));
    }
    let sequence = db.latest_sequence_number();
    if sequence < promised.sequence {
        return Err(in_log(format!(
            "it ends with write {sequence}, but everything up to write {}, a vote perhaps, was acknowledged",
            promised.sequence
        )));
    }
    Ok(Entries { first, count: next - first })
}
