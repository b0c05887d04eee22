//! The filter of a group on the log, as it is stored and told.

use serde::{Deserialize, Serialize};

use crate::streams::{Filter, FilterBy, Pattern, PatternError};

/// What a group on the log shares out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogFilter {
    /// What it demands of an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wants: Option<Wanted>,
    /// Whether events whose type begins with `$` are left out.
    #[serde(default)]
    pub(crate) exclude_system_events: bool,
}

/// What a filter demands of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// What it looks at.
    pub(crate) context: Context,
    /// What that has to be like.
    #[serde(flatten)]
    pub(crate) text: Text,
}

/// What a filter looks at, by the names that requests have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Context {
    /// The name of the event's stream.
    StreamId,
    /// The event's type.
    EventType,
}

/// What a text has to be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Text {
    /// It begins with one of these.
    Prefixes(Vec<String>),
    /// It matches this somewhere.
    Regex(String),
}

impl LogFilter {
    /// The filter, ready to be used.
    ///
    /// # Errors
    /// It is none, or none any more that this program takes.
    pub(super) fn compile(&self) -> Result<Filter, PatternError> {
        let pattern = match &self.wants {
            None => None,
            Some(Wanted { context, text }) => {
                let by = match context {
                    Context::StreamId => FilterBy::Stream,
                    Context::EventType => FilterBy::EventType,
                };
                let pattern = match text {
                    Text::Prefixes(prefixes) => Pattern::prefixes(prefixes.iter().map(String::as_str))?,
                    Text::Regex(expression) => Pattern::regex(expression)?,
                };
                Some((by, pattern))
            }
        };
        Ok(Filter { pattern, without_system_events: self.exclude_system_events })
    }
}

impl From<&Filter> for LogFilter {
    fn from(filter: &Filter) -> Self {
        let wants = filter.pattern.as_ref().map(|(by, pattern)| Wanted {
            context: match by {
                FilterBy::Stream => Context::StreamId,
                FilterBy::EventType => Context::EventType,
            },
            text: match pattern {
                Pattern::Prefixes(prefixes) => Text::Prefixes(prefixes.clone()),
                Pattern::Regex(expression) => Text::Regex(expression.as_str().to_owned()),
            },
        });
        Self { wants, exclude_system_events: filter.without_system_events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_filter_is_the_one_that_was_given() {
        let prefixes = Pattern::prefixes(["order-", "a,b"].into_iter()).unwrap();
        for (pattern, without_system_events, stored) in [
            (
                Some((FilterBy::Stream, prefixes)),
                false,
                r#"{"wants":{"context":"streamid","prefixes":["order-","a,b"]},"excludeSystemEvents":false}"#,
            ),
            (
                Some((FilterBy::EventType, Pattern::regex("^paid$").unwrap())),
                true,
                r#"{"wants":{"context":"eventtype","regex":"^paid$"},"excludeSystemEvents":true}"#,
            ),
            (None, true, r#"{"excludeSystemEvents":true}"#),
        ] {
            let filter = LogFilter::from(&Filter { pattern, without_system_events });
            assert_eq!(serde_json::to_string(&filter).unwrap(), stored);
            let again: LogFilter = serde_json::from_str(stored).unwrap();
            assert_eq!((&again, LogFilter::from(&again.compile().unwrap())), (&filter, filter.clone()));
        }
    }

    #[test]
    fn a_stored_filter_that_is_none_is_an_error() {
        let broken =
            |text| LogFilter { wants: Some(Wanted { context: Context::StreamId, text }), exclude_system_events: false };
        assert_eq!(broken(Text::Regex("(".to_owned())).compile().unwrap_err(), PatternError::InvalidRegex);
        assert_eq!(broken(Text::Prefixes(Vec::new())).compile().unwrap_err(), PatternError::Empty);
    }
}
