//! Large answers under way: whoever may not read them any more gets no more of them, who reads
//! slowly gets all of them, and who reads nothing is cut off.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headwater::testing::STALL_TIMEOUT;
use support::client;
use support::nodes::Nodes;
use tokio::net::TcpSocket;
use tokio::runtime::Handle;

/// Data of an event, and how many a stream has: many times what lies between the node and a client.
const EVENT_BYTES: usize = 3 << 20;
const EVENTS: usize = 6;
const STREAM_BYTES: usize = EVENTS * EVENT_BYTES;

/// Read before something is changed.
const FIRST_BYTES: usize = 64 << 10;

/// What an answer still brings when nothing more is sent: buffers of the system and one piece of
/// the node. Far from all of it.
const UNDER_WAY_BYTES: usize = STREAM_BYTES / 2;

const PAGE: &str = "/streams/large/head/backward/100?embed=tryharder";

fn basic(login: &str) -> String {
    format!("Basic {}", STANDARD.encode(login))
}

fn send(base: &str, method: &'static str, path: &str, media_type: &str, body: &[u8]) -> u16 {
    let headers = [
        ("Content-Type", media_type.to_owned()),
        ("ES-EventType", if path.ends_with("/metadata") { "$metadata" } else { "t" }.to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
        ("Authorization", client::ADMIN.to_owned()),
    ];
    client::send(base, method, path, &headers, body).status
}

fn write_json(base: &str, path: &str, body: &str) {
    assert_eq!(send(base, "POST", path, "application/json", body.as_bytes()), 201, "{path} {body}");
}

/// Describes a stream; who is named here may read it.
fn open_to(base: &str, stream: &str, readers: &str) {
    write_json(base, &format!("/streams/{stream}/metadata"), &format!(r#"{{"$acl":{{"$r":{readers}}}}}"#));
}

/// Text that no compression makes small.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'0' + (state % 64) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn fill(base: &str, stream: &str) {
    let data = noise(EVENT_BYTES);
    for _ in 0..EVENTS {
        let path = format!("/streams/{stream}");
        assert_eq!(send(base, "POST", &path, "application/octet-stream", &data), 201);
    }
}

fn create(base: &str, user: &str) {
    write_json(base, "/users", &format!(r#"{{"loginName":"{user}","groups":["readers"],"password":"p"}}"#));
}

/// A connection that takes little more than what is read from it.
fn connect(base: &str) -> TcpStream {
    let address = base.strip_prefix("http://").unwrap().parse().unwrap();
    let connecting = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.connect(address).await.unwrap().into_std().unwrap()
    };
    let connection = Handle::current().block_on(connecting);
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    connection
}

/// An answer that its client reads slowly.
struct Slow {
    connection: TcpStream,
    received: Vec<u8>,
}

impl Slow {
    /// Asks for a page, and takes the beginning of it.
    fn begin(base: &str, path: &str, further: &str) -> Self {
        Self::ask(base, &format!("GET {path}"), further)
    }

    /// Sends a request with this method and path, and takes the beginning of the answer.
    fn ask(base: &str, what: &str, further: &str) -> Self {
        let mut slow = Self { connection: connect(base), received: Vec::new() };
        let request = format!("{what} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{further}\r\n");
        slow.connection.write_all(request.as_bytes()).unwrap();
        slow.take(FIRST_BYTES);
        assert!(slow.received.starts_with(b"HTTP/1.1 200 "), "{what}");
        slow
    }

    /// Asks for nothing more behind the request: a subscription ends with what is stored.
    fn close_sending_side(self) -> Self {
        self.connection.shutdown(Shutdown::Write).unwrap();
        self
    }

    /// Takes so many bytes more, or a few beyond.
    fn take(&mut self, bytes: usize) {
        let (mut buffer, wanted) = (vec![0; 4 << 10], self.received.len() + bytes);
        while self.received.len() < wanted {
            let read = self.connection.read(&mut buffer).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&self.received[..self.received.len().min(1000)]));
            self.received.extend_from_slice(&buffer[..read]);
        }
    }

    /// Takes some KB a second, for longer than a client may read nothing.
    fn dawdle(mut self) -> Self {
        let started = Instant::now();
        while started.elapsed() < STALL_TIMEOUT + Duration::from_secs(10) {
            self.take(1);
            std::thread::sleep(Duration::from_millis(800)); // the pace of the client
        }
        self
    }

    /// Takes the rest: how many bytes came in all, and whether that is a complete answer.
    fn end(mut self) -> (usize, bool) {
        // The node may reset the connection.
        let _ = self.connection.read_to_end(&mut self.received);
        let head_end = self.received.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&self.received[..head_end]).to_ascii_lowercase();
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let is_complete = match announced {
            Some(length) => self.received.len() == head_end + length,
            None => self.received.ends_with(b"\r\n0\r\n\r\n"),
        };
        (self.received.len(), is_complete)
    }
}

/// One thing that ends or narrows what a reader may read.
struct Case {
    name: &'static str,
    path: &'static str,
    /// Further lines of the request's head.
    head: &'static str,
    change: fn(&str),
}

const CASES: &[Case] = &[
    Case { name: "user deleted", path: PAGE, head: "", change: |base| user(base, "DELETE", "/users/ann", "") },
    Case {
        name: "user disabled",
        path: PAGE,
        head: "",
        change: |base| user(base, "POST", "/users/ann/command/disable", ""),
    },
    Case {
        name: "password reset",
        path: PAGE,
        head: "",
        change: |base| user(base, "POST", "/users/ann/command/reset-password", r#"{"newPassword":"q"}"#),
    },
    Case { name: "group removed", path: PAGE, head: "", change: |base| user(base, "PUT", "/users/ann", "{}") },
    Case { name: "list closed", path: PAGE, head: "", change: |base| open_to(base, "large", "[]") },
    Case {
        name: "list closed, compressed",
        path: PAGE,
        head: "Accept-Encoding: gzip\r\n",
        change: |base| open_to(base, "large", "[]"),
    },
    Case {
        name: "list closed, one event",
        path: "/streams/single/0?embed=tryharder",
        head: "",
        change: |base| open_to(base, "single", "[]"),
    },
    Case {
        name: "list closed, one event behind a link",
        path: "/streams/linked/0?embed=tryharder",
        head: "",
        change: |base| open_to(base, "single", "[]"),
    },
    Case {
        name: "list closed, a page of links",
        path: "/streams/links/head/backward/100?embed=tryharder",
        head: "",
        change: |base| open_to(base, "large", "[]"),
    },
    Case {
        name: "list closed, one link on a page",
        path: "/streams/linked/head/backward/100?embed=tryharder",
        head: "",
        change: |base| open_to(base, "single", "[]"),
    },
    Case {
        name: "settings closed",
        path: "/streams/unlisted/head/backward/100?embed=tryharder",
        head: "",
        change: |base| settings(base, "[]"),
    },
    Case {
        name: "log closed",
        path: "/streams/$all/00000000000000000000000000000000/forward/100?embed=tryharder",
        head: "",
        change: |base| open_to(base, "$all", "[]"),
    },
    Case {
        name: "log closed, filtered",
        path: "/streams/$all/filtered?context=streamid&type=prefix&data=single&embed=tryharder",
        head: "",
        change: |base| open_to(base, "$all", "[]"),
    },
    Case {
        name: "soft-deleted",
        path: "/streams/soft/head/backward/100?embed=tryharder",
        head: "",
        change: |base| assert_eq!(send(base, "DELETE", "/streams/soft", "application/json", b""), 204),
    },
    Case {
        name: "hard-deleted",
        path: "/streams/hard/head/backward/100?embed=tryharder",
        head: "",
        change: |base| {
            let headers = [("ES-HardDelete", "true".to_owned()), ("Authorization", client::ADMIN.to_owned())];
            assert_eq!(client::send(base, "DELETE", "/streams/hard", &headers, b"").status, 204);
        },
    },
];

fn user(base: &str, method: &'static str, path: &str, body: &str) {
    assert_eq!(send(base, method, path, "application/json", body.as_bytes()), 200, "{method} {path}");
}

fn settings(base: &str, readers: &str) {
    write_json(base, "/streams/$settings", &format!(r#"{{"$userStreamAcl":{{"$r":{readers}}}}}"#));
}

/// The rights of before, for the next case.
fn restore(base: &str) {
    let _ = send(base, "DELETE", "/users/ann", "application/json", b"");
    create(base, "ann");
    settings(base, r#""readers""#);
    for stream in ["large", "single", "linked", "$all"] {
        open_to(base, stream, r#""readers""#);
    }
}

fn prepare(base: &str) {
    for stream in ["large", "unlisted", "soft", "hard"] {
        fill(base, stream);
    }
    // As text, each of these bytes is six.
    let control_characters = vec![1; EVENT_BYTES];
    assert_eq!(send(base, "POST", "/streams/single", "application/octet-stream", &control_characters), 201);
    link(base, "linked", &["0@single"]);
    link(base, "links", &["0@large", "1@large", "2@large", "3@large", "4@large", "5@large"]);
}

/// Writes links to a stream.
fn link(base: &str, stream: &str, targets: &[&str]) {
    let event = |target| format!(r#"{{"eventId":"{}","eventType":"$>","data":"{target}"}}"#, uuid::Uuid::new_v4());
    let events = targets.iter().map(event).collect::<Vec<_>>().join(",");
    let media_type = "application/vnd.eventstore.events+json";
    assert_eq!(send(base, "POST", &format!("/streams/{stream}"), media_type, format!("[{events}]").as_bytes()), 201);
}

/// The head of a request by the reader.
fn head(further: &str) -> String {
    format!("Accept: application/vnd.eventstore.atom+json\r\nAuthorization: {}\r\n{further}", basic("ann:p"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_ends_when_its_reader_may_not_have_it_any_more() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        prepare(&base);
        for Case { name, path, head: further, change } in CASES {
            restore(&base);
            let whole = Slow::begin(&base, path, &head(further)).end();
            assert!(whole.1 && whole.0 > UNDER_WAY_BYTES, "{name}, nothing changed: {whole:?}");
            let slow = Slow::begin(&base, path, &head(further));
            change(&base);
            let (received, is_complete) = slow.end();
            assert!(!is_complete && received < UNDER_WAY_BYTES, "{name}: {received} of {} bytes", whole.0);
        }
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_truncated_meanwhile_are_left_out_of_a_large_page() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        create(&base, "ann");
        fill(&base, "truncated");
        let path = "/streams/truncated/head/backward/100?embed=tryharder";
        let slow = Slow::begin(&base, path, &head(""));
        write_json(&base, "/streams/truncated/metadata", &format!(r#"{{"$tb":{}}}"#, EVENTS - 1));
        // The first event, which is the newest, is under way or visible; the last ones are not.
        let (received, is_complete) = slow.end();
        assert!(is_complete && received < UNDER_WAY_BYTES, "{received} bytes");
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ends_in_the_middle_of_an_event_that_its_reader_may_not_have_any_more() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        prepare(&base);
        let head = format!("Accept: text/event-stream\r\nAuthorization: {}\r\n", basic("ann:p"));
        for path in ["/streams/single?embed=tryharder", "/streams/linked?embed=tryharder"] {
            restore(&base);
            let whole = Slow::begin(&base, path, &head).close_sending_side().end();
            assert!(whole.1 && whole.0 > UNDER_WAY_BYTES, "{path}, nothing changed: {whole:?}");
            let slow = Slow::begin(&base, path, &head).close_sending_side();
            open_to(&base, "single", "[]");
            let (received, is_complete) = slow.end();
            assert!(!is_complete && received < UNDER_WAY_BYTES, "{path}: {received} of {} bytes", whole.0);
        }
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

/// What administrators get of all streams.
const EXPORT: &str = "GET /admin/export?stream=single";
const BACKUP: &str = "POST /admin/backup";

/// The head of a request by an administrator.
fn head_of_administrator() -> String {
    format!("Content-Length: 0\r\nAuthorization: {}\r\n", basic("eve:p"))
}

fn create_administrator(base: &str) {
    let _ = send(base, "DELETE", "/users/eve", "application/json", b"");
    write_json(base, "/users", r#"{"loginName":"eve","groups":["$admins"],"password":"p"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_and_a_backup_end_when_their_reader_is_no_administrator_any_more() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        prepare(&base);
        let head = head_of_administrator();
        for what in [EXPORT, BACKUP] {
            create_administrator(&base);
            let whole = Slow::ask(&base, what, &head).end();
            assert!(whole.1 && whole.0 > UNDER_WAY_BYTES, "{what}, nothing changed: {whole:?}");
            let slow = Slow::ask(&base, what, &head);
            user(&base, "PUT", "/users/eve", "{}");
            let (received, is_complete) = slow.end();
            assert!(!is_complete && received < UNDER_WAY_BYTES, "{what}: {received} of {} bytes", whole.0);
        }
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_and_a_backup_go_on_for_who_reads_slowly_and_end_for_who_reads_nothing() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        prepare(&base);
        create_administrator(&base);
        let head = head_of_administrator();
        let idle = Slow::ask(&base, EXPORT, &head);
        let slow = [EXPORT, BACKUP].map(|what| (what, Slow::ask(&base, what, &head)));
        let readers = slow.map(|(what, slow)| (what, std::thread::spawn(move || slow.dawdle().end())));
        for (what, reader) in readers {
            let received = reader.join().unwrap();
            assert!(received.1 && received.0 > UNDER_WAY_BYTES, "{what}: {received:?}");
        }
        // By now nothing was read of this one for as long.
        let (received, is_complete) = idle.end();
        assert!(!is_complete && received < UNDER_WAY_BYTES, "{received} bytes");
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}
