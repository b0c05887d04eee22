//! Values in the target of a request: parts of its path, and its query.

use percent_encoding::percent_decode_str;

use crate::event::{EventNumber, MAX_NUMBER, Position, StreamName, StreamNameError, StreamNameRef};
use crate::http::exchange::error::ApiError;

/// The name of a stream that is read or deleted.
pub(crate) fn stream(name: &str) -> Result<StreamName, ApiError> {
    StreamName::parse(name).map_err(|error| match error {
        StreamNameError::Empty | StreamNameError::Dots => invalid_stream_name(name),
        StreamNameError::TooLong => stream_name_too_long(),
    })
}

/// The metastream of a stream whose metadata is read; a metastream has none, which is `refused`.
pub(crate) fn metastream(name: &str, refused: impl Fn() -> ApiError) -> Result<StreamName, ApiError> {
    if StreamNameRef::new(name).is_metastream() {
        return Err(refused());
    }
    stream(name)?.metastream().ok_or_else(refused)
}

/// The name of a stream that is appended to.
pub(crate) fn appended_stream(name: &str) -> Result<StreamName, ApiError> {
    StreamName::parse(name).map_err(|error| match error {
        StreamNameError::Empty => ApiError::BadRequest("Invalid request. Stream must be non-empty string".into()),
        StreamNameError::TooLong => stream_name_too_long(),
        StreamNameError::Dots => invalid_stream_name(name),
    })
}

/// The metastream of a stream whose metadata is appended to.
pub(crate) fn appended_metastream(name: &str) -> Result<StreamName, ApiError> {
    let reason = "Invalid request. Stream must be non-empty string and should not be metastream";
    let refused = || ApiError::BadRequest(reason.into());
    match StreamName::parse(name) {
        Ok(stream) => stream.metastream().ok_or_else(refused),
        Err(StreamNameError::Empty) => Err(refused()),
        Err(StreamNameError::TooLong) => Err(stream_name_too_long()),
        Err(StreamNameError::Dots) => Err(invalid_stream_name(name)),
    }
}

fn invalid_stream_name(name: &str) -> ApiError {
    ApiError::BadRequest(format!("Invalid stream name '{name}'").into())
}

fn stream_name_too_long() -> ApiError {
    ApiError::BadRequest("Stream name is too long".into())
}

/// An event number.
pub(crate) fn number(text: &str) -> Result<EventNumber, ApiError> {
    let number = text.trim().parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| ApiError::BadRequest(format!("'{text}' is not valid event number").into()))
}

/// The size of a page, at least 1.
pub(crate) fn count(text: &str) -> Option<u64> {
    text.trim().parse::<i32>().ok().filter(|count| *count > 0).map(|count| count as u64)
}

/// A position in the log of all events: 32 hex digits, both halves not negative
/// (contract/streams 10).
pub(crate) fn position(text: &str) -> Result<Position, ApiError> {
    let parse = || {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let half = |digits: Option<&str>| u64::from_str_radix(digits?, 16).ok().filter(|half| *half <= MAX_NUMBER);
        half(text.get(16..))?;
        half(text.get(..16))
    };
    parse().ok_or_else(|| ApiError::BadRequest(format!("Invalid position argument: {text}").into()))
}

/// The value of a query parameter, decoded.
pub(crate) fn query(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_counts_and_positions() {
        assert_eq!(number(" +007"), Ok(7));
        assert_eq!(number("-1").unwrap_err().to_string(), "'-1' is not valid event number");
        assert_eq!((count("5"), count("0"), count("99999999999"), count("x")), (Some(5), None, None, None));
        assert_eq!(position("000000000000000A000000000000000a"), Ok(10));
        assert!(position("FFFFFFFFFFFFFFFF0000000000000000").is_err());
        assert!(position("0").is_err());
    }
}
