//! A cluster as a table for people.

use std::fmt::Write;

use super::document::{Condition, Document, Member};
use crate::commands::columns;

const HEADINGS: [&str; 10] =
    ["SERVER", "ROLE", "STATE", "ANSWERS", "TERM", "LOG END", "APPLIED", "LAG", "VERSION", "RAFT / HTTP"];

/// The table, below a line about the whole, above lines about what is wrong.
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
    let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
    rows.extend(document.members.iter().map(|member| row(member).to_vec()));
    let widths: [usize; HEADINGS.len()] = columns::widths(&rows);
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", columns::line(&row, &widths));
    }
    for problem in &document.problems {
        let _ = writeln!(out, "! {problem}");
    }
    out
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
            version: Some("0.1.0".into()),
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
            members: vec![member(1, "leader", Some(0)), member(12, "replica", None)],
        };
        let expected = "\
cluster x: degraded, leader 1, term 3; 1 of 2 voters answer, 2 are needed (as server 1 sees it)
SERVER  ROLE     STATE  ANSWERS  TERM  LOG END  APPLIED  LAG  VERSION  RAFT / HTTP
1       leader   Slave  yes      3     -        1000000  0    0.1.0    10.0.0.1:1113 / 10.0.0.1:2113
12      replica  Slave  no       3     -        1000000  -    0.1.0    10.0.0.1:1113 / 10.0.0.1:2113
! server 12 does not answer
";
        assert_eq!(of(&document), expected);
    }
}
