//! HTTP/2 in front of a service that thinks in HTTP/1.1: names of the host, and texts without reason phrases.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

use crate::http::connection::http1::into_origin_form;
use crate::http::exchange::request::Connection;
use crate::http::exchange::{response, service};
use crate::http::limits::MAX_HEADERS;
use crate::http::{AppState, Reply};

/// Answers a request of an HTTP/2 connection.
pub async fn answer<B>(state: &AppState, connection: Connection, mut request: Request<B>) -> Response<Reply>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let is_head = request.method() == Method::HEAD;
    let mut answer = if request.headers().len() > MAX_HEADERS {
        response::status_only(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request Header Fields Too Large")
    } else {
        into_origin_form(&mut request);
        service::answer(state, connection, request).await
    };
    match is_head {
        true => leave_out_body(&mut answer),
        false => say_reason(&mut answer),
    }
    // Of one connection, and so malformed here (RFC 9113 8.2.2); the stream ends by itself.
    answer.headers_mut().remove(header::CONNECTION);
    answer
}

/// What HTTP/1.1 connections do for answers to HEAD: the length is told, the body not sent.
fn leave_out_body(answer: &mut Response<Reply>) {
    let length = http_body::Body::size_hint(answer.body()).exact().filter(|length| *length > 0);
    if let Some(length) = length {
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *answer.body_mut() = Reply::default();
}

/// HTTP/2 has no reason phrase: where it is all that an answer says, the same text is its body (contract/services 0.1).
fn say_reason(answer: &mut Response<Reply>) {
    let status = answer.status();
    let may_have_body =
        !(status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED));
    if !may_have_body || !is_empty(answer.body()) {
        return;
    }
    let phrase = answer.extensions().get::<ReasonPhrase>().map(|phrase| Bytes::copy_from_slice(phrase.as_bytes()));
    // Ordinary words are worth a body where something went wrong, and noise where nothing did.
    let usual = || if status.as_u16() >= 400 { status.canonical_reason() } else { None };
    let Some(text) = phrase.or_else(|| usual().map(|text| Bytes::from_static(text.as_bytes()))) else { return };
    *answer.body_mut() = Reply::new(text);
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
}

fn is_empty(body: &Reply) -> bool {
    http_body::Body::size_hint(body).exact() == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_reason(status: u16, reason: &str, body: &'static str) -> Response<Reply> {
        let mut answer = response::status_only(StatusCode::from_u16(status).unwrap(), reason);
        *answer.body_mut() = Reply::new(body.into());
        answer
    }

    #[tokio::test]
    async fn the_reason_is_the_body_where_there_is_none() {
        use http_body_util::BodyExt;
        for (status, reason, body, expected) in [
            (400, "Wrong expected EventNumber", "", "Wrong expected EventNumber"),
            (404, "Not Found", "", "Not Found"),
            (400, "Bad", "{}", "{}"),
            (204, "Stream deleted", "", ""),
            (304, "Not Modified", "", ""),
            (201, "Created", "", ""),
            (200, "OK", "", ""),
        ] {
            let mut answer = with_reason(status, reason, body);
            say_reason(&mut answer);
            let is_text = answer
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
            assert_eq!(is_text, body.is_empty() && !expected.is_empty(), "{status} {reason}");
            let said = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(said, expected.as_bytes(), "{status} {reason}");
        }
    }
}
