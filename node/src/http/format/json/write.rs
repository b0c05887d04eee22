//! Writes JSON documents, indented by two spaces, straight into a byte buffer: no tree is built for
//! a page.

const SPACES: &[u8; 64] = b"                                                                ";

/// What a key has besides its name and the indentation of its object.
const KEY_FRAME_BYTES: usize = "\n  \"\": ".len();

/// Appends `spaces` spaces.
pub(crate) fn push_indent(out: &mut Vec<u8>, mut spaces: usize) {
    while spaces > 0 {
        let step = spaces.min(SPACES.len());
        out.extend_from_slice(&SPACES[..step]);
        spaces -= step;
    }
}

/// Appends an integer in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `text` as a JSON string. Non-ASCII stays as it is, apart from the three line separators
/// that the reference escapes as well.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends `text` as the inside of a JSON string.
pub(crate) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    let mut at = 0;
    loop {
        at += plain_bytes(&bytes[at..]);
        if at == bytes.len() {
            break;
        }
        let (escape, width): (&[u8], usize) = match bytes[at] {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0x08 => (b"\\b", 1),
            0x0c => (b"\\f", 1),
            control @ 0..=0x1f => {
                out.extend_from_slice(&bytes[plain_from..at]);
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
                at += 1;
                plain_from = at;
                continue;
            }
            0xc2 if bytes[at..].starts_with("\u{85}".as_bytes()) => (b"\\u0085", 2),
            0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
            0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(&bytes[plain_from..at]);
        out.extend_from_slice(escape);
        at += width;
        plain_from = at;
    }
    out.extend_from_slice(&bytes[plain_from..]);
}

/// How many bytes from the start neither are nor begin something to escape. Nearly all bytes of a
/// page are such, and the compiler makes a few comparisons of vectors out of those of a whole
/// chunk.
fn plain_bytes(bytes: &[u8]) -> usize {
    const CHUNK: usize = 32;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<CHUNK>() {
        let mut any = false;
        for byte in chunk {
            any |= may_need_escape(*byte);
        }
        if any {
            break;
        }
        at += CHUNK;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| MAY_NEED_ESCAPE[usize::from(*byte)]).unwrap_or(rest.len())
}

const fn may_need_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0xc2) | (byte == 0xe2)
}

/// The same at the price of one look-up, for single bytes.
const MAY_NEED_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = may_need_escape(byte as u8);
        byte += 1;
    }
    table
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// An object being written: members on lines of their own, two spaces deeper than the brace.
pub(crate) struct Object<'out> {
    out: &'out mut Vec<u8>,
    indent: usize,
    is_empty: bool,
}

impl<'out> Object<'out> {
    /// Opens an object whose closing brace will stand `indent` spaces from the margin.
    pub(crate) fn open(out: &'out mut Vec<u8>, indent: usize) -> Self {
        out.push(b'{');
        Self { out, indent, is_empty: true }
    }

    /// Starts a member; the caller appends its value to the returned buffer. `name` needs no
    /// escaping.
    pub(crate) fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        self.out.reserve(self.indent + name.len() + KEY_FRAME_BYTES);
        self.out.push(b'\n');
        push_indent(self.out, self.indent + 2);
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\": ");
        self.out
    }

    /// How deep the members stand: the `indent` for an object that is a member's value.
    pub(crate) fn member_indent(&self) -> usize {
        self.indent + 2
    }

    /// A string member.
    pub(crate) fn string(&mut self, name: &str, value: &str) {
        push_string(self.key(name), value);
    }

    /// A string member that needs no escaping: a URI of ours, a time, a word.
    pub(crate) fn plain(&mut self, name: &str, value: &str) {
        let out = self.key(name);
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }

    /// A member whose value prints as a JSON number or needs no escaping.
    pub(crate) fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        use std::io::Write as _;
        // Writing to a Vec cannot fail.
        let _ = write!(self.key(name), "{value}");
    }

    /// The same for an integer, faster.
    pub(crate) fn integer(&mut self, name: &str, value: impl itoa::Integer) {
        push_number(self.key(name), value);
    }

    /// Starts members whose text begins with the line of the first one, without the comma before
    /// it.
    pub(crate) fn prepared(&mut self, text: &[u8]) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        self.out.extend_from_slice(text);
        self.out
    }

    /// A bool member.
    pub(crate) fn bool(&mut self, name: &str, value: bool) {
        self.key(name).extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// An object member.
    pub(crate) fn object(&mut self, name: &str, members: impl FnOnce(&mut Object<'_>)) {
        let indent = self.member_indent();
        let mut object = Object::open(self.key(name), indent);
        members(&mut object);
        object.close();
    }

    /// An array of objects.
    pub(crate) fn objects<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut members: impl FnMut(&mut Object<'_>, T),
    ) {
        let indent = self.member_indent();
        let out = self.key(name);
        out.push(b'[');
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                out.push(b',');
            }
            is_empty = false;
            out.push(b'\n');
            push_indent(out, indent + 2);
            let mut object = Object::open(out, indent + 2);
            members(&mut object, item);
            object.close();
        }
        if !is_empty {
            out.push(b'\n');
            push_indent(out, indent);
        }
        out.push(b']');
    }

    /// Ends the object.
    pub(crate) fn close(self) {
        if !self.is_empty {
            self.out.push(b'\n');
            push_indent(self.out, self.indent);
        }
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_survives_escaping() {
        let text: String = (0..0x3000u32).filter_map(char::from_u32).collect();
        let mut out = Vec::new();
        push_string(&mut out, &text);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn characters_that_need_escaping_are_found_at_any_place() {
        for (special, escaped) in [
            ("\"", "\\\""),
            ("\\", "\\\\"),
            ("\n", "\\n"),
            ("\0", "\\u0000"),
            ("\u{1f}", "\\u001f"),
            ("\u{85}", "\\u0085"),
            ("\u{2028}", "\\u2028"),
            ("\u{2029}", "\\u2029"),
            ("\u{a3}\u{7f}\u{2030}", "\u{a3}\u{7f}\u{2030}"),
        ] {
            for (before, after) in (0..70).flat_map(|before| [0, 1, 31, 32, 33, 80].map(|after| (before, after))) {
                let around = |middle: &str| format!("{}{middle}{}", "a".repeat(before), "é".repeat(after));
                let mut out = Vec::new();
                push_escaped(&mut out, &around(&special.repeat(2)));
                assert_eq!(String::from_utf8(out).unwrap(), around(&escaped.repeat(2)));
            }
        }
    }

    #[test]
    fn objects_are_indented_by_two_spaces() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out, 0);
        object.string("a", "x");
        object.objects("b", [1, 2], |item, n| item.number("n", n));
        object.objects("c", [0u8; 0], |_, _| {});
        object.object("d", |_| {});
        object.close();
        let text = String::from_utf8(out).unwrap();
        let expected = "{\n  \"a\": \"x\",\n  \"b\": [\n    {\n      \"n\": 1\n    },\n    {\n      \"n\": 2\n    }\n  ],\n  \"c\": [],\n  \"d\": {}\n}";
        assert_eq!(text, expected);
    }
}
