//! Reading everything that a data directory or a backup holds, and telling what is wrong with it.

mod report;
mod state;
mod suspects;

use std::path::Path;

use super::manifest::{self, Manifest};
use super::restore::Scratch;
use super::source::{self, BackupSource, SourceError};
use crate::cluster::identity;
use crate::store::{OfflineState, offline};
use crate::{log, raft, snapshot};
pub(crate) use report::Report;

/// Shows how far it is: what is read, how much of it is done, and how much there is.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// Why nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// It is neither a backup nor a data directory.
    #[error("{0} is neither a backup nor the data directory of a node")]
    Unknown(String),
    /// A node writes to it.
    #[error("{0} is in use: stop the node, or verify a backup of it")]
    InUse(String),
    /// An archive cannot be unpacked.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nothing can be read or written there.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

/// Verifies the data directory of a stopped node, or a backup. Archives are unpacked below
/// `scratch`.
///
/// # Errors
/// See [`VerifyError`]; damage is in the report.
pub(crate) fn verify(from: &[BackupSource], scratch: &Path, progress: Progress<'_>) -> Result<Report, VerifyError> {
    if let [BackupSource::Directory(directory)] = from {
        let name = directory.display().to_string();
        if directory.join(manifest::FILE_NAME).exists() {
            return Ok(backup_directory(directory, progress));
        }
        let state = directory.join("state");
        let current = offline::current_database(&state).map_err(|error| VerifyError::Io(name.clone(), error))?;
        let Some((_, database)) = current else { return Err(VerifyError::Unknown(name)) };
        if offline::is_in_use(&database).map_err(|error| VerifyError::Io(name.clone(), error))? {
            return Err(VerifyError::InUse(name));
        }
        return Ok(data_directory(directory, progress));
    }
    let unpacked = self::scratch(scratch);
    let failed = |error| VerifyError::Io(unpacked.0.display().to_string(), error);
    crate::files::create_directory(&unpacked.0).map_err(failed)?;
    let manifest = source::unpack(from, &unpacked.0)?;
    let mut report = Report::default();
    database(&unpacked.0, &mut report, progress);
    agree(&manifest, &unpacked.0, &mut report);
    Ok(report)
}

/// A directory for what is unpacked, removed when it is dropped. It does not exist yet.
pub(super) fn scratch(parent: &Path) -> Scratch {
    Scratch(parent.join(format!("headwater-verify-{}", uuid::Uuid::new_v4().simple())))
}

/// Verifies a backup in a directory.
fn backup_directory(directory: &Path, progress: Progress<'_>) -> Report {
    let mut report = Report::default();
    let manifest = match Manifest::read(directory) {
        Ok(manifest) => manifest,
        Err(error) => {
            report.damage(error.to_string());
            return report;
        }
    };
    let total = manifest.total_bytes();
    let damaged = source::damaged_files(directory, &manifest, |done| progress("checksums of files", done, total));
    damaged.into_iter().for_each(|damage| report.damage(damage));
    let state = directory.join(manifest::STATE);
    database(&state, &mut report, progress);
    agree(&manifest, &state, &mut report);
    report
}

/// Verifies the data directory of a stopped node.
pub(super) fn data_directory(directory: &Path, progress: Progress<'_>) -> Report {
    let mut report = Report::default();
    let mut is_whole = false;
    if let Err(error) = identity::check(directory) {
        report.damage(error.to_string());
    }
    let log = raft::log_directory(directory);
    log::offline::damaged_files(&log).into_iter().for_each(|damage| report.damage(damage));
    match log::offline::check(&log, raft::check_entry) {
        Ok(entries) => {
            report.log_entries = Some(entries.count);
            is_whole = entries.first == 0;
        }
        Err(damage) => report.damage(damage),
    }
    snapshot::damaged_files(directory).into_iter().for_each(|damage| report.damage(damage));
    let current = match offline::current_database(&directory.join("state")) {
        Ok(Some((_, path))) => path,
        Ok(None) => {
            report.damage("state/ names no database".to_owned());
            return report;
        }
        Err(error) => {
            report.damage(format!("state/: {error}"));
            return report;
        }
    };
    if let Err(damage) = offline::check_manifest(&current) {
        report.damage(damage);
    }
    // A node that was killed soon after its first start has written nothing of its state.
    if is_whole && OfflineState::is_blank(&current).unwrap_or(false) {
        report.is_in_log_only = true;
    } else {
        database(&current, &mut report, progress);
    }
    report
}

fn database(directory: &Path, report: &mut Report, progress: Progress<'_>) {
    match OfflineState::open(directory) {
        Ok(state) => state::check(&state, report, progress),
        Err(error) => report.damage(error.to_string()),
    }
}

/// Compares what a manifest says with what the database says.
fn agree(manifest: &Manifest, directory: &Path, report: &mut Report) {
    let Ok(facts) = OfflineState::open(directory).and_then(|state| {
        state.facts().map_err(|error| crate::store::OpenError::Damaged {
            path: directory.display().to_string(),
            reason: error.to_string(),
        })
    }) else {
        return;
    };
    if facts.next_position != manifest.next_position {
        report.damage(format!(
            "the manifest says that the next position is {}, and the database says {}",
            manifest.next_position, facts.next_position
        ));
    }
}
