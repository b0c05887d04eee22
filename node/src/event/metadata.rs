//! What a stream's metadata means (contract/streams 12).

use std::collections::HashMap;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{EventNumber, MAX_NUMBER};

/// The keys of a metadata document that have a meaning for the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamMetadata {
    /// `$maxCount`: only the last so many events are visible.
    pub max_count: Option<u64>,
    /// `$maxAge`, seconds: older events are invisible.
    pub max_age_s: Option<u64>,
    /// `$tb`: numbers below are invisible; [`MAX_NUMBER`] means soft-deleted.
    pub truncate_before: Option<u64>,
    /// `$cacheControl`, seconds: how long a head page may be cached.
    pub cache_control_s: Option<u64>,
    /// `$acl`.
    pub acl: Option<Acl>,
}

/// Roles per right; a right that is `None` falls through to the defaults (contract/streams 13).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    /// `$r`
    pub read: Option<Vec<String>>,
    /// `$w`
    pub write: Option<Vec<String>>,
    /// `$d`
    pub delete: Option<Vec<String>>,
    /// `$mr`
    pub meta_read: Option<Vec<String>>,
    /// `$mw`
    pub meta_write: Option<Vec<String>>,
}

impl StreamMetadata {
    /// The fixed metadata of every `$$...` stream (contract/streams 12.1).
    pub fn of_metastream() -> Self {
        Self { max_count: Some(1), ..Self::default() }
    }

    /// Whether the stream was deleted in a way that can be undone.
    pub fn is_soft_deleted(&self) -> bool {
        self.truncate_before == Some(MAX_NUMBER)
    }
}

impl StreamMetadata {
    /// The meaning of a metadata document (contract/streams 12.4): `None` when it is no JSON object or a value with a
    /// meaning has a wrong type, which voids the document as a whole. Integers out of range are ignored one by one.
    pub fn parse(document: &[u8]) -> Option<Self> {
        let document: RawObject = serde_json::from_slice(document).ok()?;
        let mut metadata = Self::default();
        for (key, value) in document.0 {
            match key.as_str() {
                "$maxCount" => metadata.max_count = integer(value)?.filter(|n| *n > 0),
                "$maxAge" => metadata.max_age_s = integer(value)?.filter(|n| *n > 0),
                "$tb" => metadata.truncate_before = integer(value)?,
                "$cacheControl" => metadata.cache_control_s = integer(value)?.filter(|n| *n > 0),
                "$tmp" => drop(serde_json::from_str::<bool>(value.get()).ok()?),
                "$acl" => metadata.acl = Some(Acl::parse(value)?),
                _ => {}
            }
        }
        Some(metadata)
    }
}

impl Acl {
    fn parse(value: &RawValue) -> Option<Self> {
        let object: RawObject = serde_json::from_str(value.get()).ok()?;
        let mut acl = Self::default();
        for (key, value) in object.0 {
            let right = match key.as_str() {
                "$r" => &mut acl.read,
                "$w" => &mut acl.write,
                "$d" => &mut acl.delete,
                "$mr" => &mut acl.meta_read,
                "$mw" => &mut acl.meta_write,
                _ => return None,
            };
            *right = Some(match serde_json::from_str::<Roles>(value.get()).ok()? {
                Roles::One(role) => vec![role],
                Roles::Many(roles) => roles,
            });
        }
        Some(acl)
    }
}

/// The same document with another `$tb`; all other keys keep their order and their text. `None` when it is no JSON object.
///
/// Used when a soft-deleted stream comes back (contract/streams 6.7 and 7).
pub fn with_truncate_before(document: &[u8], number: EventNumber) -> Option<Vec<u8>> {
    let document: RawObject = serde_json::from_slice(document).ok()?;
    let number = number.to_string();
    let mut members: Vec<(String, &str)> = document.0.iter().map(|(key, value)| (key.clone(), value.get())).collect();
    match members.iter_mut().find(|(key, _)| key == "$tb") {
        Some((_, value)) => *value = &number,
        None => members.push(("$tb".to_owned(), &number)),
    }
    let mut text = String::from("{");
    for (at, (key, value)) in members.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&serde_json::Value::from(key.as_str()).to_string());
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    Some(text.into_bytes())
}

/// The data of the event that soft-deletes a stream, to the byte (contract/streams 7).
pub const SOFT_DELETE_DOCUMENT: &[u8] = br#"{"$tb":9223372036854775807}"#;

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Roles {
    One(String),
    Many(Vec<String>),
}

/// The integer in a JSON value: `None` for another type, `Some(None)` when it is out of range.
fn integer(value: &RawValue) -> Option<Option<u64>> {
    let text = value.get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok()))
}

/// Members of a JSON object in their order, values as they are written; of repeated keys the last value counts.
struct RawObject<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &'de RawValue)> = Vec::new();
                let mut places: HashMap<String, usize> = HashMap::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    match places.get(&key) {
                        Some(at) => members[*at].1 = value,
                        None => {
                            places.insert(key.clone(), members.len());
                            members.push((key, value));
                        }
                    }
                }
                Ok(RawObject(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<StreamMetadata> {
        StreamMetadata::parse(text.as_bytes())
    }

    #[test]
    fn keys_with_a_meaning_are_read() {
        let text = r#"{"$maxCount":5,"other":{"a":null},"$maxAge":60,"$tb":0,"$cacheControl":7,"$tmp":true,
                       "$acl":{"$r":"ann","$w":["a","b"],"$d":[]}}"#;
        let acl = Acl {
            read: Some(vec!["ann".into()]),
            write: Some(vec!["a".into(), "b".into()]),
            delete: Some(vec![]),
            ..Acl::default()
        };
        let expected = StreamMetadata {
            max_count: Some(5),
            max_age_s: Some(60),
            truncate_before: Some(0),
            cache_control_s: Some(7),
            acl: Some(acl),
        };
        assert_eq!(parse(text), Some(expected));
    }

    #[test]
    fn integers_out_of_range_are_ignored_one_by_one() {
        let text = r#"{"$maxCount":0,"$maxAge":-1,"$cacheControl":99999999999999999999,"$tb":3}"#;
        assert_eq!(parse(text), Some(StreamMetadata { truncate_before: Some(3), ..StreamMetadata::default() }));
        assert_eq!(parse(r#"{"$tb":-1}"#), Some(StreamMetadata::default()));
        assert_eq!(parse(r#"{"$tb":9223372036854775808}"#), Some(StreamMetadata::default()));
        assert!(parse(r#"{"$tb":9223372036854775807}"#).is_some_and(|metadata| metadata.is_soft_deleted()));
    }

    #[test]
    fn a_value_of_a_wrong_type_voids_the_document() {
        for text in [
            r#"{"$tb":5,"$maxCount":"3"}"#,
            r#"{"$maxCount":1.5}"#,
            r#"{"$maxCount":1.0}"#,
            r#"{"$maxAge":1e2}"#,
            r#"{"$maxAge":null}"#,
            r#"{"$cacheControl":true}"#,
            r#"{"$tmp":1}"#,
            r#"{"$acl":null}"#,
            r#"{"$acl":[]}"#,
            r#"{"$acl":{"$x":"a"}}"#,
            r#"{"$acl":{"$r":null}}"#,
            r#"{"$acl":{"$r":["a",null]}}"#,
            r#"{"$acl":{"$r":[1]}}"#,
            "[]",
            "5",
            "null",
            "",
            "{",
            r#"{"$tb":5} x"#,
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn of_repeated_keys_the_last_counts() {
        assert_eq!(parse(r#"{"$tb":1,"$tb":2}"#).and_then(|metadata| metadata.truncate_before), Some(2));
    }

    #[test]
    fn another_truncation_point_keeps_everything_else_as_written() {
        let rewrite = |text: &str| with_truncate_before(text.as_bytes(), 7).map(|t| String::from_utf8(t).unwrap());
        let text = r#"{ "b" : [1,  2], "$tb": 9223372036854775807, "a\n\"": 1.10 }"#;
        assert_eq!(rewrite(text).unwrap(), r#"{"b":[1,  2],"$tb":7,"a\n\"":1.10}"#);
        assert_eq!(rewrite("{}").unwrap(), r#"{"$tb":7}"#);
        assert_eq!(rewrite(r#"{"x":1}"#).unwrap(), r#"{"x":1,"$tb":7}"#);
        assert_eq!(rewrite("[]"), None);
        assert_eq!(StreamMetadata::parse(SOFT_DELETE_DOCUMENT).map(|m| m.is_soft_deleted()), Some(true));
    }
}
