//! What consensus finds on a disk that was restored from a backup: a log that is empty and begins
//! after the last entry that the state has, and a cluster of this node alone, or none yet.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use headwater_proto::stored;
use openraft::RaftTypeConfig;
use prost::Message;

use super::codec;
use super::log_directory;
use super::types::{LogEntry, Member, NodeId, TypeConfig, Vote};
use crate::log::keys::{LAST_PURGED, VOTE};
use crate::log::{Log, LogError};

type LeaderId = <TypeConfig as RaftTypeConfig>::LeaderId;

/// How long the disk may take to sync some bytes.
const SYNC_DEADLINE: Duration = Duration::from_secs(60);

/// Creates the log of a restored node under `data_dir`; durable on return. The vote is for the node
/// itself in the term of `last_applied`, so that the next term is a later one.
///
/// # Errors
/// The log cannot be written.
pub(crate) fn create_log(data_dir: &Path, node_id: NodeId, last_applied: &stored::LogId) -> Result<(), LogError> {
    let log = Log::<LogEntry>::open(&log_directory(data_dir), Box::new(|_| {}))?;
    let leader_id = LeaderId { term: last_applied.term, voted_for: node_id };
    let vote = Vote { leader_id, committed: false };
    log.purge_before(last_applied.index + 1, LAST_PURGED, last_applied.encode_to_vec());
    let (durable, done) = mpsc::sync_channel(1);
    let value = codec::vote_to_message(&vote).encode_to_vec();
    let tell = move || {
        // A wait that was given up needs no answer.
        let _ = durable.try_send(());
    };
    log.put_meta(VOTE, value, Box::new(tell));
    let is_synced = done.recv_timeout(SYNC_DEADLINE).is_ok();
    log.close();
    if is_synced { Ok(()) } else { Err(LogError::Failed("the new log was not synced in time".to_owned())) }
}

/// The membership of a cluster of one, in the encoding that the state stores.
pub(crate) fn membership_of_one(node_id: NodeId, addresses: &Member, since: &stored::LogId) -> Vec<u8> {
    let membership = stored::Membership {
        configs: vec![stored::VoterSet { node_ids: vec![node_id.0] }],
        members: vec![codec::member_to_message(node_id, addresses)],
        log_id: Some(*since),
    };
    membership.encode_to_vec()
}

/// The membership of a node that no cluster has taken in yet, in the same encoding: no entry of a
/// log has set it, so whatever the first leader sends counts.
pub(crate) fn membership_of_nobody() -> Vec<u8> {
    stored::Membership::default().encode_to_vec()
}

/// Whether these bytes of a log are an entry.
///
/// # Errors
/// Why they are none.
pub(crate) fn check_entry(bytes: bytes::Bytes) -> Result<(), String> {
    <LogEntry as crate::log::Record>::decode(bytes).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::storage::RaftLogStorage;

    use super::super::log_storage::LogStorage;
    use super::*;

    #[tokio::test]
    async fn a_restored_log_is_empty_and_goes_on_after_the_state() {
        let directory = tempfile::tempdir().unwrap();
        let last = stored::LogId { term: 7, index: 41 };
        create_log(directory.path(), NodeId(9), &last).unwrap();
        let log = Log::open(&log_directory(directory.path()), Box::new(|_| {})).unwrap();
        let mut storage = LogStorage::new(log, Arc::default()).unwrap();
        let state = storage.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(codec::log_id_from_message(&last)));
        assert_eq!(state.last_log_id, state.last_purged_log_id);
        let vote = openraft::RaftLogReader::read_vote(&mut storage).await.unwrap().unwrap();
        assert_eq!((vote.leader_id.term, vote.committed), (7, false));
    }
}
