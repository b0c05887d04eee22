//! The meaning of a stream's metadata (contract/streams 12).

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{EventNumber, MAX_NUMBER};

/// The keys of a metadata document that have a meaning for the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamMetadata {
    /// `$maxCount`: only this many of the newest events are visible.
    pub(crate) max_count: Option<u64>,
    /// `$maxAge`, seconds: older events are invisible.
    pub(crate) max_age_s: Option<u64>,
    /// `$tb`: numbers below are invisible; [`MAX_NUMBER`] means soft-deleted.
    pub(crate) truncate_before: Option<u64>,
    /// `$cacheControl`, seconds: how long a head page may be cached.
    pub(crate) cache_control_s: Option<u64>,
    /// `$acl`.
    pub(crate) acl: Option<Acl>,
}

/// Roles per right; a right that is `None` falls through to the defaults (contract/streams 13).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Acl {
    /// `$r`
    pub(crate) read: Option<Vec<String>>,
    /// `$w`
    pub(crate) write: Option<Vec<String>>,
    /// `$d`
    pub(crate) delete: Option<Vec<String>>,
    /// `$mr`
    pub(crate) meta_read: Option<Vec<String>>,
    /// `$mw`
    pub(crate) meta_write: Option<Vec<String>>,
}

impl StreamMetadata {
    /// The fixed metadata of every `$$...` stream (contract/streams 12.1).
    pub(crate) fn of_metastream() -> Self {
        Self { max_count: Some(1), ..Self::default() }
    }

    /// Whether the stream was deleted in a way that can be undone.
    pub(crate) fn is_soft_deleted(&self) -> bool {
        self.truncate_before == Some(MAX_NUMBER)
    }
}

impl StreamMetadata {
    /// The meaning of a metadata document (contract/streams 12.4). `None` when it is not a JSON
    /// object, or when a known key has a value of the wrong type, which voids the whole document.
    /// An integer out of range is ignored by itself.
    pub(crate) fn parse(document: &[u8]) -> Option<Self> {
        let document: RawObject = serde_json::from_slice(document).ok()?;
        let mut metadata = Self::default();
        for (key, value) in document.0 {
            match key.as_str() {
                "$maxCount" => metadata.max_count = integer(value)?.filter(|n| *n > 0),
                "$maxAge" => metadata.max_age_s = integer(value)?.filter(|n| *n > 0),
                "$tb" => metadata.truncate_before = integer(value)?,
                "$cacheControl" => metadata.cache_control_s = integer(value)?.filter(|n| *n > 0),
                "$tmp" => drop(serde_json::from_str::<bool>(value.get()).ok()?),
                "$acl" => metadata.acl = Some(Acl::parse(STREAM_ACL, value).ok()?),
                _ => {}
            }
        }
        Some(metadata)
    }
}

/// Why an access list is invalid. A sentence for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AclError {
    /// The value under this key is not an object.
    #[error("{0} must be an object with some of the keys $r, $w, $d, $mr and $mw")]
    NoObject(&'static str),
    /// A key that is not one of the five rights: a misspelt key would leave the stream open.
    #[error("{list} has the unknown key '{key}'; its keys are $r, $w, $d, $mr and $mw")]
    UnknownKey {
        /// The key of the list.
        list: &'static str,
        /// The key.
        key: String,
    },
    /// A value that is neither a role nor a list of roles.
    #[error("'{key}' in {list} must be a string or an array of strings")]
    NoRoles {
        /// The key of the list.
        list: &'static str,
        /// The right.
        key: String,
    },
    /// More roles than a list may name.
    #[error("{0} has more than {MAX_ACL_ROLES} roles")]
    TooManyRoles(&'static str),
    /// Longer roles than a list may name.
    #[error("the roles of {0} have more than {MAX_ACL_BYTES} bytes")]
    TooLarge(&'static str),
    /// A key that is not `$acl`, although its author takes it for that.
    #[error("the key '{0}' looks like $acl and would not be in force; write $acl")]
    Resembles(String),
    /// A right outside a list.
    #[error("the key '{0}' has a meaning only in $acl, at the top of the document; elsewhere it would not be in force")]
    Misplaced(String),
    /// A list of `$settings` in a stream whose name only looks like it.
    #[error("the key '{0}' has a meaning only in the stream $settings, and this stream has another name")]
    NotInSettings(String),
    /// The document is not a JSON object, or is not stored as JSON, so it has no effect.
    #[error(
        "metadata with $acl must be a JSON object in UTF-8, stored as JSON, because otherwise none of it would be in force"
    )]
    NotJson,
    /// The list is valid, but another key voids the whole document.
    #[error("metadata with $acl must not have a value of a wrong type, because then none of it would be in force")]
    Void,
    /// The document of `$settings` is not a JSON object with these keys.
    #[error("$settings must be a JSON object with the keys $userStreamAcl and $systemStreamAcl, or one of them")]
    NoSettings,
    /// An unknown key of `$settings` that was meant to have an effect.
    #[error("$settings has the unknown key '{0}'; its keys are $userStreamAcl and $systemStreamAcl")]
    UnknownSetting(String),
}

/// Most roles in one access list, over all rights. Every decision may compare each of them with the
/// caller's roles.
pub(crate) const MAX_ACL_ROLES: usize = 1_000;

/// Most bytes of all roles in one access list.
pub(crate) const MAX_ACL_BYTES: usize = 64 << 10;

/// Key of a stream's own list in its metadata.
pub(super) const STREAM_ACL: &str = "$acl";
/// Keys of the default lists in `$settings`, for streams without a list of their own.
pub(super) const USER_STREAM_ACL: &str = "$userStreamAcl";
pub(super) const SYSTEM_STREAM_ACL: &str = "$systemStreamAcl";

impl Acl {
    /// Every right with its key, in the order in which documents have them.
    pub(crate) fn rights(&self) -> [(&'static str, &Option<Vec<String>>); 5] {
        let Self { read, write, delete, meta_read, meta_write } = self;
        [("$r", read), ("$w", write), ("$d", delete), ("$mr", meta_read), ("$mw", meta_write)]
    }

    /// Approximate bytes of the list in memory.
    pub(crate) fn weight(&self) -> usize {
        self.rights()
            .into_iter()
            .filter_map(|(_, roles)| roles.as_ref())
            .flatten()
            .map(|role| size_of::<String>() + role.len())
            .sum()
    }

    /// Reads the value under the key `list`. A right that is null counts as missing
    /// (contract/services 1.6).
    pub(super) fn parse(list: &'static str, value: &RawValue) -> Result<Self, AclError> {
        let object: RawObject = serde_json::from_str(value.get()).map_err(|_| AclError::NoObject(list))?;
        let mut acl = Self::default();
        for (key, value) in object.0 {
            let right = match key.as_str() {
                "$r" => &mut acl.read,
                "$w" => &mut acl.write,
                "$d" => &mut acl.delete,
                "$mr" => &mut acl.meta_read,
                "$mw" => &mut acl.meta_write,
                _ => return Err(AclError::UnknownKey { list, key }),
            };
            *right = match serde_json::from_str::<Option<Roles>>(value.get()) {
                Ok(Some(Roles::One(role))) => Some(vec![role]),
                Ok(Some(Roles::Many(roles))) => Some(roles),
                Ok(None) => None,
                Err(_) => return Err(AclError::NoRoles { list, key }),
            };
        }
        Ok(acl)
    }
}

/// The access lists for streams that have none of their own: the last event of the stream
/// `$settings` (contract/services 1.6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DefaultAcls {
    /// `$userStreamAcl`
    pub(crate) user_streams: Acl,
    /// `$systemStreamAcl`: streams whose name begins with `$`.
    pub(crate) system_streams: Acl,
}

impl DefaultAcls {
    /// Reads the document. Other keys have no effect.
    ///
    /// # Errors
    /// It is not a JSON object, or one of the lists is invalid; then the whole document has no
    /// effect.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, AclError> {
        let RawObject(members) = serde_json::from_slice(document).map_err(|_| AclError::NoSettings)?;
        let mut lists = Self::default();
        for (key, value) in members {
            let (list, name) = match key.as_str() {
                USER_STREAM_ACL => (&mut lists.user_streams, USER_STREAM_ACL),
                SYSTEM_STREAM_ACL => (&mut lists.system_streams, SYSTEM_STREAM_ACL),
                _ => continue,
            };
            if value.get() != "null" {
                *list = Acl::parse(name, value)?;
            }
        }
        Ok(lists)
    }
}

/// A document with this meaning, apart from `$tb`.
pub(crate) fn document_of(metadata: &StreamMetadata) -> Vec<u8> {
    let numbers = [
        ("$maxCount", metadata.max_count),
        ("$maxAge", metadata.max_age_s),
        ("$cacheControl", metadata.cache_control_s),
    ];
    let mut document = serde_json::Map::new();
    document.extend(numbers.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into()))));
    if let Some(acl) = &metadata.acl {
        let roles = acl.rights().into_iter().filter_map(|(key, roles)| Some((key.to_owned(), roles.clone()?.into())));
        document.insert(STREAM_ACL.to_owned(), serde_json::Value::Object(roles.collect()));
    }
    serde_json::Value::Object(document).to_string().into_bytes()
}

/// The same document with another `$tb`. All other keys keep their order and their text. `None`
/// when it is not a JSON object.
///
/// Used when a soft-deleted stream comes back (contract/streams 6.7 and 7).
pub(crate) fn with_truncate_before(document: &[u8], number: EventNumber) -> Option<Vec<u8>> {
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

/// The data of the event that soft-deletes a stream without an access list, to the byte
/// (contract/streams 7).
pub(crate) const SOFT_DELETE_DOCUMENT: &[u8] = br#"{"$tb":9223372036854775807}"#;

/// The data of the event that soft-deletes a stream with this metadata document. The access list is
/// kept as it is written, so that what was protected stays protected when somebody brings the
/// stream back. A document that means nothing has no list in force, and nothing of it is kept.
pub(crate) fn soft_delete_document(present: &[u8]) -> Cow<'static, [u8]> {
    let acl = match StreamMetadata::parse(present) {
        Some(StreamMetadata { acl: Some(_), .. }) => acl_text(present),
        Some(_) | None => None,
    };
    match acl {
        Some(acl) => format!("{{\"$tb\":{MAX_NUMBER},\"{STREAM_ACL}\":{acl}}}").into_bytes().into(),
        None => SOFT_DELETE_DOCUMENT.into(),
    }
}

/// The value of `$acl` in a document, as it is written there.
fn acl_text(document: &[u8]) -> Option<&str> {
    let RawObject(members) = serde_json::from_slice(document).ok()?;
    members.into_iter().find(|(key, _)| key == STREAM_ACL).map(|(_, value)| value.get())
}

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

/// Members of a JSON object in their order, values as they are written; of repeated keys the last
/// value counts.
pub(super) struct RawObject<'a>(pub(super) Vec<(String, &'a RawValue)>);

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
    fn a_document_is_made_of_what_it_means() {
        for text in [
            "{}",
            r#"{"$maxCount":3,"$maxAge":60,"$cacheControl":9}"#,
            r#"{"$acl":{"$r":["ann","$ops"],"$w":[],"$d":["bob"],"$mr":["c"],"$mw":["d"]}}"#,
            r#"{"$maxCount":1,"$acl":{}}"#,
        ] {
            let meaning = StreamMetadata::parse(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(document_of(&meaning)).unwrap(), text);
            let deleted = StreamMetadata { truncate_before: Some(MAX_NUMBER), ..meaning };
            assert_eq!(document_of(&deleted), text.as_bytes());
        }
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
    fn a_right_that_is_null_counts_as_missing() {
        let acl = Acl { write: Some(vec!["ann".into()]), ..Acl::default() };
        let expected = StreamMetadata { acl: Some(acl), ..StreamMetadata::default() };
        assert_eq!(parse(r#"{"$acl":{"$r":null,"$w":"ann"}}"#), Some(expected));
    }

    #[test]
    fn default_lists_are_read_from_settings() {
        let lists =
            DefaultAcls::parse(br#"{"$userStreamAcl":{"$w":"ann"},"$systemStreamAcl":null,"other":1}"#).unwrap();
        assert_eq!(lists.user_streams.write, Some(vec!["ann".to_owned()]));
        assert_eq!(lists.system_streams, Acl::default());
        assert_eq!(DefaultAcls::parse(b"{}"), Ok(DefaultAcls::default()));
        for text in ["", "[{}]", "null", r#"{"$userStreamAcl":{"$w":"ann"}"#, r#"{"$userStreamAcl":{"w":"ann"}}"#] {
            assert!(DefaultAcls::parse(text.as_bytes()).is_err(), "{text}");
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

    #[test]
    fn a_soft_delete_keeps_the_list_in_force_as_it_is_written_and_nothing_else() {
        let plain = r#"{"$tb":9223372036854775807}"#;
        for (present, deleted) in [
            (
                r#"{"own":1,"$acl":{ "$r" : ["a"] },"$maxCount":5}"#,
                r#"{"$tb":9223372036854775807,"$acl":{ "$r" : ["a"] }}"#,
            ),
            (r#"{"$tb":3,"\u0024acl":{"$w":"\u0061"}}"#, r#"{"$tb":9223372036854775807,"$acl":{"$w":"\u0061"}}"#),
            (r#"{"$acl":{"$w":"a"},"$acl":{"$w":"b"}}"#, r#"{"$tb":9223372036854775807,"$acl":{"$w":"b"}}"#),
            (r#"{"$acl":{}}"#, r#"{"$tb":9223372036854775807,"$acl":{}}"#),
            // Nothing of these is in force.
            (r#"{"$acl":{"$read":"a"}}"#, plain),
            (r#"{"$acl":{"$w":"a"},"$maxCount":"5"}"#, plain),
            (r#"{"$acl":{"$w":"a"}"#, plain),
            (r#"[{"$acl":{"$w":"a"}}]"#, plain),
            (r#"{"a":{"$acl":{"$w":"a"}}}"#, plain),
            ("{}", plain),
            ("", plain),
        ] {
            assert_eq!(std::str::from_utf8(&soft_delete_document(present.as_bytes())), Ok(deleted), "{present}");
        }
    }
}
