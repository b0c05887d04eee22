//! Re-serialises JSON text: two spaces, LF, key order kept (contract/streams 6.4). Streams from
//! text to text.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::write::{push_escaped, push_indent};
use crate::http::limits::{MAX_INDENTED_BYTES, MAX_NESTING};

/// Why a text cannot be re-serialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IndentError {
    /// It is no JSON.
    #[error("not JSON")]
    NotJson,
    /// Nested beyond [`MAX_NESTING`].
    #[error("nested too deeply")]
    TooDeep,
    /// The result would exceed [`MAX_INDENTED_BYTES`].
    #[error("too large")]
    TooLarge,
}

/// The text re-serialised.
pub(crate) fn indent(text: &str) -> Result<Vec<u8>, IndentError> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    indent_into(&mut out, text, 0)?;
    Ok(out)
}

/// The text of a value that was read as JSON before, re-serialised.
pub(crate) fn indent_value(value: &RawValue) -> Result<Vec<u8>, IndentError> {
    let text = value.get();
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    scan_into(&mut out, text, 0)?;
    Ok(out)
}

/// Appends `text` re-serialised, its further lines `margin` spaces from the left. On an error `out`
/// is as before.
pub(crate) fn indent_into(out: &mut Vec<u8>, text: &str, margin: usize) -> Result<(), IndentError> {
    // The scan trusts its input, so it is checked first; this one neither recurses nor allocates
    // per value.
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| IndentError::NotJson)?;
    scan_into(out, text, margin)
}

/// The same for a text that is JSON.
fn scan_into(out: &mut Vec<u8>, text: &str, margin: usize) -> Result<(), IndentError> {
    let before = out.len();
    let result = Scan { text, at: 0, margin, depth: 0, limit: before.saturating_add(MAX_INDENTED_BYTES) }.run(out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

struct Scan<'text> {
    text: &'text str,
    at: usize,
    margin: usize,
    depth: usize,
    limit: usize,
}

impl Scan<'_> {
    fn run(mut self, out: &mut Vec<u8>) -> Result<(), IndentError> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if out.len() > self.limit {
                return Err(IndentError::TooLarge);
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b'{' | b'[' => self.open(byte, out)?,
                b'}' | b']' => {
                    self.at += 1;
                    self.depth = self.depth.saturating_sub(1);
                    self.new_line(out);
                    out.push(byte);
                }
                b',' => {
                    self.at += 1;
                    out.push(b',');
                    self.new_line(out);
                }
                b':' => {
                    self.at += 1;
                    out.extend_from_slice(b": ");
                }
                b'"' => {
                    let (string, has_escapes) = self.string();
                    push_json_string(out, string, has_escapes);
                }
                _ => {
                    let literal = self.literal();
                    push_literal(out, literal);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), IndentError> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        let close = if byte == b'{' { b'}' } else { b']' };
        out.push(byte);
        if bytes.get(self.at) == Some(&close) {
            self.at += 1;
            out.push(close);
            return Ok(());
        }
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(IndentError::TooDeep);
        }
        self.new_line(out);
        Ok(())
    }

    fn new_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        push_indent(out, self.margin + 2 * self.depth);
    }

    /// The inside of the string that begins here, and whether there are escapes in it.
    fn string(&mut self) -> (&str, bool) {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let (mut end, mut has_escapes) = (start, false);
        while let Some(next) = bytes.get(end..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            end += next;
            if bytes[end] == b'"' {
                break;
            }
            has_escapes = true;
            end += 2;
        }
        self.at = end + 1;
        (self.text.get(start..end).unwrap_or_default(), has_escapes)
    }

    /// The number or word that begins here.
    fn literal(&mut self) -> &str {
        let bytes = self.text.as_bytes();
        let start = self.at;
        while bytes.get(self.at).is_some_and(|byte| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'))
        {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or_default()
    }
}

/// Appends the string with the raw JSON inside `raw`, its escapes undone where they are not needed.
fn push_json_string(out: &mut Vec<u8>, raw: &str, has_escapes: bool) {
    if !has_escapes {
        out.push(b'"');
        push_escaped(out, raw);
        out.push(b'"');
        return;
    }
    let quoted = format!("\"{raw}\"");
    out.push(b'"');
    match serde_json::from_str::<String>(&quoted) {
        Ok(text) => push_escaped(out, &text),
        // Half of a surrogate pair has no UTF-8 form: the escapes stay as they were sent.
        Err(_) => out.extend_from_slice(raw.as_bytes()),
    }
    out.push(b'"');
}

/// Appends a number, true, false or null. Fractions go through doubles like in the reference,
/// integers of any size stay exact.
pub(crate) fn push_literal(out: &mut Vec<u8>, literal: &str) {
    use std::io::Write as _;
    if literal.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
        && literal.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && let Ok(number) = literal.parse::<f64>()
        && number.is_finite()
    {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{number:?}");
        return;
    }
    out.extend_from_slice(literal.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn indented(text: &str) -> String {
        String::from_utf8(indent(text).unwrap()).unwrap()
    }

    #[test]
    fn objects_and_arrays_are_indented_and_empty_ones_are_not() {
        assert_eq!(
            indented(r#" {"b" : 1,"a":[ ] , "c":{ },"d":[1,{"e":null}]} "#),
            "{\n  \"b\": 1,\n  \"a\": [],\n  \"c\": {},\n  \"d\": [\n    1,\n    {\n      \"e\": null\n    }\n  ]\n}"
        );
    }

    #[test]
    fn numbers_are_printed_like_the_reference_does() {
        assert_eq!(indented("1.50"), "1.5");
        assert_eq!(indented("1e3"), "1000.0");
        assert_eq!(indented("12345678901234567890123"), "12345678901234567890123");
        assert_eq!(indented("1e999"), "1e999");
        assert_eq!(indented("-0"), "-0");
    }

    #[test]
    fn strings_keep_their_text() {
        assert_eq!(
            indented(r#"{"s":"h\u00e9llo \u0041 \/ </x> \" \\ \n"}"#),
            "{\n  \"s\": \"héllo A / </x> \\\" \\\\ \\n\"\n}"
        );
        assert_eq!(indented(r#""\ud800""#), r#""\ud800""#);
    }

    #[test]
    fn invalid_or_too_deep_json_is_refused() {
        for text in ["", "{", "{nope", "[1,]", "1 2", "nul"] {
            assert_eq!(indent(text), Err(IndentError::NotJson), "{text}");
        }
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(indent(&nested(MAX_NESTING + 1)).is_ok(), "the innermost array is empty");
        assert_eq!(indent(&nested(MAX_NESTING + 2)), Err(IndentError::TooDeep));
        assert_eq!(indent(&nested(1_000_000)), Err(IndentError::TooDeep));
    }

    #[test]
    fn indentation_cannot_blow_up_a_small_text() {
        let wide = format!("{}{}1{}", "[".repeat(MAX_NESTING), "1,".repeat(1_000_000), "]".repeat(MAX_NESTING));
        assert_eq!(indent(&wide), Err(IndentError::TooLarge));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            // Exact in few digits: serde_json, which judges here, reads longer ones with an error
            // in the last place.
            any::<i32>().prop_map(|eighths| (f64::from(eighths) / 8.0).into()),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((".*", inner), 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_value_stays_the_same(value in any_json()) {
            let out = indent(&value.to_string()).unwrap();
            let again: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&again, &value);
            let twice = indent(std::str::from_utf8(&out).unwrap()).unwrap();
            prop_assert_eq!(twice, out);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = indent(&text);
        }
    }
}
