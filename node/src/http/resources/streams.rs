//! DELETE of a stream, redirects of trailing slashes, and the description document.

use http::{HeaderValue, Response, StatusCode, header};

use crate::http::Reply;
use crate::http::exchange::caching::{self, Varies};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::{extract, response};
use crate::http::format::json::Object;
use crate::http::format::links::encode;
use crate::streams::{Delete, Deleted};

/// DELETE /streams/{S} (contract/streams 7).
pub(crate) async fn delete(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let stream = extract::stream(&request.params.stream)?;
    let expected_version = extract::expected_version(request.headers)?;
    let require_leader = extract::require_leader(request.headers)?;
    let kind = extract::delete_kind(request.headers)?;
    let delete = Delete { stream: &stream, expected_version, kind, require_leader };
    let deleted = request.state.streams.delete(request.client(), delete).await;
    let Deleted { position } = deleted.map_err(|error| ApiError::of_delete(error, request))?;
    let mut answer = response::text(StatusCode::NO_CONTENT, "Stream deleted");
    answer.headers_mut().insert(response::ES_POSITION, HeaderValue::from(position));
    Ok(answer)
}

/// Redirects to the same URI without the slash at the end of its path (contract/streams 2.4).
pub(crate) async fn without_slash(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let base = request.base();
    let path = request.uri.path().trim_end_matches('/');
    let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut answer = response::text(StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect");
    response::set_location(&mut answer, &format!("{}{path}{query}", base.as_str()));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, public"));
    caching::add_vary(answer.headers_mut(), Varies::Linked, request);
    *answer.body_mut() = Reply::new(bytes::Bytes::from_static(b"Moved Permanently"));
    Ok(answer)
}

/// The description document, when negotiation asks for it. It says nothing of the stream but its
/// name, so it is for everybody, before anything else about the request is looked at
/// (contract/streams 4.1 and 15).
pub(crate) fn description(request: &Request<'_>) -> Option<Response<Reply>> {
    let chosen = request.chosen;
    if chosen.media_type != MediaType::StreamDescription {
        return None;
    }
    let (status, reason) = if chosen.is_default {
        (StatusCode::NOT_ACCEPTABLE, "We are unable to represent the stream in the format requested.")
    } else if chosen.accepts_anything {
        (StatusCode::NOT_ACCEPTABLE, "Description Document")
    } else {
        (StatusCode::OK, "Description Document")
    };
    let mut answer = response::with_body(status, chosen.header(), document(&request.params.stream));
    response::set_reason(&mut answer, reason);
    Some(answer)
}

fn document(stream: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let href = format!("/streams/{}", encode(stream));
    let mut object = Object::open(&mut out, 0);
    object.string("title", &format!("Description document for '{stream}'"));
    object.string(
        "description",
        "The description document will be presented when no accept header is present or it was requested",
    );
    object.object("_links", |links| {
        let types: [(&str, &[MediaType]); 2] =
            [("self", &[MediaType::StreamDescription]), ("stream", &[MediaType::AtomXml, MediaType::AtomJson])];
        for (name, types) in types {
            links.object(name, |link| {
                link.string("href", &href);
                let list: Vec<String> = types.iter().map(|media_type| format!("\"{}\"", media_type.as_str())).collect();
                link.number("supportedContentTypes", format_args!("[{}]", list.join(", ")));
            });
        }
    });
    object.close();
    out
}
