//! Input that is wrong on purpose: each gets a bounded answer, none causes a panic, and the node
//! serves other clients meanwhile.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::support::client;
use crate::support::nodes::Nodes;

/// How long any of these answers may take on a machine that builds something else meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests tried per property. The seed differs in each run; a failing input is printed.
const CASES: u32 = 400;

/// The only 500 that the contract asks for without anything being wrong with the node
/// (contract/streams 2.5).
const READ_TOO_BIG: &str = "Read size too big, should be less than 4096 items";

/// The bytes received until the connection ended; `None` when it did not end in time.
pub(crate) fn exchange(host: &str, request: &[u8], half_close: bool) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // A node that refuses a request may close before it was sent whole.
    let _ = stream.write_all(request);
    if half_close {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        // Reset after the answer, because the node left a part of the request unread.
        _ => Some(answer),
    }
}

fn status_line(answer: &[u8]) -> Option<(u16, String)> {
    let line = String::from_utf8_lossy(answer).lines().next()?.to_owned();
    let mut parts = line.splitn(3, ' ');
    let status = parts.nth(1)?.parse().ok()?;
    Some((status, parts.next().unwrap_or_default().to_owned()))
}

/// A request with the usual beginning; the connection is to end after its answer.
fn request(method: &str, path: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n").into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    if !body.is_empty() || method == "POST" {
        request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    request
}

/// Sends a request that is well-formed HTTP. The node must answer it, and not with a failure of its
/// own.
fn answered(host: &str, bytes: &[u8]) -> Result<u16, TestCaseError> {
    let answer = exchange(host, bytes, false);
    let answer = answer.ok_or_else(|| TestCaseError::fail("no answer in time"))?;
    let (status, reason) = status_line(&answer).ok_or_else(|| TestCaseError::fail("no answer"))?;
    prop_assert!(status < 500 || reason == READ_TOO_BIG, "{} {}", status, reason);
    Ok(status)
}

/// Runs `check` for values of `strategy` against a single node, and then sees that the node is
/// well.
async fn for_all<S: Strategy>(
    strategy: impl FnOnce() -> S + Send + 'static,
    check: fn(&str, S::Value) -> Result<(), TestCaseError>,
) where
    S::Value: 'static,
{
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let properties = move || {
        let host = base.strip_prefix("http://").unwrap();
        // This test prints its failures; nothing is written beside the sources.
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        if let Err(failure) = runner.run(&strategy(), |value| check(host, value)) {
            panic!("{failure}");
        }
        assert_eq!(client::send(&base, "GET", "/ping", &[], b"").status, 200);
    };
    tokio::task::spawn_blocking(properties).await.unwrap();
    nodes.stop().await;
}

/// Mostly what the grammar of HTTP allows, now and then a byte that it does not.
fn line_bytes() -> impl Strategy<Value = Vec<u8>> {
    let usual = prop_oneof![Just(b'%'), Just(b'/'), Just(b'$'), Just(b'?'), Just(b' '), b'0'..=b'z'];
    prop::collection::vec(prop_oneof![20 => usual, 1 => any::<u8>()], 0..120)
}

/// A known beginning, then nearly anything.
fn requests() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    (prop::sample::select(vec!["GET /", "POST /streams/", "DELETE ", "", "PRI * HTTP/2.0\r\n"]), line_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_as_a_request_are_answered_or_the_connection_is_closed() {
    for_all(requests, |host, (start, rest)| {
        let mut bytes = start.as_bytes().to_vec();
        bytes.extend_from_slice(&rest);
        bytes.extend_from_slice(b"\r\n\r\n");
        let answer = exchange(host, &bytes, true);
        let answer = answer.ok_or_else(|| TestCaseError::fail("the connection stays open"))?;
        let status = status_line(&answer).map(|(status, _)| status);
        prop_assert!(status.is_none_or(|status| status < 500), "{:?}", status);
        Ok(())
    })
    .await;
}

/// Name, number, direction, count, and a query.
fn paths() -> impl Strategy<Value = (String, String, &'static str, String, String)> {
    let number = prop_oneof![
        "[0-9]{1,25}",
        "[-+]?[0-9]{1,5}",
        "[0-9a-fA-F]{32}",
        "[0-9a-fA-F]{30,40}",
        Just("head".to_owned()),
        "(%[0-9a-fA-F]{2}){1,6}",
        "[!-~]{0,12}"
    ];
    let name = prop_oneof![Just("$all".to_owned()), Just("$$s".to_owned()), Just("s".to_owned()), number.clone()];
    let direction = prop::sample::select(vec!["", "/backward", "/forward", "/metadata", "/incoming"]);
    let query = prop_oneof![Just(String::new()), "\\?embed=[a-zA-Z]{0,8}", "\\?format=[a-z]{0,6}", "\\?[!-~]{0,20}"];
    (name, number.clone(), direction, number, query)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_path_of_streams_is_answered() {
    for_all(paths, |host, (name, first, direction, second, query)| {
        let path = format!("/streams/{name}/{first}{direction}/{second}{query}").replace('#', "%23");
        answered(host, &request("GET", &path, &[("Accept", b"application/vnd.eventstore.atom+json")], b""))?;
        Ok(())
    })
    .await;
}

/// A method, and headers that the API reads.
fn headers() -> impl Strategy<Value = (&'static str, Vec<(&'static str, Vec<u8>)>)> {
    let names = vec![
        "Accept",
        "Accept-Encoding",
        "Authorization",
        "Content-Type",
        "ES-EventId",
        "ES-EventType",
        "ES-ExpectedVersion",
        "ES-HardDelete",
        "ES-LongPoll",
        "ES-MinPosition",
        "ES-RequireMaster",
        "ES-ResolveLinkTos",
        "If-None-Match",
        "Kurrent-ExpectedVersion",
        "Last-Event-ID",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Proto",
    ];
    let byte = prop_oneof![10 => 0x20_u8..0x7f, 1 => 0x80_u8..=0xff, 2 => prop::sample::select(b",;=\"*/0123456789-".to_vec())];
    let headers = prop::collection::vec((prop::sample::select(names), prop::collection::vec(byte, 0..40)), 0..6);
    let method = prop::sample::select(vec!["GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT"]);
    (method, headers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_header_value_is_answered() {
    for_all(headers, |host, (method, headers)| {
        // A long poll may last as long as it says, and a subscription until the client leaves.
        let lasts = |(name, value): &(&str, Vec<u8>)| {
            *name == "ES-LongPoll" || String::from_utf8_lossy(value).to_ascii_lowercase().contains("event-stream")
        };
        let headers: Vec<(&str, &[u8])> =
            headers.iter().filter(|header| !lasts(header)).map(|(name, value)| (*name, &value[..])).collect();
        answered(host, &request(method, "/streams/headed/0/forward/5", &headers, b""))?;
        answered(host, &request(method, "/streams/headed", &headers, b"{\"a\":1}"))?;
        Ok(())
    })
    .await;
}

/// JSON with everything that a body may have in a wrong place, and now and then a byte too much.
fn json_body() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?[0-9]{1,30}(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?",
        "\"[ -!#-\\[\\]-~]{0,12}\"",
        "\"(\\\\u[0-9a-fA-F]{4}){1,3}\"",
        Just("\"9c1e4e8e-0b8b-4b8e-9d3f-3f8e5b0e6c11\"".to_owned()),
    ];
    let name = prop::sample::select(vec!["eventId", "eventType", "data", "metadata", "EVENTID", "isJson", "link", ""]);
    let tree = leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|all| {
                let members: Vec<String> = all.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    let event = prop::collection::vec(tree.clone(), 4).prop_map(|parts| {
        let id = uuid::Uuid::new_v4();
        format!(r#"[{{"eventId":"{id}","eventType":"t","data":{},"metadata":{}}}]"#, parts[0], parts[1])
    });
    prop_oneof![2 => event, 2 => tree.clone(), 1 => (tree, "[ -~]{1,5}").prop_map(|(tree, more)| tree + &more)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_json_body_is_answered_and_what_was_stored_can_be_read() {
    for_all(
        || (prop::sample::select(vec!["application/vnd.eventstore.events+json", "application/json"]), json_body()),
        |host, (media_type, body)| {
            let id = uuid::Uuid::new_v4().to_string();
            let headers: [(&str, &[u8]); 3] =
                [("Content-Type", media_type.as_bytes()), ("ES-EventType", b"t"), ("ES-EventId", id.as_bytes())];
            answered(host, &request("POST", "/streams/json", &headers, body.as_bytes()))?;
            readable(host, "/streams/json")
        },
    )
    .await;
}

/// Elements in and out of place, attributes, entities and comments.
fn xml_body() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[ -;=?-~]{0,12}",
        "&(lt|amp|#[0-9]{1,8}|#x[0-9a-f]{1,8}|nope);",
        "<!--[a-z -]{0,6}-->",
        "<\\?[a-z ]{0,6}\\?>"
    ];
    let name = prop::sample::select(vec!["Event", "EventId", "EventType", "Data", "Metadata", "x:y", "a", "1"]);
    let tree = leaf.prop_recursive(4, 30, 5, move |inner| {
        (name.clone(), "( [a-z:]{1,4}='[ -%(-~]{0,6}'){0,2}", prop::collection::vec(inner, 0..5))
            .prop_map(|(name, attributes, inner)| format!("<{name}{attributes}>{}</{name}>", inner.concat()))
    });
    (tree.clone(), tree, any::<bool>()).prop_map(|(data, metadata, framed)| {
        if !framed {
            return data;
        }
        let id = uuid::Uuid::new_v4();
        format!(
            "<Events><Event><EventId>{id}</EventId><EventType>t</EventType><Data>{data}</Data>\
             <Metadata>{metadata}</Metadata></Event></Events>"
        )
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_xml_body_is_answered_and_what_was_stored_can_be_read() {
    for_all(xml_body, |host, body| {
        let headers: [(&str, &[u8]); 1] = [("Content-Type", b"application/vnd.eventstore.events+xml")];
        answered(host, &request("POST", "/streams/xml", &headers, body.as_bytes()))?;
        readable(host, "/streams/xml")
    })
    .await;
}

/// Every representation of the newest event can be made, whatever its data.
fn readable(host: &str, stream: &str) -> Result<(), TestCaseError> {
    for (path, accept) in [
        (format!("{stream}/head"), "application/json"),
        (format!("{stream}/head"), "text/xml"),
        (format!("{stream}/head"), "application/atom+xml"),
        (format!("{stream}/head"), "application/vnd.eventstore.atom+json"),
        (format!("{stream}/head/backward/1?embed=tryharder"), "application/vnd.eventstore.atom+json"),
        (format!("{stream}/head/backward/1?embed=content"), "application/atom+xml"),
    ] {
        let status = answered(host, &request("GET", &path, &[("Accept", accept.as_bytes())], b""))?;
        prop_assert!(matches!(status, 200 | 404), "{} for {} of {}", status, accept, path);
    }
    Ok(())
}

fn post(host: &str, media_type: &str, body: &[u8]) -> (u16, Duration) {
    let started = Instant::now();
    let headers: [(&str, &[u8]); 3] = [
        ("Content-Type", media_type.as_bytes()),
        ("ES-EventType", b"t"),
        ("ES-EventId", b"5f2c0c9e-5a0f-4a43-9d0c-0a2e7c1d2b11"),
    ];
    let answer = exchange(host, &request("POST", "/streams/hostile", &headers, body), false).unwrap();
    (status_line(&answer).unwrap().0, started.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bodies_and_heads_are_refused_at_once() {
    const EVENTS_XML: &str = "application/vnd.eventstore.events+xml";
    const EVENTS_JSON: &str = "application/vnd.eventstore.events+json";
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let attacks = move || {
        let host = base.strip_prefix("http://").unwrap();
        let entities: String = (1..30).map(|n| format!("<!ENTITY e{n} \"&e{};&e{};\">", n - 1, n - 1)).collect();
        let laughs = format!("<!DOCTYPE x [<!ENTITY e0 \"ha\">{entities}]><Events><Event>&e29;</Event></Events>");
        let outside = "<!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><Events><Event>&f;</Event></Events>";
        let deep_xml = format!("<Events>{}", "<Event>".repeat(100_000));
        let deep_json = "[".repeat(1_000_000);
        let number = format!("[{{\"eventId\":{}}}]", "9".repeat(1_000_000));
        let empty_events = format!("[{}{{}}]", "{\"\":0},".repeat(4_500_000));
        let empty_tags = format!("<Events>{}</Events>", "<Event/>".repeat(4_000_000));
        for (media_type, body) in [
            (EVENTS_JSON, empty_events.as_bytes()),
            (EVENTS_XML, empty_tags.as_bytes()),
            (EVENTS_XML, laughs.as_bytes()),
            (EVENTS_XML, outside.as_bytes()),
            (EVENTS_XML, deep_xml.as_bytes()),
            (EVENTS_JSON, deep_json.as_bytes()),
            (EVENTS_JSON, number.as_bytes()),
            (EVENTS_JSON, b"[{\"eventId\":\"\xff\xfe\"}]"),
            (EVENTS_JSON, &[0; 1000]),
        ] {
            let (status, took) = post(host, media_type, body);
            assert_eq!(status, 400, "{}..", String::from_utf8_lossy(&body[..40.min(body.len())]));
            assert!(took < PATIENCE / 2, "{took:?}");
        }
        // Not UTF-8, but text that was sent as one event: stored with what cannot be read replaced.
        assert_eq!(post(host, "application/json", b"\"\xff\"").0, 201);

        let long = vec![b'a'; 140 * 1024];
        let many: Vec<(String, &[u8])> = (0..150).map(|n| (format!("X-{n}"), &b"1"[..])).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|(name, value)| (&name[..], *value)).collect();
        for head in [request("GET", "/ping", &[("X-Long", &long)], b""), request("GET", "/ping", &many, b"")] {
            let answer = exchange(host, &head, false).expect("the connection is closed");
            assert_eq!(status_line(&answer).map(|(status, _)| status), Some(431));
        }
        // Two lengths, a length that is none, a body in chunks that are none: nothing of them may
        // be taken for a second request.
        for framing in ["Content-Length: 5\r\nContent-Length: 6", "Content-Length: -1", "Transfer-Encoding: chunked"] {
            let bytes = format!(
                "POST /streams/hostile HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nES-EventType: t\r\n\
                 ES-EventId: 5f2c0c9e-5a0f-4a43-9d0c-0a2e7c1d2b12\r\n{framing}\r\n\r\nGET /ping HTTP/1.1\r\nHost: node\r\n\r\n"
            );
            let answer = exchange(host, bytes.as_bytes(), false).expect("the connection is closed");
            assert_eq!(status_line(&answer).map(|(status, _)| status), Some(400), "{framing}");
            assert!(!String::from_utf8_lossy(&answer).contains("Ping"), "{framing}: smuggled");
        }
    };
    tokio::task::spawn_blocking(attacks).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_unfinished_requests_keep_no_other_client_from_being_served() {
    const IDLE: usize = 1_000;
    // Both ends of every connection are in this process.
    assert!(
        rlimit::increase_nofile_limit(8 * IDLE as u64).unwrap() >= 4 * IDLE as u64,
        "too few open files are allowed"
    );
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let siege = move || {
        let host = base.strip_prefix("http://").unwrap();
        let parts: [&[u8]; 4] = [
            b"",
            b"GET /streams/besie",
            b"GET /ping HTTP/1.1\r\nHost: node\r\nX-Slow: ",
            b"POST /streams/besieged HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
        ];
        let mut idle: Vec<TcpStream> = (0..IDLE)
            .map(|number| {
                let mut stream = TcpStream::connect(host).unwrap();
                stream.write_all(parts[number % parts.len()]).unwrap();
                stream
            })
            .collect();
        for _ in 0..100 {
            let started = Instant::now();
            assert_eq!(crate::append_bytes(&base, "besieged", b"x").status, 201);
            let page = client::send(&base, "GET", "/streams/besieged", &[("Accept", "text/xml".into())], b"");
            assert_eq!(page.status, 200);
            assert!(started.elapsed() < PATIENCE / 2);
        }
        // They were there all the time: one of them still may finish.
        idle[2].write_all(b"1\r\nConnection: close\r\n\r\n").unwrap();
        idle[2].set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        idle[2].read_to_end(&mut answer).unwrap();
        assert_eq!(status_line(&answer).map(|(status, _)| status), Some(200));
    };
    tokio::task::spawn_blocking(siege).await.unwrap();
    nodes.stop().await;
}
