//! A strict reader of XML documents. quick-xml finds where markup begins and ends and compares the
//! names of tags; everything else that makes a document well-formed (XML 1.0, fifth edition, and
//! Namespaces in XML 1.0, third edition) is checked here and in `markup`. Of a document type
//! declaration only the place and the beginning are: nothing that it declares is known, so no
//! entity can be made to grow.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::Hash;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::error::DocumentError::{self, Malformed};
use super::markup::{
    Attribute, attributes_of, is_allowed, is_declaration, is_doctype, is_instruction, is_white, reference, split_name,
    with_line_feeds,
};
use super::namespaces::{Namespaces, is_reserved};
use crate::http::limits::MAX_NESTING;

/// An element as it begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tag<'a> {
    /// The name as it is written.
    pub(crate) name: &'a str,
    /// In the order of the document, declarations of namespaces included.
    pub(crate) attributes: Vec<Attribute<'a>>,
    /// Written as `<name/>`: it has ended, and no [`Part::Close`] follows.
    pub(crate) is_self_closing: bool,
}

/// What a document consists of. Comments and processing instructions mean nothing, and outside of
/// the root there is nothing else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// An element begins.
    Open(Tag<'a>),
    /// The innermost element ends.
    Close,
    /// A piece of text; further ones may follow.
    Text(Cow<'a, str>),
}

/// A document being read, part by part.
pub(crate) struct XmlDocument<'a> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    /// Where the next part begins.
    at: usize,
    /// Elements that are open.
    depth: usize,
    has_doctype: bool,
    has_root: bool,
    namespaces: Namespaces<'a>,
}

impl<'a> XmlDocument<'a> {
    /// Nothing is read yet, but all characters are such as XML allows.
    pub(crate) fn new(text: &'a str) -> Result<Self, DocumentError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // The reader skips a mark at the beginning, too, but does not count it.
        if text.starts_with('\u{feff}') || !is_allowed(text) {
            return Err(Malformed);
        }
        let reader = Reader::from_str(text);
        let namespaces = Namespaces::default();
        Ok(Self { text, reader, at: 0, depth: 0, has_doctype: false, has_root: false, namespaces })
    }

    /// Elements that are open.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// What a prefix stands for behind the part that was read last, if an element above this depth
    /// declares it so.
    pub(crate) fn inherited_namespace(&self, prefix: &str, depth: usize) -> Option<&str> {
        self.namespaces.inherited(prefix, depth)
    }

    /// The next part; `None` after the whole document.
    pub(crate) fn next_part(&mut self) -> Result<Option<Part<'a>>, DocumentError> {
        loop {
            let event = self.reader.read_event().map_err(|_| Malformed)?;
            let end = usize::try_from(self.reader.buffer_position()).map_err(|_| Malformed)?;
            let start = std::mem::replace(&mut self.at, end);
            let source = self.text.get(start..end).ok_or(Malformed)?;
            let is_fine = match event {
                Event::Start(_) => return self.open(between(source, "<", ">")?).map(Some),
                Event::Empty(_) => return self.open_and_close(between(source, "<", "/>")?).map(Some),
                // The reader has checked that the name fits.
                Event::End(_) => {
                    self.namespaces.leave(self.depth);
                    self.depth = self.depth.checked_sub(1).ok_or(Malformed)?;
                    return Ok(Some(Part::Close));
                }
                Event::Text(_) if self.depth == 0 => is_white(source),
                Event::Text(_) if source.contains("]]>") => false,
                Event::Text(_) => return Ok(Some(Part::Text(with_line_feeds(source)))),
                Event::CData(_) if self.depth > 0 => {
                    return Ok(Some(Part::Text(with_line_feeds(between(source, "<![CDATA[", "]]>")?))));
                }
                Event::GeneralRef(_) if self.depth > 0 => {
                    let c = reference(between(source, "&", ";")?).ok_or(Malformed)?;
                    return Ok(Some(Part::Text(Cow::Owned(c.to_string()))));
                }
                Event::CData(_) | Event::GeneralRef(_) => false,
                Event::Comment(_) => {
                    let comment = between(source, "<!--", "-->")?;
                    !comment.contains("--") && !comment.ends_with('-')
                }
                Event::Decl(_) => start == 0 && is_declaration(between(source, "<?xml", "?>")?),
                Event::PI(_) => is_instruction(between(source, "<?", "?>")?),
                Event::DocType(_) => {
                    let is_first = !std::mem::replace(&mut self.has_doctype, true);
                    is_first && !self.has_root && is_doctype(between(source, "<!DOCTYPE", ">")?)
                }
                Event::Eof if self.depth == 0 && self.has_root => return Ok(None),
                Event::Eof => false,
            };
            if !is_fine {
                return Err(Malformed);
            }
        }
    }

    /// An element begins; `inside` is what its tag has between the brackets.
    fn open(&mut self, inside: &'a str) -> Result<Part<'a>, DocumentError> {
        if self.depth >= MAX_NESTING {
            return Err(Malformed);
        }
        let (name, attributes) = self.begin(inside)?;
        Ok(Part::Open(Tag { name, attributes, is_self_closing: false }))
    }

    /// An element without content.
    fn open_and_close(&mut self, inside: &'a str) -> Result<Part<'a>, DocumentError> {
        let (name, attributes) = self.begin(inside)?;
        self.namespaces.leave(self.depth);
        self.depth -= 1;
        Ok(Part::Open(Tag { name, attributes, is_self_closing: true }))
    }

    /// Name and attributes of an element, which is a level deeper than the one around it.
    fn begin(&mut self, inside: &'a str) -> Result<(&'a str, Vec<Attribute<'a>>), DocumentError> {
        if self.depth == 0 && std::mem::replace(&mut self.has_root, true) {
            return Err(Malformed);
        }
        let (name, attributes) = split_name(inside).ok_or(Malformed)?;
        let attributes = attributes_of(attributes)?;
        self.depth += 1;
        self.check_names(name, &attributes)?;
        Ok((name, attributes))
    }

    /// No attribute comes twice, and all prefixes are declared.
    fn check_names(&mut self, element: &'a str, attributes: &[Attribute<'a>]) -> Result<(), DocumentError> {
        if has_doubles(attributes.len(), attributes.iter().map(|(name, _)| *name)) {
            return Err(Malformed);
        }
        for (name, value) in attributes {
            match name.split_once(':') {
                Some(("xmlns", prefix)) => self.namespaces.declare(self.depth, prefix, value)?,
                None if *name == "xmlns" && is_reserved(value) => return Err(Malformed),
                _ => {}
            }
        }
        if let Some((prefix, _)) = element.split_once(':') {
            self.namespaces.of(prefix).ok_or(Malformed)?;
        }
        let mut expanded = Vec::new();
        for (name, _) in attributes {
            match name.split_once(':') {
                Some(("xmlns", _)) | None => {}
                Some((prefix, local)) => expanded.push((self.namespaces.of(prefix).ok_or(Malformed)?, local)),
            }
        }
        // Two prefixes can stand for one namespace.
        if has_doubles(expanded.len(), expanded.iter()) { Err(Malformed) } else { Ok(()) }
    }
}

fn has_doubles<T: Eq + Hash>(count: usize, mut items: impl Iterator<Item = T>) -> bool {
    // Nearly no element has more than one attribute.
    if count < 2 {
        return false;
    }
    let mut seen = HashSet::with_capacity(count);
    !items.all(|item| seen.insert(item))
}

/// The text between the two; the reader has found them as a rule.
fn between<'a>(source: &'a str, start: &str, end: &str) -> Result<&'a str, DocumentError> {
    source.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::super::error::DocumentError::TooLarge;
    use super::*;
    use crate::http::limits::{MAX_XML_NAMESPACES, MAX_XML_NODES};

    /// Everything in the document, as `name[attribute=value](content)`.
    fn read(text: &str) -> Result<String, DocumentError> {
        let mut document = XmlDocument::new(text)?;
        let mut read = String::new();
        while let Some(part) = document.next_part()? {
            match part {
                Part::Open(tag) => {
                    read.push_str(tag.name);
                    for (name, value) in tag.attributes {
                        read.push_str(&format!("[{name}={value}]"));
                    }
                    read.push_str(if tag.is_self_closing { "()" } else { "(" });
                }
                Part::Close => read.push(')'),
                Part::Text(text) => read.push_str(&text),
            }
        }
        Ok(read)
    }

    #[test]
    fn xml_that_is_not_well_formed_is_refused() {
        for text in [
            // Documents.
            "",
            " ",
            "text",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>text",
            "text<a/>",
            "<a/>&lt;",
            "<a/><![CDATA[]]>",
            "\u{a0}<a/>",
            "\u{feff}\u{feff}<a/>",
            "<a",
            "<a b='1'",
            "<a>&amp</a>",
            "<a>&</a>",
            // Names.
            "<$a/>",
            "<1a/>",
            "<-a/>",
            "<></>",
            "</>",
            "<:a/>",
            "<a:/>",
            "<a:b:c/>",
            "< a/>",
            "<a / >",
            "<\u{d7}/>",
            "<a\u{37e}/>",
            "<a></ a>",
            "<a></a b='1'>",
            "<xmlns:a/>",
            // Namespaces.
            "<p:a/>",
            "<a p:x='1'/>",
            "<a xmlns:p=''/>",
            "<a xmlns:='u'/>",
            "<a xmlns:p:q='u'/>",
            "<a xmlns:xmlns='u'/>",
            "<a xmlns:xml='u'/>",
            "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
            "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
            "<a><b xmlns:p='u'/><p:c/></a>",
            "<a><b xmlns:p='u'></b><c p:x='1'/></a>",
            "<a xmlns:p='u' xmlns:q='u' p:x='1' q:x='2'/>",
            "<a xmlns:p='u' xmlns:q='&#117;' p:x='1' q:x='2'/>",
            // Attributes.
            "<a b/>",
            "<a b=1/>",
            "<a b=/>",
            "<a b='1/>",
            "<a b='1'c='2'/>",
            "<a b='1' b='2'/>",
            "<a b='<'/>",
            "<a b='&'/>",
            "<a b='&x;'/>",
            "<a b='&#0;'/>",
            "<a 1='1'/>",
            "<a ='1'/>",
            "<a b='1'/ >",
            "<a b='1' / c='2'>",
            "<a\u{a0}b='1'/>",
            "<a b=\"1'/>",
            // Text and references.
            "<a>]]></a>",
            "<a>&#1;</a>",
            "<a>&#0;</a>",
            "<a>&#xfffe;</a>",
            "<a>&#xd800;</a>",
            "<a>&#x110000;</a>",
            "<a>&#99999999999;</a>",
            "<a>&#;</a>",
            "<a>&#x;</a>",
            "<a>&#X41;</a>",
            "<a>&#+65;</a>",
            "<a>& amp;</a>",
            "<a>&AMP;</a>",
            "<a>&nbsp;</a>",
            "<a>\u{1}</a>",
            "<a>\u{b}</a>",
            "<a>\u{fffe}</a>",
            "<a>\u{ffff}</a>",
            "<a b='\u{1}'/>",
            "<!--\u{1}--><a/>",
            "<a><![CDATA[\0]]></a>",
            "<a><![CDATA[</a>",
            "<a><![cdata[]]></a>",
            // Comments and instructions.
            "<!-- -- --><a/>",
            "<!-- --->\n<a/>",
            "<!--><a/>",
            "<!---><a/>",
            "<a><!--</a>",
            "<??><a/>",
            "<? p?><a/>",
            "<?p<a/>",
            "<?1?><a/>",
            "<?a:b?><a/>",
            "<?p/?><a/>",
            "<?XML version='1.0'?><a/>",
            "<?xMl?><a/>",
            // Declarations.
            " <?xml version='1.0'?><a/>",
            "<!-- --><?xml version='1.0'?><a/>",
            "<?xml version='1.0'?><?xml version='1.0'?><a/>",
            "<a><?xml version='1.0'?></a>",
            "<a/><?xml version='1.0'?>",
            "<?xml?><a/>",
            "<?xml ?><a/>",
            "<?xml encoding='utf-8'?><a/>",
            "<?xml version='2.0'?><a/>",
            "<?xml version='1.'?><a/>",
            "<?xml version='1.0'encoding='utf-8'?><a/>",
            "<?xml encoding='utf-8' version='1.0'?><a/>",
            "<?xml version='1.0' encoding=''?><a/>",
            "<?xml version='1.0' encoding='8'?><a/>",
            "<?xml version='1.0' standalone='maybe'?><a/>",
            "<?xml version='1.0' more='1'?><a/>",
            "<?xml version='1.0' version='1.0'?><a/>",
            // Document types.
            "<!DOCTYPE a><!DOCTYPE a><a/>",
            "<a><!DOCTYPE a></a>",
            "<a/><!DOCTYPE a>",
            "<!doctype a><a/>",
            "<!DOCTYPE><a/>",
            "<!DOCTYPEa><a/>",
            "<!DOCTYPE 1><a/>",
            "<!DOCTYPE a a><a/>",
            "<!DOCTYPE a SYSTEM><a/>",
            "<!DOCTYPE a SYSTEM'u'><a/>",
            "<!DOCTYPE a SYSTEM '> <a/> <!-- '> -->",
            "<!DOCTYPE a PUBLIC 'p'><a/>",
            "<!DOCTYPE a PUBLIC 'p''u'><a/>",
            "<!ELEMENT a ANY><a/>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        ] {
            assert_eq!(read(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn well_formed_xml_is_read() {
        for (text, expected) in [
            ("<a/>", "a()"),
            (
                "\u{feff}<?xml version=\"1.0\" encoding='UTF-8' standalone = 'no' ?>\r\n<!DOCTYPE a><!-- - --><?p?><a/>\n<?p ??><!---->",
                "a()",
            ),
            ("<?xml version='1.1'?><!DOCTYPE a [<!ENTITY x 'y'>]><a></a >", "a()"),
            ("<!DOCTYPE a SYSTEM 'u' [ ]><a/>", "a()"),
            ("<!DOCTYPE a PUBLIC \"p\" 'u'><a/>", "a()"),
            ("<?xml-stylesheet href='x'?><a/>", "a()"),
            ("<a\n b = '1'\t_c.-\u{b7}1=\"2\" />", "a[b=1][_c.-\u{b7}1=2]()"),
            ("<\u{e9}t\u{e9}>\u{1f600}</\u{e9}t\u{e9}>", "\u{e9}t\u{e9}(\u{1f600})"),
            ("<\u{10000}/>", "\u{10000}()"),
            ("<a>1 &lt; &#x41;&#66;&#x000a;&quot;&apos;&gt;&amp;]]&gt; > ]] ></a>", "a(1 < AB\n\"'>&]]> > ]] >)"),
            ("<a>\r\n1\r2\n\r3&#13;</a>", "a(\n1\n2\n\n3\r)"),
            ("<a><![CDATA[<b>&amp;\r\n]] >]]></a>", "a(<b>&amp;\n]] >)"),
            ("<a b='\t1\r\n2\n3\r4&#10;&#9;&gt;>]]>\"'/>", "a[b= 1 2 3 4\n\t>>]]>\"]()"),
            (
                "<p:a xmlns:p='u'><p:b xmlns:p='v' p:x='1' x='2'/><p:c/></p:a>",
                "p:a[xmlns:p=u](p:b[xmlns:p=v][p:x=1][x=2]()p:c())",
            ),
            (
                "<a xmlns='u'><b xmlns='' xml:lang='en' xmlns:xml='http://www.w3.org/XML/1998/namespace'/></a>",
                "a[xmlns=u](b[xmlns=][xml:lang=en][xmlns:xml=http://www.w3.org/XML/1998/namespace]())",
            ),
            ("<a xmlns:p='u' xmlns:q='v' p:x='1' q:x='2'/>", "a[xmlns:p=u][xmlns:q=v][p:x=1][q:x=2]()"),
            ("<xmlns/>", "xmlns()"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn expansion_ends_at_a_limit() {
        let nested = |levels: usize| format!("{}<b/>{}", "<a>".repeat(levels), "</a>".repeat(levels));
        assert!(read(&nested(MAX_NESTING)).is_ok());
        assert_eq!(read(&nested(MAX_NESTING + 1)), Err(Malformed));
        let declared = |count: usize| {
            let declarations: String = (0..count).map(|n| format!(" xmlns:p{n}='u'")).collect();
            format!("<a{declarations}/>")
        };
        assert!(read(&declared(MAX_XML_NAMESPACES)).is_ok());
        assert_eq!(read(&declared(MAX_XML_NAMESPACES + 1)), Err(TooLarge));
        let again = format!("<a>{}</a>", declared(1).repeat(MAX_XML_NAMESPACES + 1));
        assert!(read(&again).is_ok());
        let attributes: String = (0..=MAX_XML_NODES).map(|n| format!(" a{n}=''")).collect();
        assert_eq!(read(&format!("<a{attributes}/>")), Err(TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_fail(text in "[<>/?!a&;:'\"=x#1\\[\\]\\- \u{e9}\u{feff}]{0,40}") {
            let _ = read(&text);
            let _ = read(&format!("<a>{text}</a>"));
        }
    }
}
