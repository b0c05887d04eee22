//! The log of a stopped node, read from its first entry to its last without changing a file.

use std::path::Path;

use bytes::Bytes;
use rocksdb::DB;

use super::durable_mark::{Durable, DurableMark};
use super::{MAX_OPEN_TABLES, keys, options};
use crate::fatal;

/// The entries of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entries {
    /// Index of the first one.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) count: u64,
}

/// Reads every entry of the log in `directory` and shows it to `check`.
///
/// # Errors
/// What is wrong: the log cannot be read, lacks an entry, or ends before its acknowledged end.
pub(crate) fn check(directory: &Path, check: impl Fn(Bytes) -> Result<(), String>) -> Result<Entries, String> {
    let in_log = |what: String| format!("the log in {}: {what}", directory.display());
    let promised = DurableMark::read(directory).map_err(|error| in_log(format!("durable-end: {error}")))?;
    let Durable { end: promised, .. } = promised.ok_or_else(|| in_log("the file durable-end is missing".to_owned()))?;
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
    if next < promised {
        return Err(in_log(format!(
            "it ends before entry {next}, but everything before entry {promised} was acknowledged"
        )));
    }
    Ok(Entries { first, count: next - first })
}
