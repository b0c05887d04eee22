//! Which events of the log a reader wants: by the beginning of their stream or type, or by a regular expression.

use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

use crate::event::RecordedEvent;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::format::links::encode;
use crate::http::limits::{MAX_FILTER_BYTES, MAX_FILTER_PREFIXES, MAX_FILTER_REGEX_BYTES};

/// What a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    StreamId,
    EventType,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// Begins with one of these.
    Prefixes(Vec<String>),
    /// Matches somewhere.
    Regex(Regex),
}

/// A filter as its query says it.
#[derive(Debug, Clone)]
pub struct Filter {
    pattern: Option<(Context, Pattern)>,
    /// Leaves out events whose type begins with `$`.
    without_system_events: bool,
}

impl Filter {
    /// From `context`, `type` and `data`, or `exclude-system-events`, or all of them.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let part = |name: &str| extract::query(query, name);
        let without_system_events = match part("exclude-system-events") {
            None => false,
            Some(text) => match text.to_ascii_lowercase().as_str() {
                "" | "true" => true,
                "false" => false,
                _ => return Err(bad("exclude-system-events is true or false")),
            },
        };
        let (context, kind, data) = (part("context"), part("type"), part("data"));
        if without_system_events && context.is_none() && kind.is_none() && data.is_none() {
            return Ok(Self { pattern: None, without_system_events });
        }
        let context = match context.map(|text| text.to_ascii_lowercase()).as_deref() {
            Some("streamid") => Context::StreamId,
            Some("eventtype") => Context::EventType,
            _ => return Err(bad("A filter needs a context: streamid or eventtype")),
        };
        let data = data.filter(|data| !data.is_empty()).ok_or_else(|| bad("A filter needs data"))?;
        if data.len() > MAX_FILTER_BYTES {
            return Err(bad("The data of the filter is too long"));
        }
        let pattern = match kind.map(|text| text.to_ascii_lowercase()).as_deref() {
            Some("prefix") => Pattern::Prefixes(prefixes(&data)?),
            Some("regex") => Pattern::Regex(regex(&data)?),
            _ => return Err(bad("A filter needs a type: prefix or regex")),
        };
        Ok(Self { pattern: Some((context, pattern)), without_system_events })
    }

    /// Whether the reader wants this event. A link is looked at as such, not what it leads to.
    pub fn matches(&self, event: &RecordedEvent) -> bool {
        if self.without_system_events && event.event_type.starts_with('$') {
            return false;
        }
        let Some((context, pattern)) = &self.pattern else { return true };
        let text = match context {
            Context::StreamId => &event.stream,
            Context::EventType => &event.event_type,
        };
        match pattern {
            Pattern::Prefixes(prefixes) => prefixes.iter().any(|prefix| text.starts_with(prefix)),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }

    /// The query of links to other pages of the same filter.
    pub fn query(&self) -> String {
        let mut query = String::new();
        if let Some((context, pattern)) = &self.pattern {
            let context = match context {
                Context::StreamId => "streamid",
                Context::EventType => "eventtype",
            };
            let (kind, data) = match pattern {
                Pattern::Prefixes(prefixes) => {
                    let encoded: Vec<String> = prefixes.iter().map(|prefix| encode(prefix).to_string()).collect();
                    ("prefix", encoded.join(","))
                }
                Pattern::Regex(regex) => ("regex", encode(regex.as_str()).to_string()),
            };
            // Writing to a String cannot fail.
            let _ = write!(query, "context={context}&type={kind}&data={data}");
        }
        if self.without_system_events {
            let separator = if query.is_empty() { "" } else { "&" };
            let _ = write!(query, "{separator}exclude-system-events=true");
        }
        query
    }
}

fn bad(reason: &'static str) -> ApiError {
    ApiError::BadRequest(reason.into())
}

fn prefixes(data: &str) -> Result<Vec<String>, ApiError> {
    let prefixes: Vec<String> = data.split(',').filter(|prefix| !prefix.is_empty()).map(str::to_owned).collect();
    match prefixes.len() {
        0 => Err(bad("A filter needs data")),
        1..=MAX_FILTER_PREFIXES => Ok(prefixes),
        _ => Err(bad("The filter has too many prefixes")),
    }
}

/// One regular expression; commas belong to it. Matching takes time linear in the text, whatever the expression.
fn regex(data: &str) -> Result<Regex, ApiError> {
    let built =
        RegexBuilder::new(data).size_limit(MAX_FILTER_REGEX_BYTES).dfa_size_limit(MAX_FILTER_REGEX_BYTES).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => bad("The regular expression is too large"),
        _ => bad("Invalid regular expression"),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::Ticks;

    fn event(stream: &str, event_type: &str) -> RecordedEvent {
        RecordedEvent {
            position: 0,
            stream: stream.to_owned(),
            number: 0,
            event_id: uuid::Uuid::nil(),
            event_type: event_type.to_owned(),
            is_json: false,
            time: Ticks(0),
            data: Bytes::new(),
            metadata: Bytes::new(),
        }
    }

    #[test]
    fn filters_test_the_field_they_name() {
        for (query, stream, event_type, expected) in [
            ("context=streamid&type=prefix&data=order-,cart-", "cart-1", "x", true),
            ("context=streamid&type=prefix&data=order-,cart-", "x-cart-1", "cart-", false),
            ("context=EventType&type=Prefix&data=pa", "s", "paid", true),
            ("context=eventtype&type=regex&data=%5Epa%5C.d%24", "s", "paid", false),
            ("context=eventtype&type=regex&data=%5Epa.d%24", "s", "paid", true),
            ("context=eventtype&type=regex&data=a{1,2}i", "s", "paid", true),
            ("context=streamid&type=regex&data=%5Cw%2B-%5Cd%2B", "größe-12", "x", true),
            ("exclude-system-events=true", "s", "$metadata", false),
            ("exclude-system-events", "$s", "paid", true),
            ("context=eventtype&type=prefix&data=$&exclude-system-events=true", "s", "$metadata", false),
            ("context=eventtype&type=prefix&data=$&exclude-system-events=false", "s", "$metadata", true),
        ] {
            let filter = Filter::parse(Some(query)).unwrap_or_else(|error| panic!("{query}: {error}"));
            assert_eq!(filter.matches(&event(stream, event_type)), expected, "{query} {stream} {event_type}");
            let again = Filter::parse(Some(&filter.query())).unwrap();
            assert_eq!(
                (again.query(), again.matches(&event(stream, event_type))),
                (filter.query(), expected),
                "{query}"
            );
        }
    }

    #[test]
    fn an_invalid_filter_is_refused() {
        let long = format!("context=streamid&type=prefix&data={}", "x".repeat(MAX_FILTER_BYTES + 1));
        let many = format!("context=streamid&type=prefix&data={}x", "x,".repeat(MAX_FILTER_PREFIXES));
        for (query, reason) in [
            ("", "A filter needs a context: streamid or eventtype"),
            ("exclude-system-events=false", "A filter needs a context: streamid or eventtype"),
            ("exclude-system-events=maybe", "exclude-system-events is true or false"),
            ("context=x&type=prefix&data=a", "A filter needs a context: streamid or eventtype"),
            ("context=streamid&type=x&data=a", "A filter needs a type: prefix or regex"),
            ("context=streamid&type=prefix", "A filter needs data"),
            ("context=streamid&type=prefix&data=,", "A filter needs data"),
            ("context=streamid&type=regex&data=(", "Invalid regular expression"),
            ("context=streamid&type=regex&data=((((a{9}){9}){9}){9}){9}", "The regular expression is too large"),
            (&long, "The data of the filter is too long"),
            (&many, "The filter has too many prefixes"),
        ] {
            assert_eq!(Filter::parse(Some(query)).unwrap_err().to_string(), reason, "{query}");
        }
    }
}
