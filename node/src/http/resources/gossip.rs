//! The members of the cluster as this node sees them (contract/services 5.1).

use http::{HeaderValue, Response, StatusCode, header};
use uuid::Uuid;

use crate::cluster::view::{MemberStatus, Role};
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
use crate::http::format::json::Object;

/// GET /gossip
pub(crate) async fn members(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let status = request.state.rooms.cluster.status();
    let cluster_id = request.state.rooms.cluster.cluster_id().unwrap_or_default();
    let (ip, port) = split(&status.local.member.http_address);
    let mut answer = response::json(StatusCode::OK, |object| {
        // The newest first, as the reference sorts by end point descending.
        object.objects("members", status.members.iter().rev(), |object, of| member(object, of, cluster_id));
        object.string("serverIp", ip);
        object.number("serverPort", port);
    });
    let no_cache = HeaderValue::from_static("max-age=0, no-cache, must-revalidate");
    answer.headers_mut().insert(header::CACHE_CONTROL, no_cache);
    Ok(answer)
}

/// Names of contract/services 5.1.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Starting => "Initializing",
        Role::Unknown => "Unknown",
        Role::CatchingUp => "CatchingUp",
        Role::Replica => "Clone",
        Role::Follower => "Slave",
        Role::Leader => "Master",
        Role::Stopping => "ShuttingDown",
    }
}

fn member(object: &mut Object<'_>, member: &MemberStatus, cluster_id: Uuid) {
    let (own_ip, own_port) = split(&member.member.http_address);
    let (http_ip, http_port) = split(&member.advertised_http);
    let (raft_ip, raft_port) = split(&member.member.raft_address);
    let last_commit = i128::from(member.next_position) - 1;
    object.string("instanceId", member.process_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    object.string("timeStamp", &member.last_heard.to_string());
    object.string("state", if member.node_id.is_some() { role_name(member.role) } else { "Manager" });
    object.bool("isAlive", member.is_alive);
    object.string("internalTcpIp", raft_ip);
    object.number("internalTcpPort", raft_port);
    object.number("internalSecureTcpPort", 0);
    object.string("externalTcpIp", http_ip);
    object.number("externalTcpPort", 0);
    object.number("externalSecureTcpPort", 0);
    for (kind, ip, port) in
        [("internalHttp", own_ip, own_port), ("externalHttp", http_ip, http_port), ("httpEndPoint", http_ip, http_port)]
    {
        object.string(&format!("{kind}Ip"), ip);
        object.number(&format!("{kind}Port"), port);
    }
    object.number("lastCommitPosition", last_commit);
    object.number("writerCheckpoint", member.committed_entries);
    object.number("chaserCheckpoint", member.applied_entries);
    object.number("epochPosition", 0);
    object.number("epochNumber", member.term);
    // A term has no id of its own; this one is the same on all nodes that are in it.
    let epoch_id = Uuid::new_v5(&cluster_id, &member.term.to_be_bytes());
    object.string("epochId", epoch_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    object.number("nodePriority", member.priority);
}

fn split(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    (host, port.parse().unwrap_or(0))
}
