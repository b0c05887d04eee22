//! The cluster as operators look at it (contract/services 4.7).

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::cluster::view::{Condition, Gated, MemberOverview, Overview, Part, Progress};
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
use crate::http::resources::gossip::role_name;

/// The document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    cluster_id: Option<String>,
    asked: u16,
    leader: Option<u16>,
    term: u64,
    condition: &'static str,
    problems: Vec<String>,
    voters: usize,
    voters_answering: usize,
    voters_needed: usize,
    list_in_force: bool,
    cluster_version: u32,
    gated: Vec<GatedVersion>,
    members: Vec<Member>,
}

/// A cluster version that is not in force yet.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GatedVersion {
    version: u32,
    adds: &'static str,
    waits_for: Vec<String>,
}

/// One of its members.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    server: u16,
    node_id: Option<String>,
    raft: String,
    http: String,
    role: &'static str,
    state: &'static str,
    answers: bool,
    term: Option<u64>,
    log_end: Option<u64>,
    applied: Option<u64>,
    lag: Option<u64>,
    version: Option<String>,
    newest_cluster_version: Option<u32>,
}

/// GET /admin/cluster
pub(crate) async fn overview(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let document = Document::of(request.state.rooms.cluster.overview());
    let body = serde_json::to_vec_pretty(&document).unwrap_or_default();
    let mut answer = response::with_body(StatusCode::OK, MediaType::Json.header(), body);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

impl Document {
    fn of(overview: Overview) -> Self {
        Self {
            cluster_id: overview.cluster_id.map(|id| id.to_string()),
            asked: overview.asked.server(),
            leader: overview.leader,
            term: overview.term,
            condition: match overview.condition {
                Condition::Healthy => "healthy",
                Condition::Degraded => "degraded",
                Condition::Unavailable => "unavailable",
            },
            problems: overview.problems,
            voters: overview.quorum.voters,
            voters_answering: overview.quorum.alive,
            voters_needed: overview.quorum.needed,
            list_in_force: !overview.is_changed,
            cluster_version: overview.cluster_version.0,
            gated: overview.gated.iter().map(GatedVersion::of).collect(),
            members: overview.members.into_iter().map(Member::of).collect(),
        }
    }
}

impl GatedVersion {
    fn of(gated: &Gated) -> Self {
        let waits_for = gated.waits_for.iter().map(ToString::to_string).collect();
        Self { version: gated.version.0, adds: gated.version.adds(), waits_for }
    }
}

impl Member {
    fn of(member: MemberOverview) -> Self {
        let MemberOverview { node_id, server, places, part, state, is_alive, progress } = member;
        let of_progress = |field: fn(&Progress) -> Option<u64>| progress.as_ref().and_then(field);
        Self {
            server,
            node_id: node_id.map(|id| id.to_string()),
            raft: places.raft_address,
            http: places.http_address,
            role: match part {
                Part::Leader => "leader",
                Part::Voter => "voter",
                Part::Learner => "learner",
                Part::Replica => "replica",
                Part::None => "none",
            },
            state: role_name(state),
            answers: is_alive,
            term: of_progress(|progress| Some(progress.term)),
            log_end: of_progress(|progress| progress.log_entries),
            applied: of_progress(|progress| Some(progress.applied_entries)),
            lag: of_progress(|progress| progress.lag_entries),
            newest_cluster_version: progress.as_ref().map(|progress| progress.newest_cluster_version.0),
            version: progress.and_then(|progress| progress.version),
        }
    }
}
