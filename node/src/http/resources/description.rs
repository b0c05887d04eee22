//! The description document of a stream (contract/streams 15).

use http::{Response, StatusCode};

use crate::event::StreamName;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
use crate::http::format::competing;
use crate::http::format::json::Object;
use crate::http::format::links::encode;

/// Whether negotiation asks for the document.
pub(crate) fn is_wanted(request: &Request<'_>) -> bool {
    request.chosen.media_type == MediaType::StreamDescription
}

/// The description document. It says nothing of the stream but its name and those of its groups, so
/// it is for everybody, before anything else about the request is looked at (contract/streams 4.1
/// and 15).
///
/// # Errors
/// The groups could not be read.
pub(crate) async fn answer(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let chosen = request.chosen;
    let (status, reason) = if chosen.is_default {
        (StatusCode::NOT_ACCEPTABLE, "We are unable to represent the stream in the format requested.")
    } else if chosen.accepts_anything {
        (StatusCode::NOT_ACCEPTABLE, "Description Document")
    } else {
        (StatusCode::OK, "Description Document")
    };
    let name = &request.params.stream;
    let groups = match StreamName::parse(&**name) {
        Ok(stream) => request.state.rooms.consumers.of_stream(&stream).await,
        Err(_) => Ok(Vec::new()),
    };
    let groups = groups.map_err(|refusal| ApiError::of_refusal(refusal, request))?;
    let mut answer = response::with_body(status, chosen.header(), document(name, &groups));
    response::set_reason(&mut answer, reason);
    Ok(answer)
}

fn document(stream: &str, groups: &[String]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let href = format!("/streams/{}", encode(stream));
    let mut object = Object::open(&mut out, 0);
    object.string("title", &format!("Description document for '{stream}'"));
    object.string(
        "description",
        "The description document will be presented when no accept header is present or it was requested",
    );
    object.object("_links", |links| {
        links.object("self", |link| members(link, &href, &[MediaType::StreamDescription]));
        links.object("stream", |link| members(link, &href, &[MediaType::AtomXml, MediaType::AtomJson]));
        if !groups.is_empty() {
            links.objects("streamSubscription", groups, |link, group| {
                let types = [MediaType::MessagesXml, MediaType::MessagesJson];
                members(link, &competing::path(stream, group), &types);
            });
        }
    });
    object.close();
    out
}

/// What a link says: where it leads, and what is there.
fn members(link: &mut Object<'_>, href: &str, types: &[MediaType]) {
    link.string("href", href);
    let list: Vec<String> = types.iter().map(|media_type| format!("\"{}\"", media_type.as_str())).collect();
    link.number("supportedContentTypes", format_args!("[{}]", list.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_listed_where_there_are_some() {
        let read =
            |groups: &[String]| -> serde_json::Value { serde_json::from_slice(&document("a b", groups)).unwrap() };
        assert_eq!(read(&[])["_links"].get("streamSubscription"), None);
        let groups = &read(&["g/h".to_owned()])["_links"]["streamSubscription"];
        assert_eq!(groups[0]["href"], "/subscriptions/a%20b/g%2Fh");
        let types = ["application/vnd.eventstore.competingatom+xml", "application/vnd.eventstore.competingatom+json"];
        assert_eq!(groups[0]["supportedContentTypes"], serde_json::json!(types));
    }
}
