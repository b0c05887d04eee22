//! The query that says which events of the log a reader wants (contract/streams 17).

use std::fmt::Write as _;

use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::format::links::encode;
use crate::streams::limits::MAX_FILTER_BYTES;
use crate::streams::{Filter, FilterBy, Pattern, PatternError};

/// From `context`, `type` and `data`, or `exclude-system-events`, or all of them.
pub(crate) fn parse(query: Option<&str>) -> Result<Filter, ApiError> {
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
        return Ok(Filter { pattern: None, without_system_events });
    }
    let by = match context.map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("streamid") => FilterBy::Stream,
        Some("eventtype") => FilterBy::EventType,
        _ => return Err(bad("A filter needs a context: streamid or eventtype")),
    };
    let data = data.filter(|data| !data.is_empty()).ok_or(PatternError::Empty)?;
    if data.len() > MAX_FILTER_BYTES {
        return Err(PatternError::TooLong.into());
    }
    let pattern = match kind.map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("prefix") => Pattern::prefixes(data.split(','))?,
        // Commas belong to it.
        Some("regex") => Pattern::regex(&data)?,
        _ => return Err(bad("A filter needs a type: prefix or regex")),
    };
    Ok(Filter { pattern: Some((by, pattern)), without_system_events })
}

/// The query of links to other pages of the same filter.
pub(crate) fn query(filter: &Filter) -> String {
    let mut query = String::new();
    if let Some((by, pattern)) = &filter.pattern {
        let context = match by {
            FilterBy::Stream => "streamid",
            FilterBy::EventType => "eventtype",
        };
        let (kind, data) = match pattern {
            Pattern::Prefixes(prefixes) => {
                let encoded: Vec<String> = prefixes.iter().map(|prefix| encode(prefix).to_string()).collect();
                ("prefix", encoded.join(","))
            }
            Pattern::Regex(expression) => ("regex", encode(expression.as_str()).to_string()),
        };
        // Writing to a String cannot fail.
        let _ = write!(query, "context={context}&type={kind}&data={data}");
    }
    if filter.without_system_events {
        let separator = if query.is_empty() { "" } else { "&" };
        let _ = write!(query, "{separator}exclude-system-events=true");
    }
    query
}

fn bad(reason: &'static str) -> ApiError {
    ApiError::BadRequest(reason.into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{RecordedEvent, Ticks};
    use crate::streams::limits::MAX_FILTER_PREFIXES;

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
        for (text, stream, event_type, expected) in [
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
            let filter = parse(Some(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(filter.matches(&event(stream, event_type)), expected, "{text} {stream} {event_type}");
            let again = parse(Some(&query(&filter))).unwrap();
            assert_eq!(
                (query(&again), again.matches(&event(stream, event_type))),
                (query(&filter), expected),
                "{text}"
            );
        }
    }

    #[test]
    fn an_invalid_filter_is_refused() {
        let long = format!("context=streamid&type=prefix&data={}", "x".repeat(MAX_FILTER_BYTES + 1));
        let many = format!("context=streamid&type=prefix&data={}x", "x,".repeat(MAX_FILTER_PREFIXES));
        for (text, reason) in [
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
            assert_eq!(parse(Some(text)).unwrap_err().to_string(), reason, "{text}");
        }
    }
}
