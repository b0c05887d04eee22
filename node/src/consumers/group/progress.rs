//! What is kept of a group: how far it has come, and what is open below that.

use serde::{Deserialize, Serialize};

/// Which message: of the stream of the group, or one of its parked messages that is replayed. Keys
/// sort as messages are handed out again: replayed ones first, older ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Key {
    /// Number in the stream of parked messages.
    Parked(u64),
    /// Number in the stream of the group, or position in the log.
    Source(u64),
}

impl Key {
    /// Where it was read.
    pub(crate) fn which(self) -> Which {
        match self {
            Self::Parked(_) => Which::Parked,
            Self::Source(_) => Which::Source,
        }
    }

    /// Its number there.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Parked(number) | Self::Source(number) => number,
        }
    }
}

/// Where messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// In the stream of the group, or in the log.
    Source,
    /// In the stream of its parked messages.
    Parked,
}

impl Which {
    /// The message with this number.
    pub(crate) fn key(self, number: u64) -> Key {
        match self {
            Self::Parked => Key::Parked(number),
            Self::Source => Key::Source(number),
        }
    }
}

/// What has to be kept of a group. The next leader goes on from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// How far the group has come in its stream.
    pub(crate) source: Way,
    /// The replay of parked messages that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<Replay>,
    /// Messages that were settled in the life of the group.
    #[serde(default)]
    pub(crate) settled: u64,
    /// How often a message failed in the life of the group.
    #[serde(default)]
    pub(crate) failed: u64,
}

/// How far a group has come in one stream: every message below `next` is settled, unless it is in
/// `open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredWay")]
pub(crate) struct Way {
    /// No message from here on was handed out.
    pub(crate) next: u64,
    /// Messages below that which are not settled: ascending, and disjoint.
    pub(crate) open: Vec<Run>,
}

/// A replay: parked messages from `way.next` up to, not including, `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replay {
    /// How far it has come.
    pub(crate) way: Way,
    /// The number of the first message that is not replayed.
    pub(crate) end: u64,
}

/// Open messages with successive numbers that were handed out equally often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u64, u64, u32)", from = "(u64, u64, u32)")]
pub(crate) struct Run {
    /// The first number.
    pub(crate) first: u64,
    /// The last number.
    pub(crate) last: u64,
    /// How often each was handed out again.
    pub(crate) retries: u32,
}

impl Progress {
    /// The progress of a group that begins at this number.
    pub(crate) fn starting_at(next: u64) -> Self {
        Self { source: Way::starting_at(next), replay: None, settled: 0, failed: 0 }
    }

    /// The highest number so that all messages up to it are settled; -1 for none.
    pub(crate) fn checkpoint(&self) -> i64 {
        i64::try_from(self.source.first_open()).map_or(i64::MAX, |first| first - 1)
    }
}

impl Way {
    /// Nothing is settled from this number on.
    pub(crate) fn starting_at(next: u64) -> Self {
        Self { next, open: Vec::new() }
    }

    /// All messages below this number are settled. Those of the parked stream can be removed.
    pub(crate) fn first_open(&self) -> u64 {
        self.open.first().map_or(self.next, |run| run.first.min(self.next))
    }

    fn is_sound(&self) -> bool {
        let in_order = self.open.iter().all(|run| run.first <= run.last && run.last < self.next);
        in_order && self.open.windows(2).all(|pair| pair[0].last < pair[1].first)
    }
}

/// A way as it was stored: it may be anything.
#[derive(Deserialize)]
struct StoredWay {
    next: u64,
    #[serde(default)]
    open: Vec<Run>,
}

impl TryFrom<StoredWay> for Way {
    type Error = &'static str;

    fn try_from(stored: StoredWay) -> Result<Self, Self::Error> {
        let way = Self { next: stored.next, open: stored.open };
        way.is_sound().then_some(way).ok_or("open messages are not in ascending order below the next one")
    }
}

impl From<Run> for (u64, u64, u32) {
    fn from(run: Run) -> Self {
        (run.first, run.last, run.retries)
    }
}

impl From<(u64, u64, u32)> for Run {
    fn from((first, last, retries): (u64, u64, u32)) -> Self {
        Self { first, last, retries }
    }
}

impl Run {
    /// A run of one message.
    pub(super) fn of(number: u64, retries: u32) -> Self {
        Self { first: number, last: number, retries }
    }

    /// How many messages it has.
    pub(super) fn len(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether it has this message.
    pub(super) fn has(&self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Whether the two can be one run.
    fn is_followed_by(&self, next: &Self) -> bool {
        self.last.checked_add(1) == Some(next.first) && self.retries == next.retries
    }

    /// Ascending runs with neighbours put together.
    pub(super) fn joined(runs: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for run in runs {
            match joined.last_mut() {
                Some(last) if last.is_followed_by(&run) => last.last = run.last,
                _ => joined.push(run),
            }
        }
        joined
    }
}
