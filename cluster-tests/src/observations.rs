//! What readers saw during a run: the evidence of the checkers about reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::check::Violation;
use crate::consumers::Books;
use crate::feed::NodeFeed;
use crate::removal::Stream;

/// What a read of a stream was promised to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Promise {
    /// What the same node has acknowledged before.
    SameNode,
    /// The position that the request named (`ES-MinPosition`).
    Position,
    /// Everything that any node has acknowledged before (`ES-RequireMaster`).
    Leader,
}

/// A read of the newest event of a stream that was answered with 200.
#[derive(Debug, Clone)]
pub struct StreamRead {
    /// The node that answered.
    pub node: u16,
    /// What it had promised.
    pub promise: Promise,
    /// The stream.
    pub stream: String,
    /// When it was sent.
    pub sent_at: Duration,
    /// When the answer had come.
    pub answered_at: Duration,
    /// The number that it had to see at least.
    pub at_least: u64,
    /// The number that it saw; `None` if the stream had no event.
    pub seen: Option<u64>,
}

/// The newest event of the log as one node showed it.
#[derive(Debug, Clone)]
pub struct HeadRead {
    /// The node.
    pub node: u16,
    /// When it was asked.
    pub sent_at: Duration,
    /// When the answer had come.
    pub answered_at: Duration,
    /// Stream of the event.
    pub stream: String,
    /// Its id.
    pub id: String,
}

/// A page that a node served as one that never changes.
#[derive(Debug, Clone)]
pub struct ImmutablePage {
    /// The node.
    pub node: u16,
    /// When the answer had come.
    pub answered_at: Duration,
    /// Path, query and media type.
    pub page: String,
    /// Hash of the body, without the address of the node.
    pub hash: u64,
}

/// A long poll of a stream that was answered.
#[derive(Debug, Clone)]
pub struct Poll {
    /// The node.
    pub node: u16,
    /// The stream.
    pub stream: String,
    /// The first number that was asked for.
    pub next: u64,
    /// When it was sent.
    pub sent_at: Duration,
    /// When the answer had come.
    pub answered_at: Duration,
    /// Events of the answer.
    pub events: usize,
}

/// Whether a node said that it was ready, and the newest event that it showed after that.
#[derive(Debug, Clone)]
pub struct ReadinessRead {
    /// The node.
    pub node: u16,
    /// When it was asked.
    pub sent_at: Duration,
    /// What it said.
    pub is_ready: bool,
    /// Stream of the newest event.
    pub stream: String,
    /// Its id.
    pub id: String,
}

/// What a user tried that it may do, or not.
#[derive(Debug, Clone)]
pub struct AccessTry {
    /// The node.
    pub node: u16,
    /// When the answer had come.
    pub at: Duration,
    /// What was tried.
    pub what: &'static str,
    /// With this stream.
    pub stream: String,
    /// Whether it had to be admitted.
    pub may: bool,
    /// Whether it was.
    pub did: bool,
}

/// What the consumers of a group got.
#[derive(Debug, Clone)]
pub struct GroupBooks {
    /// The path of the group.
    pub group: String,
    /// Events that were stored, all of which the group has settled.
    pub stored: u64,
    /// Numbers of those that it has parked.
    pub parked: Vec<u64>,
    /// The books of its consumers.
    pub books: Arc<Books>,
}

/// Everything that was seen, each kind in the order in which answers came.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    /// Reads with a promise.
    pub reads: Vec<StreamRead>,
    /// Newest events; those of one node were asked for one after the other.
    pub heads: Vec<HeadRead>,
    /// Pages that never change.
    pub pages: Vec<ImmutablePage>,
    /// Long polls.
    pub polls: Vec<Poll>,
    /// What each node had shown of the log when its reader stopped.
    pub prefixes: Vec<NodeFeed>,
    /// Readiness of the nodes.
    pub readiness: Vec<ReadinessRead>,
    /// What users tried.
    pub access: Vec<AccessTry>,
    /// Streams that lose events, and what has to be left of them.
    pub removals: BTreeMap<String, Stream>,
    /// Groups of consumers.
    pub groups: Vec<GroupBooks>,
    /// What a load met that breaks a rule at once.
    pub troubles: Vec<Violation>,
}

/// Collects what all readers see. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Observer(Arc<Mutex<Observations>>);

impl Observer {
    /// Adds something.
    pub fn add(&self, add: impl FnOnce(&mut Observations)) {
        // A reader that panicked while adding leaves usable vectors.
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A load met something that breaks this rule.
    pub fn trouble(&self, rule: &'static str, detail: String) {
        self.add(|seen| seen.troubles.push(Violation::new(rule, detail)));
    }

    /// A copy of all of it.
    pub fn snapshot(&self) -> Observations {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
