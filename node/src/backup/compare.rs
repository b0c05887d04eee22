//! Comparing two copies of the events: two nodes, or a backup and a node. Hashes of ranges of
//! positions are compared. Of a range that differs, every event is compared by itself: one of the
//! copies may only have removed or redacted some of them since.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::{ControlFlow, Range};

use super::hashes::{EventHash, Listed, MAX_HASHED_EVENTS, MAX_LISTED_POSITIONS, RangeHash, RangeHasher};
use crate::client::{Call, Client, ClientError, Progress, Unit};
use crate::event::Position;
use crate::store::{OfflineState, ReadError};

/// Differing positions that are named. Behind them, ranges that differ are only counted.
const MAX_NAMED: usize = 100;

/// A copy of the events.
pub(crate) enum Copy {
    /// Files.
    Local(OfflineState),
    /// A running node.
    Node(Client),
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
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
pub(crate) struct Comparison {
    /// Events on both sides are those before this position.
    pub(crate) end: Position,
    /// Positions that differ.
    pub(crate) differing: u64,
    /// Each in words, the first ones.
    pub(crate) named: Vec<String>,
    /// Ranges of positions that differ and were not looked at any more, because enough is named.
    pub(crate) differing_ranges: u64,
    /// Events that one of the copies has removed for ever, and the other one still has.
    pub(crate) removed_since: u64,
    /// Events whose data and metadata one of the copies has blanked.
    pub(crate) redacted_since: u64,
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
        serde_json::from_slice(&answer).map_err(|_| CompareError::NoHash(client.name().to_owned()))
    }
}

pub(super) fn hash_of(state: &OfflineState, range: &Range<Position>) -> Result<RangeHash, ReadError> {
    let next_position = state.facts()?.next_position;
    let mut hasher = RangeHasher::new(range.start, range.end.min(next_position));
    state.events(range.start, |event| Ok(hasher.add(&event)))?;
    hasher.finish(next_position, |position| state.is_hole(position))
}

/// Compares the events that both have.
///
/// # Errors
/// See [`CompareError`].
pub(crate) async fn compare(left: &Copy, right: &Copy) -> Result<Comparison, CompareError> {
    let nothing = 0..0;
    let (on_left, on_right) = (left.hash(&nothing).await?, right.hash(&nothing).await?);
    let end = on_left.next_position.min(on_right.next_position);
    let mut comparison = Comparison { end, ..Comparison::default() };
    let progress = Progress::new("compared", Unit::Things("positions"), Some(end));
    let mut next = 0;
    while next < end {
        let both = hash_both(left, right, next..end.min(next + MAX_HASHED_EVENTS)).await?;
        let range = both.left.from..both.left.to;
        if both.differ() && comparison.named.len() >= MAX_NAMED {
            comparison.differing_ranges += 1;
        } else if both.differ() {
            comparison.look_at(left, right, range.clone()).await?;
        }
        progress.advance(range.end - range.start);
        next = range.end;
    }
    progress.finish();
    Ok(comparison)
}

/// The hashes of one range on both sides.
struct Both {
    left: RangeHash,
    right: RangeHash,
}

impl Both {
    fn differ(&self) -> bool {
        self.left.hash != self.right.hash || self.left.removed != self.right.removed
    }
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
    /// Compares the positions of a range one by one.
    async fn look_at(&mut self, left: &Copy, right: &Copy, range: Range<Position>) -> Result<(), CompareError> {
        let mut next = range.start;
        while next < range.end {
            let both = hash_both(left, right, next..range.end.min(next + MAX_LISTED_POSITIONS)).await?;
            next = both.left.to;
            let positions = both.left.from..next;
            let (Some(on_left), Some(on_right)) = (both.left.listed, both.right.listed) else {
                return Err(CompareError::NoHash(left.name().to_owned()));
            };
            let (on_left, on_right) = (Positions::of(&on_left), Positions::of(&on_right));
            for position in positions {
                match on_left.at(position).compare(on_right.at(position)) {
                    Difference::None => {}
                    Difference::Removed => self.removed_since += 1,
                    Difference::Redacted => self.redacted_since += 1,
                    Difference::Events => self.tell(left, right, position, &on_left, &on_right).await,
                }
            }
        }
        Ok(())
    }

    async fn tell(
        &mut self,
        left: &Copy,
        right: &Copy,
        position: Position,
        on_left: &Positions<'_>,
        on_right: &Positions<'_>,
    ) {
        self.differing += 1;
        if self.named.len() == MAX_NAMED {
            return;
        }
        let (holder, what) = match (on_left.at(position), on_right.at(position)) {
            (At::Event(_), At::Event(_)) => (left, "the events differ".to_owned()),
            (At::Event(_), _) => (left, format!("only {} has an event", left.name())),
            (_, At::Event(_)) => (right, format!("only {} has an event", right.name())),
            (At::Removed, _) => {
                (left, format!("{} has removed the event, and {} has lost it", left.name(), right.name()))
            }
            (At::Nothing, _) => {
                (right, format!("{} has removed the event, and {} has lost it", right.name(), left.name()))
            }
        };
        let what = format!("position {position}: {what}");
        let event = holder.event_at(position).await;
        self.named.push(event.map_or(what.clone(), |event| format!("{what} ({event})")));
    }
}

/// What one copy has at the positions of a range.
struct Positions<'a> {
    events: HashMap<Position, &'a EventHash>,
    removed: HashSet<Position>,
}

impl<'a> Positions<'a> {
    fn of(listed: &'a Listed) -> Self {
        let events = listed.events.iter().map(|event| (event.position, event)).collect();
        Self { events, removed: listed.removed.iter().copied().collect() }
    }

    fn at(&self, position: Position) -> At<'a> {
        match self.events.get(&position) {
            Some(event) => At::Event(event),
            None if self.removed.contains(&position) => At::Removed,
            None => At::Nothing,
        }
    }
}

/// What a copy has at one position.
#[derive(Clone, Copy)]
enum At<'a> {
    Event(&'a EventHash),
    /// The event was removed for ever.
    Removed,
    /// There is no event, and no removal either.
    Nothing,
}

/// How two copies differ at one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    None,
    /// One has removed the event.
    Removed,
    /// One has blanked the event.
    Redacted,
    /// Nothing that a node does makes this difference.
    Events,
}

impl At<'_> {
    fn compare(self, other: At<'_>) -> Difference {
        match (self, other) {
            (At::Event(left), At::Event(right)) if left == right => Difference::None,
            (At::Event(left), At::Event(right)) => {
                let is_redacted = left.heading == right.heading && left.is_blank != right.is_blank;
                if is_redacted { Difference::Redacted } else { Difference::Events }
            }
            (At::Event(_), At::Removed) | (At::Removed, At::Event(_)) => Difference::Removed,
            (At::Removed, At::Removed) | (At::Nothing, At::Nothing) => Difference::None,
            (At::Nothing, _) | (_, At::Nothing) => Difference::Events,
        }
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
                let page: serde_json::Value = serde_json::from_slice(&page).ok()?;
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
