//! The description document of a stream (contract/streams 15).

use http::{Response, StatusCode};

use crate::http::Reply;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
use crate::http::format::json::Object;
use crate::http::format::links::encode;

/// The description document, when negotiation asks for it. It says nothing of the stream but its
/// name, so it is for everybody, before anything else about the request is looked at
/// (contract/streams 4.1 and 15).
pub(crate) fn answer(request: &Request<'_>) -> Option<Response<Reply>> {
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
