//! openraft's view of the state machine: a thin adapter to the apply thread and the snapshots.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use headwater_proto::stored;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use super::codec::{self, CodecError};
use super::types::{LogId, Outcomes, StoredMembership, TypeConfig};
use crate::apply::{Answer, ApplyHandle, ApplyStopped, MAX_CHUNK_BYTES, MAX_CHUNK_ENTRIES};
use crate::event::Stamps;
use crate::snapshot::{SnapshotDir, SnapshotStore};

/// openraft's view of a snapshot.
pub(super) type Snapshot = SnapshotOf<TypeConfig, Arc<SnapshotDir>>;
/// A snapshot without its data, as openraft knows it.
pub(super) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

/// Adapter from openraft's state machine to this node's.
#[derive(Clone)]
pub(crate) struct StateMachine {
    apply: ApplyHandle,
    snapshots: Arc<SnapshotStore>,
    /// Sees the time of the newest write of an installed snapshot.
    stamps: Arc<Stamps>,
    /// Never sent through: closed once openraft has let go of this value.
    _in_use: mpsc::Sender<Infallible>,
}

impl StateMachine {
    /// Over a running apply thread and the snapshots of the same node. The receiver yields `None`
    /// once openraft, whose worker outlives its shutdown, will apply no more.
    pub(crate) fn new(
        apply: ApplyHandle,
        snapshots: Arc<SnapshotStore>,
        stamps: Arc<Stamps>,
    ) -> (Self, mpsc::Receiver<Infallible>) {
        let (in_use, released) = mpsc::channel(1);
        (Self { apply, snapshots, stamps, _in_use: in_use }, released)
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A snapshot's manifest in openraft's terms.
pub(super) fn meta_of(manifest: &stored::SnapshotManifest) -> Result<SnapshotMeta, CodecError> {
    let membership = manifest.membership.clone().map(codec::stored_membership_from_message).transpose()?;
    let last_log_id = manifest.last_applied.as_ref().map(codec::log_id_from_message);
    Ok(SnapshotMeta { last_log_id, last_membership: membership.unwrap_or_default() })
}

fn as_snapshot(directory: Arc<SnapshotDir>) -> io::Result<Snapshot> {
    let meta = meta_of(directory.manifest()).map_err(invalid)?;
    Ok(Snapshot { meta, snapshot: directory })
}

/// Gives the outcomes of a chunk to the waiting clients. No client waits on this node for an entry
/// of another leader.
fn answer(responders: Vec<Option<ApplyResponder<TypeConfig>>>) -> Answer {
    Box::new(move |outcomes| {
        for (responder, outcomes) in responders.into_iter().zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(Outcomes(outcomes));
            }
        }
    })
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Arc<SnapshotDir>;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let mark = self.apply.store().last_applied().map_err(invalid)?;
        let log_id = mark.last_applied.map(|bytes| stored::LogId::decode(&bytes[..])).transpose().map_err(invalid)?;
        let membership = match mark.membership {
            None => StoredMembership::default(),
            Some(bytes) => {
                let message = stored::Membership::decode(&bytes[..]).map_err(invalid)?;
                codec::stored_membership_from_message(message).map_err(invalid)?
            }
        };
        Ok((log_id.as_ref().map(codec::log_id_from_message), membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        // The next chunk is collected while the thread applies the current one. Chunks are applied
        // in order, so the end of the last one is the end of all: openraft takes everything as
        // applied when this returns.
        let mut last: Option<oneshot::Receiver<()>> = None;
        loop {
            let (mut chunk, mut responders) = (Vec::new(), Vec::new());
            let mut bytes = 0;
            while chunk.len() < MAX_CHUNK_ENTRIES && bytes < MAX_CHUNK_BYTES {
                let Some((entry, responder)) = entries.next().await.transpose()? else { break };
                let entry = codec::entry_to_apply(entry);
                if let Some(trace) = entry.trace() {
                    trace.committed();
                }
                bytes += entry.weight();
                chunk.push(entry);
                responders.push(responder);
            }
            if chunk.is_empty() {
                break;
            }
            last = Some(self.apply.apply(chunk, answer(responders)).await?);
        }
        match last {
            Some(applied) => applied.await.map_err(|_| ApplyStopped.into()),
            None => Ok(()),
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        if force {
            return Some(self.get_snapshot_builder().await);
        }
        self.snapshots.current().map(SnapshotBuilder::Built)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder::Build { apply: self.apply.clone(), snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Arc<SnapshotDir>) -> io::Result<()> {
        let log_id = meta.last_log_id;
        self.snapshots.install(&self.apply, snapshot).await?;
        if let Some(log_id) = log_id {
            // The entries that the snapshot covers were never in this node's log.
            self.apply.volume().lock().add(log_id.index, 0);
        }
        let newest = self.apply.store().read(|view| view.newest_time()).await.map_err(invalid)?;
        self.stamps.see(newest.unwrap_or_default());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.snapshots.current().map(as_snapshot).transpose()
    }
}

/// How openraft gets a snapshot. openraft takes a failed build as the end of the node. So while the
/// node runs, the policy builds snapshots, because it can try again, and openraft only receives the
/// result.
pub(crate) enum SnapshotBuilder {
    /// The newest existing snapshot.
    Built(Arc<SnapshotDir>),
    /// Takes a snapshot now: at the start, when the log was purged and the snapshot is missing.
    Build {
        /// Reaches the state.
        apply: ApplyHandle,
        /// Keeps the snapshot.
        snapshots: Arc<SnapshotStore>,
    },
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = Arc<SnapshotDir>;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        match self {
            Self::Built(newest) => as_snapshot(newest.clone()),
            Self::Build { apply, snapshots } => as_snapshot(snapshots.build(apply).await?),
        }
    }
}
