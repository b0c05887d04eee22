//! A cluster as a table for people.

use std::fmt::Write;

use super::document::{Condition, Document, GatedVersion, Member};
use crate::commands::columns;

const HEADINGS: [&str; 11] =
    ["SERVER", "ROLE", "STATE", "ANSWERS", "TERM", "LOG END", "APPLIED", "LAG", "VERSION", "KNOWS", "RAFT / HTTP"];

/// The table, below lines about the whole, above lines about what is wrong.
pub(super) fn of(document: &Document) -> String {
    let condition = match document.condition {
        Condition::Healthy => "healthy",
        Condition::Degraded => "degraded",
        Condition::Unavailable => "unavailable",
    };
    let leader = document.leader.map_or_else(|| "no leader".to_owned(), |server| format!("leader {server}"));
    let mut out = format!(
        "cluster {}: {condition}, {leader}, term {}; {} of {} voters answer, {} are needed (as server {} sees it)\n",
        document.cluster_id.as_deref().unwrap_or("-"),
        document.term,
        document.voters_answering,
        document.voters,
        document.voters_needed,
        document.asked,
    );
    // Writing to a String cannot fail.
    let _ = write_versions(document, &mut out);
    let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
    rows.extend(document.members.iter().map(|member| row(member).to_vec()));
    let widths: [usize; HEADINGS.len()] = columns::widths(&rows);
    for row in rows {
        let _ = writeln!(out, "{}", columns::line(&row, &widths));
    }
    for problem in &document.problems {
        let _ = writeln!(out, "! {problem}");
    }
    out
}

/// The cluster version in force, and what others wait for.
fn write_versions(document: &Document, out: &mut String) -> std::fmt::Result {
    let Some(in_force) = document.cluster_version else { return Ok(()) };
    write!(out, "cluster version {in_force}")?;
    for GatedVersion { version, adds, waits_for } in &document.gated {
        write!(out, "; version {version} ({adds}) ")?;
        match waits_for.as_slice() {
            [] => write!(out, "is about to be in force")?,
            laggards => write!(out, "is not in force: {}", laggards.join(", "))?,
        }
    }
    writeln!(out)
}

fn row(member: &Member) -> [String; HEADINGS.len()] {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    [
        member.server.to_string(),
        member.role.clone(),
        member.state.clone(),
        if member.answers { "yes" } else { "no" }.to_owned(),
        number(member.term),
        number(member.log_end),
        number(member.applied),
        number(member.lag),
        member.version.clone().unwrap_or_else(|| "-".to_owned()),
        member.newest_cluster_version.map_or_else(|| "-".to_owned(), |version| version.to_string()),
        format!("{} / {}", member.raft, member.http),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_what_is_wrong_stands_below_the_table() {
        let member = |server, role: &str, lag: Option<u64>| Member {
            server,
            raft: "10.0.0.1:1113".into(),
            http: "10.0.0.1:2113".into(),
            role: role.into(),
            state: "Slave".into(),
            answers: lag.is_some(),
            term: Some(3),
            log_end: None,
            applied: Some(1_000_000),
            lag,
            version: lag.map(|_| "0.2.0".into()),
            newest_cluster_version: lag.map_or(Some(1), |_| Some(2)),
        };
        let document = Document {
            cluster_id: Some("x".into()),
            asked: 1,
            leader: Some(1),
            term: 3,
            condition: Condition::Degraded,
            problems: vec!["server 12 does not answer".into()],
            voters: 2,
            voters_answering: 1,
            voters_needed: 2,
            cluster_version: Some(1),
            gated: vec![GatedVersion {
                version: 2,
                adds: "changes".into(),
                waits_for: vec!["server 12 knows none beyond 1".into()],
            }],
            members: vec![member(1, "leader", Some(0)), member(12, "replica", None)],
        };
        let expected = "\
cluster x: degraded, leader 1, term 3; 1 of 2 voters answer, 2 are needed (as server 1 sees it)
cluster version 1; version 2 (changes) is not in force: server 12 knows none beyond 1
SERVER  ROLE     STATE  ANSWERS  TERM  LOG END  APPLIED  LAG  VERSION  KNOWS  RAFT / HTTP
1       leader   Slave  yes      3     -        1000000  0    0.2.0    2      10.0.0.1:1113 / 10.0.0.1:2113
12      replica  Slave  no       3     -        1000000  -    -        1      10.0.0.1:1113 / 10.0.0.1:2113
! server 12 does not answer
";
        assert_eq!(of(&document), expected);
    }
}
