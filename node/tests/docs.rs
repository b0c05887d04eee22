//! The documentation is true: its examples run against a real node, and its list of options is
//! complete.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::process::Process;
use support::secrets;

/// The address that examples name; replaced by that of the node under test.
const DOCUMENTED: &str = "127.0.0.1:2113";

/// One command and the fragments its output must contain, in this order.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    command: String,
    expected: Vec<String>,
}

/// Examples of all ```console blocks. A line that begins with `$ ` is a command, those below it are
/// fragments. A command goes on below a line that ends with a backslash or inside a quotation.
fn examples(markdown: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            inside = !inside && line == "```console";
        } else if let Some(begin) = line.strip_prefix("$ ").filter(|_| inside) {
            let mut command = begin.to_owned();
            while command.ends_with('\\') || command.matches('\'').count() % 2 == 1 {
                let next = lines.next().expect("a command that does not end");
                match command.strip_suffix('\\') {
                    Some(whole) => command = format!("{whole}{}", next.trim_start()),
                    None => command = format!("{command}\n{next}"),
                }
            }
            examples.push(Example { command, expected: Vec::new() });
        } else if inside && !line.trim().is_empty() {
            examples.last_mut().expect("output without a command").expected.push(line.trim().to_owned());
        }
    }
    examples
}

/// The first fragment that is not in the output after its predecessors. A status line must be the
/// whole first line.
fn missing<'a>(output: &str, expected: &'a [String]) -> Option<&'a str> {
    let mut rest = output;
    for fragment in expected {
        if fragment.starts_with("HTTP/1.1 ") && !rest.lines().any(|line| line.trim_end() == fragment) {
            return Some(fragment);
        }
        // Names of headers are compared without case, and nothing else needs it.
        match rest.to_ascii_lowercase().find(&fragment.to_ascii_lowercase()) {
            Some(at) => rest = &rest[at + fragment.len()..],
            None => return Some(fragment),
        }
    }
    None
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files that a page shows: blocks of Python with the name of the file behind the language.
fn files(markdown: &str) -> Vec<(&str, &str)> {
    let blocks = markdown.split("\n```python ").skip(1);
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('\n').expect("a name");
            (name, rest.split_once("\n```\n").expect("a file that does not end").0)
        })
        .collect()
}

/// Whether a command calls the program, perhaps with a password in its environment.
fn is_of_program(command: &str) -> bool {
    command.split(' ').find(|word| !word.starts_with("HEADWATER_")) == Some("headwater")
}

/// Runs a command of the documentation against the node at `host`, in a shell and in a directory of
/// its page.
fn run(command: &str, host: &str, directory: &Path) -> String {
    let command = command.replace(DOCUMENTED, host).replacen("curl ", "curl -sS --max-time 20 ", 1);
    let programs = Path::new(env!("CARGO_BIN_EXE_headwater")).parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).env("PATH", path).current_dir(directory);
    shell.envs(PASSWORDS.map(|variable| (variable, "changeit")));
    let output = shell.output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command}\n{said}\n{told}");
    let all = if is_of_program(&command) { format!("{said}{told}") } else { said.into_owned() };
    all.replace(host, DOCUMENTED)
}

/// Where subcommands find the password of the user admin.
const PASSWORDS: [&str; 2] = ["HEADWATER_PASSWORD", "HEADWATER_TO_PASSWORD"];

#[test]
fn examples_of_the_documentation_are_true() {
    let mut pages = vec![root().join("README.md")];
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let mut wrong = Vec::new();
    for file in pages {
        let page = std::fs::read_to_string(&file).unwrap();
        let examples = examples(&page);
        assert!(!examples.is_empty() || !file.ends_with("README.md"), "the README has no examples");
        if examples.is_empty() {
            continue;
        }
        // Each page tells a story of its own and begins with an empty store. The node logs all it
        // can.
        let (data, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, text) in files(&page) {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let data_dir = format!("--data-dir={}", data.path().display());
        let all = "--log-filter=debug,headwater=trace,openraft=error,audit=trace";
        let (node, base) = Process::start_single(&[&data_dir, all]);
        let host = base.strip_prefix("http://").unwrap();
        for Example { command, expected } in &examples {
            let is_known =
                ["curl ", "python3 "].iter().any(|known| command.starts_with(known)) || is_of_program(command);
            assert!(is_known && !expected.is_empty(), "{}: {command}", file.display());
            let output = run(command, host, directory.path());
            if let Some(fragment) = missing(&output, expected) {
                wrong.push(format!("{}: $ {command}\nlacks: {fragment}\nin:\n{output}\n", file.display()));
            }
        }
        // Nothing in the log is a password, neither plain nor as it was sent, nor a hash.
        let secrets: Vec<String> = examples.iter().flat_map(|example| secrets_of(&example.command)).collect();
        let log = node.log();
        let found = secrets::found(log.iter().map(String::as_str), &secrets);
        assert_eq!(found, None, "{}: a secret in the log", file.display());
        assert!(log.iter().any(|line| line.contains("listening")), "there is no log");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Passwords in a command: the text behind `-u name:`, and values of names that end in `assword`.
/// Short passwords and the public one are left out, because any text may contain them.
fn secrets_of(command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split(' ').collect();
    let logins = words.windows(2).filter(|pair| pair[0] == "-u").filter_map(|pair| pair[1].split_once(':')?.1.into());
    let bodies = command.split("assword\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let plain: Vec<&str> = logins.chain(bodies).filter(|text| text.len() > 5 && *text != "changeit").collect();
    let sent = words.windows(2).filter(|pair| pair[0] == "-u").map(|pair| STANDARD.encode(pair[1]));
    plain.into_iter().map(str::to_owned).chain(sent).collect()
}

/// Method and path of a command.
fn route_of(command: &str) -> Option<(&'static str, String)> {
    let url = command.split(['\'', ' ']).find_map(|word| word.strip_prefix(&format!("http://{DOCUMENTED}")))?;
    let path = url.split('?').next().unwrap_or_default().to_owned();
    let has = |option: &str| command.split(' ').any(|word| word == option);
    let method = match () {
        () if has("-I") => "HEAD",
        () if command.contains(" -X DELETE ") => "DELETE",
        () if command.contains(" -X PUT ") => "PUT",
        () if command.contains(" -X POST ") || has("-d") => "POST",
        () => "GET",
    };
    Some((method, path))
}

/// How many segments of a path stand literally in a template; `None` when it is not of this
/// template.
fn literals(template: &str, path: &str) -> Option<usize> {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let matches = |(part, segment): (&&str, &&str)| part == segment || part.starts_with('{') && !segment.is_empty();
    (template.len() == path.len() && template.iter().zip(&path).all(matches))
        .then(|| template.iter().zip(&path).filter(|(part, segment)| part == segment).count())
}

#[test]
fn every_route_has_an_example() {
    let page = std::fs::read_to_string(root().join("docs/http-api.md")).unwrap();
    let document = std::fs::read_to_string(root().join("node/src/http/resources/openapi.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut missing: Vec<String> = Vec::new();
    for (path, operations) in paths {
        missing.extend(operations.as_object().unwrap().keys().map(|m| format!("{} {path}", m.to_ascii_uppercase())));
    }
    assert!(missing.len() > 40, "only {} routes", missing.len());
    for example in examples(&page) {
        let (method, path) = route_of(&example.command).unwrap_or_else(|| panic!("no URI in {}", example.command));
        let best = paths.keys().filter_map(|template| Some((literals(template, &path)?, template))).max();
        let (_, template) = best.unwrap_or_else(|| panic!("no route for {}", example.command));
        missing.retain(|route| *route != format!("{method} {template}"));
    }
    assert!(missing.is_empty(), "docs/http-api.md has no example of {missing:?}");
}

#[test]
fn a_file_of_a_page_ends_with_its_block() {
    let page = "```python\nnot this\n```\n\n```python a.py\nx = 1\n\ny = 2\n```\ntext\n";
    assert_eq!(files(page), [("a.py", "x = 1\n\ny = 2")]);
    assert!(files("no file").is_empty());
}

#[test]
fn a_wrong_example_is_found() {
    let page = "text\n```console\n$ curl x\nHTTP/1.1 200 OK\nlocation: a\n$ curl y \\\n    -d '[1,\n  2]'\nz\n```\n```sh\n$ not this\n```\n";
    let found = examples(page);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1], Example { command: "curl y -d '[1,\n  2]'".to_owned(), expected: vec!["z".to_owned()] });
    let expected = &found[0].expected;
    assert_eq!(missing("HTTP/1.1 200 OK\r\nLocation: a\r\n", expected), None);
    assert_eq!(missing("HTTP/1.1 200 OKAY\r\nLocation: a\r\n", expected), Some("HTTP/1.1 200 OK"));
    assert_eq!(missing("HTTP/1.1 200 OK\r\nLocation: b\r\n", expected), Some("location: a"));
}

#[test]
fn every_option_is_documented_with_its_default_and_no_other() {
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let command = headwater::config::command();
    let mut real = Vec::new();
    for key in headwater::config::keys() {
        let argument = command.get_arguments().find(|argument| argument.get_id() == key.as_str()).unwrap();
        let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = if default.is_empty() { String::new() } else { format!("`{}`", default.join(",")) };
        let flag = headwater::config::flag_name(&key);
        let new_value = if headwater::config::is_live(&key) { "SIGHUP" } else { "restart" };
        let row = format!("| `{flag}` | {default} | {new_value} |");
        assert!(page.contains(&row), "docs/configuration.md has no row that begins with: {row}");
        real.push(flag);
    }
    for documented in page.lines().filter_map(|line| line.strip_prefix("| `--")) {
        let flag = format!("--{}", documented.split('`').next().unwrap());
        assert!(real.contains(&flag), "docs/configuration.md tells of {flag}, which does not exist");
    }
}

#[test]
fn the_timeouts_of_a_cluster_have_the_defaults_that_its_page_names() {
    let page = std::fs::read_to_string(root().join("docs/clustering.md")).unwrap();
    let command = headwater::config::command();
    let rows: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| `--")?.split_once("` | ")).collect();
    assert!(rows.len() >= 5, "{rows:?}");
    for (flag, rest) in rows {
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
        let argument = argument.unwrap_or_else(|| panic!("docs/clustering.md tells of --{flag}, which does not exist"));
        let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        assert_eq!(rest.split(" | ").next().unwrap(), default.join(","), "--{flag}");
    }
}

/// The expression that a constant like `http::limits::MAX_NESTING` is defined by, and the source it
/// stands in.
fn definition(path: &str) -> (String, String) {
    let (module, name) = path.rsplit_once("::").unwrap();
    let file = root().join("node/src").join(module.replace("::", "/"));
    let source = std::fs::read_to_string(file.with_extension("rs"));
    let source = source.or_else(|_| std::fs::read_to_string(file.join("mod.rs"))).unwrap();
    let start = source.find(&format!("const {name}: ")).unwrap_or_else(|| panic!("there is no {path}"));
    let (_, rest) = source[start..].split_once(" = ").unwrap();
    (rest.split_once(";\n").unwrap().0.to_owned(), source)
}

/// The value of a constant: a product, a shift, a duration in milliseconds.
fn evaluate(module: &str, expression: &str) -> u64 {
    let call = |function: &str| Some(expression.strip_prefix(function)?.split_once(')')?.0);
    if let Some(seconds) = call("Duration::from_secs(") {
        return 1000 * evaluate(module, seconds);
    }
    if let Some(inner) = call("Duration::from_millis(").or_else(|| call("NonZeroUsize::new(")) {
        return evaluate(module, inner);
    }
    if let Some((left, right)) = expression.split_once(" << ") {
        return evaluate(module, left) << evaluate(module, right);
    }
    if let Some((left, right)) = expression.split_once(" * ") {
        return evaluate(module, left) * evaluate(module, right);
    }
    if let Ok(number) = expression.replace('_', "").parse() {
        return number;
    }
    let path = if expression.contains("::") { expression.to_owned() } else { format!("{module}::{expression}") };
    let (module, _) = path.rsplit_once("::").unwrap();
    evaluate(module, &definition(&path).0)
}

/// A value as the page writes it: `32 MiB`, `10,000`, `30 s`.
fn written(text: &str) -> u64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        other => panic!("unknown unit {other}"),
    };
    factor * number.replace(',', "").parse::<u64>().unwrap_or_else(|_| panic!("no value: {text}"))
}

#[test]
fn limits_are_documented_with_their_values_and_none_of_http_and_streams_is_left_out() {
    let page = std::fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let mut compared = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && line.contains("::")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let path = cells.last().unwrap().split('`').nth(1).unwrap();
        let (module, _) = path.rsplit_once("::").unwrap();
        assert_eq!(written(cells[1]), evaluate(module, &definition(path).0), "{row}");
        compared += 1;
    }
    assert!(compared > 40, "only {compared} rows were found");
    for room in ["http", "streams"] {
        let limits = std::fs::read_to_string(root().join(format!("node/src/{room}/limits.rs"))).unwrap();
        let public = |line: &str| ["pub const ", "pub(crate) const "].iter().any(|start| line.starts_with(start));
        let lines = limits.lines().filter(|line| public(line));
        let names: Vec<&str> = lines.filter_map(|line| line.split_once("const ")?.1.split(':').next()).collect();
        assert!(names.len() > 20, "only {} limits of {room} were found", names.len());
        for name in names {
            assert!(page.contains(&format!("`{room}::limits::{name}`")), "docs/limits.md lacks {name}");
        }
    }
}

/// Metrics that a single node without TLS does not show.
const OF_OTHER_NODES: [&str; 7] = [
    "headwater_consumer_group_lag",
    "headwater_consumer_group_oldest_seconds",
    "headwater_consumer_group_parked_messages",
    "headwater_consumer_group_stalled",
    "headwater_replication_lag_entries",
    "headwater_tls_certificate_expiry_seconds",
    "headwater_tls_handshakes_refused_total",
];

/// Name and kind of each metric in an exposition; a counter as its samples spell it.
fn metrics_of(exposition: &str) -> BTreeMap<String, String> {
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let spelled = |(name, kind): (&str, &str)| {
        let end = if kind == "counter" { "_total" } else { "" };
        (format!("{name}{end}"), kind.to_owned())
    };
    types.map(spelled).collect()
}

#[test]
fn every_metric_is_documented_with_its_kind_and_no_other() {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `headwater_"));
    let documented: BTreeMap<String, String> = rows
        .filter_map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells[0].strip_prefix('`')?.strip_suffix('`')?;
            (cells.len() == 3).then(|| (name.to_owned(), cells[1].to_owned()))
        })
        .collect();
    let (data, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_node, base) = Process::start_single(&[&format!("--data-dir={}", data.path().display())]);
    let host = base.strip_prefix("http://").unwrap();
    // The second request counts the first.
    run(&format!("curl http://{DOCUMENTED}/ping"), host, directory.path());
    let mut shown = metrics_of(&run(&format!("curl http://{DOCUMENTED}/metrics"), host, directory.path()));
    assert!(shown.len() > 20, "only {shown:?}");
    let absent = OF_OTHER_NODES.into_iter().filter(|name| !shown.contains_key(*name));
    let absent: Vec<(String, String)> =
        absent.filter_map(|name| Some((name.to_owned(), documented.get(name)?.clone()))).collect();
    shown.extend(absent);
    assert_eq!(documented, shown, "docs/metrics.md on the left, a node on the right");
}
