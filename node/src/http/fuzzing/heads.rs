//! What a client sends over a connection with HTTP/1.1: read by the server as in a node, and
//! answered with what its head leads to.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::forwarded;
use crate::http::Reply;
use crate::http::connection::head;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::router::{Route, Router};
use crate::http::exchange::{caching, compress, negotiate, response};
use crate::http::format::atom::Embed;
use crate::http::format::authority::is_host;
use crate::http::format::links::Base;
use crate::http::limits::{MAX_HEADER_BYTES, MAX_HEADERS, MAX_LONG_POLL};
use crate::http::routes::ROUTES;

pub(super) static ROUTER: LazyLock<Router> = LazyLock::new(|| Router::new(ROUTES));

/// How often a client that has sent everything is asked for more before it ends the connection. A
/// node does not see that end before it has answered.
const PATIENCE: usize = 16;

/// How often a connection may be polled: it never waits for anything.
const MAX_POLLS: usize = 10_000;

/// The bytes of a connection: accepted when at least one request is answered by its route. The
/// first byte says in how large pieces they arrive.
pub(crate) fn heads(input: &[u8]) -> Option<()> {
    let (&piece, incoming) = input.split_first()?;
    let outgoing = Rc::new(RefCell::new(Vec::new()));
    let asked = RefCell::new(Vec::new());
    let wire = Wire { incoming, piece: usize::from(piece).max(1), patience: PATIENCE, outgoing: outgoing.clone() };
    let service = service_fn(|request: Request<Incoming>| {
        let asked = &asked;
        async move { Ok::<_, Infallible>(answer(request, asked).await) }
    });
    let served =
        http1::Builder::new().max_buf_size(MAX_HEADER_BYTES).max_headers(MAX_HEADERS).serve_connection(wire, service);
    let mut served = pin!(served);
    let mut context = Context::from_waker(Waker::noop());
    let is_over = (0..MAX_POLLS).any(|_| served.as_mut().poll(&mut context).is_ready());
    assert!(is_over, "a connection neither goes on nor ends");
    check_answers(&outgoing.borrow(), &asked.borrow());
    asked.borrow().iter().any(|asked| asked.is_served).then_some(())
}

/// What is known of a request that was answered.
struct Asked {
    is_head: bool,
    is_served: bool,
}

async fn answer(request: Request<Incoming>, asked: &RefCell<Vec<Asked>>) -> Response<Reply> {
    let is_head = request.method() == Method::HEAD;
    let (answer, is_served) = match head::refusal(&request) {
        Some(refusal) => (refusal, false),
        None => {
            let (mut head, body) = request.into_parts();
            if head.uri.authority().is_some() {
                let mut without_body = Request::from_parts(head, ());
                head::into_origin_form(&mut without_body);
                (head, ()) = without_body.into_parts();
            }
            let answer = look_at(&mut head);
            // A body that is not read whole ends the connection.
            let _ = body.collect().await;
            (answer, true)
        }
    };
    asked.borrow_mut().push(Asked { is_head, is_served });
    answer
}

/// Everything that is read of a head.
fn look_at(head: &mut http::request::Parts) -> Response<Reply> {
    let http::request::Parts { method, uri, version, headers, .. } = head;
    assert!(uri.authority().is_none() && uri.scheme().is_none());
    is_for_one_host(headers, *version);
    extract::rename_later_headers(headers);
    for (name, _) in headers.iter() {
        let older = name.as_str().strip_prefix("kurrent-").map(|rest| format!("es-{rest}"));
        assert!(older.is_none_or(|older| older == "es-trustedauth" || headers.contains_key(older)));
    }
    let base = Base::of_request(headers, "http", None, "localhost:2113");
    forwarded::check(&base);
    let Some(found) = ROUTER.find(method, uri.path()) else { return ApiError::UnknownPath.into_response() };
    let Some((route, params)) = found.served_by else { return ApiError::MethodNotAllowed.into_response() };
    let mut answer = match negotiated(route, uri, headers).and_then(|()| read_headers(headers)) {
        Ok(()) => response::text(StatusCode::OK, "OK"),
        Err(error) => error.into_response(),
    };
    response::set_location(&mut answer, &base.event(&params.stream, 7));
    answer
}

/// An intermediary cannot have taken the request for one to another host, nor other bytes for its
/// body.
fn is_for_one_host(headers: &HeaderMap, version: Version) {
    let hosts: Vec<_> = headers.get_all(header::HOST).iter().collect();
    let is_known = |host: &http::HeaderValue| host.to_str().is_ok_and(|host| is_host(host.trim()));
    match hosts[..] {
        [host] => assert!(is_known(host), "{host:?}"),
        [] => assert!(version < Version::HTTP_11),
        _ => panic!("{hosts:?}"),
    }
    let codings: Vec<_> = headers.get_all(header::TRANSFER_ENCODING).iter().collect();
    assert!(codings.len() <= 1, "{codings:?}");
    assert!(codings.is_empty() || !headers.contains_key(header::CONTENT_LENGTH), "two lengths: {headers:?}");
}

fn negotiated(route: &Route, uri: &http::Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let format = extract::query(uri.query(), "format");
    let accept = headers.get(header::ACCEPT).map(|value| value.as_bytes());
    if let Some(types) = route.produces {
        let chosen = negotiate::choose(types, format.as_deref(), accept).ok_or(ApiError::NotAcceptable)?;
        assert!(types.contains(&chosen.media_type));
        assert!(chosen.header().to_str().is_ok_and(|name| name.contains('/')));
        for known in caching::known_versions(headers, chosen.media_type) {
            assert!(caching::tag(known, chosen.media_type).len() <= 64);
        }
    }
    if let Some(types) = route.accepts {
        let body_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let body_type: MediaType = negotiate::request_type(types, body_type).ok_or(ApiError::UnsupportedMediaType)?;
        assert!(types.contains(&body_type));
    }
    if negotiate::is_uncoded(headers) { Ok(()) } else { Err(ApiError::UnsupportedCoding) }
}

fn read_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let _ = (compress::Coding::choose(headers), extract::links_of_log(headers));
    let _ = Embed::parse(extract::text(headers, &extract::EVENT_TYPE).as_deref());
    assert!(extract::event_id(headers)?.is_none_or(|id| !id.is_nil()));
    let expected = extract::expected_version(headers)?;
    assert_eq!(crate::event::ExpectedVersion::from_number(expected.to_number()), Some(expected));
    assert!(extract::long_poll(headers)?.is_none_or(|wait| wait <= MAX_LONG_POLL));
    let barrier = extract::read_barrier(headers)?;
    assert_eq!(barrier.require_leader, extract::require_leader(headers)?);
    extract::links(headers)?;
    extract::delete_kind(headers)?;
    Ok(())
}

/// One answer for each request, and perhaps one of the server to what it could not read; nothing
/// that was sent has become a line of its own.
fn check_answers(mut sent: &[u8], asked: &[Asked]) {
    let mut answers = 0;
    while !sent.is_empty() {
        let Some(end) = memchr::memmem::find(sent, b"\r\n\r\n") else { panic!("an answer without an end") };
        let mut lines = sent[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let status = lines.next().and_then(|line| line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)));
        assert!(status.is_some_and(|status| status.iter().all(u8::is_ascii_digit)));
        let mut length = 0;
        for line in lines {
            assert!(!line.iter().any(|byte| *byte < b' ' && *byte != b'\t'), "{}", line.escape_ascii());
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { panic!("{}", line.escape_ascii()) };
            if line[..colon].eq_ignore_ascii_case(b"content-length") {
                length =
                    std::str::from_utf8(line[colon + 1..].trim_ascii()).map_or(0, |text| text.parse().unwrap_or(0));
            }
        }
        let is_interim = status == Some(b"100");
        let has_no_body = asked.get(answers).is_some_and(|asked| asked.is_head);
        sent = &sent[end + 4 + if has_no_body || is_interim { 0 } else { length }..];
        answers += usize::from(!is_interim);
    }
    assert!((asked.len()..=asked.len() + 1).contains(&answers), "{answers} answers to {} requests", asked.len());
}

/// A connection whose bytes are there, and whose client takes everything.
struct Wire<'a> {
    incoming: &'a [u8],
    piece: usize,
    patience: usize,
    outgoing: Rc<RefCell<Vec<u8>>>,
}

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.incoming.is_empty() && self.patience > 0 {
            self.patience -= 1;
            return Poll::Pending;
        }
        let (piece, rest) = self.incoming.split_at(self.piece.min(self.incoming.len()).min(buffer.remaining()));
        buffer.put_slice(piece);
        self.incoming = rest;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.outgoing.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
