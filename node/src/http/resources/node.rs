//! What a node says of itself: ping, version, options, metrics (contract/services 4).

use http::{HeaderValue, Response, StatusCode};

use crate::config::print;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::{Form, MediaType};
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
use crate::http::resources::gossip::role_name;
use crate::metrics;

/// What `/ping` says.
const PONG: &str = "Ping request successfully handled";

/// GET /ping
pub(crate) async fn ping(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let media_type = request.chosen.media_type;
    let body = match media_type.form() {
        Form::Xml => format!("<textMessage><text>{PONG}</text></textMessage>"),
        Form::Text => PONG.to_owned(),
        // No answer to this request has one of the last three.
        Form::Json | Form::Html | Form::Bytes | Form::Events => {
            return Ok(response::json(StatusCode::OK, |object| object.string("text", PONG)));
        }
    };
    Ok(response::with_body(StatusCode::OK, media_type.header(), body.into_bytes()))
}

/// GET /info
pub(crate) async fn info(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let status = request.state.rooms.cluster.status();
    Ok(response::json(StatusCode::OK, |object| {
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
    }))
}

/// GET /info/options: the effective configuration in the form of contract/services 4.1.
pub(crate) async fn options(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let options = print::options(&request.state.config);
    let body = serde_json::to_vec_pretty(&options).unwrap_or_default();
    Ok(response::with_body(StatusCode::OK, MediaType::Json.header(), body))
}

/// GET /admin/slow-requests: the newest of them, newest first.
pub(crate) async fn slow_requests(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let body = serde_json::to_vec_pretty(&request.state.slow_requests.newest()).unwrap_or_default();
    Ok(response::with_body(StatusCode::OK, MediaType::Json.header(), body))
}

/// GET /sys/subsystems: none; projections would be one.
pub(crate) async fn subsystems(_request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    Ok(response::empty_list(StatusCode::OK))
}

/// GET /histogram/{name}: no node keeps any (contract/services 4.4).
pub(crate) async fn histogram(_request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    Ok(response::text(StatusCode::NOT_FOUND, "Not found"))
}

/// GET /metrics
pub(crate) async fn metrics(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
    let body = request.state.metrics.encode().into_bytes();
    Ok(response::with_body(StatusCode::OK, content_type, body))
}
