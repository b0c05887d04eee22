//! `headwater import` and `headwater export` as a user runs them: the built binary between real
//! nodes, and against a server that prints pages as an EventStore does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod between_nodes;
mod files;
mod from_the_original;
mod old_server;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::client::{self, ADMIN};
use support::process;

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn id(&mut self) -> String {
        let (first, second, third) = (self.below(1 << 31), self.below(1 << 16), self.below(1 << 12));
        let (fourth, fifth, sixth) = (self.below(1 << 12), self.below(1 << 24), self.below(1 << 24));
        format!("{first:08x}-{second:04x}-4{third:03x}-8{fourth:03x}-{fifth:06x}{sixth:06x}")
    }
}

/// The options of an import from one server into another.
fn import_options(directory: &Path, from: &str, to: &str) -> Vec<String> {
    let file = directory.join("password");
    std::fs::write(&file, "changeit\n").unwrap();
    let file = file.display();
    let log = directory.join("import.log").display().to_string();
    ["import", "--from", from, "--user", "admin", &format!("--password-file={file}"), "--to", to, "--to-user", "admin"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("--to-password-file={file}"), format!("--log={log}")])
        .collect()
}

/// Runs it to its end, which has to be a good one.
fn run(arguments: &[String]) -> String {
    let output = process::output(arguments);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    said
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All events of a node as lines, in the order of its log, with data and metadata in base64
/// whichever form the lines have.
fn log_of(base: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut next = 0;
    loop {
        let answer = client::send(base, "GET", &format!("/admin/export?from={next}"), &admin(), b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        for line in answer.text().lines() {
            let line = in_one_form(line);
            let Some(page) = line.get("page") else {
                events.push(line);
                continue;
            };
            next = page["next"].as_u64().unwrap();
            if next >= page["end"].as_u64().unwrap() {
                return events;
            }
        }
    }
}

/// JSON stands in a line as it is, and may be what no reader of values accepts.
fn in_one_form(line: &str) -> Value {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(line).unwrap();
    let mut plain = serde_json::Map::new();
    for (name, raw) in fields {
        let text = || serde_json::from_str::<String>(raw.get()).unwrap();
        match name.as_str() {
            "data" | "metadata" => plain.insert(name, json!(STANDARD.encode(raw.get()))),
            "dataText" | "metadataText" => plain.insert(name.replace("Text", ""), json!(STANDARD.encode(text()))),
            "dataBase64" | "metadataBase64" => plain.insert(name.replace("Base64", ""), json!(text())),
            _ => plain.insert(name, serde_json::from_str(raw.get()).unwrap()),
        };
    }
    Value::Object(plain)
}

fn admin() -> Vec<(&'static str, String)> {
    vec![("Authorization", ADMIN.to_owned())]
}

/// The lines of streams whose name the test of an import compares, without positions.
fn by_stream(log: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut streams: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for mut event in log {
        event.as_object_mut().unwrap().remove("position");
        let name = event["stream"].as_str().unwrap().to_owned();
        if is_compared(&name) {
            streams.entry(name).or_default().push(event);
        }
    }
    streams
}

/// The first users and the notes of imports belong to each server itself.
fn is_compared(name: &str) -> bool {
    let described = name.strip_prefix("$$").unwrap_or(name);
    !["$users", "$user-admin", "$user-ops", "$import-", "$stats-", "$ce-"].iter().any(|own| described.starts_with(own))
}

/// Compares stream by stream, so that a difference can be read.
fn assert_same(found: &BTreeMap<String, Vec<Value>>, expected: &BTreeMap<String, Vec<Value>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, events) in expected {
        let found = &found[name];
        assert_eq!(found.len(), events.len(), "{name}");
        for (found, event) in found.iter().zip(events) {
            assert_eq!(found, event, "{name}");
        }
    }
}
