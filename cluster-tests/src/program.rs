//! Subcommands of the program, run against the nodes of a test.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::Context;

use crate::client::ADMIN;
use crate::process::headwater_binary;

/// What a test waits for one of them.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// Runs the program to its end.
pub async fn run(arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = tokio::process::Command::new(headwater_binary()?);
    command.args(arguments).env("HEADWATER_PASSWORD", ADMIN.1).kill_on_drop(true);
    let output = tokio::time::timeout(RUN_LIMIT, command.output()).await;
    output.context("the program did not end in time")?.context("the program cannot be started")
}

/// What it said; an error unless it ended with success.
pub fn said(output: Output) -> anyhow::Result<String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "{}: {out}{err}", output.status);
    Ok(out.into_owned())
}

/// Backs a node up.
pub async fn backup(from: &str, to: &Path, since: Option<&Path>) -> anyhow::Result<()> {
    let (to, since) = (to.display().to_string(), since.map(|since| since.display().to_string()));
    let mut arguments = vec!["backup", "--from", from, "--user", ADMIN.0, "--to", &to];
    arguments.extend(since.iter().flat_map(|since| ["--since", since]));
    said(run(&arguments).await?).map(drop)
}
