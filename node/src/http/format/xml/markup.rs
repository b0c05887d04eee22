//! Pieces of XML markup: characters, names, attributes, references, declarations. What is not
//! well-formed is `None` or `false`.

use std::borrow::Cow;

use memchr::memmem;

use super::error::DocumentError::{self, Malformed, TooLarge};
use super::{is_name_part, is_name_start};
use crate::http::limits::MAX_XML_NODES;

/// What XML calls white space.
const WHITE: [char; 4] = [' ', '\t', '\r', '\n'];

/// An attribute: its name as it is written, and its value.
pub(crate) type Attribute<'a> = (&'a str, Cow<'a, str>);

/// Whether the text is nothing but white space.
pub(crate) fn is_white(text: &str) -> bool {
    text.chars().all(|c| WHITE.contains(&c))
}

fn is_char(c: char) -> bool {
    !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether all characters are such as XML allows: [`is_char`], many bytes at a time.
pub(crate) fn is_allowed(text: &str) -> bool {
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    !text.bytes().any(|byte| is_control(&byte)) && !text.contains("\u{fffe}") && !text.contains("\u{ffff}")
}

fn is_name_char(c: char) -> bool {
    is_name_part(c) || is_supplementary(c)
}

/// The part of NameStartChar that [`is_name_start`] leaves out, because the reference escapes it.
fn is_supplementary(c: char) -> bool {
    matches!(c, '\u{10000}'..='\u{effff}')
}

/// A name without colon.
fn is_simple_name(name: &str) -> bool {
    name.starts_with(|c| is_name_start(c) || is_supplementary(c)) && name.chars().all(is_name_char)
}

/// The name that `text` begins with, which may have a prefix, and what follows.
pub(crate) fn split_name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c| c != ':' && !is_name_char(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let is_name = match name.split_once(':') {
        Some((prefix, local)) => is_simple_name(prefix) && is_simple_name(local) && prefix != "xmlns",
        None => is_simple_name(name),
    };
    is_name.then_some((name, rest))
}

/// The attribute that `text` begins with, its value as it is written, and what follows.
fn split_attribute(text: &str) -> Option<(&str, &str, &str)> {
    // A declaration of a namespace is the only name with this prefix.
    let (name, rest) = match text.strip_prefix("xmlns:") {
        Some(after) => {
            let (prefix, rest) = split_name(after).filter(|(prefix, _)| !prefix.contains(':'))?;
            (&text[.."xmlns:".len() + prefix.len()], rest)
        }
        None => split_name(text)?,
    };
    let value = rest.trim_start_matches(WHITE).strip_prefix('=')?.trim_start_matches(WHITE);
    let (value, rest) = split_quoted(value)?;
    Some((name, value, rest))
}

/// What stands in the quotes that `text` begins with, and what follows them.
fn split_quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    text[1..].split_once(quote)
}

/// The attributes in a tag: each with white space before it.
pub(crate) fn attributes_of(mut text: &str) -> Result<Vec<Attribute<'_>>, DocumentError> {
    let mut attributes = Vec::new();
    loop {
        let next = text.trim_start_matches(WHITE);
        if next.is_empty() {
            return Ok(attributes);
        }
        if next.len() == text.len() {
            return Err(Malformed);
        }
        if attributes.len() == MAX_XML_NODES {
            return Err(TooLarge);
        }
        let (name, value, rest) = split_attribute(next).ok_or(Malformed)?;
        attributes.push((name, attribute_value(value).ok_or(Malformed)?));
        text = rest;
    }
}

/// The value of an attribute: white space in it becomes blanks, unless it is written as a
/// reference.
fn attribute_value(source: &str) -> Option<Cow<'_, str>> {
    if !source.contains(['<', '&', '\t', '\r', '\n']) {
        return Some(Cow::Borrowed(source));
    }
    let mut value = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find(['<', '&', '\t', '\r', '\n']) {
        value.push_str(&rest[..at]);
        let (special, after) = rest[at..].split_at(1);
        rest = match special {
            "<" => return None,
            "&" => {
                let (name, after) = after.split_once(';')?;
                value.push(reference(name)?);
                after
            }
            "\r" => {
                value.push(' ');
                after.strip_prefix('\n').unwrap_or(after)
            }
            _ => {
                value.push(' ');
                after
            }
        };
    }
    value.push_str(rest);
    Some(Cow::Owned(value))
}

/// Text with all ends of lines as LF.
pub(crate) fn with_line_feeds(text: &str) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { Cow::Borrowed(text) }
}

/// The character that `&name;` stands for.
pub(crate) fn reference(name: &str) -> Option<char> {
    let number = |digits: &str, radix: u32| {
        let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        is_number.then(|| u32::from_str_radix(digits, radix).ok()).flatten().and_then(char::from_u32)
    };
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => match name.strip_prefix("#x") {
            Some(digits) => number(digits, 16),
            None => number(name.strip_prefix('#')?, 10),
        }
        .filter(|c| is_char(*c)),
    }
}

/// What a document says of its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding<'a> {
    /// It begins as only UTF-16 and UTF-32 do.
    Utf16,
    /// Its declaration names one.
    Named(&'a [u8]),
    /// Nothing.
    Unnamed,
}

/// What a document says of its encoding. It need not be well-formed otherwise, so that the answer
/// names the graver mistake.
pub(crate) fn encoding_of(document: &[u8]) -> Encoding<'_> {
    let beginning = &document[..document.len().min(4)];
    let is_wide = beginning.contains(&0) && beginning.contains(&b'<');
    if is_wide || beginning.starts_with(&[0xff, 0xfe]) || beginning.starts_with(&[0xfe, 0xff]) {
        return Encoding::Utf16;
    }
    declared_encoding(document).map_or(Encoding::Unnamed, Encoding::Named)
}

fn declared_encoding(document: &[u8]) -> Option<&[u8]> {
    let document = document.strip_prefix("\u{feff}".as_bytes()).unwrap_or(document).trim_ascii_start();
    let declaration =
        document.strip_prefix(b"<?xml").filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace))?;
    let declaration = &declaration[..memmem::find(declaration, b"?>").unwrap_or(declaration.len())];
    pairs(declaration).find(|(name, _)| *name == b"encoding").map(|(_, value)| value)
}

/// The names and values of a declaration, as far as it has its form.
fn pairs(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (name, value) = rest.split_at_checked(rest.iter().position(|byte| *byte == b'=')?)?;
        let value = value[1..].trim_ascii_start();
        let (quote, value) = value.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
        let end = value.iter().position(|byte| byte == quote).unwrap_or(value.len());
        rest = value.get(end + 1..).unwrap_or_default();
        Some((name.trim_ascii(), &value[..end]))
    })
}

/// Whether this follows `<?xml`: the version, then encoding and standalone if they are there. The
/// text has been decoded, so whatever encoding it names is no longer of interest.
pub(crate) fn is_declaration(text: &str) -> bool {
    let Ok(attributes) = attributes_of(text) else { return false };
    let mut attributes = attributes.into_iter().peekable();
    let mut next = |name: &str| attributes.next_if(|(found, _)| *found == name).map(|(_, value)| value);
    let is_version = |version: &str| {
        version.strip_prefix("1.").is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()))
    };
    let is_encoding = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    next("version").is_some_and(|version| is_version(&version))
        && next("encoding").is_none_or(|name| is_encoding(&name))
        && next("standalone").is_none_or(|answer| answer == "yes" || answer == "no")
        && attributes.next().is_none()
}

/// Whether this can stand in `<?...?>`.
pub(crate) fn is_instruction(text: &str) -> bool {
    split_name(text).is_some_and(|(target, rest)| {
        !target.contains(':') && !target.eq_ignore_ascii_case("xml") && (rest.is_empty() || rest.starts_with(WHITE))
    })
}

/// Whether this can follow `<!DOCTYPE`. What stands in brackets is not looked at.
pub(crate) fn is_doctype(text: &str) -> bool {
    let name = text.trim_start_matches(WHITE);
    let Some((_, rest)) = split_name(name).filter(|_| name.len() < text.len()) else { return false };
    without_external_id(rest).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

/// What follows the place of further declarations, if one is named.
fn without_external_id(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(WHITE);
    let literals = match rest.get(..6) {
        Some("SYSTEM") => 1,
        Some("PUBLIC") => 2,
        _ => return Some(rest),
    };
    if rest.len() == text.len() {
        return None;
    }
    let mut rest = &rest[6..];
    for _ in 0..literals {
        let literal = rest.trim_start_matches(WHITE);
        if literal.len() == rest.len() {
            return None;
        }
        (_, rest) = split_quoted(literal)?;
    }
    Some(rest.trim_start_matches(WHITE))
}
