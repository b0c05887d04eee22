//! The nodes' logs are clean: no panic, and no WARN or ERROR line except those on the list, each
//! with its reason.

use super::Violation;

/// The name of the rule.
pub const RULE: &str = "logs";

/// Lines that are expected when nodes are killed, paused and restarted.
const ALLOWED: &str = include_str!("allowed-log-lines.txt");

/// One entry of the list: the parts between `*` must occur in the line in this order.
#[derive(Debug)]
struct Allowed {
    parts: Vec<String>,
}

impl Allowed {
    fn covers(&self, line: &str) -> bool {
        let mut rest = line;
        self.parts.iter().all(|part| match rest.find(part.as_str()) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

/// Reads the list: a pattern per line, each preceded by a comment that gives its reason.
fn parse(text: &str) -> anyhow::Result<Vec<Allowed>> {
    let mut allowed = Vec::new();
    let mut has_reason = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            has_reason = false;
        } else if line.starts_with('#') {
            has_reason = true;
        } else {
            anyhow::ensure!(has_reason, "the allowed log line {line:?} has no reason above it");
            allowed.push(Allowed { parts: line.split('*').map(|part| part.trim().to_owned()).collect() });
        }
    }
    Ok(allowed)
}

/// Judges all lines of all logs, given as (file name, text). `also_allowed` lists the lines that
/// this test provokes.
pub fn check(logs: &[(String, String)], also_allowed: &[&str]) -> anyhow::Result<Vec<Violation>> {
    let mut allowed = parse(ALLOWED)?;
    allowed.extend(
        also_allowed.iter().map(|line| Allowed { parts: line.split('*').map(|part| part.trim().to_owned()).collect() }),
    );
    let mut violations = Vec::new();
    for (name, text) in logs {
        for line in text.lines().map(without_colours).filter(|line| is_complaint(line)) {
            if !allowed.iter().any(|allowed| allowed.covers(&line)) {
                violations.push(Violation::new(RULE, format!("{name}: {line}")));
            }
        }
    }
    Ok(violations)
}

fn is_complaint(line: &str) -> bool {
    // The level stands between the time stamp and the target; these words deeper in a line mean
    // nothing.
    let level = line.split_whitespace().find(|word| ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(word));
    matches!(level, Some("WARN" | "ERROR"))
        || ["panicked at", "panic;", "stack backtrace", "SIGSEGV", "headwater: fatal", "memory allocation of"]
            .iter()
            .any(|sign| line.contains(sign))
}

/// Removes terminal colour codes.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // A colour code ends with its first letter.
            characters.by_ref().find(|inner| inner.is_ascii_alphabetic());
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(line: &str, also: &[&str]) -> usize {
        check(&[("node-1.log".to_owned(), line.to_owned())], also).unwrap().len()
    }

    #[test]
    fn the_list_gives_a_reason_for_every_line() {
        parse(ALLOWED).unwrap();
        assert!(parse("# why\nthis\n\nthat").is_err());
    }

    #[test]
    fn a_warning_that_is_not_on_the_list_is_seen() {
        assert_eq!(judge("2026-01-01T00:00:00Z  WARN headwater::raft: the sky falls", &[]), 1);
        assert_eq!(judge("2026-01-01T00:00:00Z \u{1b}[31mERROR\u{1b}[0m headwater::log: lost", &[]), 1);
    }

    #[test]
    fn a_panic_is_seen() {
        assert_eq!(judge("thread 'apply' panicked at node/src/x.rs:1:1:", &[]), 1);
    }

    #[test]
    fn an_info_line_that_speaks_of_errors_is_clean() {
        assert_eq!(judge("2026-01-01T00:00:00Z  INFO headwater: no ERROR so far", &[]), 0);
    }

    #[test]
    fn an_allowed_line_needs_all_parts_in_order() {
        let line = "2026-01-01T00:00:00Z  WARN headwater::raft: peer 2 does not answer: refused";
        assert_eq!(judge(line, &["WARN*peer*refused"]), 0);
        assert_eq!(judge(line, &["WARN*refused*peer"]), 1);
    }
}
