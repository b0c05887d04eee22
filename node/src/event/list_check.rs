//! Refuses documents whose access lists would have no effect (contract/services 1.6). Such a
//! document would leave open what it was meant to close, without its author noticing, so it must
//! not be stored. Stored documents are read by `metadata`, which refuses nothing.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::StreamMetadata;
use super::lookalike::{letters, usual};
use super::metadata::{
    Acl, AclError, MAX_ACL_BYTES, MAX_ACL_ROLES, RawObject, STREAM_ACL, SYSTEM_STREAM_ACL, USER_STREAM_ACL,
};
use super::stream_name::SETTINGS;

/// The keys of an access list.
const RIGHTS: [&str; 5] = ["$r", "$w", "$d", "$mr", "$mw"];

/// Refuses a metadata document whose access list would have no effect. A document without any
/// access list is accepted, whatever it contains (contract/streams 12.3).
///
/// # Errors
/// The problem with the document.
pub(crate) fn check_acl(document: &[u8], is_json: bool) -> Result<(), AclError> {
    match serde_json::from_slice::<RawObject<'_>>(document) {
        Ok(RawObject(members)) if is_json => check_members(document, &members),
        _ if is_without_lists(document) => Ok(()),
        _ => Err(AclError::NotJson),
    }
}

/// Refuses an access list in the metadata of an event whose data are the document: there it would
/// have no effect.
///
/// # Errors
/// It looks like an access list.
pub(crate) fn check_beside(event_metadata: &[u8]) -> Result<(), AclError> {
    if event_metadata.is_empty() || is_without_lists(event_metadata) {
        Ok(())
    } else {
        Err(AclError::Misplaced(STREAM_ACL.to_owned()))
    }
}

/// Whether nothing in a text without effect looks as if it were meant to close a stream.
fn is_without_lists(text: &[u8]) -> bool {
    match serde_json::from_slice::<RawObject<'_>>(text) {
        Ok(RawObject(members)) => {
            members.iter().all(|(key, _)| key != STREAM_ACL) && check_members(text, &members).is_ok()
        }
        Err(_) => !speaks_of_lists(text),
    }
}

/// The members of a document, which counts as metadata unless a value has a wrong type.
fn check_members(document: &[u8], members: &[(String, &RawValue)]) -> Result<(), AclError> {
    let mut has_list = false;
    for (key, value) in members {
        match key.as_str() {
            STREAM_ACL => {
                check_list(STREAM_ACL, value)?;
                has_list = true;
            }
            right if resembles_right(right) => return Err(AclError::Misplaced(key.clone())),
            like if resembles_acl(like) => return Err(AclError::Resembles(key.clone())),
            _ => check_inside(value)?,
        }
    }
    if has_list { StreamMetadata::parse(document).map(drop).ok_or(AclError::Void) } else { Ok(()) }
}

/// Refuses a document for `$settings` unless it holds nothing but the two lists and both are valid.
///
/// # Errors
/// The problem with the document.
pub(crate) fn check_settings(document: &[u8]) -> Result<(), AclError> {
    let RawObject(members) = serde_json::from_slice(document).map_err(|_| AclError::NoSettings)?;
    for (key, value) in members {
        let list = match key.as_str() {
            USER_STREAM_ACL => USER_STREAM_ACL,
            SYSTEM_STREAM_ACL => SYSTEM_STREAM_ACL,
            _ => return Err(AclError::UnknownSetting(key)),
        };
        if value.get() != "null" {
            check_list(list, value)?;
        }
    }
    Ok(())
}

/// Refuses the list under this key if it cannot be read or exceeds its limits. The limits are
/// checked first, so that never more roles are decoded than a list may have.
fn check_list(list: &'static str, value: &RawValue) -> Result<(), AclError> {
    let mut size = Size::default();
    // A value that is not a list is reported below.
    let _ = (&mut size).deserialize(&mut serde_json::Deserializer::from_str(value.get()));
    if size.roles > MAX_ACL_ROLES {
        return Err(AclError::TooManyRoles(list));
    }
    if size.bytes > MAX_ACL_BYTES {
        return Err(AclError::TooLarge(list));
    }
    Acl::parse(list, value).map(drop)
}

/// A part of an access list inside a value: a batch in its wrapper, sent as one document.
fn check_inside(value: &RawValue) -> Result<(), AclError> {
    let text = value.get();
    if !text.starts_with(['{', '[']) {
        return Ok(());
    }
    match first_list_key(text.as_bytes()) {
        Ok(None) => Ok(()),
        Ok(Some(key)) => Err(AclError::Misplaced(key)),
        // Nested too deeply, or with a number that cannot be represented.
        Err(_) if text.contains(STREAM_ACL) => Err(AclError::Misplaced(STREAM_ACL.to_owned())),
        Err(_) => Ok(()),
    }
}

/// Whether a document that is not an object looks as if it were meant to close a stream.
fn speaks_of_lists(document: &[u8]) -> bool {
    // In UTF-16 and UTF-32 the keys are the same letters with zero bytes between them.
    let mut text: Vec<u8> = document.iter().copied().filter(|byte| *byte != 0).collect();
    text.make_ascii_lowercase();
    let text = String::from_utf8_lossy(&text);
    // The second and third in the form of XML.
    if [STREAM_ACL, "_x0024_acl", "<acl"].iter().any(|part| text.contains(part)) {
        return true;
    }
    match first_list_key(document) {
        Ok(found) => found.is_some(),
        // A text between two quotes may be a key.
        Err(_) => text.split('"').skip(1).any(|part| resembles_right(part) || resembles_acl(part)),
    }
}

/// Whether a key differs from `$acl` only in details that are easily overlooked: case, blanks and
/// signs before, between and after the letters, letters that look alike, the plural.
fn resembles_acl(key: &str) -> bool {
    letters(key).eq("acl".chars()) || letters(key).eq("acls".chars())
}

/// Whether a key is one of the five rights but for such details. Applications have keys of one or
/// two letters of their own, but not with this sign.
fn resembles_right(key: &str) -> bool {
    has_sign(key) && RIGHTS.iter().any(|right| letters(key).eq(right.chars().skip(1)))
}

/// Whether the name of a stream differs from `$settings` only in such details.
pub(crate) fn resembles_settings(stream: &str) -> bool {
    stream != SETTINGS && letters(stream).eq(SETTINGS.chars().skip(1))
}

fn has_sign(key: &str) -> bool {
    key.chars().any(|c| usual(c) == '$')
}

/// Refuses the lists of `$settings` in a stream that only looks like it.
///
/// # Errors
/// The data has one of them at its top.
pub(crate) fn check_resembling_settings(data: &[u8]) -> Result<(), AclError> {
    let Ok(RawObject(members)) = serde_json::from_slice::<RawObject<'_>>(data) else { return Ok(()) };
    let list = members.iter().find(|(key, _)| [USER_STREAM_ACL, SYSTEM_STREAM_ACL].contains(&key.as_str()));
    list.map_or(Ok(()), |(key, _)| Err(AclError::NotInSettings(key.clone())))
}

/// Whether a key inside a value was meant to have an effect: data of applications may well have an
/// `acl` of their own, but not with this sign.
fn is_list_key(key: &str) -> bool {
    resembles_right(key) || (has_sign(key) && resembles_acl(key))
}

/// The first key of an access list in a JSON value, at any depth.
fn first_list_key(json: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let found = FirstListKey.deserialize(&mut json)?;
    json.end()?;
    Ok(found)
}

/// Looks for the first key of an access list.
struct FirstListKey;

impl<'de> DeserializeSeed<'de> for FirstListKey {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FirstListKey {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut first = None;
        while let Some(found) = array.next_element_seed(FirstListKey)? {
            first = first.or(found);
        }
        Ok(first)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut first = None;
        while let Some(key) = map.next_key::<String>()? {
            let found = map.next_value_seed(FirstListKey)?;
            first = first.or(if is_list_key(&key) { Some(key) } else { found });
        }
        Ok(first)
    }
}

/// How many roles a list names, and their total length. Counting ends beyond the limits.
#[derive(Default)]
struct Size {
    roles: usize,
    bytes: usize,
}

impl<'de> DeserializeSeed<'de> for &mut Size {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Size {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an access list")
    }

    fn visit_str<E: Error>(self, role: &str) -> Result<(), E> {
        self.roles += 1;
        self.bytes += role.len();
        if self.roles > MAX_ACL_ROLES || self.bytes > MAX_ACL_BYTES { Err(E::custom("too large")) } else { Ok(()) }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while array.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<Key>()?.is_some() {
            map.next_value_seed(&mut *self)?;
        }
        Ok(())
    }
}

/// A key without meaning here.
struct Key;

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::metadata::{DefaultAcls, soft_delete_document};

    fn check(document: &str) -> Result<(), String> {
        check_acl(document.as_bytes(), true).map_err(|error| error.to_string())
    }

    #[test]
    fn an_access_list_that_would_not_be_in_force_is_refused() {
        for fine in [
            "",
            "x",
            "[]",
            "{}",
            "acl",
            "[\"acl\", \"oracle\"]",
            "says \"hello\", no more",
            r#"{"$maxCount":"3"}"#,
            r#"{"$acl":{}}"#,
            r#"{"$acl":{"$mw":[],"$r":null}}"#,
            r#"{"\u0024acl":{"$r":"ann"}}"#,
            r#"{"$acl":{"$r":"ann"},"note":{"acl":"of the door","r":["$acl","$r"]}}"#,
            r#"{"note":"see $acl","oracle":1,"acl2":{},"$maxCount":3}"#,
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for (text, part) in [
            (r#"{"$acl":{"$read":"ann"}}"#, "unknown key '$read'"),
            (r#"{"$acl":{"$R":"ann"}}"#, "unknown key '$R'"),
            (r#"{"$acl":{"$r":5}}"#, "'$r'"),
            (r#"{"$acl":{"$r":["a",null]}}"#, "'$r'"),
            (r#"{"$acl":"ann"}"#, "an object"),
            (r#"{"$acl":null}"#, "an object"),
            (r#"{"$acl":{"$r":"ann"}"#, "a JSON object"),
            (r#"[{"$acl":{"$r":"ann"}}]"#, "a JSON object"),
            (r#"[{"\u0024acl":{"$r":"ann"}}]"#, "a JSON object"),
            (r#""{\"$acl\":{\"$r\":\"ann\"}}""#, "a JSON object"),
            (r#"{"acl":{"$r":"ann"}"#, "a JSON object"),
            ("<acl><r>ann</r></acl>", "a JSON object"),
            ("<data><_x0024_ACL/></data>", "a JSON object"),
            (r#"{"$acl":{"$r":"ann"},"$maxCount":"3"}"#, "none of it"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(check_acl(br#"{"$acl":{"$r":"ann"}}"#, false), Err(AclError::NotJson));
        assert_eq!(check_acl(br#"{"\u0024acl":{"$r":"ann"}}"#, false), Err(AclError::NotJson));
    }

    #[test]
    fn a_key_that_only_looks_like_the_key_of_a_list_is_refused() {
        for key in [
            "acl",
            "ACL",
            "$ACL",
            "$Acl",
            "$acl ",
            " $acl",
            "$ acl",
            "\u{a0}$acl",
            "$acl\u{200b}",
            "$acl\\n",
            "\u{ff04}acl",
            "$\u{ff41}\u{ff23}\u{ff4c}",
            "$$acl",
            "_acl",
            "a-c-l",
            "$acls",
            "@acl",
            "\\u0041cl",
            "$\u{430}cl",
            "$\u{24d0}\u{24d2}\u{24db}",
            "$\u{1d41a}\u{1d41c}\u{1d425}",
        ] {
            let error = check(&format!(r#"{{"{key}":{{"$r":"ann"}}}}"#)).unwrap_err();
            assert!(error.contains("looks like $acl"), "{key}: {error}");
            let error = check(&format!(r#"{{"$acl":{{"$r":"ann"}},"{key}":1}}"#)).unwrap_err();
            assert!(error.contains("looks like $acl"), "{key}: {error}");
        }
    }

    #[test]
    fn the_lists_of_all_streams_are_refused_in_a_stream_that_only_looks_like_theirs() {
        for stream in ["$Settings", "settings", "$settings ", "$\u{455}ettings", "$$$SETTINGS"] {
            assert!(resembles_settings(stream), "{stream}");
        }
        for stream in ["$settings", "settings-1", "my$settings", "orders", "set"] {
            assert!(!resembles_settings(stream), "{stream}");
        }
        let check = |document: &str| check_resembling_settings(document.as_bytes());
        let list = r#"{"$userStreamAcl":{"$r":"ann"}}"#;
        assert_eq!(check(list), Err(AclError::NotInSettings("$userStreamAcl".to_owned())));
        assert!(["{}", "x", "", r#"{"theme":"dark"}"#].iter().all(|fine| check(fine).is_ok()));
    }

    #[test]
    fn a_list_in_a_wrong_place_is_refused() {
        for (text, key) in [
            (r#"{"$r":"ann"}"#, "$r"),
            (r#"{"$acl":{"$r":"ann"},"$w":"ann"}"#, "$w"),
            (r#"{"eventId":"x","data":{"$acl":{"$r":"ann"}}}"#, "$acl"),
            (r#"{"data":[1,{"a":{"\u0024ACL":{}}}]}"#, "$ACL"),
            (r#"{"$list":{"$mw":"ann"}}"#, "$mw"),
            (r#"{"$R":["boss"]}"#, "$R"),
            (r#"{"$Mw":"ann"}"#, "$Mw"),
            (r#"{"$r ":"ann"}"#, "$r "),
            (r#"{"$mW ":"ann"}"#, "$mW "),
            (r#"{"$userStreamAcl":{"$w":"ann"}}"#, "$w"),
            (r#"{"data":{"number":1e999,"$acl":{}}}"#, "$acl"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(&format!("'{key}' has a meaning only in $acl")), "{text}: {error}");
        }
        let deep = format!(r#"{{"a":{}{{"$acl":{{}}}}{}}}"#, "[".repeat(500), "]".repeat(500));
        assert_eq!(check_acl(deep.as_bytes(), true), Err(AclError::Misplaced("$acl".to_owned())));
    }

    #[test]
    fn a_list_beside_its_document_is_refused() {
        for fine in ["", "{}", r#"{"by":"ann","oracle":1}"#, "text", "\u{1}\u{2}"] {
            assert_eq!(check_beside(fine.as_bytes()), Ok(()), "{fine}");
        }
        for list in
            [r#"{"$acl":{}}"#, r#"{"acl":{}}"#, r#"{"a":{"$r":"ann"}}"#, r#"[{"$acl":1}]"#, "$acl: ann", "<acl/>"]
        {
            assert_eq!(check_beside(list.as_bytes()), Err(AclError::Misplaced("$acl".to_owned())), "{list}");
        }
    }

    #[test]
    fn a_list_in_another_encoding_is_refused() {
        let list = r#"{"$acl":{"$r":"ann"}}"#;
        for document in in_other_encodings(list).into_iter().chain(in_other_encodings(r#"{ "ACL" : {} }"#)) {
            for is_json in [true, false] {
                assert_eq!(check_acl(&document, is_json), Err(AclError::NotJson), "{document:?}");
                let shown = String::from_utf8_lossy(&document);
                assert_eq!(check_acl(shown.as_bytes(), is_json), Err(AclError::NotJson), "{shown:?}");
            }
        }
        for other in in_other_encodings(r#"{"note":"nothing of the kind"}"#) {
            assert_eq!(check_acl(&other, false), Ok(()), "{other:?}");
        }
    }

    #[test]
    fn a_list_has_bounds() {
        let roles = |count: usize, bytes: usize| vec![format!("\"{}\"", "x".repeat(bytes)); count].join(",");
        let acl = |of_r: &str, of_w: &str| format!(r#"{{"$acl":{{"$r":[{of_r}],"$w":[{of_w}]}}}}"#);
        let refusal = |text: &str| check_acl(text.as_bytes(), true).err();
        let (most, longest) = (roles(MAX_ACL_ROLES, 3), roles(1, MAX_ACL_BYTES));
        assert_eq!(refusal(&acl(&most, "")), None);
        assert_eq!(refusal(&acl(&most, "\"y\"")), Some(AclError::TooManyRoles("$acl")));
        assert_eq!(refusal(&acl(&longest, "")), None);
        assert_eq!(refusal(&acl(&longest, "\"y\"")), Some(AclError::TooLarge("$acl")));
        assert_eq!(refusal(&format!(r#"{{"$acl":{{"$r":{longest},"$w":"y"}}}}"#)), Some(AclError::TooLarge("$acl")));
        let settings = format!(r#"{{"$systemStreamAcl":{{"$mr":[{most},"y"]}}}}"#);
        assert_eq!(check_settings(settings.as_bytes()), Err(AclError::TooManyRoles("$systemStreamAcl")));
        // A stored list is read, whatever its size.
        let old = StreamMetadata::parse(acl(&most, &most).as_bytes()).and_then(|metadata| metadata.acl);
        assert_eq!(old.and_then(|acl| acl.write).map(|roles| roles.len()), Some(MAX_ACL_ROLES));
    }

    #[test]
    fn settings_that_would_not_be_in_force_are_refused() {
        let check = |text: &str| check_settings(text.as_bytes()).map_err(|error| error.to_string());
        for fine in [
            "{}",
            r#"{"$userStreamAcl":{}}"#,
            r#"{"$userStreamAcl":{"$r":["a"],"$w":null},"$systemStreamAcl":null}"#,
            r#"{"$systemStreamAcl":{"$mw":[]}}"#,
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for (text, part) in [
            ("", "a JSON object"),
            ("5", "a JSON object"),
            ("\u{feff}{}", "a JSON object"),
            (r#"{"$userStreamAcl":{"$w":"ann"}"#, "a JSON object"),
            (r#"[{"eventId":"x","data":{"$userStreamAcl":{"$w":"ann"}}}]"#, "a JSON object"),
            (r#"{"$userStreamAcl":{"$write":"ann"}}"#, "$userStreamAcl has the unknown key '$write'"),
            (r#"{"$systemStreamAcl":{"$R":"ann"}}"#, "$systemStreamAcl has the unknown key '$R'"),
            (r#"{"$userStreamAcl":{},"$systemStreamAcl":[]}"#, "$systemStreamAcl must be an object"),
            (r#"{"$userStreamAcl":"ann"}"#, "$userStreamAcl must be an object"),
            (r#"{"$userStreamAcl":{"$w":5}}"#, "'$w' in $userStreamAcl"),
            (r#"{"$userStreamACL":{"$w":"ann"}}"#, "unknown key '$userStreamACL'"),
            (r#"{"userStreamAcl":{"$w":"ann"}}"#, "unknown key 'userStreamAcl'"),
            (r#"{"$acl":{"$w":"ann"}}"#, "unknown key '$acl'"),
            (r#"{"$w":"ann"}"#, "unknown key '$w'"),
            (r#"{"comment":"mine","$systemStreamAcl":{}}"#, "unknown key 'comment'"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    /// The document in encodings that are not UTF-8, or with a mark at its beginning.
    fn in_other_encodings(document: &str) -> Vec<Vec<u8>> {
        let units = |order: fn(u16) -> [u8; 2]| document.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let (little, big) = (units(u16::to_le_bytes), units(u16::to_be_bytes));
        let widest = document.chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
        vec![
            [&[0xff, 0xfe], &little[..]].concat(),
            [&[0xfe, 0xff], &big[..]].concat(),
            [&[0xef, 0xbb, 0xbf], document.as_bytes()].concat(),
            little,
            big,
            widest,
        ]
    }

    proptest! {
        #[test]
        fn any_access_list_is_refused_or_in_force(document in acl_documents("\\$acl")) {
            let refused = check(&document).is_err();
            let in_force = StreamMetadata::parse(document.as_bytes()).is_some_and(|metadata| metadata.acl.is_some());
            prop_assert!(refused != in_force, "{document}");
        }

        #[test]
        fn what_looks_like_an_access_list_is_refused_or_in_force(
            document in acl_documents("[\\$ _\u{a0}\u{200b}]{0,2}[aA]-?[cC][lL][s ]?"),
            encoding in 0..12_usize,
            is_json: bool,
        ) {
            let encoded = in_other_encodings(&document).get(encoding).cloned().unwrap_or(document.into_bytes());
            if check_acl(&encoded, is_json).is_ok() {
                let metadata = StreamMetadata::parse(&encoded).filter(|_| is_json);
                prop_assert!(metadata.is_some_and(|metadata| metadata.acl.is_some()), "{encoded:?}");
            }
        }

        #[test]
        fn after_a_soft_delete_the_same_list_is_in_force(document in acl_documents("\\$acl")) {
            let before = StreamMetadata::parse(document.as_bytes()).and_then(|metadata| metadata.acl);
            let deleted = soft_delete_document(document.as_bytes());
            let after = StreamMetadata::parse(&deleted).expect("a document with a meaning");
            prop_assert!(after.is_soft_deleted());
            prop_assert_eq!(after.acl, before);
            prop_assert_eq!(soft_delete_document(&deleted), deleted, "deleted once more");
        }

        #[test]
        fn any_default_list_is_refused_or_in_force(document in acl_documents("\\$acl")) {
            let document: serde_json::Value = serde_json::from_str(&document).unwrap();
            let list = &document["$acl"];
            let own = StreamMetadata::parse(format!("{{\"$acl\":{list}}}").as_bytes()).and_then(|metadata| metadata.acl);
            let settings = format!("{{\"$userStreamAcl\":{list}}}");
            let accepted = check_settings(settings.as_bytes()).ok();
            let in_force = accepted.and_then(|()| DefaultAcls::parse(settings.as_bytes()).ok());
            // No list counts as an empty one.
            let expected = if list.is_null() { Some(Acl::default()) } else { own };
            prop_assert_eq!(in_force.map(|lists| lists.user_streams), expected, "{}", list);
        }

        #[test]
        fn no_document_makes_the_check_fail(bytes: Vec<u8>, is_json: bool) {
            let _ = check_acl(&bytes, is_json);
            let _ = check_settings(&bytes);
        }
    }

    /// Objects with an access list, right or wrong, under a key of this form, and perhaps more.
    fn acl_documents(key: &'static str) -> impl Strategy<Value = String> {
        let value = prop_oneof![
            Just("null".to_owned()),
            Just("5".to_owned()),
            Just("[]".to_owned()),
            Just("{}".to_owned()),
            Just("[1]".to_owned()),
            "\"[a-z$]{0,5}\"",
            "\\[\"[a-z$]{0,5}\"(,\"[a-z]{0,5}\")?\\]",
        ];
        let member_key = prop_oneof!["\\$(r|w|d|mr|mw)", "[$a-z]{0,3}"];
        let member = (member_key, value.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        let acl = prop_oneof![
            proptest::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
            value.clone()
        ];
        // Nothing that looks like another access list.
        let other = prop_oneof!["\\$(maxCount|tb|maxAge|tmp)", "[m-z]{1,3}"];
        (key, acl, other, value).prop_map(|(key, acl, other, value)| format!("{{\"{key}\":{acl},\"{other}\":{value}}}"))
    }
}
