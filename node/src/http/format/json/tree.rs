//! JSON text as a tree that keeps member order, doubled names and the exact text of numbers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON value; nested to at most serde_json's own limit of 128 levels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'text> {
    /// Members in order.
    Object(Vec<(Cow<'text, str>, Json<'text>)>),
    /// Elements in order.
    Array(Vec<Json<'text>>),
    /// A string.
    String(Cow<'text, str>),
    /// A number, true or false, as written.
    Literal(&'text str),
    /// null
    Null,
}

/// Reads a whole text; `None` when it is no JSON or nested too deeply.
pub(crate) fn parse(text: &str) -> Option<Json<'_>> {
    parse_at(text, crate::http::limits::MAX_NESTING)
}

fn parse_at(text: &str, levels: usize) -> Option<Json<'_>> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    match text.as_bytes().first()? {
        b'{' => {
            let levels = levels.checked_sub(1)?;
            let Members(members) = serde_json::from_str(text).ok()?;
            let members = members.into_iter().map(|(name, raw)| Some((name, parse_at(raw.get(), levels)?)));
            members.collect::<Option<_>>().map(Json::Object)
        }
        b'[' => {
            let levels = levels.checked_sub(1)?;
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let elements = elements.into_iter().map(|raw| parse_at(raw.get(), levels));
            elements.collect::<Option<_>>().map(Json::Array)
        }
        b'"' => serde_json::from_str::<Text<'_>>(text).ok().map(|Text(text)| Json::String(text)),
        _ => {
            let raw: &RawValue = serde_json::from_str(text).ok()?;
            Some(if raw.get() == "null" { Json::Null } else { Json::Literal(raw.get()) })
        }
    }
}

/// A string borrowed from the text where it has no escapes.
pub(crate) struct Text<'text>(pub(crate) Cow<'text, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// The members of an object in order, values as text.
pub(crate) struct Members<'text>(pub(crate) Vec<(Cow<'text, str>, &'text RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_text_and_members_their_order() {
        let json = parse(r#"{"b":12345678901234567890123,"a":[null,"\u0041"],"b":true}"#).unwrap();
        let Json::Object(members) = json else { panic!("object") };
        assert_eq!(members[0], (Cow::from("b"), Json::Literal("12345678901234567890123")));
        assert_eq!(members[1].1, Json::Array(vec![Json::Null, Json::String(Cow::from("A"))]));
        assert_eq!(members[2], (Cow::from("b"), Json::Literal("true")));
    }

    #[test]
    fn broken_or_deep_text_is_none() {
        for text in ["", "{nope", "[1,]", "1 2", &"[".repeat(100_000)] {
            assert_eq!(parse(text), None);
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(parse(&deep), None);
    }
}
