//! Every reference to the specification, to a decision or to a page of the documentation leads
//! somewhere, and none leads out of the repository (docs/contract/README.md says how to cite).

// Clippy knows `#[test]` functions as tests, but not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where texts with references are, relative to the root.
const SEARCHED: &[&str] = &[
    "README.md",
    "Makefile",
    "Cargo.toml",
    "clippy.toml",
    "deny.toml",
    ".cargo",
    ".ci",
    ".config",
    "cluster-tests",
    "deploy",
    "docs",
    "node",
    "proto",
    "scripts",
];

/// The recorded answers are data, and this file has wrong references on purpose.
const LEFT_OUT: &[&str] = &["cluster-tests/conformance/recorded.jsonl", "node/tests/contract.rs"];

/// What may name a place beside the checkout: a RocksDB library that saves its compilation where it
/// is, and is not needed where it is not.
const PREBUILT: &str = "../shared/prebuilt/";

/// Most columns of a line of the documentation, and of a comment.
const MAX_COLUMNS: usize = 100;

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap()
}

static CITATION: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?i)\bcontract/([a-z-]+)(?:\.md)?((?: [0-9]+(?:\.[0-9]+)?\b(?:(?:,| and| to| or) [0-9]+(?:\.[0-9]+)?\b)*)?)((?: step [0-9]+[a-z]?)?)",
    )
});
static SECTION: LazyLock<Regex> = LazyLock::new(|| compiled(r"[0-9]+(?:\.[0-9]+)?"));
static HEADING: LazyLock<Regex> = LazyLock::new(|| compiled(r"(?m)^#{2,3} ([0-9]+(?:\.[0-9]+)?)\.? "));
static CASE: LazyLock<Regex> = LazyLock::new(|| compiled(r"\b(?:A[0-9]+|[A-Z]{2}-A[0-9]{2}|R[0-9]+(?:\.[0-9]+)?)"));
static ADR: LazyLock<Regex> = LazyLock::new(|| compiled(r"\bADRs? ([0-9]+)|\badr/([0-9]{4})([a-z0-9-]*)"));
static PAGE: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"\b((?:docs|cluster-tests/conformance)/[A-Za-z0-9/_-]+\.[a-z]+)"));
static CODE: LazyLock<Regex> = LazyLock::new(|| compiled(r"`((?:[a-z0-9_-]+/)+[a-z0-9_*]+\.rs|(?:[a-z0-9_-]+/)+)`"));
static SPAN: LazyLock<Regex> = LazyLock::new(|| compiled(r"`[^`]*`"));
static LINK: LazyLock<Regex> = LazyLock::new(|| compiled(r"\]\(([^)\s]+)\)"));
static OUTSIDE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r"\.\./shared/\S*|/work/\S*|\b(?:chaos|design|house|style|openraft-notes)\.md|\(design[:)]")
});
/// What begins a line of a comment in one of our languages, or a quotation.
static MARKER: LazyLock<Regex> = LazyLock::new(|| compiled(r"(?m)^\s*(?:///|//!|//|#+|--|\*|>)?\s*"));

/// What references may lead to.
struct Targets {
    /// Pages of the contract, and of each its text by section.
    contract: BTreeMap<String, BTreeMap<String, String>>,
    /// Files in docs/adr.
    decisions: Vec<String>,
}

impl Targets {
    fn read() -> Self {
        let mut contract = BTreeMap::new();
        for path in files(&root().join("docs/contract")) {
            let page = path.file_stem().unwrap().to_str().unwrap().to_lowercase();
            contract.insert(page, sections(&text(&path)));
        }
        let decisions = files(&root().join("docs/adr"));
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        Self { contract, decisions: decisions.iter().map(name).collect() }
    }

    fn has_section(&self, page: &str, section: &str) -> bool {
        self.contract.get(page).is_some_and(|sections| sections.contains_key(section))
    }

    /// Citations of the contract in a text that lead nowhere.
    fn lost_citations(&self, text: &str) -> Vec<String> {
        let mut lost = Vec::new();
        for found in CITATION.captures_iter(text) {
            let page = found[1].to_lowercase();
            let Some(sections) = self.contract.get(&page) else {
                lost.push(found[0].to_owned());
                continue;
            };
            let cited: Vec<&str> = SECTION.find_iter(&found[2]).map(|section| section.as_str()).collect();
            lost.extend(
                cited
                    .iter()
                    .filter(|cited| !sections.contains_key(**cited))
                    .map(|cited| format!("contract/{page} {cited}")),
            );
            if let (Some(step), Some(last)) = (found[3].strip_prefix(" step "), cited.last()) {
                let text = sections.get(*last).map_or("", String::as_str);
                if !text.contains(&format!("| {step} |")) && !text.contains(&format!("\n{step}. ")) {
                    lost.push(found[0].to_owned());
                }
            }
        }
        lost
    }

    /// Decisions named in a text that do not exist.
    fn lost_decisions(&self, text: &str) -> Vec<String> {
        let exists = |number: &str, rest: &str| {
            let begin = format!("{number:0>4}");
            self.decisions.iter().any(|name| name.starts_with(&begin) && name.contains(rest))
        };
        let lost = ADR.captures_iter(text).filter(|found| match (found.get(1), found.get(2)) {
            (Some(number), _) => !exists(number.as_str(), ""),
            (None, Some(number)) => !exists(number.as_str(), &found[3]),
            (None, None) => true,
        });
        lost.map(|found| found[0].to_owned()).collect()
    }

    /// Titles of cases in the scripts of the API tests that name no case and no section of the
    /// contract.
    fn lost_cases(&self, script: &str) -> Vec<String> {
        let titles = script.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
        let names = titles.flat_map(|title| CASE.find_iter(title));
        let is_lost = |name: &&str| match name.strip_prefix('R') {
            Some(section) => !self.has_section("streams", section),
            None => {
                let page = if name.contains('-') { "cases-services" } else { "cases-streams" };
                let case = format!("**{name}**");
                !self.contract.get(page).is_some_and(|sections| sections.values().any(|text| text.contains(&case)))
            }
        };
        names.map(|name| name.as_str()).filter(is_lost).map(str::to_owned).collect()
    }
}

/// The text of each numbered section, and under the empty name all of the page.
fn sections(page: &str) -> BTreeMap<String, String> {
    let begins: Vec<_> =
        HEADING.captures_iter(page).map(|found| (found.get(0).unwrap().start(), found[1].to_owned())).collect();
    let ends = begins.iter().skip(1).map(|(begin, _)| *begin).chain([page.len()]);
    let mut sections: BTreeMap<String, String> =
        begins.iter().zip(ends).map(|((begin, name), end)| (name.clone(), page[*begin..end].to_owned())).collect();
    sections.insert(String::new(), page.to_owned());
    sections
}

/// A text in one line without the markers of comments, so that references may go over the end of a
/// line.
fn joined(text: &str) -> String {
    MARKER.replace_all(text, "").replace('\n', " ")
}

/// Names of files that are not there, of those that a text names from the root.
fn lost_pages(text: &str) -> Vec<String> {
    let named = PAGE.captures_iter(text).map(|found| found[1].to_owned());
    named.filter(|page| !root().join(page).exists()).collect()
}

/// Relative links of a page that lead to no file of the repository, or to no heading of it.
fn lost_links(path: &Path, page: &str) -> Vec<String> {
    let mut lost = Vec::new();
    for found in LINK.captures_iter(page) {
        let link = found[1].to_owned();
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target = if file.is_empty() { path.to_owned() } else { path.parent().unwrap().join(file) };
        let leads_out =
            target.canonicalize().map_or(true, |target| !target.starts_with(root().canonicalize().unwrap()));
        if leads_out || !anchor.is_empty() && !anchors(&text(&target)).contains(&anchor.to_owned()) {
            lost.push(link);
        }
    }
    lost
}

/// The anchors that headings of a page have.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// Places in the code that a page names and that are not there: files (`http/routes.rs`,
/// `store/*_row.rs`) and folders of rooms (`http/format/`), from `node/src` or from the root.
fn lost_code(page: &str) -> Vec<String> {
    let sources = root().join("node/src");
    let exists = |place: &str| {
        let (folder, name) = place.rsplit_once('/').unwrap_or(("", place));
        let begins_at = [sources.clone(), root()];
        match name.split_once('*') {
            None => begins_at.iter().any(|begin| begin.join(place).exists()),
            Some((begin, end)) => begins_at.iter().flat_map(|at| files(&at.join(folder))).any(|file| {
                let name = file.file_name().unwrap().to_string_lossy();
                name.starts_with(begin) && name.ends_with(end)
            }),
        }
    };
    let is_meant = |place: &str| {
        let (first, _) = place.split_once('/').unwrap_or((place, ""));
        place.ends_with(".rs") || sources.join(first).is_dir()
    };
    let named = CODE.captures_iter(page).map(|found| found[1].to_owned());
    named.filter(|place| is_meant(place) && !exists(place)).collect()
}

/// References to places outside the repository.
fn leading_out(text: &str) -> Vec<String> {
    let found = OUTSIDE.find_iter(text).map(|found| found.as_str().to_owned());
    found.filter(|found| !found.starts_with(PREBUILT)).collect()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// All files below a directory, or the file itself.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}

#[test]
fn every_reference_leads_somewhere_inside_the_repository() {
    let targets = Targets::read();
    let mut lost = Vec::new();
    let mut citations = 0;
    for path in SEARCHED.iter().flat_map(|place| files(&root().join(place))) {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let raw = text(&path);
        if LEFT_OUT.contains(&name.as_str()) || raw.is_empty() {
            continue;
        }
        let line = joined(&raw);
        citations += CITATION.find_iter(&line).count();
        let mut found = targets.lost_citations(&line);
        found.extend(targets.lost_decisions(&line));
        found.extend(lost_pages(&line));
        found.extend(leading_out(&raw));
        if name.ends_with(".md") {
            found.extend(lost_links(&path, &raw));
            if !name.starts_with("docs/contract/") {
                found.extend(lost_code(&raw));
            }
        }
        if name.starts_with("node/tests/") && name.ends_with(".txt") {
            found.extend(targets.lost_cases(&raw));
        }
        lost.extend(found.into_iter().map(|reference| format!("{name}: {reference}")));
    }
    assert!(citations > 100, "only {citations} citations of the contract were found");
    assert!(lost.is_empty(), "these references lead nowhere, or out of the repository:\n{}", lost.join("\n"));
}

/// Lines of a page that are longer than they need to be. Rows of tables, headings and code cannot
/// be wrapped, and a span of code is one word.
fn unwrapped(page: &str) -> Vec<String> {
    let mut is_code = false;
    let mut long = Vec::new();
    for line in page.lines() {
        is_code ^= line.starts_with("```");
        let text = SPAN.replace_all(line, "-");
        let words = text.trim_start_matches([' ', '-', '*', '>']).trim();
        let is_one_line = line.trim_start().starts_with(['|', '#']);
        if !is_code
            && !is_one_line
            && !line.starts_with("    ")
            && line.chars().count() > MAX_COLUMNS
            && words.contains(' ')
        {
            long.push(line.to_owned());
        }
    }
    long
}

#[test]
fn lines_of_the_documentation_are_wrapped() {
    let places = ["README.md", "docs", "cluster-tests/conformance/README.md"];
    let pages = places.iter().flat_map(|place| files(&root().join(place)));
    let long: Vec<String> = pages.flat_map(|page| unwrapped(&text(&page))).collect();
    assert!(long.is_empty(), "lines of more than {MAX_COLUMNS} columns:\n{}", long.join("\n"));

    let word = "x".repeat(60);
    let page =
        format!("{word} {word}\n| {word} {word} |\n- `{word} {word}`\n```\n{word} {word}\n```\n    {word} {word}\n");
    assert_eq!(unwrapped(&page), [format!("{word} {word}")]);
}

/// Lines of comments that are longer than they need to be. Rows of tables and columns that stand
/// below each other cannot be wrapped, and a link or a path is one word.
fn unwrapped_comments(source: &str) -> Vec<String> {
    let is_long = |line: &&str| {
        let text = line.trim_start();
        let Some(comment) = text.strip_prefix("//") else { return false };
        let words = comment.trim_start_matches(['/', '!']).trim();
        let is_table = words.starts_with('|') || words.contains("  ");
        line.chars().count() > MAX_COLUMNS && !is_table && words.contains(' ')
    };
    source.lines().filter(is_long).map(str::to_owned).collect()
}

#[test]
fn comments_are_wrapped() {
    let mut long = Vec::new();
    for path in ["node", "proto", "cluster-tests"].iter().flat_map(|place| files(&root().join(place))) {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".rs") {
            long.extend(unwrapped_comments(&text(&path)).into_iter().map(|line| format!("{name}: {line}")));
        }
    }
    assert!(long.is_empty(), "comments of more than {MAX_COLUMNS} columns:\n{}", long.join("\n"));

    let word = "x".repeat(60);
    let source =
        format!("/// {word} {word}\n/// | {word} {word} |\n// {word}  {word}\n// {word}{word}\nlet {word}{word};\n");
    assert_eq!(unwrapped_comments(&source), [format!("/// {word} {word}")]);
}

#[test]
fn a_wrong_citation_is_found_in_every_form() {
    let targets = Targets::read();
    let lost = |comment: &str| targets.lost_citations(&joined(comment));
    for good in [
        "//! Appends (contract/streams 6 and 12.3).",
        "/// Steps 5 and 6 (contract/streams 6.3 to 6.5, 8.1), contract/services 1.1 and 1.5.",
        "/// Contract/streams\n    /// 6.7 step 5b. The 4096 events of a page, 3.5 of them",
        "# docs/contract/grpc.md, contract/cases-streams, contract/services 0.17",
        "-- contract/streams 6.1 step 10.",
    ] {
        assert!(lost(good).is_empty(), "{good}: {:?}", lost(good));
    }
    for (bad, expected) in [
        ("// contract/streams 6.70", "contract/streams 6.70"),
        ("// contract/streams 6.3 to 6.55", "contract/streams 6.55"),
        ("// contract/streams 1.1, contract/services 1.1 and 1.9)", "contract/services 1.9"),
        ("// contract/stream 6.7", "contract/stream 6.7"),
        ("// Contract/streams\n// 99", "contract/streams 99"),
        ("// contract/streams 6.7 step 5e", "contract/streams 6.7 step 5e"),
    ] {
        assert_eq!(lost(bad), [expected], "{bad}");
    }
}

#[test]
fn a_wrong_case_decision_page_link_or_outside_place_is_found() {
    let targets = Targets::read();
    let script = "A1 options\n  A9999 is no title\nAU-A08 lists\nR6.7-5b again\nR10b log\nX3 ours\n";
    assert!(targets.lost_cases(script).is_empty(), "{:?}", targets.lost_cases(script));
    assert_eq!(targets.lost_cases("A124 nothing\nAU-A99 nothing\nR6.9b nothing\n"), ["A124", "AU-A99", "R6.9"]);

    assert!(targets.lost_decisions("ADR 1, docs/adr/0002, adr/0004-own-routing.md").is_empty());
    assert_eq!(
        targets.lost_decisions("ADR 999, adr/0999, adr/0004-other.md"),
        ["ADR 999", "adr/0999", "adr/0004-other"]
    );

    assert!(lost_pages("docs/limits.md and docs/contract/streams.md").is_empty());
    assert_eq!(lost_pages("docs/no-limits.md"), ["docs/no-limits.md"]);

    let path = root().join("docs/limits.md");
    let links =
        "[a](configuration.md) [b](contract/streams.md#67-expected-version-and-idempotency) [c](https://x.org/y)";
    assert!(lost_links(&path, links).is_empty(), "{:?}", lost_links(&path, links));
    let links = "[a](gone.md) [b](contract/streams.md#gone) [c](../../elsewhere.md) [d](../..)";
    assert_eq!(lost_links(&path, links), ["gone.md", "contract/streams.md#gone", "../../elsewhere.md", "../.."]);

    assert!(lost_code("`http/` `event/*_name.rs` `gone.rs` `node/tests/contract.rs` `elsewhere/`").is_empty());
    assert_eq!(
        lost_code("`http/gone.rs` `event/*_gone.rs` `http/gone/`"),
        ["http/gone.rs", "event/*_gone.rs", "http/gone/"]
    );

    assert!(leading_out("PREBUILT := ../shared/prebuilt/env.sh, a shared/thing").is_empty());
    let outside = "kit=../shared/conformance/replay.py (chaos.md: x) (design: promises) /work/x";
    assert_eq!(leading_out(outside), ["../shared/conformance/replay.py", "chaos.md", "(design:", "/work/x"]);
}
