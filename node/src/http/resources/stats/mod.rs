//! `GET /stats...`: figures of the process, the machine and the node, in the form in which the
//! reference prints its own (contract/services 4.2). Figures that this node cannot measure are left
//! out.

mod sample;
mod system;

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::cluster::view::Follower;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
pub(crate) use sample::Stats;
use sample::{Leaf, Sample, Transfer};

/// As long as a sample is kept.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("max-age=1, public");

/// GET /stats, and the part of it that the rest of the path names
pub(crate) async fn figures(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let is_grouped = !request.query("group").is_some_and(|group| group.eq_ignore_ascii_case("false"));
    let printed: fn(&Leaf) -> Value = match request.query("metadata") {
        Some(flag) if flag.eq_ignore_ascii_case("true") => described,
        Some(_) | None => plain,
    };
    let path = &request.params.path;
    if !is_grouped && !path.is_empty() {
        let reason = "Dynamic stats selection works only with grouping enabled";
        return Ok(response::text(StatusCode::BAD_REQUEST, reason));
    }
    let Some(sample) = sample(request).await else { return Ok(no_sample()) };
    let document = if is_grouped { grouped(&sample.leaves, printed) } else { flat(&sample.leaves, printed) };
    let part = path.iter().try_fold(&document, |part, name| part.get(&**name));
    // A single figure does not count as a part, as in the reference.
    Ok(match part.filter(|part| part.is_object() && part.get("drawChart").is_none()) {
        Some(part) => answer(part),
        None => response::status_only(StatusCode::NOT_FOUND, "Not Found"),
    })
}

/// GET /stats/tcp: connections with other nodes
pub(crate) async fn connections(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let Some(sample) = sample(request).await else { return Ok(no_sample()) };
    Ok(answer(&sample.connections.iter().map(connection).collect()))
}

/// GET /stats/replication: what this leader sends each of its followers, over all connections it
/// has opened to it
pub(crate) async fn replication(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let Some(sample) = sample(request).await else { return Ok(no_sample()) };
    let followers = request.state.rooms.cluster.followers().into_iter();
    Ok(answer(&followers.map(|follower| subscription(&follower, &sample)).collect()))
}

async fn sample(request: &Request<'_>) -> Option<Arc<Sample>> {
    request.state.stats.sample(&request.state.rooms.cluster).await
}

fn no_sample() -> Response<Reply> {
    response::text(StatusCode::SERVICE_UNAVAILABLE, "Statistics cannot be read")
}

fn answer(document: &Value) -> Response<Reply> {
    let body = serde_json::to_vec_pretty(document).unwrap_or_default();
    let mut answer = response::with_body(StatusCode::OK, MediaType::Json.header(), body);
    answer.headers_mut().insert(header::CACHE_CONTROL, CACHE_CONTROL);
    answer
}

/// A figure by itself.
fn plain(leaf: &Leaf) -> Value {
    leaf.value.clone()
}

/// A figure with its title, if it has one.
fn described(leaf: &Leaf) -> Value {
    match leaf.title {
        None => leaf.value.clone(),
        Some((category, title)) => {
            json!({ "value": leaf.value, "category": category, "title": title, "drawChart": true })
        }
    }
}

/// A tree along the paths of the figures.
fn grouped(leaves: &[Leaf], printed: fn(&Leaf) -> Value) -> Value {
    let mut root = Value::Object(Map::new());
    for leaf in leaves {
        let mut at = &mut root;
        for name in &leaf.path {
            at = &mut at[name.as_str()];
        }
        *at = printed(leaf);
    }
    root
}

/// One level, the paths joined to names.
fn flat(leaves: &[Leaf], printed: fn(&Leaf) -> Value) -> Value {
    leaves.iter().map(|leaf| (leaf.path.join("-"), printed(leaf))).collect()
}

fn connection(of: &Transfer) -> Value {
    json!({
        "remoteEndPoint": of.ends.remote.to_string(),
        "localEndPoint": of.ends.local.to_string(),
        "connectionId": of.id.hyphenated().to_string(),
        "totalBytesSent": of.sent_bytes,
        "totalBytesReceived": of.received_bytes,
        "pendingSendBytes": of.pending_send_bytes,
        "pendingReceivedBytes": of.pending_received_bytes,
        "isExternalConnection": false,
        "isSslConnection": of.is_tls,
    })
}

fn subscription(follower: &Follower, sample: &Sample) -> Value {
    let server = Some(follower.node_id.server());
    let all: Vec<&Transfer> = sample.connections.iter().filter(|one| one.is_outgoing && one.server == server).collect();
    let sum = |figure: fn(&Transfer) -> u64| all.iter().map(|one| figure(one)).sum::<u64>();
    // It stays the same for as long as this disk is a member.
    let subscription = Uuid::new_v5(&Uuid::NAMESPACE_OID, &follower.node_id.0.to_be_bytes());
    json!({
        "subscriptionId": subscription.hyphenated().to_string(),
        "connectionId": all.first().map_or(Uuid::nil(), |one| one.id).hyphenated().to_string(),
        "subscriptionEndpoint": follower.raft_address,
        "totalBytesSent": sum(|one| one.sent_bytes),
        "totalBytesReceived": sum(|one| one.received_bytes),
        "pendingSendBytes": sum(|one| one.pending_send_bytes),
        "pendingReceivedBytes": sum(|one| one.pending_received_bytes),
        "sendQueueSize": follower.unconfirmed_entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves() -> Vec<Leaf> {
        vec![
            Leaf::new(&["proc", "id"], 7),
            Leaf::new(&["proc", "tcp", "connections"], 2),
            Leaf::titled(&["sys", "cpu"], 1.5, "Machine", "Machine CPU"),
        ]
    }

    #[test]
    fn figures_are_a_tree_or_flat_names() {
        let tree = json!({"proc": {"id": 7, "tcp": {"connections": 2}}, "sys": {"cpu": 1.5}});
        assert_eq!(grouped(&leaves(), plain), tree);
        assert_eq!(flat(&leaves(), plain), json!({"proc-id": 7, "proc-tcp-connections": 2, "sys-cpu": 1.5}));
    }

    #[test]
    fn metadata_wraps_titled_documents() {
        let wrapped = json!({"value": 1.5, "category": "Machine", "title": "Machine CPU", "drawChart": true});
        assert_eq!(grouped(&leaves(), described)["sys"]["cpu"], wrapped);
        assert_eq!(flat(&leaves(), described)["sys-cpu"], wrapped);
        assert_eq!(grouped(&leaves(), described)["proc"]["id"], json!(7));
    }
}
