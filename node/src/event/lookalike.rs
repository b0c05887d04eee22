//! Names that look alike: what a person takes for the same name although the server does not.

/// The letters and digits of a name, small and in their usual form.
pub(super) fn letters(name: &str) -> impl Iterator<Item = char> {
    name.chars().map(usual).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).map(usual)
}

/// The letter of ASCII that looks like this one: full-width, circled, mathematical, Cyrillic and
/// Greek letters, as far as names of lists and rights could be written with them. Any other stays.
pub(super) fn usual(c: char) -> char {
    let from = |first: char, letter: u8| char::from(letter + (c as u32 - first as u32) as u8);
    match c {
        '\u{ff01}'..='\u{ff5e}' => from('\u{ff01}', b'!'),
        '\u{fe69}' => '$',
        '\u{24b6}'..='\u{24cf}' => from('\u{24b6}', b'A'),
        '\u{24d0}'..='\u{24e9}' => from('\u{24d0}', b'a'),
        // Thirteen alphabets of 26 large and 26 small letters each.
        '\u{1d400}'..='\u{1d6a3}' => match (c as u32 - 0x1d400) % 52 {
            large @ 0..26 => char::from(b'A' + large as u8),
            small => char::from(b'a' + (small - 26) as u8),
        },
        'а' | 'А' | 'α' | 'Α' => 'a',
        'с' | 'С' | 'ϲ' => 'c',
        'ӏ' | 'Ӏ' | 'ⅼ' => 'l',
        'ѕ' | 'Ѕ' => 's',
        'ԁ' | 'ⅾ' => 'd',
        'м' | 'М' | 'Μ' | 'ⅿ' => 'm',
        'ԝ' | 'Ԝ' | 'ѡ' => 'w',
        'г' => 'r',
        'е' | 'Е' | 'Ε' => 'e',
        'т' | 'Т' | 'Τ' => 't',
        'і' | 'І' | 'Ι' | 'ι' => 'i',
        'п' | 'Ν' => 'n',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_look_alike_are_the_same() {
        for acl in [
            "acl",
            "$ACL ",
            "\u{ff41}\u{ff23}\u{ff4c}",
            "\u{24d0}\u{24b8}\u{24db}",
            "\u{1d41a}\u{1d402}\u{1d425}",
            "\u{430}\u{441}\u{4cf}",
        ] {
            assert_eq!(letters(acl).collect::<String>(), "acl", "{acl}");
        }
        assert_eq!(letters("\u{1d7ce}\u{e9}\u{4e2d}").collect::<String>(), "\u{1d7ce}\u{e9}\u{4e2d}");
        assert!(['\u{ff04}', '\u{fe69}'].into_iter().all(|sign| usual(sign) == '$'));
    }
}
