//! The memory that large answers may hold, however many clients ask and however slowly they read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use headwater::testing::MAX_LARGE_ANSWERS_BYTES;
use support::client;
use support::nodes::Nodes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Data of an event: the largest one, a little short.
const EVENT_BYTES: usize = 4 * 1024 * 1024 - 1024;

/// Events on the page that every client asks for.
const EVENTS: usize = 12;

/// Readers at the same time. Together they ask for many times the memory budget.
const READERS: usize = 48;

/// The memory a node uses besides: one more part for each thread that reads, copies on their way to
/// the connections, blocks and rows of the database that the reads brought into memory.
const BESIDES_BYTES: usize = 160 << 20;

/// Sends a request on a connection with a small receive buffer, and reads nothing yet.
async fn ask(base: &str, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let host = base.strip_prefix("http://").unwrap();
    let mut stream = socket.connect(host.parse().unwrap()).await.unwrap();
    let accept = "application/vnd.eventstore.atom+json";
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The first kilobytes of the answer.
async fn beginning(stream: &mut TcpStream) -> String {
    let mut first = vec![0; 4 << 10];
    let read = stream.read(&mut first).await.unwrap();
    String::from_utf8_lossy(&first[..read]).into_owned()
}

/// A line of this process's memory status in bytes.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    found.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_of_large_pages_share_a_bound_and_leave_room_for_small_ones() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let send = |method: &'static str, path: &'static str, headers: Vec<(&'static str, String)>, body: Vec<u8>| {
        let base = base.clone();
        tokio::task::spawn_blocking(move || client::send(&base, method, path, &headers, &body))
    };
    for _ in 0..EVENTS {
        let id = ("ES-EventId", uuid::Uuid::new_v4().to_string());
        let headers = vec![("Content-Type", "application/octet-stream".into()), ("ES-EventType", "t".into()), id];
        assert_eq!(send("POST", "/streams/large", headers, vec![b'x'; EVENT_BYTES]).await.unwrap().status, 201);
    }
    const PAGE: &str = "/streams/large/head/backward/100?embed=tryharder";
    let before = memory("VmRSS:");

    // Phase 1: all ask, and read no more than the beginning. Each gets the page, or a 503 because
    // the budget is taken.
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(ask(&base, PAGE).await);
    }
    let mut served = Vec::new();
    for mut reader in readers {
        let answer = beginning(&mut reader).await;
        if answer.starts_with("HTTP/1.1 200 ") {
            served.push((reader, answer));
        } else {
            assert!(answer.starts_with("HTTP/1.1 503 Server Is Too Busy\r\n"), "{answer}");
            assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer}");
        }
    }
    assert!(served.len() >= MAX_LARGE_ANSWERS_BYTES / (4 * EVENT_BYTES), "only {} readers", served.len());
    assert!(served.len() < READERS, "no reader found the room taken: they ask for too little to show anything");
    let grown = memory("VmHWM:") - before;
    assert!(grown < MAX_LARGE_ANSWERS_BYTES + BESIDES_BYTES, "{} MiB more than before", grown >> 20);

    // Phase 2: small answers do not wait for any of this.
    let accept = vec![("Accept", "application/vnd.eventstore.atom+json".into())];
    let small = send("GET", "/streams/large/head/backward/100", accept, Vec::new());
    assert_eq!(send("GET", "/ping", Vec::new(), Vec::new()).await.unwrap().status, 200);

    // Phase 3: the others leave, and one client reads its whole answer.
    let (mut patient, first) = served.pop().unwrap();
    drop(served);
    let mut rest = Vec::new();
    patient.read_to_end(&mut rest).await.unwrap();
    let whole = [first.as_bytes(), &rest].concat();
    assert!(whole.ends_with(b"\r\n0\r\n\r\n"), "the last chunk is missing");
    let payload = whole.iter().filter(|byte| **byte == b'x').count();
    assert!(payload >= EVENTS * EVENT_BYTES, "{payload} bytes of payload");
    assert_eq!(small.await.unwrap().status, 200, "once there was room");
    let again = send("GET", PAGE, vec![("Accept", "application/vnd.eventstore.atom+json".into())], Vec::new());
    let again = again.await.unwrap();
    assert_eq!((again.status, again.json()["entries"].as_array().unwrap().len()), (200, EVENTS));
    nodes.stop().await;
}
