//! One look at all nodes of a cluster: what each of them says of itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Url;
use serde::Deserialize;
use tokio::time::timeout;

use crate::client::{Call, Client, ClientError};

/// How long a node may take to answer. One that is slower is shown as one that does not answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// What all nodes said at about the same moment.
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) nodes: Vec<NodeLook>,
    /// Requests of all nodes that took long, or why they are not known.
    pub(super) slow: Result<Vec<SlowRequest>, String>,
}

/// One node.
pub(super) struct NodeLook {
    pub(super) member: Member,
    /// What it says of itself, or why it says nothing.
    pub(super) figures: Result<Figures, String>,
}

/// A member as the cluster names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    pub(super) state: String,
    http_end_point_ip: String,
    http_end_point_port: u16,
    pub(super) last_commit_position: i64,
    pub(super) epoch_number: i64,
}

impl Member {
    /// `host:port` of its HTTP API.
    pub(super) fn address(&self) -> String {
        let host = &self.http_end_point_ip;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{host}:{}", self.http_end_point_port)
    }

    fn client(&self, of: &Client) -> Result<Client, String> {
        let url = Url::parse(&format!("{}://{}", of.scheme(), self.address()));
        url.map(|url| of.at(&url)).map_err(|error| error.to_string())
    }
}

#[derive(Deserialize)]
struct Gossip {
    members: Vec<Member>,
}

/// What a node says of itself.
pub(super) struct Figures {
    pub(super) series: Vec<Series>,
    pub(super) stats: Stats,
}

/// Parts of `/stats`.
#[derive(Debug, Deserialize)]
pub(super) struct Stats {
    pub(super) proc: Process,
    sys: System,
}

#[derive(Debug, Deserialize)]
pub(super) struct Process {
    /// Bytes in memory.
    pub(super) mem: u64,
    /// Hundredths of one processor.
    pub(super) cpu: f64,
}

#[derive(Debug, Deserialize)]
struct System {
    drive: BTreeMap<String, Drive>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Drive {
    available_bytes: u64,
}

impl Stats {
    /// Bytes that are free on the disk of the data.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.sys.drive.values().map(|drive| drive.available_bytes).min()
    }
}

/// A line of `/metrics`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// A request that took long.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SlowRequest {
    pub(super) at: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) taken_ms: u64,
    pub(super) spent_ms: BTreeMap<String, u64>,
}

/// Looks at a cluster, whichever of its nodes answers.
pub(super) struct Watch {
    /// The node that was named first, and then those that it named.
    nodes: Vec<Client>,
}

impl Watch {
    pub(super) fn new(client: Client) -> Self {
        Self { nodes: vec![client] }
    }

    /// Looks at every member.
    ///
    /// # Errors
    /// None of the nodes that are known answers: what the first one said.
    pub(super) async fn look(&mut self) -> Result<Look, String> {
        let mut first = None;
        for node in &self.nodes {
            match members(node).await {
                Ok(members) => {
                    let named = self.nodes[0].clone();
                    let others = members.iter().filter_map(|member| member.client(&named).ok());
                    let known = [named.clone()].into_iter().chain(others).collect();
                    let look = look_at_all(&named, members).await;
                    self.nodes = known;
                    return Ok(look);
                }
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or_default())
    }
}

async fn members(node: &Client) -> Result<Vec<Member>, String> {
    let asked = timeout(ANSWER_DEADLINE, node.send(&Call::get("/gossip").accept("application/json"))).await;
    let gossip = asked.map_err(|_| format!("{} does not answer", node.name()))?.map_err(|error| error.to_string())?;
    let Gossip { members } =
        serde_json::from_slice(&gossip).map_err(|error| format!("{} is no Headwater: {error}", node.name()))?;
    Ok(members)
}

async fn look_at_all(client: &Client, members: Vec<Member>) -> Look {
    let at = Instant::now();
    let (nodes, slow): (Vec<_>, Vec<_>) =
        join_all(members.into_iter().map(|member| look_at(client, member))).await.into_iter().unzip();
    let slow: Result<Vec<Vec<SlowRequest>>, String> = slow.into_iter().flatten().collect();
    let slow = slow.map(|of_nodes| {
        let mut slow = of_nodes.concat();
        slow.sort_by_key(|request| std::cmp::Reverse(request.taken_ms));
        slow
    });
    Look { at, nodes, slow }
}

async fn look_at(client: &Client, member: Member) -> (NodeLook, Option<Result<Vec<SlowRequest>, String>>) {
    let node = match member.client(client) {
        Ok(node) => node,
        Err(reason) => return (NodeLook { member, figures: Err(reason) }, None),
    };
    let asked = async { tokio::join!(figures(&node), slow_requests(&node)) };
    match timeout(ANSWER_DEADLINE, asked).await {
        Ok((figures, slow)) => {
            let slow = figures.is_ok().then_some(slow);
            (NodeLook { member, figures }, slow)
        }
        Err(_) => (NodeLook { member, figures: Err("does not answer".to_owned()) }, None),
    }
}

async fn figures(node: &Client) -> Result<Figures, String> {
    let metrics = node.send(&Call::get("/metrics")).await.map_err(|error| error.to_string())?;
    let stats = node.send(&Call::get("/stats").accept("application/json")).await.map_err(|error| error.to_string())?;
    let stats = serde_json::from_slice(&stats).map_err(|error| format!("/stats: {error}"))?;
    Ok(Figures { series: parse(&String::from_utf8_lossy(&metrics)), stats })
}

async fn slow_requests(node: &Client) -> Result<Vec<SlowRequest>, String> {
    match node.send(&Call::get("/admin/slow-requests").accept("application/json")).await {
        Ok(answer) => serde_json::from_slice(&answer).map_err(|error| format!("/admin/slow-requests: {error}")),
        Err(ClientError::Refused { .. }) => Err("log in as an operator (--user) to see slow requests".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The lines of an OpenMetrics text; what is none is left out.
pub(super) fn parse(text: &str) -> Vec<Series> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(series).collect()
}

fn series(line: &str) -> Option<Series> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
    };
    let label = |label: &str| {
        let (name, value) = label.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    // No value of ours has a comma.
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(label).collect::<Option<_>>()?;
    Some(Series { name: name.to_owned(), labels, value: value.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_metrics_are_read_with_their_labels() {
        let text = "# TYPE a counter\na_total 3\nb_bucket{kind=\"read\",le=\"0.5\"} 7\nnonsense\n# EOF\n";
        let labels = [("kind", "read"), ("le", "0.5")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            parse(text),
            [
                Series { name: "a_total".into(), labels: BTreeMap::new(), value: 3.0 },
                Series { name: "b_bucket".into(), labels: labels.into(), value: 7.0 },
            ]
        );
    }
}
