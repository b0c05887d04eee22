//! JSON written as XML (contract/streams 9.3).

use std::borrow::Cow;
use std::collections::HashSet;

use super::markup::is_allowed;
use super::namespaces::{Namespaces, is_reserved};
use super::{close, name_of, push_attribute, push_text};
use crate::http::format::json::indent::push_literal;
use crate::http::format::json::tree::Json;

/// The XML of a JSON value would exceed its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too large as XML")]
pub(crate) struct TooLarge;

/// Appends `value` as elements called `name`: one, or one per element of an array. `no_namespace`
/// is ready XML with a leading space, or empty: the declaration that takes an element out of the
/// default namespace around it. An element that declares one of its own does not need it.
///
/// # Errors
/// `out` would become longer than `limit`: every element of an array repeats its name, which can be
/// as long as the document. `out` is as before.
pub(crate) fn push_json(
    out: &mut Vec<u8>,
    name: &str,
    no_namespace: &str,
    value: &Json<'_>,
    limit: usize,
) -> Result<(), TooLarge> {
    let before = out.len();
    let pushed = Writer { out, limit, namespaces: Namespaces::default(), depth: 0 }.elements(name, no_namespace, value);
    if pushed.is_err() {
        out.truncate(before);
    }
    pushed
}

/// The members of an object.
type Members<'j> = [(Cow<'j, str>, Json<'j>)];

/// Writes a value from outside to inside.
struct Writer<'o, 'j> {
    out: &'o mut Vec<u8>,
    /// Length that `out` must not exceed by much.
    limit: usize,
    /// What was declared on the way to the element being written.
    namespaces: Namespaces<'j>,
    /// Of that element.
    depth: usize,
}

impl<'j> Writer<'_, 'j> {
    /// A member: one element, or one per element of an array.
    fn elements(&mut self, member: &str, no_namespace: &str, value: &'j Json<'_>) -> Result<(), TooLarge> {
        match value {
            Json::Array(elements) => {
                elements.iter().try_for_each(|element| self.element(member, no_namespace, element))
            }
            _ => self.element(member, no_namespace, value),
        }
    }

    /// One element. What it declares counts for its own name, too, so that is found anew for each.
    fn element(&mut self, member: &str, no_namespace: &str, value: &'j Json<'_>) -> Result<(), TooLarge> {
        self.depth += 1;
        let declarations = match value {
            Json::Object(members) => self.declare(members),
            _ => Declarations::default(),
        };
        let name = self.name(member);
        self.check_room(2 * name.len())?;
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        match declarations.default {
            Some(namespace) => self.attribute("xmlns", namespace),
            None => self.out.extend_from_slice(no_namespace.as_bytes()),
        }
        match value {
            Json::Object(members) => self.inside_of_object(members, &declarations)?,
            // An array inside of an array is an element that holds further elements of its own
            // name.
            Json::Array(elements) => {
                self.out.push(b'>');
                elements.iter().try_for_each(|element| self.element(member, "", element))?;
            }
            scalar => {
                self.out.push(b'>');
                self.scalar(scalar);
            }
        }
        close(self.out, &name);
        self.namespaces.leave(self.depth);
        self.depth -= 1;
        Ok(())
    }

    /// Finds what an object declares, wherever among its members. What XML would not take as a
    /// declaration is none.
    fn declare(&mut self, members: &'j Members<'_>) -> Declarations<'j> {
        let mut found = Declarations::default();
        for (member, value) in members {
            let Some(attribute) = as_attribute(member, value).filter(|name| name.starts_with("xmlns")) else {
                continue;
            };
            let namespace = scalar_text(value);
            if !is_allowed(&namespace) {
                continue;
            }
            if attribute == "xmlns" {
                if found.default.is_none() && !is_reserved(&namespace) {
                    found.default = Some(value);
                }
                continue;
            }
            let Some(prefix) = attribute.strip_prefix("xmlns:").filter(|prefix| name_of(prefix) == **prefix) else {
                continue;
            };
            if !found.prefixes.contains(prefix) && self.namespaces.declare(self.depth, prefix, &namespace).is_ok() {
                found.prefixes.insert(prefix);
            }
        }
        found
    }

    /// A member's name as an XML name: with its prefix, where that is declared.
    fn name(&self, member: &str) -> String {
        match declared_prefix(member, &self.namespaces) {
            Some((prefix, local, _)) => format!("{prefix}:{}", name_of(local)),
            None => name_of(member),
        }
    }

    /// The attributes of an element, the end of its start tag, and what it contains.
    fn inside_of_object(&mut self, members: &'j Members<'_>, declarations: &Declarations<'_>) -> Result<(), TooLarge> {
        let mut written = Attributes::default();
        for (member, value) in members {
            if let Some(attribute) = as_attribute(member, value)
                && let Some(name) = written.name(attribute, declarations, &self.namespaces)
            {
                self.attribute(&name, value);
            }
        }
        self.out.push(b'>');
        for (member, value) in members {
            match value {
                _ if as_attribute(member, value).is_some() => {}
                Json::String(_) | Json::Literal(_) | Json::Null if member == "#text" => self.scalar(value),
                _ => {
                    self.check_room(2 * member.len())?;
                    self.elements(member, "", value)?;
                }
            }
        }
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &Json<'_>) {
        self.out.push(b' ');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"=\"");
        push_attribute(self.out, &scalar_text(value));
        self.out.push(b'"');
    }

    fn scalar(&mut self, value: &Json<'_>) {
        push_text(self.out, &scalar_text(value));
    }

    fn check_room(&self, more: usize) -> Result<(), TooLarge> {
        if self.out.len() + more > self.limit { Err(TooLarge) } else { Ok(()) }
    }
}

/// What an element declares.
#[derive(Default)]
struct Declarations<'j> {
    /// The default namespace.
    default: Option<&'j Json<'j>>,
    /// Prefixes.
    prefixes: HashSet<&'j str>,
}

/// The attributes that an element has so far.
#[derive(Default)]
struct Attributes {
    names: HashSet<String>,
    /// Namespace and name of those with a prefix: two prefixes can stand for one namespace.
    expanded: HashSet<(String, String)>,
}

impl Attributes {
    /// The name under which a further attribute is written; `None` for one that is written already:
    /// a doubled one would make the document invalid.
    fn name(
        &mut self,
        attribute: &str,
        declarations: &Declarations<'_>,
        namespaces: &Namespaces<'_>,
    ) -> Option<String> {
        let name = match declared_prefix(attribute, namespaces) {
            // The default namespace stands before all other attributes, or would change what the
            // document means.
            _ if attribute == "xmlns" => return None,
            _ if attribute.strip_prefix("xmlns:").is_some_and(|prefix| declarations.prefixes.contains(prefix)) => {
                attribute.to_owned()
            }
            Some((prefix, local, namespace)) if self.expanded.insert((namespace.to_owned(), name_of(local))) => {
                format!("{prefix}:{}", name_of(local))
            }
            _ => name_of(attribute),
        };
        self.names.insert(name.clone()).then_some(name)
    }
}

/// The name of the attribute that a member becomes, if it becomes one.
fn as_attribute<'j>(member: &'j str, value: &Json<'_>) -> Option<&'j str> {
    let is_scalar = !matches!(value, Json::Object(_) | Json::Array(_));
    member.strip_prefix('@').filter(|_| is_scalar)
}

/// Prefix, local name and namespace of a name whose prefix is declared.
fn declared_prefix<'n>(name: &'n str, namespaces: &'n Namespaces<'_>) -> Option<(&'n str, &'n str, &'n str)> {
    let (prefix, local) = name.split_once(':').filter(|(_, local)| !local.is_empty() && !local.contains(':'))?;
    Some((prefix, local, namespaces.of(prefix)?))
}

/// A value as text; of an object or an array there is none.
fn scalar_text<'v>(value: &'v Json<'_>) -> Cow<'v, str> {
    match value {
        Json::String(text) => Cow::Borrowed(text),
        Json::Literal(literal) => {
            let mut text = Vec::new();
            push_literal(&mut text, literal);
            // XML Schema writes a double without a fraction as an integer.
            if text.ends_with(b".0") {
                text.truncate(text.len() - 2);
            }
            Cow::Owned(String::from_utf8_lossy(&text).into_owned())
        }
        Json::Null | Json::Object(_) | Json::Array(_) => Cow::Borrowed(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::format::json::tree::parse;
    use crate::http::format::xml::document::XmlDocument;

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
    }

    /// What [`push_json`] makes of JSON in a feed.
    fn in_a_feed(json: &str) -> String {
        let mut out = Vec::new();
        push_json(&mut out, "data", " xmlns=\"\"", &parse(json).unwrap(), usize::MAX).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn declared_namespaces_come_out_as_such() {
        for (json, xml) in [
            (r#"{"@xmlns":"u","a":1}"#, r#"<data xmlns="u"><a>1</a></data>"#),
            (r#"{"a":{"@xmlns":"","b":1}}"#, r#"<data><a xmlns=""><b>1</b></a></data>"#),
            (r#"{"@xmlns:p":"u","p:a":1,"b":2}"#, r#"<data xmlns:p="u"><p:a>1</p:a><b>2</b></data>"#),
            // Wherever the declaration stands.
            (r#"{"p:a":1,"@p:b":2,"@xmlns:p":"u"}"#, r#"<data p:b="2" xmlns:p="u"><p:a>1</p:a></data>"#),
            // Also for the element itself, and not beside it.
            (
                r#"{"p:a":[{"@xmlns:p":"u","p:b":1},2],"p:c":3}"#,
                r#"<data><p:a xmlns:p="u"><p:b>1</p:b></p:a><p_x003A_a>2</p_x003A_a><p_x003A_c>3</p_x003A_c></data>"#,
            ),
            (r#"{"a":{"@xml:lang":"en","xml:b":1}}"#, r#"<data><a xml:lang="en"><xml:b>1</xml:b></a></data>"#),
            (
                r#"{"@xmlns:xml":"http://www.w3.org/XML/1998/namespace"}"#,
                r#"<data xmlns:xml="http://www.w3.org/XML/1998/namespace"></data>"#,
            ),
            (r#"{"@xmlns:p":"u","p:1 b":1}"#, r#"<data xmlns:p="u"><p:_x0031__x0020_b>1</p:_x0031__x0020_b></data>"#),
            (r#"{"@xmlns:p":5,"p:a":null}"#, r#"<data xmlns:p="5"><p:a></p:a></data>"#),
            (r#"{"@xmlns:p":"\"<&\n","p:a":1}"#, "<data xmlns:p=\"&quot;&lt;&amp;&#xA;\"><p:a>1</p:a></data>"),
            (
                r#"{"@xmlns:p":"u","a":{"@xmlns:p":"v","p:b":1},"p:c":2}"#,
                r#"<data xmlns:p="u"><a xmlns:p="v"><p:b>1</p:b></a><p:c>2</p:c></data>"#,
            ),
        ] {
            assert_eq!(converted(json), xml, "{json}");
        }
    }

    #[test]
    fn what_xml_would_not_take_for_a_namespace_is_escaped() {
        for (json, xml) in [
            (r#"{"a:b":1,"@a:b":2}"#, r#"<data a_x003A_b="2"><a_x003A_b>1</a_x003A_b></data>"#),
            (r#"{"atom:a":1}"#, "<data><atom_x003A_a>1</atom_x003A_a></data>"),
            (
                r#"{"@xmlns:p":"u","p:":1,":p":2,"p:a:b":3}"#,
                r#"<data xmlns:p="u"><p_x003A_>1</p_x003A_><_x003A_p>2</_x003A_p><p_x003A_a_x003A_b>3</p_x003A_a_x003A_b></data>"#,
            ),
            (r#"{"@xmlns:p":"","p:a":1}"#, r#"<data xmlns_x003A_p=""><p_x003A_a>1</p_x003A_a></data>"#),
            (r#"{"@xmlns:1":"u","1:a":1}"#, r#"<data xmlns_x003A_1="u"><_x0031__x003A_a>1</_x0031__x003A_a></data>"#),
            (r#"{"@xmlns:xml":"u"}"#, r#"<data xmlns_x003A_xml="u"></data>"#),
            (r#"{"@xmlns:xmlns":"u"}"#, r#"<data xmlns_x003A_xmlns="u"></data>"#),
            (r#"{"@xmlns:p:q":"u"}"#, r#"<data xmlns_x003A_p_x003A_q="u"></data>"#),
            (r#"{"@xmlns:":"u"}"#, r#"<data xmlns_x003A_="u"></data>"#),
            (r#"{"@xmlns:p":"\u0001"}"#, "<data xmlns_x003A_p=\"\u{fffd}\"></data>"),
            (
                r#"{"@xmlns:p":"http://www.w3.org/2000/xmlns/"}"#,
                r#"<data xmlns_x003A_p="http://www.w3.org/2000/xmlns/"></data>"#,
            ),
            (r#"{"@xmlns":"http://www.w3.org/XML/1998/namespace"}"#, "<data></data>"),
            (r#"{"@xmlns":{"a":1}}"#, "<data><_x0040_xmlns><a>1</a></_x0040_xmlns></data>"),
            (r#"{"xmlns":1,"xmlns:p":2}"#, "<data><xmlns>1</xmlns><xmlns_x003A_p>2</xmlns_x003A_p></data>"),
            // Doubled.
            (r#"{"@xmlns:p":"u","@xmlns:p":"v","@xmlns":"u","@xmlns":"v"}"#, r#"<data xmlns="u" xmlns:p="u"></data>"#),
            (
                r#"{"@xmlns:p":"u","@xmlns:q":"u","@p:a":1,"@q:a":2,"@p:a":3}"#,
                r#"<data xmlns:p="u" xmlns:q="u" p:a="1" q_x003A_a="2" p_x003A_a="3"></data>"#,
            ),
        ] {
            assert_eq!(converted(json), xml, "{json}");
        }
    }

    #[test]
    fn a_default_namespace_of_its_own_replaces_that_of_the_feed() {
        assert_eq!(in_a_feed(r#"{"a":1}"#), r#"<data xmlns=""><a>1</a></data>"#);
        assert_eq!(in_a_feed(r#"{"@xmlns":"u","a":1}"#), r#"<data xmlns="u"><a>1</a></data>"#);
        assert_eq!(in_a_feed(r#"[{"@xmlns":"u"},1]"#), r#"<data xmlns="u"></data><data xmlns="">1</data>"#);
        assert_eq!(in_a_feed(r#"{"@xmlns":"http://www.w3.org/2000/xmlns/"}"#), r#"<data xmlns=""></data>"#);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_well_formed(json in any_json()) {
            let json = json.to_string();
            for xml in [converted(&json), in_a_feed(&json)] {
                let xml = format!("<all>{xml}</all>");
                let mut document = XmlDocument::new(&xml).unwrap();
                while document.next_part().unwrap_or_else(|error| panic!("{error}: {json} as {xml}")).is_some() {}
            }
        }
    }

    /// JSON with names of all kinds, declared and not.
    fn any_json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let name = prop_oneof![
            "@?xmlns(:[pq])?",
            "@?[pq]:[ab1]?",
            "@?[ab]",
            "@xml(ns)?:(lang|xml|p:q|1)?",
            "@?[pqx:@# 1_]{0,4}",
        ];
        let text =
            prop_oneof!["[uv]?", "http://www.w3.org/(XML/1998/namespace|2000/xmlns/)", "[ \\n\u{1}<&\"\u{fffe}]{0,3}"];
        let leaf = prop_oneof![
            text.prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
            any::<i32>().prop_map(serde_json::Value::from)
        ];
        leaf.prop_recursive(5, 60, 6, move |inner| {
            let members = proptest::collection::vec((name.clone(), inner.clone()), 0..6);
            let object = members.prop_map(|members| serde_json::Value::Object(members.into_iter().collect()));
            prop_oneof![3 => object, 1 => proptest::collection::vec(inner, 0..3).prop_map(serde_json::Value::from)]
        })
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
