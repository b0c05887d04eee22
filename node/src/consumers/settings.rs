//! The settings of a group, and what is wrong with some (contract/services 3.2).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::EventNumber;

/// What a creator or an update says of a group. Numbers are as they were given; [`Settings::check`]
/// says which make no sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Settings {
    /// Links are followed before their targets are handed out.
    #[serde(rename = "resolveLinktos")]
    pub(crate) resolve_links: bool,
    /// Number of the first event to hand out; -1 for those that come after the creation.
    pub(crate) start_from: i64,
    /// How long a consumer has for a message; 0 for ever.
    pub(crate) message_timeout_milliseconds: i64,
    /// How long messages take is measured, for each connection.
    pub(crate) extra_statistics: bool,
    /// How often a message is handed out again before it is parked.
    pub(crate) max_retry_count: i64,
    /// Kept for tools that show it: live events come through the same buffer as older ones.
    pub(crate) live_buffer_size: i64,
    /// How many messages are read ahead.
    pub(crate) buffer_size: i64,
    /// How many events are read at a time.
    pub(crate) read_batch_size: i64,
    /// The shortest time between two checkpoints.
    #[serde(rename = "checkPointAfterMilliseconds")]
    pub(crate) checkpoint_after_milliseconds: i64,
    /// How many settled messages are worth a checkpoint at once after that time.
    #[serde(rename = "minCheckPointCount")]
    pub(crate) min_checkpoint_count: i64,
    /// How many settled messages make a checkpoint due at once.
    #[serde(rename = "maxCheckPointCount")]
    pub(crate) max_checkpoint_count: i64,
    /// How many consumers may be connected; 0 for any number.
    pub(crate) max_subscriber_count: i64,
    /// How messages are shared out to connected consumers.
    #[serde(rename = "namedConsumerStrategy")]
    pub(crate) strategy: Strategy,
}

/// How messages are shared out to consumers that are connected. Those that ask for messages get the
/// next ones, whatever the strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Strategy {
    /// To one after the other.
    RoundRobin,
    /// To the first one, while it has room.
    DispatchToSingle,
    /// All messages of a source stream to the same one, while it has room.
    Pinned,
    /// All messages of a correlation id to the same one, while it has room.
    PinnedByCorrelation,
    /// All messages of a source stream to the same one, and never two of them at a time: the next
    /// one is handed out when the one before is settled. Ours, not the original's.
    OrderedByStream,
}

/// The strategies, by the names that requests have for them.
const STRATEGIES: [(&str, Strategy); 5] = [
    ("RoundRobin", Strategy::RoundRobin),
    ("DispatchToSingle", Strategy::DispatchToSingle),
    ("Pinned", Strategy::Pinned),
    ("PinnedByCorrelation", Strategy::PinnedByCorrelation),
    ("OrderedByStream", Strategy::OrderedByStream),
];

impl Strategy {
    /// The strategy of this name, as requests and answers have it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        STRATEGIES.iter().find(|(known, _)| *known == name).map(|(_, strategy)| *strategy)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        STRATEGIES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// Messages that a group may read ahead, and hold, whatever its settings say.
pub(crate) const MAX_BUFFERED_MESSAGES: u64 = 10_000;

/// Settings that make no sense. The texts are those of the original where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("Buffer Size ({0}) must be positive")]
    BufferSize(i64),
    #[error("Live Buffer Size ({0}) must be positive")]
    LiveBufferSize(i64),
    #[error("Read Batch Size ({0}) must be positive")]
    ReadBatchSize(i64),
    #[error("BufferSize ({0}) must be larger than ReadBatchSize ({1})")]
    BatchAboveBuffer(i64, i64),
    #[error("{0} ({1}) must not be negative")]
    Negative(&'static str, i64),
    #[error("Start From ({0}) must be -1 or the number of an event")]
    StartFrom(i64),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resolve_links: false,
            start_from: 0,
            message_timeout_milliseconds: 10_000,
            extra_statistics: false,
            max_retry_count: 10,
            live_buffer_size: 500,
            buffer_size: 500,
            read_batch_size: 20,
            checkpoint_after_milliseconds: 1_000,
            min_checkpoint_count: 10,
            max_checkpoint_count: 500,
            max_subscriber_count: 10,
            strategy: Strategy::RoundRobin,
        }
    }
}

impl Settings {
    /// Says what is wrong with the settings, if something is.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let positive = |number: i64, error: fn(i64) -> SettingsError| (number > 0).then_some(()).ok_or(error(number));
        positive(self.buffer_size, SettingsError::BufferSize)?;
        positive(self.live_buffer_size, SettingsError::LiveBufferSize)?;
        positive(self.read_batch_size, SettingsError::ReadBatchSize)?;
        if self.buffer_size <= self.read_batch_size {
            return Err(SettingsError::BatchAboveBuffer(self.buffer_size, self.read_batch_size));
        }
        if self.start_from < -1 {
            return Err(SettingsError::StartFrom(self.start_from));
        }
        for (name, number) in [
            ("Message Timeout", self.message_timeout_milliseconds),
            ("Max Retry Count", self.max_retry_count),
            ("Checkpoint After", self.checkpoint_after_milliseconds),
            ("Min Checkpoint Count", self.min_checkpoint_count),
            ("Max Checkpoint Count", self.max_checkpoint_count),
            ("Max Subscriber Count", self.max_subscriber_count),
        ] {
            if number < 0 {
                return Err(SettingsError::Negative(name, number));
            }
        }
        Ok(())
    }

    /// Where a group without progress begins; `None` at the end.
    pub(crate) fn start(&self) -> Option<EventNumber> {
        u64::try_from(self.start_from).ok()
    }

    /// How long a consumer has for a message; `None` for ever.
    pub(crate) fn message_timeout(&self) -> Option<Duration> {
        let milliseconds = u64::try_from(self.message_timeout_milliseconds).unwrap_or(0);
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }

    /// How many messages are read ahead.
    pub(crate) fn buffered(&self) -> usize {
        u64::try_from(self.buffer_size).unwrap_or(1).clamp(1, MAX_BUFFERED_MESSAGES) as usize
    }

    /// The shortest time between two checkpoints that are due by their number of messages.
    pub(crate) fn checkpoint_after(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.checkpoint_after_milliseconds).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_said_in_the_words_of_the_original() {
        let said = |settings: Settings| settings.check().map_err(|error| error.to_string());
        let defaults = Settings::default;
        assert_eq!(said(defaults()), Ok(()));
        for (settings, expected) in [
            (Settings { buffer_size: -1, ..defaults() }, "Buffer Size (-1) must be positive"),
            (Settings { live_buffer_size: -1, ..defaults() }, "Live Buffer Size (-1) must be positive"),
            (Settings { read_batch_size: -1, ..defaults() }, "Read Batch Size (-1) must be positive"),
            (
                Settings { buffer_size: 10, read_batch_size: 20, ..defaults() },
                "BufferSize (10) must be larger than ReadBatchSize (20)",
            ),
            (Settings { start_from: -2, ..defaults() }, "Start From (-2) must be -1 or the number of an event"),
            (Settings { max_retry_count: -1, ..defaults() }, "Max Retry Count (-1) must not be negative"),
        ] {
            assert_eq!(said(settings), Err(expected.to_owned()));
        }
    }

    #[test]
    fn stored_settings_are_read_again_and_what_is_missing_has_its_default() {
        let settings = Settings { start_from: 3, strategy: Strategy::Pinned, ..Settings::default() };
        let stored = serde_json::to_string(&settings).unwrap();
        assert!(stored.contains(r#""namedConsumerStrategy":"Pinned""#), "{stored}");
        assert_eq!(serde_json::from_str::<Settings>(&stored).unwrap(), settings);
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
        for (name, strategy) in STRATEGIES {
            assert_eq!((Strategy::named(name), strategy.name()), (Some(strategy), name));
        }
        assert_eq!(Strategy::named("roundrobin"), None);
    }
}
