//! What a node says of its cluster (GET /admin/cluster).

use bytes::Bytes;
use serde::Deserialize;

use crate::client::{Call, Client};
use crate::commands::{CommandError, parsed};

/// How well a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Condition {
    /// All is well, or what was asked for is done.
    Healthy,
    /// Writes are taken, but something is wrong.
    Degraded,
    /// No writes are taken.
    Unavailable,
}

/// The cluster.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) cluster_id: Option<String>,
    pub(super) asked: u16,
    pub(super) leader: Option<u16>,
    pub(super) term: u64,
    pub(super) condition: Condition,
    pub(super) problems: Vec<String>,
    pub(super) voters: usize,
    pub(super) voters_answering: usize,
    pub(super) voters_needed: usize,
    /// Absent in versions that know none.
    pub(super) cluster_version: Option<u32>,
    #[serde(default)]
    pub(super) gated: Vec<GatedVersion>,
    pub(super) members: Vec<Member>,
}

/// A cluster version that is not in force yet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GatedVersion {
    pub(super) version: u32,
    pub(super) adds: String,
    pub(super) waits_for: Vec<String>,
}

/// One of its members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    pub(super) server: u16,
    pub(super) raft: String,
    pub(super) http: String,
    pub(super) role: String,
    pub(super) state: String,
    pub(super) answers: bool,
    pub(super) term: Option<u64>,
    pub(super) log_end: Option<u64>,
    pub(super) applied: Option<u64>,
    pub(super) lag: Option<u64>,
    pub(super) version: Option<String>,
    pub(super) newest_cluster_version: Option<u32>,
}

/// Asks the node; also gives its answer as it came.
pub(super) async fn ask(client: &Client) -> Result<(Document, Bytes), CommandError> {
    let answer = client.send(&Call::get("/admin/cluster").accept("application/json")).await?;
    Ok((parsed(client, &answer)?, answer))
}
