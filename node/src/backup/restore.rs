//! Restoring: a data directory with the state of a backup, for a server of a new cluster.
//!
//! The directory gets what a node expects of a member: the state in `state/1`, an empty `log/` that
//! begins after the last entry of the state, and at the end `identity`, without which no node
//! accepts the rest. The cluster is a new one with a new id, of this node alone. The other listed
//! servers join with empty disks, and receive the state as a snapshot; or, where the same backup
//! was restored for each server of a list, with what they have.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blake2::{Blake2s256, Digest};
use headwater_proto::stored::RestoredFor;
use uuid::Uuid;

use super::manifest::Manifest;
use super::source::{self, BackupSource, SourceError};
use super::verify::{self, Report};
use crate::cluster::identity::{Identity, IdentityError};
use crate::event::{Position, Ticks};
use crate::files;
use crate::log::LogError;
use crate::raft;
use crate::store::{NewState, OfflineState, OpenError, ReadError, TruncateError, Truncated};
use crate::transport::{Member, NodeId};

/// What a new file system holds by itself.
const LOST_AND_FOUND: &str = "lost+found";

/// What to restore.
#[derive(Debug, Clone)]
pub(crate) struct Restore {
    /// The backup; before it, the ones that it adds to.
    pub(crate) sources: Vec<BackupSource>,
    /// The new data directory.
    pub(crate) data_dir: PathBuf,
    /// Its server.
    pub(crate) server_id: u16,
    /// Its addresses, until the configuration says others.
    pub(crate) addresses: Member,
    /// The servers for which, on each of them, the same backup is restored; `None` for this one
    /// alone.
    pub(crate) set: Option<ServerSet>,
    /// The end of what is restored.
    pub(crate) until: Until,
}

/// The servers of a new cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerSet {
    /// Their list in canonical form.
    pub(crate) members: String,
    /// The one with the smallest id, which begins the cluster.
    pub(crate) founder: u16,
}

/// Where a restored log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Where the backup ends.
    End,
    /// With the event at this position.
    Position(Position),
    /// With the last event that was stamped at this time or before.
    Time(Ticks),
}

/// What was restored.
#[derive(Debug)]
pub(crate) struct Restored {
    /// Of the backup.
    pub(crate) manifest: Manifest,
    /// Id of the new cluster; `None` for a server that waits for another to begin it.
    pub(crate) cluster_id: Option<Uuid>,
    /// What the other servers of the list have to be restored from.
    pub(crate) restored_for: Option<RestoredFor>,
    /// Position of the next event.
    pub(crate) next_position: Position,
    /// What was left out for `until`.
    pub(crate) truncated: Truncated,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// There is something.
    #[error("{0} is not empty: restore writes only into a directory that does not exist or is empty")]
    NotEmpty(PathBuf),
    /// The backup.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The directory.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The end lies beyond the backup.
    #[error("the backup ends before position {next_position}: it has no event at position {wanted}")]
    Beyond {
        /// The wanted position.
        wanted: Position,
        /// That of the next event.
        next_position: Position,
    },
    /// Nothing would be left.
    #[error("the backup has no event from before that time, so nothing would be restored")]
    Nothing,
    /// The restored database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The restored database.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The restored database.
    #[error(transparent)]
    Truncate(#[from] TruncateError),
    /// The new log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The new identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Restores a backup. The last step makes the directory valid: after a crash no node accepts it,
/// and it has to be removed.
///
/// # Errors
/// See [`RestoreError`].
pub(crate) fn restore(restore: &Restore) -> Result<Restored, RestoreError> {
    let data_dir = &restore.data_dir;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| RestoreError::Io { path, error }
    };
    require_empty(data_dir)?;
    let mut unfinished = Unfinished { parts: Vec::new(), directory: (!data_dir.exists()).then(|| data_dir.clone()) };
    files::create_directory(data_dir).map_err(failed(data_dir))?;
    let state = data_dir.join("state");
    // Of two restores at once one fails here.
    fs::create_dir(&state).map_err(failed(&state))?;
    unfinished.parts = vec![state.clone(), raft::log_directory(data_dir)];
    let database = NewState::directory(&state);
    files::create_directory(&database).map_err(failed(&database))?;
    let manifest = source::unpack(&restore.sources, &database)?;
    files::sync_directory(&database).map_err(failed(&database))?;
    let facts = OfflineState::open(&database)?;
    let cut = end_of(&facts, restore.until)?;
    drop(facts);

    let node_id = NodeId::generate(restore.server_id);
    let last_applied = manifest.applied.into();
    let begins_cluster = restore.set.as_ref().is_none_or(|set| set.founder == restore.server_id);
    let new = NewState::open(&state)?;
    new.put_membership(&if begins_cluster {
        raft::membership_of_one(node_id, &restore.addresses, &last_applied)
    } else {
        raft::membership_of_nobody()
    })?;
    let truncated = new.truncate(cut)?;
    new.finish(&state).map_err(failed(&state))?;
    raft::create_log(data_dir, node_id, &last_applied)?;
    files::make_private(data_dir)
        .map_err(|error| RestoreError::Io { path: data_dir.clone(), error: io::Error::other(error) })?;
    files::sync_directory(data_dir).map_err(failed(data_dir))?;
    let cluster_id = begins_cluster.then(Uuid::new_v4);
    let restored_for = restore.set.as_ref().map(|set| restored_for(set, &manifest, cut)).transpose();
    let restored_for = restored_for.map_err(failed(data_dir))?;
    Identity::create_restored(data_dir, node_id, cluster_id, restored_for.clone())?;
    unfinished.keep();
    Ok(Restored { manifest, cluster_id, restored_for, next_position: cut, truncated })
}

/// What the server of a set was restored from. It is the same for a complete backup and for one
/// that was put together from several, because both have the same files.
fn restored_for(set: &ServerSet, manifest: &Manifest, cut: Position) -> io::Result<RestoredFor> {
    let mut hash = Blake2s256::new();
    hash.update(manifest.identifying()?);
    hash.update(cut.to_be_bytes());
    Ok(RestoredFor {
        backup: hash.finalize().to_vec().into(),
        members: set.members.clone(),
        taken_at: manifest.taken_at.clone(),
        next_position: cut,
    })
}

/// Restores into a new directory below `scratch`, reads all of it and removes it again.
///
/// # Errors
/// See [`RestoreError`]; what is wrong with the restored data is in the report.
pub(crate) fn check(
    wanted: &Restore,
    scratch: &Path,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<(Restored, Report), RestoreError> {
    let directory = Scratch(scratch.join(format!("headwater-check-{}", Uuid::new_v4().simple())));
    let elsewhere = Restore { data_dir: directory.0.clone(), ..wanted.clone() };
    let restored = restore(&elsewhere)?;
    let report = verify::data_directory(&directory.0, progress);
    Ok((restored, report))
}

/// What a restore has made so far; removed when it fails.
struct Unfinished {
    /// Files and directories in the data directory.
    parts: Vec<PathBuf>,
    /// The data directory, unless it was there before.
    directory: Option<PathBuf>,
}

impl Unfinished {
    /// The restore has come to its end.
    fn keep(mut self) {
        self.parts.clear();
        self.directory = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.parts.iter().for_each(|path| files::remove(path));
        if let Some(directory) = &self.directory {
            // Only an empty one goes: somebody else may have put something there meanwhile.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// A directory that is removed when dropped.
pub(super) struct Scratch(pub(super) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        files::remove(&self.0);
    }
}

fn require_empty(data_dir: &Path) -> Result<(), RestoreError> {
    let mut entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(RestoreError::Io { path: data_dir.to_owned(), error }),
    };
    let is_content = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() != LOST_AND_FOUND);
    if entries.any(is_content) { Err(RestoreError::NotEmpty(data_dir.to_owned())) } else { Ok(()) }
}

/// The position of the first event that is left out.
fn end_of(state: &OfflineState, until: Until) -> Result<Position, RestoreError> {
    let next_position = state.facts()?.next_position;
    match until {
        Until::End => Ok(next_position),
        Until::Position(wanted) if wanted >= next_position => Err(RestoreError::Beyond { wanted, next_position }),
        Until::Position(last) => Ok(last + 1),
        Until::Time(time) => match state.first_after(time)? {
            0 => Err(RestoreError::Nothing),
            cut => Ok(cut),
        },
    }
}
