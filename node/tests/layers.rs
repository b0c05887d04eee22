//! The rooms use each other downwards only (docs/architecture.md).

// Clippy knows `#[test]` functions as tests, but not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rooms and what each may use besides itself.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "http",
        &[
            "backup",
            "consumers",
            "streams",
            "scavenge",
            "access",
            "cluster",
            "event",
            "config",
            "metrics",
            "tls",
            "listen",
            "fatal",
            "files",
            "budget",
            "ndjson",
            "timing",
            "trace",
            "deliberate",
        ],
    ),
    (
        "backup",
        &[
            "client",
            "access",
            "cluster",
            "raft",
            "snapshot",
            "apply",
            "transport",
            "log",
            "store",
            "event",
            "config",
            "metrics",
            "files",
        ],
    ),
    ("consumers", &["streams", "access", "cluster", "store", "event", "budget", "deliberate"]),
    ("streams", &["subscribe", "access", "cluster", "store", "event", "budget", "timing", "deliberate"]),
    ("scavenge", &["access", "cluster", "machine", "store", "event", "config"]),
    ("subscribe", &["cluster", "store", "event", "config", "metrics", "fatal", "deliberate"]),
    ("access", &["cluster", "store", "event", "config", "fatal", "deliberate"]),
    (
        "cluster",
        &[
            "raft",
            "transport",
            "store",
            "event",
            "config",
            "metrics",
            "fatal",
            "files",
            "timing",
            "trace",
            "deliberate",
        ],
    ),
    (
        "raft",
        &[
            "snapshot",
            "apply",
            "transport",
            "log",
            "store",
            "event",
            "config",
            "descriptors",
            "metrics",
            "fatal",
            "trace",
            "deliberate",
            "threads",
        ],
    ),
    ("snapshot", &["apply", "transport", "store", "metrics", "fatal", "files", "deliberate", "threads"]),
    ("apply", &["machine", "log", "store", "event", "metrics", "fatal", "trace", "deliberate", "threads"]),
    ("transport", &["tls", "listen"]),
    ("machine", &["store", "event", "fatal", "deliberate"]),
    ("store", &["event", "fatal", "files", "record_files", "deliberate", "threads"]),
    ("log", &["fatal", "files", "record_files", "deliberate", "threads"]),
    ("ndjson", &["event"]),
    ("event", &["fatal"]),
    ("commands", &["client", "config"]),
    ("transfer", &["client", "ndjson", "event", "config", "fatal", "files"]),
    ("client", &["config"]),
    ("tls", &["config"]),
    ("config", &["telemetry"]),
    ("budget", &[]),
    ("descriptors", &[]),
    ("metrics", &[]),
    ("listen", &[]),
    ("telemetry", &[]),
    ("supervisor", &[]),
    // Compiled for tests alone.
    (
        "simulation",
        &[
            "raft",
            "transport",
            "store",
            "event",
            "config",
            "descriptors",
            "metrics",
            "fatal",
            "files",
            "trace",
            "deliberate",
            "threads",
        ],
    ),
    ("threads", &[]),
    ("timing", &["trace"]),
    ("trace", &[]),
    ("terminal", &[]),
    ("fatal", &["threads"]),
    ("files", &["threads"]),
    ("deliberate", &["fatal"]),
    ("record_files", &[]),
];

/// Rooms of which one file alone uses another room: the rest sees a trait. Tests may use it, too.
const SEAMS: &[(&str, &str, &str)] = &[("machine", "store", "on_store.rs")];

/// Rooms that use one file of another room only: a door looks at the cluster, and neither reads
/// the state nor writes through it (docs/adr/0017).
const WINDOWS: &[(&str, &str, &str)] = &[("http", "cluster", "view")];

/// Folders inside a room, and what of the room their files must not use: it stands above them.
const FLOORS: &[(&str, &[&str])] = &[
    ("http/exchange", &["crate::http::resources", "crate::http::routes"]),
    ("http/format", &["crate::http::resources", "crate::http::routes", "crate::http::exchange"]),
];

/// The composition root puts everything together, and so does the program; the crate root only
/// names the rooms, and so does the list of targets for fuzzing.
const FREE: &[&str] = &["node", "program", "main", "lib", "fuzzing"];

/// Libraries that only some rooms know, so that another version or another library is their
/// business alone (docs/adr/0001, 0002).
const LIBRARIES: &[(&str, &[&str])] = &[
    ("openraft", &["raft"]),
    ("rocksdb", &["store", "log"]),
    ("tonic", &["raft", "transport", "cluster", "simulation"]),
    ("hyper", &["http", "client"]),
    ("opentelemetry", &["trace"]),
    ("opentelemetry_otlp", &["trace"]),
    ("opentelemetry_sdk", &["trace"]),
];

/// Pairs of files in one folder that use each other. No pair may be added, and a pair that is gone
/// has to leave this list.
const CIRCLES: &[(&str, &str)] = &[
    ("store/forgotten", "store/options"),
    ("store/log_rows", "store/read"),
    ("store/remove", "store/write"),
    ("transfer/atom", "transfer/source"),
    ("transfer/file", "transfer/source"),
    ("transfer/headwater", "transfer/source"),
];

fn without_comments(source: &str) -> String {
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    source.lines().map(without_comment).collect::<Vec<_>>().join("\n")
}

/// Libraries of the list that a file names although its room has nothing to do with them. Directly
/// behind a comma stands no code, but a target in a filter of log lines.
fn foreign_libraries(room: &str, source: &str) -> Vec<String> {
    let code = without_comments(source);
    let is_other = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | ',');
    let names = |library: &str| {
        let path = format!("{library}::");
        code.match_indices(&path).any(|(at, _)| !code[..at].ends_with(is_other))
    };
    let foreign = LIBRARIES.iter().filter(|(library, rooms)| !rooms.contains(&room) && names(library));
    foreign.map(|(library, _)| format!("{room} -> {library}")).collect()
}

/// First segments of all `crate::` paths, also of `crate::{a, b::c}`; comments are left out.
fn used_rooms(source: &str) -> BTreeSet<String> {
    let code = without_comments(source);
    let mut rooms = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let inside_name = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if inside_name {
            continue;
        }
        let rest = code[at + found.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(top_level_names(group)),
            None => rooms.extend(first_name(rest)),
        }
    }
    rooms
}

fn first_name(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Names at the first level of `a, b::{c, d}, e}`.
fn top_level_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut item = String::new();
    let mut names = Vec::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(first_name(&item));
                item.clear();
            }
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    names.extend(first_name(&item));
    names
}

/// Files beside a file that it uses: those named by `super::a`, `super::{a, b}` or their path from
/// the root of the crate.
fn used_neighbours(folder: &str, source: &str) -> BTreeSet<String> {
    let code = without_comments(source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default());
    let from_root = format!("crate::{}::", folder.replace('/', "::"));
    let mut names = BTreeSet::new();
    for begin in ["super::", &from_root] {
        for (at, found) in code.match_indices(begin) {
            let rest = code[at + found.len()..].trim_start();
            let is_two_up = code[..at].ends_with("super::") || rest.starts_with("super::");
            match rest.strip_prefix('{') {
                _ if is_two_up => {}
                Some(group) => names.extend(top_level_names(group)),
                None => names.extend(first_name(rest)),
            }
        }
    }
    names.into_iter().map(|name| format!("{folder}/{name}")).collect()
}

/// Pairs of files that use each other, in order.
fn circles(used: &BTreeMap<String, BTreeSet<String>>) -> Vec<(&str, &str)> {
    let uses = |one: &str, other: &str| used.get(one).is_some_and(|names| names.contains(other));
    let pairs = used.iter().flat_map(|(one, names)| names.iter().map(move |other| (one.as_str(), other.as_str())));
    pairs.filter(|(one, other)| one < other && uses(other, one)).collect()
}

/// Edges of one file that are not allowed.
fn violations(room: &str, source: &str) -> Vec<String> {
    if FREE.contains(&room) {
        return Vec::new();
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == room) else {
        return vec![format!("the room '{room}' is not in the plan")];
    };
    used_rooms(source)
        .into_iter()
        .filter(|used| used != room && !allowed.contains(&used.as_str()))
        .map(|used| format!("{room} -> {used}"))
        .collect()
}

/// Edges of one file that are allowed to another file of its room only.
fn past_the_seam(room: &str, file: &str, source: &str) -> Vec<String> {
    let used = used_rooms(source);
    let past = SEAMS.iter().filter(|(of, to, at)| *of == room && *at != file && used.contains(*to));
    past.map(|(of, to, at)| format!("{of} -> {to}, which only {at} may use")).collect()
}

/// Uses of another room in one file past what its room may see of it.
fn past_the_window(room: &str, source: &str) -> Vec<String> {
    let code = without_comments(source);
    let mut past = Vec::new();
    for (_, seen, through) in WINDOWS.iter().filter(|(of, ..)| *of == room) {
        let (window, whole) = (format!("{seen}::{through}::"), format!("crate::{seen}"));
        let names = |text: &str| first_name(text).as_deref() == Some(*seen);
        let is_past = |(at, found): (usize, &str)| {
            let used = code[at + found.len()..].trim_start();
            let hidden = used.starts_with('{') && top_level_names(&used[1..]).iter().any(|name| name == seen);
            hidden || (names(used) && !used.starts_with(&window))
        };
        if code.match_indices("crate::").any(is_past) {
            past.push(format!("{room} -> {whole}, of which only {through} may be used"));
        }
    }
    past
}

/// Parts of its own room that a file uses although they stand above its folder; its tests may.
fn above_the_floor(file: &str, source: &str) -> Vec<String> {
    let code = without_comments(source.split("#[cfg(test)]").next().unwrap_or_default());
    let floors = FLOORS.iter().filter(|(folder, _)| file.starts_with(folder));
    let above = floors.flat_map(|(folder, above)| above.iter().map(move |part| (folder, part)));
    above.filter(|(_, part)| code.contains(**part)).map(|(folder, part)| format!("{folder} -> {part}")).collect()
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn rooms_use_only_what_is_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 10, "the sources were not found");
    let mut all = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let room = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let source = std::fs::read_to_string(&file).unwrap();
        let mut found = violations(&room, &source);
        let is_test = relative.components().any(|part| part.as_os_str() == "tests");
        if is_test {
            // A test may run a whole node.
            found.retain(|edge| !edge.ends_with("-> node"));
        }
        // Tests of the log make entries, and the composition root serves what it composes.
        if !FREE.contains(&room.as_str()) && !is_test {
            found.extend(foreign_libraries(&room, &source));
            found.extend(past_the_window(&room, &source));
            found.extend(above_the_floor(relative.to_str().unwrap(), &source));
            found.extend(past_the_seam(&room, relative.file_name().unwrap().to_str().unwrap(), &source));
        }
        all.extend(found.into_iter().map(|edge| format!("{}: {edge}", relative.display())));
    }
    assert!(all.is_empty(), "not allowed by docs/architecture.md:\n{}", all.join("\n"));
}

/// Whatever else is `pub` cannot be reached, which the compiler refuses (`unreachable_pub`).
#[test]
fn the_crate_shows_the_configuration_a_node_the_program_and_what_its_tests_look_at() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let source = std::fs::read_to_string(root).unwrap();
    let shown: Vec<&str> = source.lines().filter(|line| line.starts_with("pub ")).collect();
    assert_eq!(
        shown,
        ["pub mod config;", "pub mod fuzzing;", "pub mod node;", "pub use program::main;", "pub mod testing {"]
    );
}

#[test]
fn no_two_files_use_each_other_but_those_that_are_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut used = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap().with_extension("");
        // The file of a folder holds its parts together.
        let (Some(folder), false) = (relative.parent(), relative.ends_with("mod")) else { continue };
        if !folder.as_os_str().is_empty() {
            let neighbours = used_neighbours(folder.to_str().unwrap(), &std::fs::read_to_string(&file).unwrap());
            used.insert(relative.to_str().unwrap().to_owned(), neighbours);
        }
    }
    assert!(used.len() > 100, "only {} files were found", used.len());
    assert_eq!(circles(&used), CIRCLES);
}

#[test]
fn two_files_that_use_each_other_are_found() {
    let one = used_neighbours("a/b", "use super::{x, two::{Y, super_z}};\n// use super::no;\nuse super::super::up;");
    let two = used_neighbours("a/b", "fn f() { crate::a::b::one::g() }\n#[cfg(test)]\nmod tests { use super::no; }");
    let used = BTreeMap::from([("a/b/one".to_owned(), one), ("a/b/two".to_owned(), two)]);
    assert_eq!(circles(&used), [("a/b/one", "a/b/two")]);
    let names: Vec<&str> = used.values().flatten().map(String::as_str).collect();
    assert_eq!(names, ["a/b/two", "a/b/x", "a/b/one"]);
}

#[test]
fn an_upward_edge_is_found_in_every_notation() {
    for source in [
        "use crate::http::Router;",
        "use crate::{event::Position, http::{a, b}};",
        "use crate::{\n    event,\n    http,\n};",
        "fn f() { crate::http::serve() }",
        "pub(in crate::http) fn f() {}",
    ] {
        assert_eq!(violations("store", source), ["store -> http"], "{source}");
    }
}

#[test]
fn a_library_outside_its_rooms_is_found() {
    let source = "// openraft::Vote\nuse rocksdb::DB;\nfn f() { crate::store::rocksdb::x(); not_openraft::y() }";
    assert_eq!(foreign_libraries("http", source), ["http -> rocksdb"]);
    assert!(foreign_libraries("store", source).is_empty());
    assert!(foreign_libraries("telemetry", "const FILTER: &str = \"info,openraft::raft=off\";").is_empty());
}

#[test]
fn a_file_that_goes_past_the_seam_of_its_room_is_found() {
    let source = "use crate::store::ReadError;";
    assert!(past_the_seam("machine", "on_store.rs", source).is_empty());
    assert!(past_the_seam("apply", "append.rs", source).is_empty());
    assert_eq!(past_the_seam("machine", "append.rs", source), ["machine -> store, which only on_store.rs may use"]);
}

#[test]
fn a_door_that_sees_more_of_the_cluster_than_its_view_is_found() {
    for source in [
        "use crate::cluster::Cluster;",
        "use crate::cluster::{view::Leader, Write};",
        "use crate::{cluster::view, event};",
        "fn f(cluster: &crate::cluster::Cluster) {}",
    ] {
        let expected = ["http -> crate::cluster, of which only view may be used"];
        assert_eq!(past_the_window("http", source), expected, "{source}");
    }
    let source = "use crate::cluster::view::{ClusterView, Leader};\nuse crate::http::cluster;";
    assert!(past_the_window("http", source).is_empty());
    assert!(past_the_window("streams", "use crate::cluster::Write;").is_empty());
    assert_eq!(violations("http", "use crate::store::ReadError;"), ["http -> store"]);
}

#[test]
fn a_file_that_uses_what_stands_above_its_folder_is_found() {
    let source = "use crate::http::routes::ROUTES;";
    assert_eq!(above_the_floor("http/exchange/router.rs", source), ["http/exchange -> crate::http::routes"]);
    assert!(above_the_floor("http/resources/openapi.rs", source).is_empty());
    assert!(above_the_floor("http/exchange/router.rs", &format!("#[cfg(test)]\nmod tests {{ {source} }}")).is_empty());
}

#[test]
fn comments_own_paths_and_downward_edges_are_fine() {
    let source =
        "// use crate::http\nuse crate::store::read;\nuse crate::event::{http, Position};\nother_crate::http::x();";
    assert!(violations("store", source).is_empty(), "{:?}", violations("store", source));
    assert_eq!(violations("cellar", ""), ["the room 'cellar' is not in the plan"]);
}
