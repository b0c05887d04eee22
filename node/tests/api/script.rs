//! Reads and runs the table of cases. A case is a name at the margin and indented lines below it:
//!
//! ```text
//! given 3 ev                       append three events {"n": i} of type t to {S}
//! GET /streams/{S}                 a request; GETs of streams ask for vnd.eventstore.atom+json, others for JSON, unless they say otherwise
//! user {U} secret g1,g2            creates a user as admin:changeit, the groups optional
//!   as admin:changeit              logs in for the request; adm, ops, {U}, {V} stand for themselves with their passwords
//!   > Accept: AX                   a header; media types have the short names of `MEDIA_TYPES`, `-` sends none
//!   | {"a": 1}                     a line of the body
//!   events id1 new                 a body of events with these ids; `new` is another one each time
//!   raw J {"a": 1}                 a body of this type as one event with a new id and type t
//!   < 200 OK                       status and, if given, the exact reason phrase
//!   < ETag: "0;1"   < ETag ~ "0;   a header's value, or a part of it; `absent` if it must not be there
//!   < body = text   < body ~ text  the body, or a part of it
//!   < json entries.0.title = "x"   a JSON value; `absent` if it must not be there
//!   < keys entries.0: id title     the names of an object's members begin with these, in this order
//!   < entries 24..5                numbers in the titles of a feed, or `none`
//!   < links next=4/backward/20     all links of a feed except self, first and metadata, relative to the stream
//!   = name header Location         keeps a header, or `link next`, as {name} for later lines
//! ```
//! `{S}`, `{T}` are streams of the case's own, `{b}` is the node, `{scheme}` its `http` or `https`,
//! `{MAX}` the largest number, `{zero}` the position where the log of all events begins, `{guid}` a
//! new id.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use uuid::Uuid;

use crate::support::client::{self, Answer};

const MEDIA_TYPES: &[(&str, &str)] = &[
    ("AJ", "application/vnd.eventstore.atom+json"),
    ("AX", "application/atom+xml"),
    ("J", "application/json"),
    ("X", "text/xml"),
    ("EJ", "application/vnd.eventstore.event+json"),
    ("EX", "application/vnd.eventstore.event+xml"),
    ("ESJ", "application/vnd.eventstore.events+json"),
    ("ESX", "application/vnd.eventstore.events+xml"),
    ("OS", "application/octet-stream"),
    ("SD", "application/vnd.eventstore.streamdesc+json"),
];

/// One row of the table.
pub(crate) struct Case {
    name: &'static str,
    lines: Vec<&'static str>,
}

impl Case {
    /// Whether a target of its requests holds a space.
    pub(crate) fn has_target_with_space(&self) -> bool {
        let is_request = |line: &&&str| line.starts_with("GET ") || line.starts_with("POST ");
        self.lines.iter().filter(is_request).any(|line| line.split(' ').count() > 2)
    }
}

/// Splits the file into cases. Lines that begin with `#` are comments.
pub(crate) fn parse(text: &'static str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if line.starts_with(' ') {
            cases.last_mut().expect("a line before the first case").lines.push(line.trim());
        } else {
            cases.push(Case { name: line, lines: Vec::new() });
        }
    }
    cases
}

/// A request being put together.
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Runs one case.
pub(crate) struct Runner<'a> {
    base: &'a str,
    case: &'a Case,
    names: HashMap<String, String>,
    pending: Option<Request>,
    answer: Option<Answer>,
}

impl<'a> Runner<'a> {
    /// Fresh streams and ids.
    pub(crate) fn new(base: &'a str, case: &'a Case) -> Self {
        let tag = case.name.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        let unique = &Uuid::new_v4().simple().to_string()[..8];
        let names = HashMap::from([
            ("b".to_owned(), base.to_owned()),
            ("scheme".to_owned(), base.split(':').next().unwrap_or_default().to_owned()),
            ("S".to_owned(), format!("{tag}-{unique}")),
            ("U".to_owned(), format!("{tag}-{unique}-u")),
            ("V".to_owned(), format!("{tag}-{unique}-v")),
            ("T".to_owned(), format!("{tag}-{unique}-t")),
            ("MAX".to_owned(), i64::MAX.to_string()),
            ("zero".to_owned(), "0".repeat(32)),
        ]);
        Self { base, case, names, pending: None, answer: None }
    }

    /// The first line that does not hold.
    pub(crate) fn run(mut self) -> Result<(), String> {
        let lines = self.case.lines.clone();
        for line in lines {
            self.line(line).map_err(|reason| {
                let answer =
                    self.answer.as_ref().map(|a| format!("{} {:?} {:?}\n{}", a.status, a.reason, a.headers, a.text()));
                format!("{}\n  {line}\n  {reason}\n{}\n", self.case.name, answer.unwrap_or_default())
            })?;
        }
        self.send();
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let line = self.filled(line);
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "given" => {
                let count = rest.split(' ').next().and_then(|n| n.parse().ok()).ok_or("how many?")?;
                self.send();
                self.begin("POST", format!("/streams/{}", self.names["S"]));
                self.events(&vec!["new"; count]);
                self.answered().and_then(|answer| (answer.status == 201).then_some(()).ok_or("not stored".to_owned()))
            }
            "user" => {
                let mut words = rest.split(' ');
                let (login, password) = (words.next().ok_or("who?")?, words.next().ok_or("which password?")?);
                let groups: Vec<&str> = words.next().map(|list| list.split(',').collect()).unwrap_or_default();
                let document =
                    serde_json::json!({"loginName": login, "fullName": "A B", "groups": groups, "password": password});
                self.send();
                self.begin("POST", "/users/".to_owned());
                self.login("adm");
                self.header("Content-Type", "application/json");
                self.request()?.body = document.to_string().into_bytes();
                self.answered().and_then(|answer| (answer.status == 201).then_some(()).ok_or("not created".to_owned()))
            }
            "as" => {
                self.login(rest);
                Ok(())
            }
            "GET" | "POST" | "DELETE" | "PUT" | "PATCH" | "HEAD" | "OPTIONS" => {
                self.send();
                self.begin(word, rest.to_owned());
                Ok(())
            }
            ">" => {
                let (name, value) = rest.split_once(':').ok_or("a header has a colon")?;
                self.header(name, value.trim());
                Ok(())
            }
            "|" => {
                let body = &mut self.request()?.body;
                if !body.is_empty() {
                    body.push(b'\n');
                }
                body.extend_from_slice(rest.as_bytes());
                Ok(())
            }
            "events" => {
                self.events(&rest.split(' ').collect::<Vec<_>>());
                Ok(())
            }
            "raw" => {
                let (media_type, body) = rest.split_once(' ').unwrap_or((rest, ""));
                self.header("Content-Type", media_type);
                self.header("ES-EventId", &Uuid::new_v4().to_string());
                self.header("ES-EventType", "t");
                self.request()?.body = body.as_bytes().to_vec();
                Ok(())
            }
            "=" => {
                let (name, what) = rest.split_once(' ').ok_or("= name header Location")?;
                let answer = self.answered()?;
                let value = match what.split_once(' ') {
                    Some(("header", header)) => answer.header(header),
                    Some(("link", relation)) => link(&answer.json(), relation),
                    _ => None,
                };
                let value = value.ok_or_else(|| format!("no {what}"))?;
                let path = value.strip_prefix(self.base).unwrap_or(&value).to_owned();
                self.names.insert(name.to_owned(), path);
                Ok(())
            }
            "<" => {
                let stream = self.names["S"].clone();
                let base = self.base.to_owned();
                check(self.answered()?, rest, &base, &stream)
            }
            other => Err(format!("unknown word {other}")),
        }
    }

    fn filled(&self, line: &str) -> String {
        let mut line = line.replace("{guid}", &Uuid::new_v4().to_string());
        for (name, value) in &self.names {
            line = line.replace(&format!("{{{name}}}"), value);
        }
        line
    }

    fn login(&mut self, who: &str) {
        let credentials = match who {
            "adm" => "admin:changeit".to_owned(),
            "ops" => "ops:changeit".to_owned(),
            _ => who.to_owned(),
        };
        let value = format!("Basic {}", STANDARD.encode(credentials));
        self.header("Authorization", &value);
    }

    fn begin(&mut self, method: &str, path: String) {
        let headers = match method {
            "GET" if path.starts_with("/streams") => vec![("Accept".to_owned(), MEDIA_TYPES[0].1.to_owned())],
            "GET" => vec![("Accept".to_owned(), "application/json".to_owned())],
            _ => Vec::new(),
        };
        self.pending = Some(Request { method: method.to_owned(), path, headers, body: Vec::new() });
    }

    fn request(&mut self) -> Result<&mut Request, String> {
        self.pending.as_mut().ok_or_else(|| "no request".to_owned())
    }

    fn header(&mut self, name: &str, value: &str) {
        let value = MEDIA_TYPES.iter().find(|(short, _)| *short == value).map_or(value, |(_, long)| *long);
        if let Some(request) = &mut self.pending {
            request.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            if value != "-" {
                request.headers.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    fn events(&mut self, ids: &[&str]) {
        let id = |name: &str| match name {
            "new" => Uuid::new_v4(),
            name => Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}{name}", self.names["S"]).as_bytes()),
        };
        let event = |(n, name): (usize, &&str)| serde_json::json!({"eventId": id(name).to_string(), "eventType": "t", "data": {"n": n}});
        let events: Vec<Value> = ids.iter().enumerate().map(event).collect();
        let body = Value::Array(events).to_string().into_bytes();
        self.header("Content-Type", "ESJ");
        if let Some(request) = &mut self.pending {
            request.body = body;
        }
    }

    fn send(&mut self) {
        if let Some(request) = self.pending.take() {
            let headers: Vec<(&str, String)> = request.headers.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
            self.answer = Some(client::send(self.base, &request.method, &request.path, &headers, &request.body));
        }
    }

    fn answered(&mut self) -> Result<&Answer, String> {
        self.send();
        self.answer.as_ref().ok_or_else(|| "no answer yet".to_owned())
    }
}

fn link(feed: &Value, relation: &str) -> Option<String> {
    let links = feed["links"].as_array()?;
    let link = links.iter().find(|link| link["relation"] == relation)?;
    Some(link["uri"].as_str()?.to_owned())
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}")) }
}

fn contains(found: &str, part: &str) -> Result<(), String> {
    if found.contains(part) { Ok(()) } else { Err(format!("{part:?} is not in {found:?}")) }
}

fn at<'v>(mut value: &'v Value, path: &str) -> Option<&'v Value> {
    for step in path.split('.').filter(|step| !step.is_empty()) {
        value = match step.parse::<usize>() {
            Ok(index) if value.is_array() => value.get(index)?,
            _ => value.get(step)?,
        };
    }
    Some(value)
}

fn check(answer: &Answer, expected: &str, base: &str, stream: &str) -> Result<(), String> {
    let (word, rest) = expected.split_once(' ').unwrap_or((expected, ""));
    if let Ok(status) = word.parse::<u16>() {
        same(answer.status, status)?;
        return match &answer.reason {
            Some(reason) if !rest.is_empty() => same(reason.as_str(), rest),
            _ => Ok(()),
        };
    }
    match word {
        "body" => match rest.split_once(' ') {
            Some(("=", text)) => same(answer.text().as_str(), text),
            Some(("~", text)) => contains(&answer.text(), text),
            Some(("!~", text)) => contains(&answer.text(), text).err().map(|_| ()).ok_or_else(|| "it is there".into()),
            _ if rest == "empty" => same(answer.own_text().as_str(), ""),
            _ => Err("body = text, body ~ text or body empty".to_owned()),
        },
        "json" => {
            let body: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
            if let Some(path) = rest.strip_suffix(" absent") {
                return same(at(&body, path), None);
            }
            let (path, text) = rest.split_once(" = ").ok_or("json path = value")?;
            let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            same(at(&body, path), Some(&value))
        }
        "keys" => {
            let body: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
            let (path, names) = rest.split_once(':').ok_or("keys path: names")?;
            let object = at(&body, path).and_then(Value::as_object).ok_or("no object")?;
            let names: Vec<&str> = names.split_whitespace().collect();
            same(object.keys().map(String::as_str).take(names.len()).collect::<Vec<_>>(), names)
        }
        "entries" => {
            let body: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
            let entries = body["entries"].as_array().ok_or("no feed")?;
            let number = |entry: &Value| entry["title"].as_str()?.split('@').next()?.parse::<u64>().ok();
            let found: Option<Vec<u64>> = entries.iter().map(number).collect();
            let wanted = match rest.split_once("..") {
                Some((newest, oldest)) => {
                    let (newest, oldest): (u64, u64) = (newest.parse().unwrap(), oldest.parse().unwrap());
                    (oldest..=newest).rev().collect()
                }
                None if rest == "none" => Vec::new(),
                None => rest.split(',').map(|number| number.parse().unwrap()).collect(),
            };
            same(found, Some(wanted))
        }
        "links" => {
            let body: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
            let uri = format!("{base}/streams/{stream}");
            same(link(&body, "self"), Some(uri.clone()))?;
            same(link(&body, "metadata"), Some(format!("{uri}/metadata")))?;
            let links = body["links"].as_array().ok_or("no links")?;
            let mut found = Vec::new();
            for link in links {
                let (relation, target) = (link["relation"].as_str().unwrap(), link["uri"].as_str().unwrap());
                if !["self", "first", "metadata"].contains(&relation) {
                    found.push(format!("{relation}={}", target.strip_prefix(&format!("{uri}/")).unwrap_or(target)));
                }
            }
            let wanted: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
            same(found, wanted)
        }
        header => match header.strip_suffix(':') {
            Some(name) if rest == "absent" => same(answer.header(name), None),
            Some(name) => same(answer.header(name).as_deref(), Some(rest)),
            None => {
                let part = rest.strip_prefix("~ ").ok_or("Header: value or Header ~ part")?;
                contains(&answer.header(header).ok_or("no such header")?, part)
            }
        },
    }
}
