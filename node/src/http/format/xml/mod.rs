//! XML text: escaping, names, documents that are read, and JSON written as XML.

pub(crate) mod document;
pub(crate) mod error;
pub(crate) mod from_json;
pub(crate) mod markup;
mod namespaces;

use std::borrow::Cow;

/// Appends text content; characters that XML 1.0 cannot hold become U+FFFD.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    push_escaped(out, text, false);
}

/// Appends the inside of an attribute in double quotes.
pub(crate) fn push_attribute(out: &mut Vec<u8>, text: &str) {
    push_escaped(out, text, true);
}

fn push_escaped(out: &mut Vec<u8>, text: &str, in_attribute: bool) {
    for c in text.chars() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' if in_attribute => out.extend_from_slice(b"&quot;"),
            '\r' => out.extend_from_slice(b"&#xD;"),
            '\n' | '\t' if in_attribute => out.extend_from_slice(format!("&#x{:X};", c as u32).as_bytes()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_xml_does_not_allow_are_escaped() {
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
}
