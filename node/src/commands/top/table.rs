//! What is shown of two looks: a row for each node, and the slowest requests.

use std::time::Duration;

use super::look::{Figures, Look, NodeLook, Series};

/// Heads of the columns.
pub(super) const HEADS: [&str; 14] = [
    "NODE", "STATE", "TERM", "COMMIT", "LAG", "READS/S", "p50", "p99", "WRITES/S", "p50", "p99", "SYNC p99", "CPU",
    "MEM/FREE",
];

/// Requests that are listed.
const SLOW_REQUESTS: usize = 8;

/// A row; a node that says nothing fills the columns behind its state with the reason.
pub(super) type Row = Vec<String>;

/// The rows of all nodes: rates and delays are those between the two looks.
pub(super) fn rows(before: Option<&Look>, now: &Look) -> Vec<Row> {
    let furthest = now.nodes.iter().map(|node| node.member.last_commit_position).max().unwrap_or(0);
    now.nodes.iter().map(|node| row(before, now, node, furthest)).collect()
}

fn row(before: Option<&Look>, now: &Look, node: &NodeLook, furthest: i64) -> Row {
    let member = &node.member;
    let mut row = vec![member.address(), state(&member.state).to_owned()];
    let figures = match &node.figures {
        Ok(figures) => figures,
        Err(reason) => {
            row.push(reason.clone());
            return row;
        }
    };
    let earlier = before.and_then(|before| {
        let node = before.nodes.iter().find(|earlier| earlier.member.address() == member.address())?;
        Some((node.figures.as_ref().ok()?, now.at.duration_since(before.at)))
    });
    row.push(member.epoch_number.to_string());
    row.push(format!("{}", value(figures, "headwater_committed_entries")));
    row.push((furthest - member.last_commit_position).max(0).to_string());
    for kind in ["read", "write"] {
        let requests = Buckets::of(figures, earlier, "headwater_http_request_seconds", Some(kind));
        row.push(requests.rate().map_or_else(none, |rate| format!("{rate:.0}")));
        row.push(requests.quantile(0.5).map_or_else(none, seconds));
        row.push(requests.quantile(0.99).map_or_else(none, seconds));
    }
    let syncs = Buckets::of(figures, earlier, "headwater_log_sync_seconds", None);
    row.push(syncs.quantile(0.99).map_or_else(none, seconds));
    row.push(format!("{:.0}%", figures.stats.proc.cpu));
    row.push(format!("{}/{}", bytes(figures.stats.proc.mem), figures.stats.free_bytes().map_or_else(none, bytes)));
    row
}

/// The slowest requests that the nodes remember, or why they are not known.
pub(super) fn slow(now: &Look) -> Vec<String> {
    let slow = match &now.slow {
        Ok(slow) => slow,
        Err(reason) => return vec![reason.clone()],
    };
    let line = |request: &super::look::SlowRequest| {
        let longest = request.spent_ms.iter().max_by_key(|(_, ms)| **ms);
        let longest = longest.map(|(phase, ms)| format!("{phase} {ms} ms")).unwrap_or_default();
        format!("{:>8} ms  {longest:<18} {} {} {}", request.taken_ms, request.at, request.method, request.path)
    };
    slow.iter().take(SLOW_REQUESTS).map(line).collect()
}

/// What operators call the states.
fn state(gossip: &str) -> &str {
    match gossip {
        "Master" | "Leader" => "leader",
        "Slave" | "Follower" => "follower",
        "CatchingUp" | "Clone" => "behind",
        "Unknown" => "no leader",
        "ShuttingDown" | "Shutdown" => "stopping",
        other => other,
    }
}

fn value(figures: &Figures, name: &str) -> f64 {
    figures.series.iter().find(|series| series.name == name).map_or(0.0, |series| series.value)
}

fn none() -> String {
    "-".to_owned()
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1}ms", seconds * 1_000.0) } else { format!("{seconds:.1}s") }
}

fn bytes(bytes: u64) -> String {
    let (mut amount, mut unit) = (bytes as f64, "B");
    for larger in ["K", "M", "G", "T"] {
        if amount < 1_024.0 {
            break;
        }
        (amount, unit) = (amount / 1_024.0, larger);
    }
    if amount < 10.0 { format!("{amount:.1}{unit}") } else { format!("{amount:.0}{unit}") }
}

/// How much a histogram has grown between two looks.
struct Buckets {
    /// Upper bound and how many were at most that, ascending.
    at_most: Vec<(f64, f64)>,
    time: Option<Duration>,
}

impl Buckets {
    fn of(now: &Figures, before: Option<(&Figures, Duration)>, name: &str, kind: Option<&str>) -> Self {
        let name = format!("{name}_bucket");
        let is_of = |series: &&Series| series.name == name && series.labels.get("kind").map(String::as_str) == kind;
        let earlier = |wanted: &Series| {
            let (figures, _) = before?;
            Some(figures.series.iter().find(|series| is_of(series) && series.labels == wanted.labels)?.value)
        };
        let bound = |series: &Series| {
            let bound = series.labels.get("le")?;
            if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() }
        };
        let grown = |series: &Series| Some((bound(series)?, series.value - earlier(series).unwrap_or(0.0)));
        let mut at_most: Vec<(f64, f64)> = now.series.iter().filter(is_of).filter_map(grown).collect();
        at_most.sort_by(|a, b| a.0.total_cmp(&b.0));
        // A process that was started anew counts from zero again.
        if at_most.iter().any(|(_, count)| *count < 0.0) {
            at_most.clear();
        }
        Self { at_most, time: before.map(|(_, time)| time) }
    }

    fn count(&self) -> f64 {
        self.at_most.last().map_or(0.0, |(_, count)| *count)
    }

    /// How many a second; unknown after one look.
    fn rate(&self) -> Option<f64> {
        Some(self.count() / self.time?.as_secs_f64().max(f64::MIN_POSITIVE))
    }

    /// The bound that this part did not exceed; of what is beyond all bounds, the largest of them.
    fn quantile(&self, part: f64) -> Option<f64> {
        let wanted = self.count() * part;
        let largest = self.at_most.iter().rev().map(|(bound, _)| *bound).find(|bound| bound.is_finite())?;
        let found = self.at_most.iter().find(|(_, count)| *count >= wanted && *count > 0.0)?;
        Some(found.0.min(largest))
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::parse;
    use super::*;

    fn figures(text: &str) -> Figures {
        let stats = r#"{"proc":{"mem":2147483648,"cpu":12.3},"sys":{"drive":{"/":{"availableBytes":5000}}}}"#;
        Figures { series: parse(text), stats: serde_json::from_str(stats).unwrap() }
    }

    fn look(after_s: u64, begun: std::time::Instant, text: Option<&str>) -> Look {
        let member = r#"{"state":"Master","isAlive":true,"httpEndPointIp":"::1","httpEndPointPort":2113,
            "lastCommitPosition":9,"epochNumber":4}"#;
        let figures = text.map(figures).ok_or_else(|| "does not answer".to_owned());
        let nodes = vec![NodeLook { member: serde_json::from_str(member).unwrap(), figures }];
        Look { at: begun + Duration::from_secs(after_s), nodes, slow: Ok(Vec::new()) }
    }

    fn metrics(below_1_ms: u32, below_2_ms: u32, all: u32) -> String {
        format!(
            "headwater_committed_entries 77\n\
             headwater_http_request_seconds_bucket{{le=\"0.001\",kind=\"read\"}} {below_1_ms}\n\
             headwater_http_request_seconds_bucket{{le=\"0.002\",kind=\"read\"}} {below_2_ms}\n\
             headwater_http_request_seconds_bucket{{le=\"+Inf\",kind=\"read\"}} {all}\n"
        )
    }

    #[test]
    fn rates_and_delays_are_those_between_two_looks() {
        let begun = std::time::Instant::now();
        let (first, second) = (metrics(100, 100, 100), metrics(160, 198, 200));
        let rows = rows(Some(&look(0, begun, Some(&first))), &look(2, begun, Some(&second)));
        let expected =
            ["[::1]:2113", "leader", "4", "77", "0", "50", "1.0ms", "2.0ms", "0", "-", "-", "-", "12%", "2.0G/4.9K"];
        assert_eq!(rows, [expected.map(str::to_owned).to_vec()]);
        assert_eq!(rows[0].len(), HEADS.len());
    }

    #[test]
    fn a_node_that_was_started_anew_or_says_nothing_is_shown_as_such() {
        let begun = std::time::Instant::now();
        let anew = rows(Some(&look(0, begun, Some(&metrics(9, 9, 9)))), &look(2, begun, Some(&metrics(1, 1, 1))));
        assert_eq!(anew[0][5..8], ["0", "-", "-"]);
        let silent = rows(None, &look(0, begun, None));
        assert_eq!(silent[0][1..], ["leader", "does not answer"]);
    }
}
