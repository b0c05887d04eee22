//! What the node says of itself: ping, info, gossip, health, metrics (contract/services 4 and 5).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use uuid::Uuid;

use crate::cluster::{Leadership, MemberStatus, Role};
use crate::config::print;
use crate::http::Reply;
use crate::http::exchange::negotiate::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
use crate::http::exchange::router::Endpoint;
use crate::http::format::json::Object;

/// What `/ping` says.
const PONG: &str = "Ping request successfully handled";

/// What a browser is shown that asks for the web interface.
const WEB_INDEX: &[u8] = include_bytes!("web_index.html");

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Serves these endpoints.
pub fn serve(request: &Request<'_>, endpoint: Endpoint) -> Response<Reply> {
    match endpoint {
        Endpoint::Ping => ping(request),
        Endpoint::Options => options(request),
        // Projections would be one.
        Endpoint::Subsystems => response::with_body(StatusCode::OK, JSON, b"[]".to_vec()),
        Endpoint::WebIndex => response::with_body(StatusCode::OK, MediaType::Html.header(), WEB_INDEX.to_vec()),
        Endpoint::Info => info(request),
        Endpoint::Gossip => gossip(request),
        Endpoint::HealthLive => live(request),
        Endpoint::HealthReady => {
            let status = request.state.cluster.status();
            health(status.ready, status.not_ready_reason)
        }
        Endpoint::HealthLeader => {
            let is_leader = request.state.cluster.leadership() == Leadership::Local;
            health(is_leader, Some("not the leader".to_owned()))
        }
        Endpoint::Metrics => {
            let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            response::with_body(StatusCode::OK, content_type, request.state.metrics.encode().into_bytes())
        }
        _ => {
            let mut answer = response::text(StatusCode::FOUND, "Found");
            response::set_location(&mut answer, &format!("{}/web/index.html", request.base().as_str()));
            *answer.body_mut() = Reply::new(Bytes::from_static(b"Moved"));
            answer
        }
    }
}

fn ping(request: &Request<'_>) -> Response<Reply> {
    let media_type = request.chosen.media_type;
    let body = match media_type {
        MediaType::TextXml | MediaType::Xml => format!("<textMessage><text>{PONG}</text></textMessage>"),
        MediaType::Text => PONG.to_owned(),
        _ => return json(|object| object.string("text", PONG)),
    };
    response::with_body(StatusCode::OK, media_type.header(), body.into_bytes())
}

/// The effective configuration in the form of contract/services 4.1.
fn options(request: &Request<'_>) -> Response<Reply> {
    let options = print::options(&request.state.config);
    let body = serde_json::to_vec_pretty(&options).unwrap_or_default();
    response::with_body(StatusCode::OK, JSON, body)
}

/// 204, or the code of a final answer that the caller wants for a node that lives.
fn live(request: &Request<'_>) -> Response<Reply> {
    let wanted = request.query("liveCode").and_then(|code| code.parse::<u16>().ok()).filter(|code| *code >= 200);
    let status = wanted.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::NO_CONTENT);
    response::status_only(status, status.canonical_reason().unwrap_or_default())
}

fn health(is_well: bool, reason: Option<String>) -> Response<Reply> {
    if is_well {
        return response::status_only(StatusCode::NO_CONTENT, "No Content");
    }
    let mut answer = response::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    *answer.body_mut() = Reply::new(reason.unwrap_or_default().into());
    answer
}

fn json(members: impl FnOnce(&mut Object<'_>)) -> Response<Reply> {
    let mut out = Vec::with_capacity(512);
    let mut object = Object::open(&mut out, 0);
    members(&mut object);
    object.close();
    response::with_body(StatusCode::OK, JSON, out)
}

/// Names of contract/services 5.1.
fn role_name(role: Role) -> &'static str {
    match role {
        Role::Starting => "Initializing",
        Role::Unknown => "Unknown",
        Role::CatchingUp => "CatchingUp",
        Role::Follower => "Slave",
        Role::Leader => "Master",
        Role::Stopping => "ShuttingDown",
    }
}

fn info(request: &Request<'_>) -> Response<Reply> {
    let status = request.state.cluster.status();
    json(|object| {
        object.string("esVersion", "5.0.11.0");
        object.string("headwaterVersion", env!("CARGO_PKG_VERSION"));
        object.string("state", &role_name(status.local.role).to_ascii_lowercase());
        object.string("projectionsMode", "None");
        object.object("features", |features| {
            features.bool("projections", false);
            features.bool("userManagement", true);
            features.bool("atomPub", true);
        });
        object.object("authentication", |authentication| {
            authentication.string("type", "internal");
            authentication.object("properties", |_| {});
        });
    })
}

fn gossip(request: &Request<'_>) -> Response<Reply> {
    let status = request.state.cluster.status();
    let cluster_id = request.state.cluster.cluster_id().unwrap_or_default();
    let (ip, port) = split(&status.local.member.http_address);
    let mut answer = json(|object| {
        // The newest first, as the reference sorts by end point descending.
        object.objects("members", status.members.iter().rev(), |object, of| member(object, of, cluster_id));
        object.string("serverIp", ip);
        object.number("serverPort", port);
    });
    let no_cache = HeaderValue::from_static("max-age=0, no-cache, must-revalidate");
    answer.headers_mut().insert(header::CACHE_CONTROL, no_cache);
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    answer
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
    object.number("nodePriority", 0);
}

fn split(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    (host, port.parse().unwrap_or(0))
}
