//! The options that a running node takes anew, and what a new configuration changes.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use super::flags::{self, LiveFlags};
use super::{Config, Ratio, TimeWindow, print};

/// The values of the options that a running node takes anew; each is looked at when it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// Where the next leader is chosen, the highest goes first.
    pub node_priority: i32,
    /// The node is not ready while it is more than this many events behind the leader.
    pub ready_lag_events: u64,
    /// How long a node that is told to stop goes on serving, so that balancers leave it.
    pub drain: Duration,
    /// How often the leader looks for events to remove by itself; zero: never.
    pub scavenge_interval: Duration,
    /// When it may do so; `None`: always.
    pub scavenge_window: Option<TimeWindow>,
    /// Bytes of events removed, and of tables rewritten, per second at most.
    pub scavenge_bytes_per_second: u64,
    /// The highest rate at which snapshots are sent; counts for those that begin afterwards.
    pub snapshot_bytes_per_second: u64,
    /// Log filter, `tracing` syntax.
    pub log_filter: String,
    /// Requests that take longer get a line in the log; `None`: none.
    pub slow_request: Option<Duration>,
    /// Share of the requests that are traced.
    pub trace_sample_ratio: Ratio,
}

impl From<LiveFlags> for LiveOptions {
    fn from(flags: LiveFlags) -> Self {
        let ms = Duration::from_millis;
        Self {
            node_priority: flags.node_priority,
            ready_lag_events: flags.ready_lag_events,
            drain: ms(flags.drain_ms),
            scavenge_interval: Duration::from_secs(flags.scavenge_interval_s),
            scavenge_window: flags.scavenge_window,
            scavenge_bytes_per_second: flags.scavenge_bytes_per_second,
            snapshot_bytes_per_second: flags.snapshot_bytes_per_second,
            log_filter: flags.log_filter,
            slow_request: (flags.slow_request_ms > 0).then(|| ms(flags.slow_request_ms)),
            trace_sample_ratio: flags.trace_sample_ratio,
        }
    }
}

/// The values that are in force. Clones see every change.
#[derive(Clone)]
pub struct Live(Arc<ArcSwap<LiveOptions>>);

impl Live {
    /// These values, until they are replaced.
    pub fn new(options: LiveOptions) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(options)))
    }

    /// The values of this moment.
    pub fn now(&self) -> Guard<Arc<LiveOptions>> {
        self.0.load()
    }

    /// Puts all values in the place of those in force.
    pub fn replace(&self, options: LiveOptions) {
        self.0.store(Arc::new(options));
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.now().fmt(f)
    }
}

impl PartialEq for Live {
    fn eq(&self, other: &Self) -> bool {
        **self.now() == **other.now()
    }
}

impl Eq for Live {}

/// Options whose values differ between two configurations, by what a running node makes of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Flags of those that it takes.
    pub taken: Vec<String>,
    /// Flags of those that need a restart.
    pub need_restart: Vec<String>,
}

/// What a node that runs with `old` makes of `new`.
pub fn changes(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    for key in flags::keys().into_iter().filter(|key| print::differs(old, new, key)) {
        let list = if flags::is_live(&key) { &mut changes.taken } else { &mut changes.need_restart };
        list.push(flags::flag_name(&key));
    }
    changes
}
