//! Clients that close their sending side behind a request, as `printf .. | nc` does.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::support::client;
use crate::support::nodes::Nodes;

/// Longer than any of these answers takes, shorter than every deadline of the node.
const PROMPT: Duration = Duration::from_secs(20);

/// What the node answers to these pieces, between which it has time to read, and the end.
fn ask(base: &str, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(base.strip_prefix("http://").unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PROMPT)).unwrap();
    for piece in pieces {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
        std::thread::yield_now();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn append(stream: &str, framing: &str, more: &str) -> Vec<u8> {
    let id = uuid::Uuid::new_v4();
    let head = format!(
        "POST /streams/{stream} HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nES-EventType: t\r\n\
         ES-EventId: {id}\r\n{framing}\r\n{more}\r\n"
    );
    head.into_bytes()
}

fn count(base: &str, stream: &str) -> usize {
    let path = format!("/streams/{stream}/head/backward/100");
    client::send(base, "GET", &path, &[("Accept", "text/xml".into())], b"").text().matches("<entry>").count()
}

fn every_append_is_answered(base: &str) {
    for number in 0..20 {
        let head = append("half", "Content-Length: 2", "");
        let whole = [&head[..], b"{}"].concat();
        let answer = ask(base, &[&whole]);
        assert!(answer.starts_with("HTTP/1.1 201 "), "{number}: {answer}");
        let answer = ask(base, &[&head[..40], &head[40..], b"{", b"}"]);
        assert!(answer.starts_with("HTTP/1.1 201 "), "{number} in pieces: {answer}");
        let head = append("half", "Transfer-Encoding: chunked", "Connection: keep-alive\r\n");
        let answer = ask(base, &[&head, b"1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n"]);
        assert!(answer.starts_with("HTTP/1.1 201 "), "{number} in chunks: {answer}");
    }
    assert_eq!(count(base, "half"), 40, "one of each three repeats the event of another");
    let mut two = append("two", "Content-Length: 2", "");
    two.extend_from_slice(b"{}");
    two.extend_from_slice(&append("two", "Content-Length: 2", ""));
    two.extend_from_slice(b"{}");
    let (first, second) = two.split_at(two.len() / 2 - 5);
    for pieces in [&[&two[..]][..], &[first, second]] {
        assert_eq!(ask(base, pieces).matches("HTTP/1.1 201 ").count(), 2);
    }
    assert_eq!(count(base, "two"), 2, "the second time they were there already");
}

fn half_a_request_is_none(base: &str) {
    let head = append("cut", "Content-Length: 7", "");
    let started = Instant::now();
    ask(base, &[&head, b"{\"a\""]);
    ask(base, &[&append("cut", "Transfer-Encoding: chunked", ""), b"7\r\n{\"a\":1}\r\n"]);
    ask(base, &[&head[..50]]);
    assert!(started.elapsed() < PROMPT);
    let cut = client::send(base, "GET", "/streams/cut", &[("Accept", "application/atom+xml".into())], b"");
    assert_eq!(cut.status, 404);
}

fn reads_are_answered_and_wait_for_nothing(base: &str) {
    let get = |path: &str, headers: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: node\r\n{headers}\r\n");
        ask(base, &[head.as_bytes()])
    };
    assert!(get("/ping", "").starts_with("HTTP/1.1 200 "));
    assert!(get("/streams/half/", "").starts_with("HTTP/1.1 307 "));
    // Larger than what is sent at once, and than the buffers of the system.
    let data = format!("\"{}\"", "x".repeat(3 << 20));
    for _ in 0..4 {
        let head = append("large", &format!("Content-Length: {}", data.len()), "");
        assert!(ask(base, &[&head, data.as_bytes()]).starts_with("HTTP/1.1 201 "));
    }
    let page = get("/streams/large/0/forward/4?embed=body", "Accept: application/vnd.eventstore.atom+json\r\n");
    assert!(page.len() > 4 * data.len() && page.ends_with("0\r\n\r\n"), "{} bytes", page.len());

    let started = Instant::now();
    let empty = get("/streams/half/40/forward/5", "Accept: text/xml\r\nES-LongPoll: 50\r\n");
    assert!(empty.starts_with("HTTP/1.1 200 ") && !empty.contains("<entry>"), "{empty}");
    let subscription = get("/streams/two", "Accept: text/event-stream\r\n");
    assert_eq!(subscription.matches("\nid: ").count(), 2, "{subscription}");
    assert!(subscription.ends_with("0\r\n\r\n"), "{subscription}");
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_sending_side_gets_its_answer() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let exchanges = move || {
        every_append_is_answered(&base);
        half_a_request_is_none(&base);
        reads_are_answered_and_wait_for_nothing(&base);
    };
    tokio::task::spawn_blocking(exchanges).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_request_is_answered_too() {
    let nodes = Nodes::start_with_options(1, &["--head-requests"]).await;
    let base = nodes.leader();
    let exchanges = move || {
        let ask_for = |method: &str, path: &str| {
            ask(&base, &[format!("{method} {path} HTTP/1.1\r\nHost: node\r\nAccept: text/xml\r\n\r\n").as_bytes()])
        };
        let whole = [&append("head", "Content-Length: 2", "")[..], b"{}"].concat();
        assert!(ask(&base, &[&whole]).starts_with("HTTP/1.1 201 "));
        for path in ["/streams/head", "/ping"] {
            let (head, page) = (ask_for("HEAD", path), ask_for("GET", path));
            assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
            let length =
                |answer: &str| answer.lines().find(|line| line.starts_with("content-length: ")).map(str::to_owned);
            assert!(length(&head).is_some() && length(&head) == length(&page), "{head}");
        }
    };
    tokio::task::spawn_blocking(exchanges).await.unwrap();
    nodes.stop().await;
}
