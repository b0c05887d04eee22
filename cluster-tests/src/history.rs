//! The requests and answers of the clients of one run: the evidence of the checkers.

use std::time::{Duration, Instant};

use parking::Shared;

/// An event as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentEvent {
    /// Event id, lower case with hyphens.
    pub id: String,
    /// Event type.
    pub event_type: String,
    /// The bytes that a node must store for it, as text (contract/streams 6.4: JSON values are
    /// stored indented by two).
    pub stored_data: String,
}

/// The answer of a node to one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 201: number of the first event of the write, and `ES-Position`.
    Acknowledged {
        /// From `Location`.
        first_number: u64,
        /// From `ES-Position`.
        position: u64,
    },
    /// A status that promises that this attempt did not and will not write: 4xx, 503, connection
    /// refused.
    Refused {
        /// Status code, 0 when no connection was made.
        status: u16,
        /// Reason phrase or error, for people.
        reason: String,
    },
    /// Anything else: 5xx, a broken connection, no answer in time.
    Unknown {
        /// For people.
        reason: String,
    },
    /// A success without the headers that a success must have; always a violation.
    Malformed {
        /// The reason why it is malformed.
        reason: String,
    },
}

/// One request and its answer. Times count from the start of the history.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Server id of the node it was sent to.
    pub node: u16,
    /// When it was sent.
    pub sent_at: Duration,
    /// When the answer was complete, or the attempt given up.
    pub answered_at: Duration,
    /// The answer, or its absence.
    pub answer: Answer,
}

/// One write: the same events, sent until answered.
#[derive(Debug, Clone)]
pub struct Write {
    /// Stream name.
    pub stream: String,
    /// `ES-ExpectedVersion`.
    pub expected_version: i64,
    /// The events, in order.
    pub events: Vec<SentEvent>,
    /// Whether the sender knew that it must be refused (a stale version with new ids).
    pub must_be_refused: bool,
    /// Every request made for it, in order.
    pub attempts: Vec<Attempt>,
}

impl Write {
    /// The acknowledgements it got.
    pub fn acknowledgements(&self) -> impl Iterator<Item = (&Attempt, u64, u64)> {
        self.attempts.iter().filter_map(|attempt| match attempt.answer {
            Answer::Acknowledged { first_number, position } => Some((attempt, first_number, position)),
            _ => None,
        })
    }

    /// Whether some node acknowledged it.
    pub fn is_acknowledged(&self) -> bool {
        self.acknowledgements().next().is_some()
    }

    /// Whether every attempt was refused, so that none of its events may ever be seen.
    pub fn is_surely_not_written(&self) -> bool {
        self.attempts.iter().all(|attempt| matches!(attempt.answer, Answer::Refused { .. }))
    }
}

/// What a fault is to those who measure how a cluster recovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Nothing special.
    #[default]
    Other,
    /// The leader was killed.
    LeaderKilled,
    /// A partition has come to its end: no fault, but what others have to recover from.
    PartitionHealed,
}

/// A fault injected into the cluster.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// Its kind.
    pub kind: Kind,
    /// The fault in words, for the report.
    pub what: String,
    /// When it had taken effect.
    pub at: Duration,
}

/// A time in which a node was frozen and could not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Server id of the node.
    pub node: u16,
    /// When it was frozen.
    pub from: Duration,
    /// When it went on or was killed; `None` until then.
    pub to: Option<Duration>,
}

/// Everything that happened in one run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// All writes, in order of completion.
    pub writes: Vec<Write>,
    /// All faults, in order.
    pub faults: Vec<Fault>,
    /// All pauses of nodes.
    pub pauses: Vec<Pause>,
}

impl History {
    /// Highest acknowledged position.
    pub fn highest_position(&self) -> Option<u64> {
        self.writes.iter().flat_map(Write::acknowledgements).map(|(_, _, position)| position).max()
    }

    /// Number of acknowledged events.
    pub fn acknowledged_events(&self) -> usize {
        self.writes.iter().filter(|write| write.is_acknowledged()).map(|write| write.events.len()).sum()
    }
}

/// Records the history. Cheap to clone; used by every writer and by the test that injects faults.
#[derive(Debug, Clone)]
pub struct Recorder {
    started: Instant,
    history: Shared<History>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { started: Instant::now(), history: Shared::default() }
    }
}

impl Recorder {
    /// Time since the history began.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds a completed write.
    pub fn write(&self, write: Write) {
        self.history.with(|history| history.writes.push(write));
    }

    /// Adds a fault that has just taken effect.
    pub fn fault(&self, what: impl Into<String>) {
        self.fault_of(Kind::Other, what);
    }

    /// The same of a certain kind.
    pub fn fault_of(&self, kind: Kind, what: impl Into<String>) {
        let fault = Fault { kind, what: what.into(), at: self.now() };
        self.history.with(|history| history.faults.push(fault));
    }

    /// A node is frozen from now on.
    pub fn paused(&self, node: u16) {
        let pause = Pause { node, from: self.now(), to: None };
        self.history.with(|history| history.pauses.push(pause));
    }

    /// A node is not frozen any more.
    pub fn resumed(&self, node: u16) {
        let now = self.now();
        self.history.with(|history| {
            let open = history.pauses.iter_mut().filter(|pause| pause.node == node && pause.to.is_none());
            open.for_each(|pause| pause.to = Some(now));
        });
    }

    /// Acknowledged events so far.
    pub fn acknowledged_events(&self) -> usize {
        self.history.with(|history| history.acknowledged_events())
    }

    /// The time of the first acknowledgement of a write that was sent after `since`, if there is
    /// one.
    pub fn first_acknowledgement_sent_after(&self, since: Duration) -> Option<Duration> {
        self.history.with(|history| {
            history
                .writes
                .iter()
                .flat_map(Write::acknowledgements)
                .filter(|(attempt, _, _)| attempt.sent_at >= since)
                .map(|(attempt, _, _)| attempt.answered_at)
                .min()
        })
    }

    /// A copy of the records so far.
    pub fn snapshot(&self) -> History {
        self.history.with(|history| history.clone())
    }
}

/// A value shared between tasks; every use of it is short.
mod parking {
    use std::sync::{Arc, Mutex, PoisonError};

    #[derive(Debug, Clone, Default)]
    pub(super) struct Shared<T>(Arc<Mutex<T>>);

    impl<T> Shared<T> {
        /// A writer that panicked while adding leaves a usable vector, so poisoning is ignored.
        pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
            use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }
}
