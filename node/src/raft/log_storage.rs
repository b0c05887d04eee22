//! openraft's log storage on [`crate::log`].
//!
//! openraft calls [`RaftLogStorage`] from its core task, one call at a time; readers run
//! concurrently. Nothing here returns an error: a log that cannot be written or read ends the
//! process.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use headwater_proto::stored;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use prost::Message;

use super::codec::{self, CodecError};
use super::types::{LogEntry, LogId, TypeConfig, Vote};
use crate::deliberate::{self, Fault};
use crate::event::{Stamps, Ticks};
use crate::log::keys::{COMMITTED, LAST_PURGED, VOTE};
use crate::log::{self, Log, LogError};
use crate::threads;
use crate::trace::EntryTrace;

/// Approximate bytes of encoded entries in one append request. This keeps a request far below
/// gRPC's message limit.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// Entries without writes behind the newest one with some, as far as they are looked through at a
/// start.
const MAX_LOOK_BACK_ENTRIES: u64 = 4_096;

#[cfg(test)]
mod tests;

/// The log in the form that openraft requires. Cheap to clone; each clone may read.
#[derive(Clone)]
pub(crate) struct LogStorage {
    log: Log<LogEntry>,
    /// Sees the time of every write in the log.
    stamps: Arc<Stamps>,
}

impl LogStorage {
    /// Wraps an open log; refuses one whose purge mark does not meet its first entry. `stamps` sees
    /// the newest write that it has.
    pub(crate) fn new(log: Log<LogEntry>, stamps: Arc<Stamps>) -> Result<Self, LogError> {
        let storage = Self { log, stamps };
        let purged = storage.log_id(LAST_PURGED)?.map_or(0, |purged| purged.index + 1);
        // Damage is found now rather than in the middle of an election.
        storage.log_id(COMMITTED)?;
        storage.vote()?;
        let first = storage.log.extent().first;
        if purged != first {
            let what = format!("the log begins at entry {first}, but its purge mark covers everything before {purged}");
            return Err(damaged(&what));
        }
        storage.see_newest_write()?;
        Ok(storage)
    }

    /// Looks for the newest entry with writes. Those after it have none: every new leader and every
    /// change of members adds one.
    fn see_newest_write(&self) -> Result<(), LogError> {
        let extent = self.log.extent();
        let oldest = extent.first.max(extent.end.saturating_sub(MAX_LOOK_BACK_ENTRIES));
        for index in (oldest..extent.end).rev() {
            let entries = self.log.read_bounded(index..index + 1, 0)?;
            if let Some(time) = entries.iter().find_map(time_of_writes) {
                self.stamps.see(time);
                break;
            }
        }
        Ok(())
    }

    fn log_id(&self, key: &'static str) -> Result<Option<LogId>, LogError> {
        let Some(bytes) = self.log.meta(key) else { return Ok(None) };
        let message =
            stored::LogId::decode(&*bytes).map_err(|error| damaged(&format!("`{key}` is damaged ({error})")))?;
        Ok(Some(codec::log_id_from_message(&message)))
    }

    fn vote(&self) -> Result<Option<Vote>, LogError> {
        let kept = if deliberate::is(Fault::VoteNotSynced) { deliberate::kept_unsynced() } else { self.log.meta(VOTE) };
        let Some(bytes) = kept else { return Ok(None) };
        let vote = stored::Vote::decode(&*bytes).map_err(CodecError::from);
        let vote = vote.and_then(|message| codec::vote_from_message(&message));
        vote.map(Some).map_err(|error| damaged(&format!("the vote is damaged ({error})")))
    }

    /// Whether a deliberate fault makes this follower acknowledge what is not durable.
    fn acknowledges_too_early(&self) -> bool {
        let leader = || self.vote().ok().flatten().map(|vote| vote.leader_id.voted_for);
        deliberate::is(Fault::FollowerAckBeforeSync)
            && leader().is_some_and(|leader| deliberate::is_other_server(Fault::FollowerAckBeforeSync, leader.server()))
    }

    /// Reads from memory at once, and from the disk on a thread that may block.
    async fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        if let Some(entries) = self.log.read_cached(range.clone(), max_bytes) {
            return Ok(entries);
        }
        let log = self.log.clone();
        let entries = threads::blocking(move || log.or_stop(log.read_bounded(range, max_bytes))).await;
        entries.map_err(io::Error::other)
    }
}

/// When the writes of an entry were stamped.
fn time_of_writes(entry: &LogEntry) -> Option<Ticks> {
    match &entry.payload {
        EntryPayload::Normal(proposal) => Some(proposal.time),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    }
}

fn trace_of(entry: &LogEntry) -> Option<&EntryTrace> {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.trace.as_ref(),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    }
}

fn damaged(what: &str) -> LogError {
    LogError::Damaged(format!("in the log database, {what}; {}", log::ADVICE))
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStorage {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<LogEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(half_open(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        self.read(start..end, READ_BYTES).await
    }

    /// Feeds the apply thread. It reads in pieces, so that catching up after a start does not load
    /// the whole log.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<LogEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let storage = self.clone();
        let pieces = stream::try_unfold((storage, half_open(&range)), async |(storage, rest)| {
            let entries = storage.read(rest.clone(), READ_BYTES).await?;
            let Some(last) = entries.last() else { return Ok::<_, io::Error>(None) };
            let rest = last.log_id.index + 1..rest.end;
            Ok(Some((stream::iter(entries.into_iter().map(Ok)), (storage, rest))))
        });
        Box::pin(pieces.flat_map(|piece| match piece {
            Ok(entries) => entries.left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        }))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.or_stop(self.vote()))
    }
}

impl RaftLogStorage<TypeConfig> for LogStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let last_purged_log_id = self.log.or_stop(self.log_id(LAST_PURGED));
        let extent = self.log.extent();
        let last = if extent.end > extent.first { self.read(extent.end - 1..extent.end, 0).await?.pop() } else { None };
        let last_log_id = last.map(|entry| entry.log_id).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        if deliberate::is(Fault::VoteNotStored) {
            return Ok(());
        }
        let (durable, done) = tokio::sync::oneshot::channel();
        let value = codec::vote_to_message(vote).encode_to_vec();
        if deliberate::is(Fault::VoteNotSynced) {
            deliberate::keep_unsynced(&value);
            return Ok(());
        }
        // A caller that no longer waits needs no answer.
        self.log.put_meta(
            VOTE,
            value,
            Box::new(move || {
                let _ = durable.send(());
            }),
        );
        done.await.map_err(io::Error::other)
    }

    /// A hint above the last entry would make the next start fail, so a hint for entries still to
    /// come is not kept.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed.filter(|committed| committed.index < self.log.extent().end) else {
            return Ok(());
        };
        self.log.put_hint(COMMITTED, codec::log_id_to_message(&committed).encode_to_vec());
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let committed = self.log.or_stop(self.log_id(COMMITTED));
        Ok(committed.filter(|committed| committed.index < self.log.extent().end))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        // Before they count as stored: what this node may lead with, it has seen.
        entries.iter().filter_map(time_of_writes).for_each(|time| self.stamps.see(time));
        if self.acknowledges_too_early() {
            deliberate::arm(Fault::FollowerAckBeforeSync);
            callback.io_completed(Ok(()));
            self.log.append(entries, Box::new(|| ()));
            return Ok(());
        }
        let traces: Vec<EntryTrace> = entries.iter().filter_map(trace_of).cloned().collect();
        if traces.is_empty() {
            self.log.append(entries, Box::new(move || callback.io_completed(Ok(()))));
            return Ok(());
        }
        traces.iter().for_each(EntryTrace::begins);
        let synced = traces.clone();
        let on_sync = move || {
            callback.io_completed(Ok(()));
            synced.iter().for_each(EntryTrace::synced);
        };
        self.log.append(entries, Box::new(on_sync));
        traces.iter().for_each(EntryTrace::written);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.log.truncate_from(last.map_or(0, |last| last.index + 1));
        Ok(())
    }

    async fn purge(&mut self, last: LogId) -> io::Result<()> {
        let beyond = if deliberate::is(Fault::PurgeAboveSnapshot) { 20 } else { 0 };
        self.log.purge_before(last.index + 1 + beyond, LAST_PURGED, codec::log_id_to_message(&last).encode_to_vec());
        Ok(())
    }
}
