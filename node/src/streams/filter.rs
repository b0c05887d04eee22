//! Which events of the log a reader wants: by the beginning of their stream or type, or by a
//! regular expression.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use super::limits::{MAX_FILTER_BYTES, MAX_FILTER_PREFIXES, MAX_FILTER_REGEX_BYTES, USUAL_FILTER_REGEX_BYTES};
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
    Regex(Expression),
}

/// A compiled regular expression.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    regex: Regex,
    /// What it takes at most, compiled and while it runs.
    memory_bytes: usize,
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
        // Most are small, and should not count as the largest.
        match Expression::compile(expression, USUAL_FILTER_REGEX_BYTES) {
            Err(PatternError::RegexTooLarge) => Expression::compile(expression, MAX_FILTER_REGEX_BYTES),
            compiled => compiled,
        }
        .map(Self::Regex)
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Prefixes(prefixes) => prefixes.iter().any(|prefix| text.starts_with(prefix)),
            Self::Regex(expression) => expression.regex.is_match(text),
        }
    }
}

impl Expression {
    /// Within `most_bytes`, and as much again for what it keeps while it runs.
    fn compile(expression: &str, most_bytes: usize) -> Result<Self, PatternError> {
        let built = RegexBuilder::new(expression).size_limit(most_bytes).dfa_size_limit(most_bytes).build();
        built.map(|regex| Self { regex, memory_bytes: 2 * most_bytes }).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::RegexTooLarge,
            _ => PatternError::InvalidRegex,
        })
    }

    /// As the client sent it.
    pub(crate) fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

impl Filter {
    /// Whether it chooses whole streams.
    pub(super) fn is_by_stream(&self) -> bool {
        matches!(self.pattern, Some((FilterBy::Stream, _)))
    }

    /// Whether it chooses the events of this stream, whatever their types are.
    pub(super) fn matches_stream(&self, name: &str) -> bool {
        matches!(&self.pattern, Some((FilterBy::Stream, pattern)) if pattern.matches(name))
    }

    /// Whether it may take long for one event. Prefixes do not.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.pattern, Some((_, Pattern::Regex(_))))
    }

    /// The same filter for one step. What an expression keeps while it runs goes with it: there is
    /// more of that than of the expression, and it would stay with every subscription.
    pub(super) fn for_one_step(&self) -> Cow<'_, Self> {
        if self.is_slow() { Cow::Owned(self.clone()) } else { Cow::Borrowed(self) }
    }

    /// What it takes while it is at work, if that is worth counting.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.pattern {
            Some((_, Pattern::Regex(expression))) => expression.memory_bytes,
            Some((_, Pattern::Prefixes(_))) | None => 0,
        }
    }

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
