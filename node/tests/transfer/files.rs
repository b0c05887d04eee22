//! Exports to files and back.

use serde_json::Value;

use crate::support::client::{self, ADMIN};
use crate::support::process::{Process, output};
use crate::{Random, assert_same, by_stream, import_options, log_of, run, said};

struct Story {
    directory: tempfile::TempDir,
    source: (Process, String),
    target: (Process, String),
}

impl Story {
    fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let start =
            |name: &str| Process::start_single(&[&format!("--data-dir={}", directory.path().join(name).display())]);
        let (source, target) = (start("source"), start("target"));
        Self { directory, source, target }
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Options of an export to a file.
    fn export(&self, to: &str, more: &[&str]) -> Vec<String> {
        std::fs::write(self.file("password"), "changeit").unwrap();
        let password = format!("--password-file={}", self.file("password"));
        ["export", "--from", &self.source.1, "--user=admin", &password, "--to", to]
            .iter()
            .chain(more)
            .map(|part| (*part).to_owned())
            .collect()
    }

    fn append(&self, stream: &str, random: &mut Random, data: &[u8], media_type: &str) {
        let headers = [
            ("Authorization", ADMIN.to_owned()),
            ("Content-Type", media_type.to_owned()),
            ("ES-EventType", "t".to_owned()),
            ("ES-EventId", random.id()),
        ];
        let answer = client::send(&self.source.1, "POST", &format!("/streams/{stream}"), &headers, data);
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[test]
fn a_file_brings_every_byte_back() {
    let story = Story::begin();
    let mut random = Random(4);
    for data in [&b"{\"a\": 1.0,\"a\":1e400 }"[..], b" null ", b"[1,\n2]", b"\"\xc3\xa9\""] {
        story.append("s", &mut random, data, "application/json");
    }
    story.append("s", &mut random, b"\x00\xff", "application/octet-stream");
    let file = story.file("all.ndjson");
    run(&story.export(&file, &[]));
    let mut import = import_options(story.directory.path(), &file, &story.target.1);
    import.retain(|option| !option.starts_with("--password-file") && option != "--user");
    import.remove(import.iter().position(|option| option == "admin").unwrap());
    let said = run(&import);
    assert!(said.contains("stored 5 events"), "{said}");
    assert_same(&by_stream(log_of(&story.target.1)), &by_stream(log_of(&story.source.1)));
    // Never over a file that is there.
    let again = output(&story.export(&file, &[]));
    assert!(!again.status.success() && crate::said(&again).contains("the file exists"), "{}", crate::said(&again));
    // A file without its last line says so.
    let text = std::fs::read_to_string(&file).unwrap();
    let cut = text.trim_end().rsplit_once('\n').unwrap().0;
    for cut in [cut, &cut[..cut.len() - 9]] {
        std::fs::write(&file, cut).unwrap();
        let ended = output(&import);
        let said = crate::said(&ended);
        assert!(!ended.status.success() && said.contains("is cut off") && said.contains("stored 0 events"), "{said}");
    }
}

#[test]
fn an_import_that_was_refused_tells_of_nothing_that_it_did() {
    let story = Story::begin();
    story.append("s", &mut Random(6), b"{}", "application/json");
    let file = story.file("all.ndjson");
    run(&story.export(&file, &[]));
    let mut import = import_options(story.directory.path(), &file, &story.target.1);
    import.retain(|option| !option.starts_with("--password-file") && option != "--user");
    import.remove(import.iter().position(|option| option == "admin").unwrap());
    std::fs::write(story.file("password"), "wrong").unwrap();
    let refused = output(&import);
    let said = said(&refused);
    assert!(refused.status.code() == Some(1) && said.contains("401"), "{said}");
    assert!(!said.contains("stored") && !said.contains("imported"), "{said}");
}

#[test]
fn a_stream_and_a_filter_choose_what_is_exported() {
    let story = Story::begin();
    let mut random = Random(5);
    for stream in ["order-1", "order-2", "other"] {
        story.append(stream, &mut random, b"{}", "application/json");
    }
    let streams = |more: &[&str]| {
        let exported = output(&story.export("-", more));
        assert!(exported.status.success(), "{}", said(&exported));
        let text = String::from_utf8(exported.stdout).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["headwaterExport"], 1);
        assert_eq!(lines.last().unwrap()["end"]["events"], lines.len() - 2);
        let names = lines[1..lines.len() - 1].iter().map(|line| line["stream"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(streams(&["--stream", "other"]), ["other"]);
    assert_eq!(streams(&["--filter", "context=streamid&type=prefix&data=order-"]), ["order-1", "order-2"]);
    assert_eq!(streams(&["--filter", "?context=streamid&type=regex&data=^order-2$"]), ["order-2"]);
    assert_eq!(streams(&["--stream", "$all"]), streams(&[]), "the log of all events by its name");
    // A misspelt name is told; the next attempt finds no rest of this one.
    let file = story.file("order.ndjson");
    for name in ["order-3", "$$other"] {
        let refused = output(&story.export(&file, &["--stream", name]));
        let said = said(&refused);
        assert!(refused.status.code() == Some(1) && said.contains("has no stream '"), "{said}");
    }
    crate::run(&story.export(&file, &["--stream", "order-1"]));
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);
    let refused = output(&story.export("-", &["--filter", "context=x"]));
    assert!(said(&refused).contains("400 A filter needs a context"), "{}", said(&refused));
}
