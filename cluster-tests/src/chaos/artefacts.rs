//! The files that a run leaves.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::history::{Answer, History};

/// Every fault, with its time.
#[derive(Debug, Clone, Default)]
pub(super) struct NemesisLog(Vec<Value>);

impl NemesisLog {
    pub(super) fn add(&mut self, at: Duration, what: &str, of: &str) {
        self.0.push(json!({"atMs": at.as_millis() as u64, "what": what, "of": of}));
    }
}

/// Writes faults and writes, and copies the logs of the nodes (name and text).
pub(super) fn write(
    directory: &Path,
    nemesis: &NemesisLog,
    history: &History,
    logs: &[(String, String)],
) -> anyhow::Result<()> {
    let cannot = |path: &Path| format!("cannot write {}", path.display());
    let of_nodes = directory.join("logs");
    fs::create_dir_all(&of_nodes).with_context(|| cannot(&of_nodes))?;
    for (name, text) in logs {
        fs::write(of_nodes.join(name), text).with_context(|| cannot(&of_nodes))?;
    }
    write_lines(&directory.join("nemesis.jsonl"), nemesis.0.iter().cloned())?;
    write_lines(&directory.join("history.jsonl"), history.writes.iter().map(line_of))
}

/// Writes the verdict, the last of all files.
pub(super) fn write_verdict(directory: &Path, verdict: &Value) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let text = serde_json::to_string_pretty(verdict).context("a verdict has only texts and numbers")?;
    fs::write(directory.join("verdict.json"), text).context("cannot write the verdict")
}

fn write_lines(path: &Path, lines: impl Iterator<Item = Value>) -> anyhow::Result<()> {
    let file = fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut file = std::io::BufWriter::new(file);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.flush().with_context(|| format!("cannot write {}", path.display()))
}

fn line_of(write: &crate::history::Write) -> Value {
    let attempts = write.attempts.iter().map(|attempt| {
        let answer = match &attempt.answer {
            Answer::Acknowledged { first_number, position } => json!({"number": first_number, "position": position}),
            Answer::Refused { status, reason } => json!({"status": status, "refused": reason}),
            Answer::Unknown { reason } => json!({"unknown": reason}),
            Answer::Malformed { reason } => json!({"malformed": reason}),
        };
        json!({
            "node": attempt.node,
            "sentMs": attempt.sent_at.as_secs_f64() * 1e3,
            "answeredMs": attempt.answered_at.as_secs_f64() * 1e3,
            "answer": answer,
        })
    });
    json!({
        "stream": write.stream,
        "expectedVersion": write.expected_version,
        "ids": write.events.iter().map(|event| &event.id).collect::<Vec<_>>(),
        "attempts": attempts.collect::<Vec<_>>(),
    })
}
