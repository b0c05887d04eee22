//! From one Headwater into another.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::client::{self, ADMIN};
use crate::support::process::{Process, output};
use crate::support::{PATIENCE, block_until};
use crate::{Random, admin, assert_same, by_stream, import_options, log_of, run, said};

/// A node, its directory and its base.
struct Node {
    _process: Process,
    base: String,
    directory: tempfile::TempDir,
}

impl Node {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = format!("--data-dir={}", directory.path().join("data").display());
        let (process, base) = Process::start_single(&[&data]);
        Self { _process: process, base, directory }
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        let mut all: Vec<(&str, String)> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        all.push(("Authorization", ADMIN.to_owned()));
        client::send(&self.base, "POST", path, &all, body.as_bytes()).status
    }

    fn append(&self, stream: &str, id: &str, data: &str) {
        let headers = [("Content-Type", "application/json"), ("ES-EventType", "t"), ("ES-EventId", id)];
        assert_eq!(self.post(&format!("/streams/{stream}"), &headers, data), 201, "{stream}");
    }

    fn delete(&self, stream: &str, hard: bool) {
        let mut headers = admin();
        headers.push(("ES-HardDelete", hard.to_string()));
        let status = client::send(&self.base, "DELETE", &format!("/streams/{stream}"), &headers, b"").status;
        assert_eq!(status, 204, "{stream}");
    }

    /// Many events of many streams: some begin above 0 or have gaps, some are deleted, some have
    /// metadata, and there is a user.
    fn fill(&self, events: usize, random: &mut Random) {
        let mut next = [0; 40];
        for _ in 0..events.div_ceil(2_000) {
            let mut lines = String::new();
            for _ in 0..2_000 {
                let stream = random.below(40) as usize;
                let number = next[stream] + if random.below(200) == 0 { 3 } else { 0 };
                next[stream] = number + 1;
                let mut line = json!({
                    "stream": format!("s-{stream}"), "number": number, "id": random.id(), "type": "t",
                    "time": format!("2020-01-01T00:00:{:02}.{:07}Z", random.below(60), random.below(10_000_000)),
                });
                match random.below(4) {
                    0 => line["dataBase64"] = json!("AP8="),
                    1 => line["dataText"] = json!("{\n  \"a\": 1\n}"),
                    _ => line["data"] = json!({ "sum": random.below(1_000) }),
                }
                line["isJson"] = json!(line.get("dataBase64").is_none());
                if random.below(3) == 0 {
                    line["metadata"] = json!({ "by": "ann" });
                }
                lines.push_str(&format!("{line}\n"));
            }
            assert_eq!(self.post("/admin/import", &[], &lines), 200);
        }
        self.append("s-1", &random.id(), "{ \"n\": 1.0}");
        for stream in ["soft", "again", "hard"] {
            self.append(stream, &random.id(), "{}");
            self.delete(stream, stream == "hard");
        }
        self.append("again", &random.id(), "{}");
        let (id, metadata) = (random.id(), r#"{"$maxCount":2,"$acl":{"$r":["ann"]}}"#);
        assert_eq!(
            self.post("/streams/s-2/metadata", &[("Content-Type", "application/json"), ("ES-EventId", &id)], metadata),
            201
        );
        let user = r#"{"loginName":"ann","fullName":"Ann","groups":["$admins"],"password":"ann's secret"}"#;
        assert_eq!(self.post("/users", &[("Content-Type", "application/json")], user), 201);
    }
}

#[test]
fn an_import_that_is_killed_again_and_again_stores_everything_once() {
    let (source, target) = (Node::start(), Node::start());
    let mut random = Random(1);
    source.fill(30_000, &mut random);
    let options = import_options(target.directory.path(), &source.base, &target.base);
    let mut kills = 0;
    // Each run gets a little further; the first ones die before they have stored anything.
    for _ in 0..12 {
        let mut import = Process::start(&options);
        let end = Instant::now() + Duration::from_millis(2 + random.below(60));
        while Instant::now() < end && import.exited().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if import.exited().is_some() {
            break;
        }
        import.signal(Signal::KILL);
        block_until("the import is dead", || import.exited().is_some());
        kills += 1;
    }
    assert!(kills > 2, "only {kills} runs were killed");
    run(&options);
    let copied = log_of(&target.base);
    assert_same(&by_stream(copied), &by_stream(log_of(&source.base)));
    // A further run has nothing to do, and the imported user can log in.
    let said = run(&options);
    assert!(said.contains("stored 0 events; 0 were there already"), "{said}");
    let ann = vec![("Authorization", "Basic YW5uOmFubidzIHNlY3JldA==".to_owned())];
    let users = client::send(&target.base, "GET", "/users", &ann, b"");
    assert!(users.status == 200 && users.text().contains("\"loginName\": \"ann\""), "{}", users.text());
    let log = std::fs::read_to_string(target.directory.path().join("import.log")).unwrap();
    assert!(log.contains("@$user-admin"), "{log}");
}

#[test]
fn a_stream_that_a_scavenge_has_emptied_goes_on_behind_its_last_number() {
    let (source, target) = (Node::start(), Node::start());
    let mut random = Random(4);
    for _ in 0..3 {
        source.append("gone", &random.id(), "{}");
    }
    let (id, metadata) = (random.id(), r#"{"$tb":3}"#);
    let headers = [("Content-Type", "application/json"), ("ES-EventId", &id)];
    assert_eq!(source.post("/streams/gone/metadata", &headers, metadata), 201);
    source.append("other", &random.id(), "{}");
    assert_eq!(source.post("/admin/scavenge", &[], ""), 200);
    let last = || client::send(&source.base, "GET", "/admin/scavenge/last", &admin(), b"");
    block_until("the events are removed", || last().text().contains("Success"));
    let directory = source.directory.path();
    let file = directory.join("all.ndjson").display().to_string();
    std::fs::write(directory.join("password"), "changeit").unwrap();
    let password = format!("--password-file={}", directory.join("password").display());
    run(&["export", "--from", &source.base, "--user=admin", &password, "--to", &file].map(str::to_owned));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\n{\"stream\":\"gone\",\"next\":3}\n{\"end\""), "{text}");
    let of_file = Node::start();
    let mut from_file = import_options(directory, &file, &of_file.base);
    from_file.retain(|option| !option.starts_with("--password-file") && option != "--user");
    from_file.remove(from_file.iter().position(|option| option == "admin").unwrap());
    for (node, options) in
        [(&target, import_options(target.directory.path(), &source.base, &target.base)), (&of_file, from_file)]
    {
        for _ in 0..2 {
            run(&options);
        }
        let (id, number) = (random.id(), "3");
        let mut headers = admin();
        headers.extend([("Content-Type", "application/json".to_owned()), ("ES-EventType", "t".to_owned())]);
        headers.extend([("ES-EventId", id), ("ES-ExpectedVersion", "2".to_owned())]);
        let answer = client::send(&node.base, "POST", "/streams/gone", &headers, b"{}");
        assert!(answer.header("location").is_some_and(|location| location.ends_with(number)), "{answer:?}");
    }
}

#[test]
fn notes_that_an_administrator_has_deleted_are_written_again() {
    let (source, target) = (Node::start(), Node::start());
    let mut random = Random(5);
    source.append("orders", &random.id(), "{}");
    let mut options = import_options(target.directory.path(), &source.base, &target.base);
    options.push("--name=x".to_owned());
    run(&options);
    target.delete("$import-x", false);
    target.append("other", &random.id(), "{}");
    assert_eq!(target.post("/admin/scavenge", &[], ""), 200);
    let last = || client::send(&target.base, "GET", "/admin/scavenge/last", &admin(), b"");
    block_until("the notes are removed", || last().text().contains("Success"));
    let said = run(&options);
    assert!(said.contains("stored 0 events; 1 were there already"), "{said}");
    source.append("orders", &random.id(), "{}");
    let said = run(&options);
    assert!(said.contains("going on behind 1 event"), "{said}");
    assert!(said.contains("stored 1 event; 0 were there already"), "{said}");
}

#[test]
fn an_import_follows_its_source_until_it_is_told_to_cut_over() {
    let (source, target) = (Node::start(), Node::start());
    let mut random = Random(2);
    source.append("before", &random.id(), "{}");
    let mut options = import_options(target.directory.path(), &source.base, &target.base);
    options.push("--follow".to_owned());
    let mut import = Process::start(&options);
    let has =
        |stream: &str| client::send(&target.base, "GET", &format!("/streams/{stream}/0"), &admin(), b"").status == 200;
    block_until("what was there is copied", || has("before"));
    source.append("meanwhile", &random.id(), "{}");
    block_until("what came then is copied", || has("meanwhile"));
    source.append("last", &random.id(), "{}");
    import.signal(Signal::INT);
    let deadline = Instant::now() + PATIENCE;
    while import.exited().is_none() {
        assert!(Instant::now() < deadline, "the import does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(import.exited().unwrap().success(), "{:?}", import.log());
    assert!(has("last"), "what was there when the signal came is copied");
}

#[test]
fn a_stream_of_the_target_that_somebody_else_writes_to_ends_the_import() {
    let (source, target) = (Node::start(), Node::start());
    let mut random = Random(3);
    source.append("orders", &random.id(), "{}");
    target.append("orders", &random.id(), "{}");
    let ended = output(&import_options(target.directory.path(), &source.base, &target.base));
    let said = said(&ended);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("stream 'orders' has another event with number 0: somebody else writes to it"), "{said}");
}

#[test]
fn only_administrators_import_and_export() {
    let node = Node::start();
    let line = br#"{"stream":"s","number":0,"id":"c1111111-1111-4111-8111-111111111111","type":"t","time":"2020-01-01T00:00:00Z"}"#;
    let ops = vec![("Authorization", "Basic b3BzOmNoYW5nZWl0".to_owned())];
    for headers in [Vec::new(), ops] {
        assert_eq!(client::send(&node.base, "POST", "/admin/import", &headers, line).status, 401);
        assert_eq!(client::send(&node.base, "GET", "/admin/export", &headers, b"").status, 401);
    }
    assert_eq!(client::send(&node.base, "POST", "/admin/import", &admin(), line).status, 200);
    let bad = client::send(&node.base, "POST", "/admin/import", &admin(), b"\n{\"stream\":\"s\"}");
    assert_eq!((bad.status, bad.reason.as_deref()), (400, Some("Line 2: it lacks an id")));
}
