//! The identity of a disk: the file `identity` in the data directory, a [`stored::Identity`]
//! followed by its CRC-32C (4 bytes, little-endian).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use uuid::Uuid;

use headwater_proto::stored;
use parking_lot::Mutex;

use crate::fatal::Cause;
use crate::files;
use crate::transport::{LocalIdentity, NodeId};

/// Name of the file below the data directory.
const FILE_NAME: &str = "identity";

/// Why the identity of a disk is unusable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The file exists but cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The file exists but does not hold an identity.
    #[error("{path} is damaged; restore it, or remove the whole data directory and start once with --rejoin")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The disk belongs to another server of the member list.
    #[error(
        "{path} says that this disk belongs to server {found}, but the configuration says server {configured}: correct server-id or data-dir"
    )]
    OtherServer {
        /// The file.
        path: PathBuf,
        /// Id on disk.
        found: u16,
        /// Id in the configuration.
        configured: u16,
    },
    /// The directory holds data but no identity, so their owner is unknown.
    #[error(
        "{path} is missing although the directory holds data; if `headwater restore` did not come to its end here, remove the whole data directory and restore again; otherwise bring the file back, or remove the whole data directory and start once with --rejoin"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A disk that belongs to a cluster but has lost its log. Started again, the node would vote
    /// under an id that has made promises it no longer knows.
    #[error(
        "the log of this node is missing: there is no {path}; mount or restore it, or remove the whole data directory and start once with --rejoin"
    )]
    LogMissing {
        /// The file that every log has.
        path: PathBuf,
    },
    /// The disk was restored for other servers than the list names.
    #[error(
        "{path} says that this disk was restored for the list {restored_for}, but --members is {configured}: start it with that list, \
         or restore again on every server with the new one"
    )]
    OtherList {
        /// The file.
        path: PathBuf,
        /// The list of the restore.
        restored_for: String,
        /// The list in the configuration.
        configured: String,
    },
    /// The node was asked to join a cluster while it belongs to another.
    #[error("this disk belongs to cluster {own}, not to {other}")]
    OtherCluster {
        /// Cluster on disk.
        own: Uuid,
        /// Cluster of the caller.
        other: Uuid,
    },
}

impl IdentityError {
    /// Whether the disk fails or is full, or files are damaged or missing, as opposed to settings
    /// and permissions.
    pub(crate) fn is_of_storage(&self) -> bool {
        match self {
            Self::Io { error, .. } => Cause::of_io(error).is_of_storage(),
            Self::Damaged { .. } | Self::Missing { .. } | Self::LogMissing { .. } => true,
            Self::OtherServer { .. } | Self::OtherList { .. } | Self::OtherCluster { .. } => false,
        }
    }
}

/// The identity of this disk. The node id never changes; the cluster id is set once.
#[derive(Debug)]
pub(crate) struct Identity {
    path: PathBuf,
    /// Shared with the connections to other nodes.
    local: Arc<LocalIdentity>,
    /// The disk was restored from a backup, and other listed servers have not joined yet.
    restored: AtomicBool,
    /// See [`Self::restored_for`].
    restored_for: Mutex<Option<stored::RestoredFor>>,
}

impl Identity {
    /// Reads the identity below `data_dir`, or makes a new one when the directory holds no data
    /// yet.
    pub(crate) fn open(data_dir: &Path, server_id: u16) -> Result<Self, IdentityError> {
        if let Some(identity) = Self::read(data_dir, server_id)? {
            return Ok(identity);
        }
        let path = data_dir.join(FILE_NAME);
        files::create_directory(data_dir).map_err(|error| IdentityError::Io { path: path.clone(), error })?;
        let local = Arc::new(LocalIdentity::new(NodeId::generate(server_id), None));
        let (restored, restored_for) = (AtomicBool::new(false), Mutex::default());
        let identity = Self { path, local, restored, restored_for };
        identity.save(None)?;
        Ok(identity)
    }

    /// Reads the identity below `data_dir`; `None` when the directory holds no data yet.
    pub(crate) fn read(data_dir: &Path, server_id: u16) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(FILE_NAME);
        match fs::read(&path) {
            Ok(bytes) => {
                let damaged = || IdentityError::Damaged { path: path.clone() };
                let record = decode(&bytes).ok_or_else(damaged)?;
                let node_id = NodeId(record.node_id);
                if node_id.server() == 0 {
                    return Err(damaged());
                }
                if node_id.server() != server_id {
                    return Err(IdentityError::OtherServer { path, found: node_id.server(), configured: server_id });
                }
                let cluster_id = match record.cluster_id {
                    Some(bytes) => Some(Uuid::from_slice(&bytes).map_err(|_| damaged())?),
                    None => None,
                };
                let local = Arc::new(LocalIdentity::new(node_id, cluster_id.map(Uuid::into_bytes)));
                let restored_for = Mutex::new(record.restored_for);
                Ok(Some(Self { path, local, restored: AtomicBool::new(record.restored), restored_for }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if data_dir.join("log").exists() || data_dir.join("state").exists() {
                    return Err(IdentityError::Missing { path });
                }
                Ok(None)
            }
            Err(error) => Err(IdentityError::Io { path, error }),
        }
    }

    /// Makes `data_dir`, whose log and state were restored from a backup, the disk of a node. Until
    /// then no node accepts it. With `begins` it begins that new cluster, alone at first; otherwise
    /// it waits for the disk that begins the cluster of all that were `restored_for` one list.
    pub(crate) fn create_restored(
        data_dir: &Path,
        node_id: NodeId,
        begins: Option<Uuid>,
        restored_for: Option<stored::RestoredFor>,
    ) -> Result<(), IdentityError> {
        let local = Arc::new(LocalIdentity::new(node_id, begins.map(Uuid::into_bytes)));
        let (restored, restored_for) = (AtomicBool::new(begins.is_some()), Mutex::new(restored_for));
        Self { path: data_dir.join(FILE_NAME), local, restored, restored_for }.save(begins)
    }

    /// Whether the disk was restored from a backup to begin a cluster, and other listed servers
    /// have not joined yet.
    pub(crate) fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }

    /// What this disk was restored from, if the same was to be restored for each server of a list,
    /// and the cluster is not complete yet.
    pub(crate) fn restored_for(&self) -> Option<stored::RestoredFor> {
        self.restored_for.lock().clone()
    }

    /// Every listed server is a member now, or this one is and is not the one that waits for the
    /// others: from here on this is a disk like any other.
    pub(crate) fn has_joined(&self) -> Result<(), IdentityError> {
        let record = stored::Identity { restored: false, restored_for: None, ..self.record(self.cluster_id()) };
        self.write(&record)?;
        self.restored.store(false, Ordering::Release);
        *self.restored_for.lock() = None;
        Ok(())
    }

    /// Refuses another list of servers than the one that the disk was restored for.
    pub(crate) fn require_list(&self, configured: &str) -> Result<(), IdentityError> {
        match self.restored_for() {
            Some(restored) if restored.members != configured => Err(IdentityError::OtherList {
                path: self.path.clone(),
                restored_for: restored.members,
                configured: configured.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a disk that belongs to a cluster but has lost its log. A node opens its log before
    /// it joins a cluster, so a member always has one.
    pub(crate) fn require_log(&self, mark: PathBuf) -> Result<(), IdentityError> {
        match self.cluster_id() {
            Some(_) if !mark.exists() => Err(IdentityError::LogMissing { path: mark }),
            _ => Ok(()),
        }
    }

    /// The id of this disk.
    pub(crate) fn node_id(&self) -> NodeId {
        self.local.node_id()
    }

    /// The part of the identity that calls between nodes need.
    pub(crate) fn local(&self) -> Arc<LocalIdentity> {
        self.local.clone()
    }

    /// The cluster of this disk; `None` before it was founded or joined.
    pub(crate) fn cluster_id(&self) -> Option<Uuid> {
        self.local.cluster_id().map(Uuid::from_bytes)
    }

    /// Binds this disk to a cluster; durable on return. `may_replace` permits the exchange of
    /// another cluster's id on a disk that has received nothing of it, left by a founding that
    /// never finished.
    pub(crate) fn set_cluster_id(&self, cluster_id: Uuid, may_replace: bool) -> Result<(), IdentityError> {
        match self.cluster_id() {
            Some(own) if own == cluster_id => return Ok(()),
            Some(own) if !may_replace => return Err(IdentityError::OtherCluster { own, other: cluster_id }),
            _ => {}
        }
        self.save(Some(cluster_id))?;
        self.local.set_cluster_id(cluster_id.into_bytes());
        Ok(())
    }

    fn save(&self, cluster_id: Option<Uuid>) -> Result<(), IdentityError> {
        self.write(&self.record(cluster_id))
    }

    fn record(&self, cluster_id: Option<Uuid>) -> stored::Identity {
        stored::Identity {
            node_id: self.node_id().0,
            cluster_id: cluster_id.map(|id| id.as_bytes().to_vec().into()),
            restored: self.is_restored(),
            restored_for: self.restored_for(),
        }
    }

    /// Replaces the file atomically: write a temporary file, sync it, rename it, sync the
    /// directory.
    fn write(&self, record: &stored::Identity) -> Result<(), IdentityError> {
        files::replace(&self.path, &encode(record))
            .map_err(|error| IdentityError::Io { path: self.path.clone(), error })
    }
}

/// Reads the identity below `data_dir` without using it.
///
/// # Errors
/// It is missing or damaged.
pub(crate) fn check(data_dir: &Path) -> Result<(), IdentityError> {
    let path = data_dir.join(FILE_NAME);
    match fs::read(&path) {
        Ok(bytes) if decode(&bytes).is_some() => Ok(()),
        Ok(_) => Err(IdentityError::Damaged { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(IdentityError::Missing { path }),
        Err(error) => Err(IdentityError::Io { path, error }),
    }
}

pub(super) fn encode(record: &stored::Identity) -> Vec<u8> {
    let mut bytes = record.encode_to_vec();
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

/// `None` when the bytes are damaged: a changed id would turn this disk into another node.
pub(super) fn decode(bytes: &[u8]) -> Option<stored::Identity> {
    let (record, checksum) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(record) == u32::from_le_bytes(*checksum)).then(|| stored::Identity::decode(record).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_of_a_cluster_without_its_log_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("log").join("durable-end");
        let identity = Identity::open(directory.path(), 3).unwrap();
        identity.require_log(mark.clone()).unwrap();
        identity.set_cluster_id(Uuid::new_v4(), false).unwrap();
        assert!(matches!(identity.require_log(mark.clone()), Err(IdentityError::LogMissing { .. })));
        fs::create_dir(directory.path().join("log")).unwrap();
        fs::write(&mark, b"").unwrap();
        identity.require_log(mark).unwrap();
    }

    #[test]
    fn an_empty_disk_gets_a_new_node_id_every_time() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Identity::open(one.path(), 3).unwrap();
        let second = Identity::open(two.path(), 3).unwrap();
        assert_eq!(first.node_id().server(), 3);
        assert_ne!(first.node_id(), second.node_id());
        assert_eq!(Identity::open(one.path(), 3).unwrap().node_id(), first.node_id());
    }

    #[test]
    fn a_disk_of_another_server_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Identity::open(directory.path(), 3).unwrap();
        let error = Identity::open(directory.path(), 2).unwrap_err();
        assert!(matches!(error, IdentityError::OtherServer { found: 3, configured: 2, .. }), "{error}");
    }

    #[test]
    fn data_without_identity_and_damaged_identity_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("log")).unwrap();
        assert!(matches!(Identity::open(directory.path(), 1), Err(IdentityError::Missing { .. })));
        fs::write(directory.path().join(FILE_NAME), b"\xff\xff\xff").unwrap();
        assert!(matches!(Identity::open(directory.path(), 1), Err(IdentityError::Damaged { .. })));
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        Identity::open(directory.path(), 3).unwrap().set_cluster_id(Uuid::new_v4(), false).unwrap();
        let bytes = fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, changed).unwrap();
            assert!(matches!(Identity::open(directory.path(), 3), Err(IdentityError::Damaged { .. })), "bit {bit}");
        }
    }

    #[test]
    fn a_restored_disk_is_marked_until_all_have_joined() {
        let directory = tempfile::tempdir().unwrap();
        let (node_id, cluster) = (NodeId::generate(2), Uuid::new_v4());
        Identity::create_restored(directory.path(), node_id, Some(cluster), None).unwrap();
        let identity = Identity::open(directory.path(), 2).unwrap();
        assert_eq!((identity.node_id(), identity.cluster_id(), identity.is_restored()), (node_id, Some(cluster), true));
        identity.has_joined().unwrap();
        let identity = Identity::open(directory.path(), 2).unwrap();
        assert_eq!((identity.cluster_id(), identity.is_restored()), (Some(cluster), false));
    }

    #[test]
    fn a_disk_restored_for_a_list_takes_no_other_list_until_it_has_joined() {
        let directory = tempfile::tempdir().unwrap();
        let restored = stored::RestoredFor { members: "1=a/b".into(), ..Default::default() };
        Identity::create_restored(directory.path(), NodeId::generate(1), None, Some(restored.clone())).unwrap();
        let identity = Identity::open(directory.path(), 1).unwrap();
        assert_eq!((identity.cluster_id(), identity.is_restored()), (None, false));
        assert_eq!(identity.restored_for(), Some(restored));
        identity.require_list("1=a/b").unwrap();
        let error = identity.require_list("1=a/c").unwrap_err();
        assert!(matches!(error, IdentityError::OtherList { .. }) && !error.is_of_storage(), "{error}");
        identity.has_joined().unwrap();
        Identity::open(directory.path(), 1).unwrap().require_list("1=a/c").unwrap();
    }

    #[test]
    fn the_cluster_id_survives_and_is_not_exchanged() {
        let directory = tempfile::tempdir().unwrap();
        let (cluster, other) = (Uuid::new_v4(), Uuid::new_v4());
        Identity::open(directory.path(), 1).unwrap().set_cluster_id(cluster, false).unwrap();
        let identity = Identity::open(directory.path(), 1).unwrap();
        assert_eq!(identity.cluster_id(), Some(cluster));
        assert!(matches!(identity.set_cluster_id(other, false), Err(IdentityError::OtherCluster { .. })));
        identity.set_cluster_id(other, true).unwrap();
        assert_eq!(Identity::open(directory.path(), 1).unwrap().cluster_id(), Some(other));
    }
}
