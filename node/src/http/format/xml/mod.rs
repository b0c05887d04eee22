//! XML text: escaping, names, and JSON written as XML (contract/streams 9.3).

pub(crate) mod document;
pub(crate) mod error;
pub(crate) mod markup;

use std::borrow::Cow;
use std::collections::HashSet;

use crate::http::format::json::indent::push_literal;
use crate::http::format::json::tree::Json;

/// Appends text content; characters that XML 1.0 cannot hold become U+FFFD.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    push_escaped(out, text, Place::Content);
}

/// Appends the inside of an attribute in double quotes.
pub(crate) fn push_attribute(out: &mut Vec<u8>, text: &str) {
    push_escaped(out, text, Place::Attribute);
}

/// Where a text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between tags.
    Content,
    /// In an attribute, in double quotes.
    Attribute,
}

fn push_escaped(out: &mut Vec<u8>, text: &str, place: Place) {
    for c in text.chars() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' if place == Place::Attribute => out.extend_from_slice(b"&quot;"),
            '\r' => out.extend_from_slice(b"&#xD;"),
            '\n' | '\t' if place == Place::Attribute => out.extend_from_slice(format!("&#x{:X};", c as u32).as_bytes()),
            '\n' | '\t' => out.push(c as u8),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => push_char(out, char::REPLACEMENT_CHARACTER),
            _ => push_char(out, c),
        }
    }
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Appends `<name>text</name>`; `name` is a valid name, optionally followed by attributes.
pub(crate) fn push_element(out: &mut Vec<u8>, name: &str, text: &str) {
    open(out, name, "");
    push_text(out, text);
    close(out, name);
}

/// Appends a start tag; `attributes` is ready XML with a leading space, or empty.
pub(crate) fn open(out: &mut Vec<u8>, name: &str, attributes: &str) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(attributes.as_bytes());
    out.push(b'>');
}

/// Appends an end tag.
pub(crate) fn close(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

fn is_name_start(c: char) -> bool {
    matches!(c, 'A'..='Z' | 'a'..='z' | '_' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}')
}

fn is_name_part(c: char) -> bool {
    is_name_start(c) || matches!(c, '0'..='9' | '-' | '.' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

/// A JSON member name as XML name: what XML does not allow becomes `_xHHHH_`, in upper case as the
/// reference writes it, and so does a `_` that would be read as the beginning of such an escape.
pub(crate) fn name_of(member: &str) -> String {
    let mut name = String::with_capacity(member.len());
    for (at, c) in member.char_indices() {
        let is_allowed = if at == 0 { is_name_start(c) } else { is_name_part(c) };
        let is_allowed = is_allowed && !(c == '_' && escaped(&member[at..]).is_some());
        if is_allowed {
            name.push(c);
        } else if (c as u32) <= 0xffff {
            name.push_str(&format!("_x{:04X}_", c as u32));
        } else {
            name.push_str(&format!("_x{:08X}_", c as u32));
        }
    }
    if name.is_empty() { "_x_".to_owned() } else { name }
}

/// The character that `text` begins with in escaped form, and the length of that form.
fn escaped(text: &str) -> Option<(char, usize)> {
    let inside = text.strip_prefix("_x")?;
    [4, 8].into_iter().find_map(|digits| {
        let code = inside.get(..digits).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let c = char::from_u32(u32::from_str_radix(code, 16).ok()?)?;
        inside[digits..].starts_with('_').then_some((c, digits + 3))
    })
}

/// The JSON member name that became this XML name.
pub(crate) fn member_of(name: &str) -> Cow<'_, str> {
    if !name.contains("_x") {
        return Cow::Borrowed(name);
    }
    let mut member = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let (c, length) = escaped(rest).unwrap_or((first, first.len_utf8()));
        member.push(c);
        rest = &rest[length..];
    }
    Cow::Owned(member)
}

/// The XML of a JSON value would exceed its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too large as XML")]
pub(crate) struct TooLarge;

/// Appends `value` as elements called `name`: one, or one per element of an array.
///
/// # Errors
/// `out` would become longer than `limit`: every element of an array repeats its name, which can be
/// as long as the document. `out` is as before.
pub(crate) fn push_json(
    out: &mut Vec<u8>,
    name: &str,
    attributes: &str,
    value: &Json<'_>,
    limit: usize,
) -> Result<(), TooLarge> {
    let before = out.len();
    let pushed = push_elements(out, name, attributes, value, limit);
    if pushed.is_err() {
        out.truncate(before);
    }
    pushed
}

fn push_elements(
    out: &mut Vec<u8>,
    name: &str,
    attributes: &str,
    value: &Json<'_>,
    limit: usize,
) -> Result<(), TooLarge> {
    match value {
        Json::Array(elements) => {
            elements.iter().try_for_each(|element| push_json_element(out, name, attributes, element, limit))
        }
        _ => push_json_element(out, name, attributes, value, limit),
    }
}

/// An array inside an array is an element that holds further elements of its own name.
fn push_json_element(
    out: &mut Vec<u8>,
    name: &str,
    attributes: &str,
    value: &Json<'_>,
    limit: usize,
) -> Result<(), TooLarge> {
    has_room(out, 2 * name.len(), limit)?;
    match value {
        Json::Object(members) => return push_object(out, name, attributes, members, limit),
        Json::Array(elements) => {
            open(out, name, attributes);
            elements.iter().try_for_each(|element| push_json_element(out, name, "", element, limit))?;
        }
        scalar => {
            open(out, name, attributes);
            push_scalar(out, scalar);
        }
    }
    close(out, name);
    Ok(())
}

fn has_room(out: &[u8], more: usize, limit: usize) -> Result<(), TooLarge> {
    if out.len() + more > limit { Err(TooLarge) } else { Ok(()) }
}

fn push_object(
    out: &mut Vec<u8>,
    name: &str,
    attributes: &str,
    members: &[(Cow<'_, str>, Json<'_>)],
    limit: usize,
) -> Result<(), TooLarge> {
    let attribute = |member: &str, value: &Json<'_>| {
        let is_scalar = !matches!(value, Json::Object(_) | Json::Array(_));
        member.strip_prefix('@').filter(|_| is_scalar).map(name_of)
    };
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(attributes.as_bytes());
    let mut seen: HashSet<String> = HashSet::new();
    for (member, value) in members {
        // A doubled attribute or a namespace of the data's own would make the document invalid or
        // change its meaning.
        let Some(attribute) = attribute(member, value).filter(|a| !seen.contains(a) && a != "xmlns") else { continue };
        out.push(b' ');
        out.extend_from_slice(attribute.as_bytes());
        out.extend_from_slice(b"=\"");
        let mut text = Vec::new();
        push_scalar_text(&mut text, value);
        push_attribute(out, &String::from_utf8_lossy(&text));
        out.push(b'"');
        seen.insert(attribute);
    }
    out.push(b'>');
    for (member, value) in members {
        if attribute(member, value).is_some() {
            continue;
        }
        match value {
            Json::String(_) | Json::Literal(_) | Json::Null if member == "#text" => push_scalar(out, value),
            _ => {
                has_room(out, 2 * member.len(), limit)?;
                push_elements(out, &name_of(member), "", value, limit)?;
            }
        }
    }
    close(out, name);
    Ok(())
}

fn push_scalar(out: &mut Vec<u8>, value: &Json<'_>) {
    let mut text = Vec::new();
    push_scalar_text(&mut text, value);
    push_text(out, &String::from_utf8_lossy(&text));
}

fn push_scalar_text(out: &mut Vec<u8>, value: &Json<'_>) {
    match value {
        Json::String(text) => out.extend_from_slice(text.as_bytes()),
        Json::Literal(literal) => {
            let before = out.len();
            push_literal(out, literal);
            // XML Schema writes a double without a fraction as an integer.
            if out[before..].ends_with(b".0") {
                out.truncate(out.len() - 2);
            }
        }
        Json::Null | Json::Object(_) | Json::Array(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::format::json::tree::parse;

    fn converted(json: &str) -> String {
        let mut out = Vec::new();
        push_json(&mut out, "data", "", &parse(json).unwrap(), usize::MAX).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn members_become_elements_in_order() {
        assert_eq!(
            converted(r#"{"a":1,"s":"x\"<>&€","n":null,"f":1.50,"t":true,"d":1e3}"#),
            "<data><a>1</a><s>x\"&lt;&gt;&amp;€</s><n></n><f>1.5</f><t>true</t><d>1000</d></data>"
        );
    }

    #[test]
    fn arrays_become_repeated_elements() {
        assert_eq!(converted(r#"[1,{"a":2}]"#), "<data>1</data><data><a>2</a></data>");
        assert_eq!(converted(r#"{"x":[1,2]}"#), "<data><x>1</x><x>2</x></data>");
    }

    #[test]
    fn names_that_xml_does_not_allow_are_escaped() {
        assert_eq!(
            converted(r#"{"$a":1,"1b":2,"c d":3}"#),
            "<data><_x0024_a>1</_x0024_a><_x0031_b>2</_x0031_b><c_x0020_d>3</c_x0020_d></data>"
        );
        assert_eq!(name_of("_x0024_a"), "_x005F_x0024_a");
        assert_eq!(name_of("a:b"), "a_x003A_b");
        assert_eq!(name_of("\u{1f600}"), "_x0001F600_");
    }

    proptest::proptest! {
        #[test]
        fn names_read_back(member in "[a_x0-9F$ \u{e9}\u{1f600}:-]{1,12}|.+") {
            let name = name_of(&member);
            proptest::prop_assert_eq!(member_of(&name), member);
        }
    }

    #[test]
    fn names_that_arrays_repeat_end_at_the_limit() {
        const LIMIT: usize = 1 << 20;
        let name = "n".repeat(10_000);
        for json in [
            format!("{{\"{name}\": [{}0]}}", "0,".repeat(10_000)),
            format!("{{\"{name}\": [[{}0]]}}", "0,".repeat(10_000)),
            format!("{{\"{name}\": [{}0]}}", "{},".repeat(10_000)),
            format!("{{\"{}\": 0}}", "$".repeat(LIMIT / 10)),
        ] {
            let mut out = b"before".to_vec();
            assert_eq!(push_json(&mut out, "data", "", &parse(&json).unwrap(), LIMIT), Err(TooLarge));
            assert_eq!(out, b"before");
            // It was noticed before much more than the limit was written.
            assert!(out.capacity() < 4 * LIMIT, "{}", out.capacity());
        }
    }

    #[test]
    fn very_many_attributes_are_written_at_once() {
        let members: Vec<String> = (0..200_000).map(|n| format!("\"@a{n}\":0")).collect();
        let json = format!("{{{}}}", members.join(","));
        let started = std::time::Instant::now();
        assert_eq!(converted(&json).matches("=\"0\"").count(), 200_000);
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }

    #[test]
    fn at_members_become_attributes_and_hash_text_becomes_text() {
        assert_eq!(converted(r##"{"b":{"#text":"txt","@at":"q\"<"}}"##), "<data><b at=\"q&quot;&lt;\">txt</b></data>");
    }
}
