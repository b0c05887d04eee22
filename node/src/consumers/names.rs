//! The streams in which a group is kept. Their names are those of the original where it has such a
//! stream (contract/services 3.6).

use super::GroupName;
use crate::event::StreamNameRef;
use crate::event::stream_name::{ALL, MAX_STREAM_NAME_BYTES};

/// Begins the names of all streams of groups.
pub(super) const PREFIX: &str = "$persistentsubscription-";

/// Ends the name of the stream with the settings.
const SETTINGS: &str = "-settings";
/// Ends the name of the stream that says how far the group has come.
const CHECKPOINT: &str = "-checkpoint";
/// Ends the name of the stream of parked messages.
const PARKED: &str = "-parked";

/// Bytes of the names of a stream and a group together: the streams of the group must have names,
/// too.
pub(super) const MAX_NAMES_BYTES: usize = MAX_STREAM_NAME_BYTES - PREFIX.len() - "::".len() - CHECKPOINT.len();

impl GroupName {
    /// Both names, as tools show them: `stream::group`.
    pub(crate) fn key(&self) -> String {
        format!("{}::{}", self.stream.as_str(), self.group)
    }

    /// The stream with its settings.
    pub(super) fn settings_stream(&self) -> String {
        self.stream_of(SETTINGS)
    }

    /// The stream that says how far it has come.
    pub(super) fn checkpoint_stream(&self) -> String {
        self.stream_of(CHECKPOINT)
    }

    /// The stream of its parked messages.
    pub(crate) fn parked_stream(&self) -> String {
        self.stream_of(PARKED)
    }

    fn stream_of(&self, suffix: &str) -> String {
        format!("{PREFIX}{}::{}{suffix}", self.stream.as_str(), self.group)
    }

    /// Whether it shares out the log of all events.
    pub(crate) fn is_on_log(&self) -> bool {
        self.stream.as_str() == ALL
    }

    /// Whether there can be a group of this name.
    pub(super) fn is_possible(&self) -> bool {
        let bytes = self.stream.as_str().len() + self.group.len();
        !self.group.is_empty() && bytes <= MAX_NAMES_BYTES
    }
}

/// Whether a stream, or the one whose metadata it holds, belongs to a group on the log. No such
/// group shares out its events: what one stores of itself would be its next message.
pub(super) fn is_of_group_on_log(stream: &str) -> bool {
    let described = StreamNameRef::new(stream).described();
    let stream = described.map_or(stream, StreamNameRef::as_str);
    stream.strip_prefix(PREFIX).and_then(|names| names.strip_prefix(ALL)).is_some_and(|rest| rest.starts_with("::"))
}

/// Whether a stream of this name may hold the settings of a group.
pub(super) fn is_of_settings(stream: &str) -> bool {
    stream.starts_with(PREFIX) && stream.ends_with(SETTINGS)
}

/// What the names of the streams of groups on this stream begin with.
pub(super) fn prefix_of(stream: &str) -> String {
    format!("{PREFIX}{stream}::")
}

/// The stream that holds the metadata of a stream.
pub(super) fn metastream(stream: &str) -> String {
    format!("$${stream}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamName;

    fn name(stream: &str, group: &str) -> GroupName {
        GroupName { stream: StreamName::parse(stream).unwrap(), group: group.to_owned() }
    }

    #[test]
    fn the_streams_of_a_group_have_the_names_of_the_original() {
        let group = name("orders", "billing");
        assert_eq!(group.key(), "orders::billing");
        assert_eq!(group.checkpoint_stream(), "$persistentsubscription-orders::billing-checkpoint");
        assert_eq!(group.parked_stream(), "$persistentsubscription-orders::billing-parked");
        assert!(is_of_settings(&group.settings_stream()) && !is_of_settings(&group.parked_stream()));
        assert!(group.settings_stream().starts_with(&prefix_of("orders")));
    }

    #[test]
    fn all_streams_of_the_longest_names_have_names() {
        let longest = name("s", &"g".repeat(MAX_NAMES_BYTES - 1));
        assert!(longest.is_possible());
        for stream in [longest.settings_stream(), longest.checkpoint_stream(), longest.parked_stream()] {
            assert!(StreamName::parse(stream).is_ok());
        }
        assert!(!name("s", &"g".repeat(MAX_NAMES_BYTES)).is_possible());
        assert!(!name("s", "").is_possible() && name("$all", "g").is_possible());
    }

    #[test]
    fn groups_on_the_log_pass_over_the_streams_of_all_such_groups() {
        let on_log = name("$all", "g");
        assert!(on_log.is_on_log() && !name("s", "g").is_on_log());
        for stream in [on_log.settings_stream(), on_log.checkpoint_stream(), on_log.parked_stream()] {
            assert!(is_of_group_on_log(&stream) && is_of_group_on_log(&metastream(&stream)), "{stream}");
        }
        for stream in [name("s", "g").parked_stream(), name("$all-s", "g").parked_stream(), "$all".to_owned()] {
            assert!(!is_of_group_on_log(&stream), "{stream}");
        }
    }
}
