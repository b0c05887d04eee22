//! Backups of a state that commands have written, without a node around it.

mod damage;
mod round_trip;
mod truncation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use headwater_proto::stored::{
    Append, Command, Delete, Import, ImportProgress, ImportedEvent, NewEvent, Redact, Scavenge, command,
};
use prost::Message;
use tempfile::TempDir;
use uuid::Uuid;

use super::archive;
use super::manifest::Manifest;
use super::take::{BackupRequest, Backups, CatchUp};
use crate::access::Administrator;
use crate::apply::{ApplyHandle, Entry, EntryId, Payload, Proposal};
use crate::event::Ticks;
use crate::metrics::Metrics;
use crate::store::StateWriter;
use crate::transport::{LocalIdentity, NodeId};

const ANY: i64 = -2;
const CACHE_BYTES: usize = 8 << 20;

/// A state, and commands for it. Each is one log entry, stamped a second after the one before.
pub(super) struct Fixture {
    pub(super) directory: TempDir,
    pub(super) apply: ApplyHandle,
    pub(super) backups: Backups,
    index: u64,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let writer = StateWriter::open(&directory.path().join("state"), CACHE_BYTES).unwrap();
        let apply = ApplyHandle::start(writer, Arc::new(|_| {}), Metrics::new()).unwrap();
        let cluster_id = Uuid::from_u128(5).into_bytes();
        let identity = Arc::new(LocalIdentity::new(NodeId::generate(1), Some(cluster_id)));
        let backups = Backups::new(apply.clone(), with_leader(), identity, directory.path());
        Self { directory, apply, backups, index: 0 }
    }

    pub(super) async fn send(&mut self, kind: command::Kind) {
        self.index += 1;
        let commands = [Bytes::from(Command { kind: Some(kind), ..Command::default() }.encode_to_vec())];
        let payload = Payload::Commands(Proposal {
            time: Ticks(self.index * Ticks::PER_SECOND),
            commands: commands.into(),
            trace: None,
        });
        let entry = Entry { id: EntryId { term: 3, index: self.index }, payload };
        self.apply.apply(vec![entry], Box::new(|_| {})).await.unwrap().await.unwrap();
    }

    pub(super) async fn append(&mut self, stream: &str, ids: impl IntoIterator<Item = u128>) {
        self.write(stream, "{\n  \"a\": 1\n}", ids).await;
    }

    pub(super) async fn describe(&mut self, stream: &str, id: u128, document: &str) {
        self.write(&format!("$${stream}"), document, [id]).await;
    }

    async fn write(&mut self, stream: &str, data: &str, ids: impl IntoIterator<Item = u128>) {
        let events = ids.into_iter().map(|id| event(id, data)).collect();
        let append = Append { stream: stream.to_owned(), expected_version: ANY, events, write_id: Bytes::new() };
        self.send(command::Kind::Append(append)).await;
    }

    pub(super) async fn delete(&mut self, stream: &str, id: u128, hard: bool) {
        let event_id = Bytes::copy_from_slice(&id.to_be_bytes());
        let delete =
            Delete { stream: stream.to_owned(), expected_version: ANY, hard, event_id, keeps_access_list: true };
        self.send(command::Kind::Delete(delete)).await;
    }

    /// Brings in events of another store, numbered from 0 and stamped at `time`.
    pub(super) async fn import(&mut self, stream: &str, time: Ticks, ids: std::ops::Range<u128>) {
        let imported = |(number, id)| ImportedEvent {
            stream: stream.to_owned(),
            number,
            time_ticks: time.0,
            event: Some(event(id, "{}")),
        };
        let events = (0..).zip(ids).map(imported).collect();
        let progress = Some(ImportProgress { stream: "$import-old".to_owned(), document: Bytes::from_static(b"{}") });
        self.send(command::Kind::Import(Import { events, progress, ends: Vec::new() })).await;
    }

    /// Removes what can be removed of these streams; forgets the ids of what was removed before.
    pub(super) async fn scavenge(&mut self, streams: &[&str], forget_removed_before: Ticks) {
        self.send(command::Kind::Scavenge(Scavenge {
            streams: streams.iter().map(|name| (*name).to_owned()).collect(),
            max_events: 4_096,
            forget_removed_before: forget_removed_before.0,
        }))
        .await;
    }

    /// The time of the next command.
    pub(super) fn now(&self) -> Ticks {
        Ticks((self.index + 1) * Ticks::PER_SECOND)
    }

    /// The archive of a backup.
    pub(super) async fn archive(&self, since: Option<Manifest>) -> Vec<u8> {
        let request = BackupRequest { since, bytes_per_second: Some(1 << 40) };
        let mut pieces = self.backups.begin(request, &Administrator::assumed()).await.unwrap();
        let mut archive = Vec::new();
        while let Some(piece) = pieces.recv().await {
            archive.extend_from_slice(&piece.unwrap());
        }
        archive
    }

    /// A backup in a file below the directory of the fixture.
    pub(super) async fn backup(&self, name: &str, since: Option<Manifest>) -> (PathBuf, Manifest) {
        let path = self.directory.path().join(name);
        std::fs::write(&path, self.archive(since).await).unwrap();
        let manifest = manifest_of(&path);
        (path, manifest)
    }
}

/// A node that a leader has told how far it has to be.
pub(super) fn with_leader() -> CatchUp {
    Box::new(|| Box::pin(std::future::ready(true)))
}

fn event(id: u128, data: &str) -> NewEvent {
    NewEvent {
        event_id: Bytes::copy_from_slice(&id.to_be_bytes()),
        event_type: "t".to_owned(),
        is_json: true,
        data: Bytes::copy_from_slice(data.as_bytes()),
        metadata: Bytes::new(),
    }
}

pub(super) fn manifest_of(archive: &Path) -> Manifest {
    archive::read(std::fs::File::open(archive).unwrap(), |_, _, content| {
        std::io::copy(content, &mut std::io::sink()).map(drop)
    })
    .unwrap()
}
