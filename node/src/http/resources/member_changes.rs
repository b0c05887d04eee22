//! Changes of the members of the running cluster (contract/services 4.7).

use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;

use crate::cluster::view::{Change, Member};
use crate::config::MemberConfig;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::{request_body, response};
use crate::http::limits::MAX_MEMBER_DOCUMENT_BYTES;

/// What a body says of a new server.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct NewServer {
    server: u16,
    raft: String,
    http: String,
    #[serde(default)]
    replica: bool,
}

impl NewServer {
    async fn read(request: &Request<'_>, body: Incoming) -> Result<Self, ApiError> {
        let body = request_body::read(body, &request.state.budgets, request.connection).await?;
        if body.bytes.len() > MAX_MEMBER_DOCUMENT_BYTES {
            return Err(ApiError::BodyTooLarge);
        }
        Self::parse(&body.bytes)
    }

    /// What the body of a request says.
    ///
    /// # Errors
    /// 400 when it is no such document, or has an address that no member may have.
    pub(in crate::http) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let refused = |reason: String| ApiError::BadRequest(reason.into());
        let new: Self = serde_json::from_slice(body).map_err(|error| refused(error.to_string()))?;
        // The same rules as for a list of members.
        let text = format!("{}={}/{}", new.server, new.raft, new.http);
        text.parse::<MemberConfig>().map_err(refused)?;
        Ok(new)
    }

    /// Its addresses.
    pub(in crate::http) fn places(&self) -> Member {
        Member::at(self.raft.as_str(), self.http.as_str())
    }
}

/// POST /admin/cluster/members
pub(crate) async fn add(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let new = NewServer::read(request, body).await?;
    make(request, Change::Add { server: new.server, places: new.places(), replica: new.replica }).await
}

/// DELETE /admin/cluster/members/{number}
pub(crate) async fn remove(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    make(request, Change::Remove { server: server(request)? }).await
}

/// POST /admin/cluster/members/{number}/promote
pub(crate) async fn promote(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    make(request, Change::Promote { server: server(request)? }).await
}

/// POST /admin/cluster/members/{number}/demote
pub(crate) async fn demote(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    make(request, Change::Demote { server: server(request)? }).await
}

/// POST /admin/cluster/members/{number}/replace
pub(crate) async fn replace(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let server = server(request)?;
    let new = NewServer::read(request, body).await?;
    if new.replica {
        return Err(ApiError::BadRequest("A server is replaced by one of its kind; leave out replica".into()));
    }
    make(request, Change::Replace { server, by: new.server, places: new.places() }).await
}

/// POST /admin/cluster/transfer, with the query `to`
pub(crate) async fn transfer(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let to = request.query("to").map(|text| server_id(&text)).transpose()?;
    make(request, Change::Transfer { to }).await
}

/// The server that the path names.
fn server(request: &Request<'_>) -> Result<u16, ApiError> {
    server_id(request.params.number.as_deref().unwrap_or_default())
}

fn server_id(text: &str) -> Result<u16, ApiError> {
    match text.parse() {
        Ok(server @ 1..) => Ok(server),
        _ => Err(ApiError::BadRequest("The id of a server is a number from 1 to 65535".into())),
    }
}

async fn make(request: &Request<'_>, change: Change) -> Result<Response<Reply>, ApiError> {
    let client = request.client();
    tracing::info!(target: "audit", ?change, who = ?client.login(), from = %client.address, "audit: members: a change was asked for");
    let done = request.state.rooms.cluster.change_members(&change, &request.caller).await;
    let done = done.map_err(ApiError::of_member_change)?;
    Ok(response::json(StatusCode::OK, |object| object.string("done", &done)))
}
