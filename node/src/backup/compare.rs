//! Comparing two copies of the events: two nodes, or a backup and a node. Hashes of ranges of
//! positions are compared, and a range that differs is halved until single positions are left.

use std::io;
use std::ops::{ControlFlow, Range};

use super::hashes::{MAX_HASHED_EVENTS, RangeHash, RangeHasher};
use crate::client::{Call, Client, ClientError, Progress, Unit};
use crate::event::Position;
use crate::store::{OfflineState, ReadError};

/// Differing positions that are named.
const MAX_NAMED: usize = 100;

/// A copy of the events.
pub enum Copy {
    /// Files.
    Local(OfflineState),
    /// A running node.
    Node(Client),
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A node.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The files.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An answer of a node.
    #[error("{0} answered with no hash: is it a Headwater of the same version?")]
    NoHash(String),
    /// The system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What was compared.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Events on both sides are those before this position.
    pub end: Position,
    /// Positions that differ.
    pub differing: u64,
    /// Each in words, the first ones.
    pub named: Vec<String>,
}

impl Copy {
    /// As it is named in messages.
    fn name(&self) -> &str {
        match self {
            Self::Local(_) => "the files",
            Self::Node(client) => client.name(),
        }
    }

    async fn hash(&self, range: &Range<Position>) -> Result<RangeHash, CompareError> {
        let client = match self {
            Self::Local(state) => return hash_of(state, range).map_err(CompareError::Read),
            Self::Node(client) => client,
        };
        let path = format!("/admin/hashes/{}/{}", range.start, range.end - range.start);
        let answer = client.send(&Call::get(path).accept("application/json")).await?;
        serde_json::from_slice(&answer.body).map_err(|_| CompareError::NoHash(client.name().to_owned()))
    }
}

pub(super) fn hash_of(state: &OfflineState, range: &Range<Position>) -> Result<RangeHash, ReadError> {
    let next_position = state.facts()?.next_position;
    let mut hasher = RangeHasher::new(range.start, range.end.min(next_position));
    state.events(range.start, |event| Ok(hasher.add(&event)))?;
    Ok(hasher.finish(next_position))
}

/// Compares the events that both have.
///
/// # Errors
/// See [`CompareError`].
pub async fn compare(left: &Copy, right: &Copy) -> Result<Comparison, CompareError> {
    let nothing = 0..0;
    let (on_left, on_right) = (left.hash(&nothing).await?, right.hash(&nothing).await?);
    let end = on_left.next_position.min(on_right.next_position);
    let mut comparison = Comparison { end, ..Comparison::default() };
    let progress = Progress::new("compared", Unit::Things("positions"), Some(end));
    // Ranges still to be compared, the first one last.
    let mut ranges = Vec::new();
    let mut next = 0;
    loop {
        let range = match ranges.pop() {
            Some(range) => range,
            None if next < end => next..end.min(next + MAX_HASHED_EVENTS),
            None => break,
        };
        let both = hash_both(left, right, range.clone()).await?;
        let compared = both.left.from..both.left.to;
        if compared.end < range.end {
            ranges.push(compared.end..range.end);
        }
        next = next.max(range.end);
        let is_same = both.left.hash == both.right.hash;
        let width = compared.end - compared.start;
        if is_same || width == 1 {
            progress.advance(width);
        }
        if is_same {
            continue;
        }
        if width == 1 {
            comparison.tell(left, right, &both).await;
            continue;
        }
        let middle = compared.start + width / 2;
        ranges.push(middle..compared.end);
        ranges.push(compared.start..middle);
    }
    progress.finish();
    Ok(comparison)
}

/// The hashes of one range on both sides.
struct Both {
    left: RangeHash,
    right: RangeHash,
}

/// Of the part of a range that both sides can hash at once.
async fn hash_both(left: &Copy, right: &Copy, mut range: Range<Position>) -> Result<Both, CompareError> {
    loop {
        let (on_left, on_right) = tokio::try_join!(left.hash(&range), right.hash(&range))?;
        if on_left.to == on_right.to {
            return Ok(Both { left: on_left, right: on_right });
        }
        range.end = on_left.to.min(on_right.to);
    }
}

impl Comparison {
    async fn tell(&mut self, left: &Copy, right: &Copy, both: &Both) {
        self.differing += 1;
        if self.named.len() == MAX_NAMED {
            return;
        }
        let position = both.left.from;
        let what = match (both.left.events, both.right.events) {
            (0, _) => format!("position {position}: only {} has an event", right.name()),
            (_, 0) => format!("position {position}: only {} has an event", left.name()),
            _ => format!("position {position}: the events differ"),
        };
        let holder = if both.left.events == 0 { right } else { left };
        let event = holder.event_at(position).await;
        self.named.push(event.map_or(what.clone(), |event| format!("{what} ({event})")));
    }
}

impl Copy {
    /// The event at a position in words, as far as it can be told.
    async fn event_at(&self, position: Position) -> Option<String> {
        match self {
            Self::Local(state) => event_in(state, position),
            Self::Node(client) => {
                let path = format!("/streams/%24all/{position:032X}/forward/1?embed=rich");
                let page = client.send(&Call::get(path).accept("application/vnd.eventstore.atom+json")).await.ok()?;
                let page: serde_json::Value = serde_json::from_slice(&page.body).ok()?;
                let entry = page.get("entries")?.get(0)?;
                let (number, stream) = (entry.get("eventNumber")?.as_u64()?, entry.get("streamId")?.as_str()?);
                Some(format!("event {number} of stream '{stream}', {}", entry.get("eventId")?.as_str()?))
            }
        }
    }
}

fn event_in(state: &OfflineState, position: Position) -> Option<String> {
    let mut found = None;
    let read = state.events(position, |event| {
        let words = || format!("event {} of stream '{}', {}", event.number, event.stream, event.event_id);
        found = (event.position == position).then(words);
        Ok(ControlFlow::Break(()))
    });
    read.ok().and(found)
}
