//! Metrics of groups of consumers.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{GroupName, Settlement};

/// A group, as label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct GroupLabels {
    /// Its stream.
    pub(crate) stream: String,
    /// Its name.
    pub(crate) group: String,
}

/// What the leader tells about groups of consumers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConsumerMetrics {
    /// Groups that this node works on.
    pub(crate) groups: Gauge,
    /// Messages handed out, also those that were handed out before.
    pub(crate) handed_out: Counter,
    /// Messages acknowledged or skipped.
    pub(crate) acknowledged: Counter,
    /// Messages that consumers gave back to be handed out again.
    pub(crate) refused: Counter,
    /// Messages parked.
    pub(crate) parked: Counter,
    /// Times that it was stored how far a group has come.
    pub(crate) checkpoints: Counter,
    /// Events behind the last one that is settled with all before it.
    pub(crate) lag: Family<GroupLabels, Gauge>,
    /// Seconds for which the oldest message is out.
    pub(crate) oldest: Family<GroupLabels, Gauge>,
    /// Messages that are parked.
    pub(crate) parked_now: Family<GroupLabels, Gauge>,
    /// 1 for a group that has messages and hands out none.
    pub(crate) stalled: Family<GroupLabels, Gauge>,
}

impl ConsumerMetrics {
    /// Registers all of them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("consumer_groups", "Groups of consumers that this node works on", self.groups.clone());
        registry.register("consumer_messages", "Messages handed out to consumers", self.handed_out.clone());
        registry.register("consumer_settled", "Messages acknowledged or skipped", self.acknowledged.clone());
        registry.register("consumer_refused", "Messages that consumers gave back", self.refused.clone());
        registry.register("consumer_parked", "Messages parked", self.parked.clone());
        registry.register(
            "consumer_checkpoints",
            "Times that it was stored how far a group has come",
            self.checkpoints.clone(),
        );
        registry.register("consumer_group_lag", "Events that a group has not settled yet", self.lag.clone());
        registry.register(
            "consumer_group_oldest_seconds",
            "Seconds for which the oldest message of a group is out",
            self.oldest.clone(),
        );
        registry.register(
            "consumer_group_parked_messages",
            "Messages of a group that are parked",
            self.parked_now.clone(),
        );
        registry.register(
            "consumer_group_stalled",
            "1 for a group that has messages and hands out none",
            self.stalled.clone(),
        );
    }

    /// So many messages were settled.
    pub(super) fn settled(&self, settlement: Settlement, messages: u64) {
        match settlement {
            Settlement::Acknowledge | Settlement::Skip => self.acknowledged.inc_by(messages),
            Settlement::Retry | Settlement::Park => self.refused.inc_by(messages),
        };
    }

    /// What a worker knows of its group.
    pub(super) fn tell(&self, group: &GroupName, lag: i64, oldest: Option<Duration>, parked: u64, is_stalled: bool) {
        let labels = labels(group);
        self.lag.get_or_create(&labels).set(lag);
        self.oldest.get_or_create(&labels).set(oldest.map_or(0, |oldest| oldest.as_secs() as i64));
        self.parked_now.get_or_create(&labels).set(parked as i64);
        self.stalled.get_or_create(&labels).set(i64::from(is_stalled));
    }

    /// Nobody works on the group any more.
    pub(super) fn forget(&self, group: &GroupName) {
        let labels = labels(group);
        self.lag.remove(&labels);
        self.oldest.remove(&labels);
        self.parked_now.remove(&labels);
        self.stalled.remove(&labels);
    }
}

fn labels(group: &GroupName) -> GroupLabels {
    GroupLabels { stream: group.stream.as_str().to_owned(), group: group.group.clone() }
}
