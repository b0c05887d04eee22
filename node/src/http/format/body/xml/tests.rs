//! Bodies in XML, as clients send them.

use headwater_proto::stored::NewEvent;
use proptest::prelude::*;

use super::*;
use crate::http::format::json::tree;
use crate::http::format::xml::from_json::push_json;
use crate::streams::limits::MAX_EVENTS_PER_APPEND;

const ID: &str = "48b5f36d-1bb1-5326-9f65-406bc3ab6435";

fn first(body: &str) -> NewEvent {
    parse_events(body).unwrap().as_slice()[0].clone()
}

fn one(parts: &str) -> NewEvent {
    let body = format!("<Events><Event><EventId>{ID}</EventId><EventType>xt</EventType>{parts}</Event></Events>");
    first(&body)
}

fn data(content: &str) -> String {
    String::from_utf8(one(&format!("<Data>{content}</Data>")).data.to_vec()).unwrap()
}

#[test]
fn elements_become_members_with_string_values() {
    assert_eq!(
        data(r#"<a>1</a><b at="q">txt</b>"#),
        "{\n  \"a\": \"1\",\n  \"b\": {\n    \"@at\": \"q\",\n    \"#text\": \"txt\"\n  }\n}"
    );
    assert_eq!(
        data("<a>1</a><c/><a>2 &amp; &#x41;</a><d></d>"),
        "{\n  \"a\": [\n    \"1\",\n    \"2 & A\"\n  ],\n  \"c\": null,\n  \"d\": \"\"\n}"
    );
    assert_eq!(data("<_x0024_a>1</_x0024_a>"), "{\n  \"$a\": \"1\"\n}");
}

/// The data of an event in a body whose root has these attributes.
fn data_within(root: &str, payload: &str) -> serde_json::Value {
    let body =
        format!("<e {root}><v xmlns:v=\"urn:v\"><eventId>{ID}</eventId><eventType>t</eventType>{payload}</v></e>");
    serde_json::from_slice(&first(&body).data).unwrap()
}

#[test]
fn namespaces_are_stored_with_the_payload_that_uses_them() {
    let root = "xmlns=\"urn:d\" xmlns:i=\"urn:i\" xmlns:j=\"urn:j\"";
    for (payload, expected) in [
        ("<data><i:a/></data>", r#"{"@xmlns:i":"urn:i","i:a":null}"#),
        (
            "<data b=\"1\"><a i:nil=\"true\"/><v:c/></data>",
            r#"{"@xmlns:i":"urn:i","@xmlns:v":"urn:v","@b":"1","a":{"@i:nil":"true"},"v:c":null}"#,
        ),
        ("<data i:b=\"1\"/>", r#"{"@xmlns:i":"urn:i","@i:b":"1"}"#),
        ("<data i:b=\"1\">x</data>", r##"{"@xmlns:i":"urn:i","@i:b":"1","#text":"x"}"##),
        // Declared inside: as it is written.
        ("<data xmlns:i=\"urn:k\"><i:a/></data>", r#"{"@xmlns:i":"urn:k","i:a":null}"#),
        ("<data xmlns:i=\"urn:k\" i:a=\"1\"/>", r#"{"@xmlns:i":"urn:k","@i:a":"1"}"#),
        ("<data><i:a xmlns:i=\"urn:k\"/></data>", r#"{"i:a":{"@xmlns:i":"urn:k"}}"#),
        ("<data><b xmlns:i=\"urn:k\"><i:a/></b></data>", r#"{"b":{"@xmlns:i":"urn:k","i:a":null}}"#),
        // Both.
        (
            "<data><b xmlns:i=\"urn:k\"><i:a/></b><i:a/></data>",
            r#"{"@xmlns:i":"urn:i","b":{"@xmlns:i":"urn:k","i:a":null},"i:a":null}"#,
        ),
        // Nothing is used: the default namespace, `xml`, and prefixes in text are not.
        ("<data><a xml:lang=\"en\">i:a</a></data>", r##"{"a":{"@xml:lang":"en","#text":"i:a"}}"##),
    ] {
        assert_eq!(data_within(root, payload).to_string(), expected, "{payload}");
    }
    let metadata = format!(
        "<e {root}><v><eventId>{ID}</eventId><eventType>t</eventType><data><i:a/></data><metadata><j:a/></metadata></v></e>"
    );
    let event = first(&metadata);
    let stored: serde_json::Value = serde_json::from_slice(&event.metadata).unwrap();
    assert_eq!(stored.to_string(), r#"{"@xmlns:j":"urn:j","j:a":null}"#);
}

#[test]
fn mixed_text_stands_where_it_first_appears() {
    assert_eq!(
        data("<c/>\n one <d>2</d> three <!-- here --> four <c>5</c>\n"),
        "{\n  \"c\": [\n    null,\n    \"5\"\n  ],\n  \"#text\": [\n    \"\\n one \",\n    \" three  four \"\n  ],\n  \"d\": \"2\"\n}"
    );
    assert_eq!(data("<a> </a>"), "{\n  \"a\": \"\"\n}");
}

#[test]
fn text_is_handled_like_a_json_string() {
    assert_eq!(data("5"), "5");
    assert_eq!(data("{\"x\":1}"), "{\n  \"x\": 1\n}");
    assert_eq!(data("<![CDATA[<a>]]>"), "<a>");
    assert_eq!(data("2012-04-23T18:25:43Z"), "2012-04-23T18:25:43Z");
    assert!(!one("<data>5</data>").is_json);
    assert!(!one("<data/>").is_json);
    assert_eq!(data(" \n "), "");
    assert_eq!(data("\u{a0}"), "\u{a0}");
    assert_eq!(data("a\r\nb"), "a\nb");
}

#[test]
fn a_declaration_and_a_default_namespace_are_fine() {
    let body = format!(
        "<?xml version=\"1.0\"?>\n<e xmlns=\"urn:x\"><any><eventId>{ID}</eventId><eventType>t</eventType></any></e>\n"
    );
    assert_eq!(parse_events(&body).unwrap().as_slice().len(), 1);
}

#[test]
fn every_broken_body_has_its_message() {
    let deep = format!("{}{}", "<a>".repeat(1000), "</a>".repeat(1000));
    for body in [
        "",
        "x",
        "<events><event>",
        "<events></events>",
        "<events/>",
        "<a></b>",
        "<a/><b/>",
        "<a>&nope;</a>",
        "<e><v a=\"1\" a=\"2\"/></e>",
        "<e><v><other><$/></other></v></e>",
        "<e/><!-- --",
        &deep,
    ] {
        let refused = parse_events(body);
        assert!(matches!(refused, Err(BodyError::Invalid | BodyError::Event(EventError::NoEvents))), "{body}");
    }
    assert_eq!(parse_events("<e><v><eventId>nope</eventId><eventType>t</eventType></v></e>"), Err(BodyError::Invalid));
    assert_eq!(parse_events("<e><v><eventType>t</eventType></v></e>"), Err(BodyError::Event(EventError::EmptyId)));
    assert_eq!(parse_events(&format!("<e><v eventId=\"{ID}\"/></e>")), Err(BodyError::Event(EventError::EmptyId)));
    assert_eq!(
        parse_events(&format!("<e><v><eventId>{ID}</eventId></v></e>")),
        Err(BodyError::Event(EventError::EmptyType))
    );
}

#[test]
fn data_that_would_outgrow_an_event_is_refused_before_it_does() {
    let event =
        |data: &str| format!("<e><v><eventId>{ID}</eventId><eventType>t</eventType><data>{data}</data></v></e>");
    let deep = format!("{}{}{}", "<a>".repeat(120), "<b/>".repeat(400_000), "</a>".repeat(120));
    assert_eq!(parse_events(&event(&deep)), Err(BodyError::Event(EventError::TooLarge)));
    assert_eq!(parse_events(&event(&"<b/>".repeat(MAX_XML_NODES))), Err(BodyError::Event(EventError::TooLarge)));
    assert_eq!(parse_events(&event(&"<b/>".repeat(100))).map(|events| events.as_slice().len()), Ok(1));
    let other =
        format!("<e><v><eventId>{ID}</eventId><eventType>t</eventType><x>{}</x></v></e>", "<b/>".repeat(MAX_XML_NODES));
    assert_eq!(parse_events(&other).map(|events| events.as_slice().len()), Ok(1));
    let deep = format!("{}{}{}", "<a>".repeat(100), "<b></b>".repeat(4_000), "</a>".repeat(100));
    assert!(parse_events(&event(&deep)).is_ok());
    let all = [event(&deep).trim_start_matches("<e>").trim_end_matches("</e>"); 100].concat();
    assert_eq!(parse_events(&format!("<e>{all}</e>")), Err(BodyError::Event(EventError::AllTooLarge)));
    let many = "<v/>".repeat(MAX_EVENTS_PER_APPEND + 1);
    assert_eq!(parse_events(&format!("<e>{many}</e>")), Err(BodyError::Event(EventError::TooMany)));
}

#[test]
fn very_many_attributes_are_read_at_once() {
    let attributes: String = (0..200_000).map(|n| format!(" a{n}=\"\"")).collect();
    let started = std::time::Instant::now();
    assert!(one(&format!("<data><d{attributes}/></data>")).is_json);
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

/// JSON that XML can say: objects with members, lists of two and more, text that is not layout.
fn any_object() -> impl Strategy<Value = serde_json::Value> {
    let text = "[^\\pC]{0,12}".prop_filter("layout", |text| text.is_empty() || !text.trim().is_empty());
    let leaf = text.prop_map(serde_json::Value::from).boxed();
    let object = |value: BoxedStrategy<serde_json::Value>| {
        let list = proptest::collection::vec(value.clone(), 2..4).prop_map(serde_json::Value::from);
        let name = "[^\\pC@#]{1,6}";
        proptest::collection::btree_map(name, prop_oneof![value, list], 1..4)
            .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
            .boxed()
    };
    let inner = object(leaf.clone());
    object(prop_oneof![leaf, inner].boxed())
}

/// An element with namespaces that JSON can say: equal names stand together, text stands alone.
/// `declared` are the prefixes around it.
fn any_element(declared: Vec<&'static str>, levels: u32) -> BoxedStrategy<String> {
    let declares = proptest::sample::subsequence(vec!["p", "q", "r"], 0..=2);
    let (default, of_prefix) = (proptest::option::of("[uv]?"), "[uvw]{1,2}");
    (declares, default, of_prefix, 0..3_usize)
        .prop_flat_map(move |(declares, default, of_prefix, shape)| {
            let mut prefixes = declared.clone();
            prefixes.extend(&declares);
            prefixes.sort_unstable();
            prefixes.dedup();
            let mut attributes: String = default.map(|uri| format!(" xmlns=\"{uri}\"")).unwrap_or_default();
            // Different ones, so that no two attributes are the same.
            for prefix in declares {
                attributes.push_str(&format!(" xmlns:{prefix}=\"{of_prefix}{prefix}\""));
            }
            let name = if prefixes.is_empty() {
                "[abc]".boxed()
            } else {
                prop_oneof![
                    "[abc]",
                    (proptest::sample::select(prefixes.clone()), "[abc]").prop_map(|(p, x)| format!("{p}:{x}"))
                ]
                .boxed()
            };
            let more = proptest::collection::btree_set(name.clone(), 0..3)
                .prop_map(|names| names.into_iter().map(|name| format!(" {name}=\"1\"")).collect::<String>());
            let inside = if levels == 0 || shape == 0 {
                Just("text".to_owned()).boxed()
            } else {
                proptest::collection::vec(any_element(prefixes.clone(), levels - 1), 1..3)
                    .prop_map(|all| {
                        all.iter().enumerate().map(|(at, one)| one.replacen('?', &format!("{at}"), 2)).collect()
                    })
                    .boxed()
            };
            (name, more, inside).prop_map(move |(name, more, inside)| {
                // The number that follows keeps the names of siblings apart.
                format!("<{name}?{attributes}{more}>{inside}</{name}?>")
            })
        })
        .boxed()
}

/// All parts of a document, prefixes replaced by what they stand for.
fn parts(xml: &str) -> String {
    let mut document = XmlDocument::new(xml).unwrap();
    let mut shown = String::new();
    while let Some(part) = document.next_part().unwrap() {
        match part {
            Part::Open(tag) => {
                let expanded = |name: &str| match name.split_once(':') {
                    Some((prefix, local)) if prefix != "xmlns" => {
                        let namespace = document.inherited_namespace(prefix, usize::MAX).unwrap();
                        format!("{{{namespace}}}{local}")
                    }
                    _ => name.to_owned(),
                };
                let mut attributes: Vec<String> =
                    tag.attributes.iter().map(|(name, value)| format!("{}={value}", expanded(name))).collect();
                attributes.sort();
                shown.push_str(&format!("<{} {}>", expanded(tag.name), attributes.join(" ")));
            }
            Part::Close => shown.push_str("</>"),
            Part::Text(text) => shown.push_str(&text),
        }
    }
    shown
}

proptest! {
    #[test]
    fn xml_with_namespaces_comes_back_as_it_was(element in any_element(vec!["p"], 3)) {
        let element = element.replacen('?', "0", 2).replace('?', "");
        let payload = format!("<data xmlns:p=\"outside\">{element}</data>");
        let event = first(&format!(
            "<e xmlns:p=\"outside\"><v><eventId>{ID}</eventId><eventType>t</eventType><data>{element}</data></v></e>"
        ));
        let stored = std::str::from_utf8(&event.data).unwrap();
        let mut xml = Vec::new();
        push_json(&mut xml, "data", "", &tree::parse(stored).unwrap(), usize::MAX).unwrap();
        let xml = String::from_utf8(xml).unwrap();
        // A prefix that is not used is not stored.
        let payload = if xml.starts_with("<data>") { payload.replacen(" xmlns:p=\"outside\"", "", 1) } else { payload };
        prop_assert_eq!(parts(&xml), parts(&payload), "{} became {} and {}", payload, stored, xml);
    }

    #[test]
    fn json_written_as_xml_is_read_as_the_same_json(value in any_object()) {
        let text = value.to_string();
        let mut xml = Vec::new();
        push_json(&mut xml, "data", "", &tree::parse(&text).unwrap(), usize::MAX).unwrap();
        let event = one(&String::from_utf8(xml).unwrap());
        prop_assert!(event.is_json);
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&event.data).unwrap(), value);
    }
}
