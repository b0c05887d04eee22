//! Which events of the log a reader wants: by the beginning of their stream or type, or by a
//! regular expression.

use regex::{Regex, RegexBuilder};

use super::limits::{MAX_FILTER_BYTES, MAX_FILTER_PREFIXES, MAX_FILTER_REGEX_BYTES};
use crate::event::RecordedEvent;

/// A filter of events. A link is looked at as such, not what it leads to.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    /// What it demands of an event; nothing without one.
    pub(crate) pattern: Option<(FilterBy, Pattern)>,
    /// Whether events whose type begins with `$` are left out.
    pub(crate) without_system_events: bool,
}

/// What a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterBy {
    /// The name of the event's stream.
    Stream,
    /// The event's type.
    EventType,
}

/// What a filter demands of a text.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// It begins with one of these.
    Prefixes(Vec<String>),
    /// It matches somewhere.
    Regex(Regex),
}

/// Why a pattern is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    /// There is nothing to look for.
    #[error("the filter has no data")]
    Empty,
    /// There is more than [`MAX_FILTER_BYTES`].
    #[error("the data of the filter is too long")]
    TooLong,
    /// There are more than [`MAX_FILTER_PREFIXES`].
    #[error("the filter has too many prefixes")]
    TooManyPrefixes,
    /// The regular expression takes more memory than [`MAX_FILTER_REGEX_BYTES`].
    #[error("the regular expression is too large")]
    RegexTooLarge,
    /// The text is no regular expression.
    #[error("invalid regular expression")]
    InvalidRegex,
}

impl Pattern {
    /// Texts that begin with one of these; empty ones count for nothing.
    ///
    /// # Errors
    /// There is none, or there are too many.
    pub(crate) fn prefixes<'a>(prefixes: impl Iterator<Item = &'a str>) -> Result<Self, PatternError> {
        let prefixes: Vec<String> = prefixes.filter(|prefix| !prefix.is_empty()).map(str::to_owned).collect();
        match prefixes.len() {
            0 => Err(PatternError::Empty),
            1..=MAX_FILTER_PREFIXES if prefixes.iter().map(String::len).sum::<usize>() > MAX_FILTER_BYTES => {
                Err(PatternError::TooLong)
            }
            1..=MAX_FILTER_PREFIXES => Ok(Self::Prefixes(prefixes)),
            _ => Err(PatternError::TooManyPrefixes),
        }
    }

    /// Texts that match one regular expression. That takes time linear in the text, whatever the
    /// expression.
    ///
    /// # Errors
    /// It is none, or too large.
    pub(crate) fn regex(expression: &str) -> Result<Self, PatternError> {
        if expression.is_empty() {
            return Err(PatternError::Empty);
        }
        if expression.len() > MAX_FILTER_BYTES {
            return Err(PatternError::TooLong);
        }
        let mut builder = RegexBuilder::new(expression);
        let built = builder.size_limit(MAX_FILTER_REGEX_BYTES).dfa_size_limit(MAX_FILTER_REGEX_BYTES).build();
        built.map(Self::Regex).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::RegexTooLarge,
            _ => PatternError::InvalidRegex,
        })
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Prefixes(prefixes) => prefixes.iter().any(|prefix| text.starts_with(prefix)),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

impl Filter {
    /// Whether the reader wants this event.
    pub(crate) fn matches(&self, event: &RecordedEvent) -> bool {
        if self.without_system_events && event.event_type.starts_with('$') {
            return false;
        }
        match &self.pattern {
            Some((FilterBy::Stream, pattern)) => pattern.matches(&event.stream),
            Some((FilterBy::EventType, pattern)) => pattern.matches(&event.event_type),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(data: &str) -> Result<(), PatternError> {
        Pattern::prefixes(data.split(',')).map(drop)
    }

    #[test]
    fn a_pattern_needs_something_to_look_for() {
        assert_eq!(prefixes(""), Err(PatternError::Empty));
        assert_eq!(prefixes(",,"), Err(PatternError::Empty));
        assert_eq!(prefixes(",order-,"), Ok(()));
        assert_eq!(Pattern::regex("").err(), Some(PatternError::Empty));
    }

    #[test]
    fn a_pattern_has_limits() {
        assert_eq!(prefixes(&"x,".repeat(MAX_FILTER_PREFIXES)), Ok(()));
        assert_eq!(prefixes(&"x,".repeat(MAX_FILTER_PREFIXES + 1)), Err(PatternError::TooManyPrefixes));
        let longest = "x".repeat(MAX_FILTER_BYTES);
        assert_eq!(prefixes(&longest), Ok(()));
        assert_eq!(prefixes(&format!("{longest},y")), Err(PatternError::TooLong));
        assert_eq!(Pattern::regex(&format!("{longest}y")).err(), Some(PatternError::TooLong));
        assert_eq!(Pattern::regex("((((a{9}){9}){9}){9}){9}").err(), Some(PatternError::RegexTooLarge));
        assert_eq!(Pattern::regex("(").err(), Some(PatternError::InvalidRegex));
    }
}
