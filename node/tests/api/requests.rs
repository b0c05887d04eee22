//! Requests as few clients write them: older versions of HTTP, whole URIs as targets, heads and
//! names of the largest size.

use crate::bad_input::exchange;
use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

/// Bytes that request line and headers may have.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Bytes that a stream's name may have.
const MAX_NAME_BYTES: usize = 4 * 1024;

/// Runs `check` with the `host:port` of a single node.
async fn on_a_node(check: impl FnOnce(&str) + Send + 'static) {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    tokio::task::spawn_blocking(move || check(base.strip_prefix("http://").unwrap())).await.unwrap();
    nodes.stop().await;
}

/// Sends the text as it stands and returns the answer as text.
fn answer(host: &str, request: &str) -> String {
    let answer = exchange(host, request.as_bytes(), false).expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

fn append(host: &str, path: &str) -> Answer {
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventType", "t".to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
    ];
    client::send(&format!("http://{host}"), "POST", path, &headers, b"{\"a\":1}")
}

fn get(host: &str, path: &str, accept: &str) -> Answer {
    client::send(&format!("http://{host}"), "GET", path, &[("Accept", accept.to_owned())], b"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_is_answered_and_the_connection_ends() {
    on_a_node(|host| {
        assert_eq!(append(host, "/streams/old").status, 201);
        let event = answer(host, "GET /streams/old/0 HTTP/1.0\r\nAccept: application/json\r\n\r\n");
        assert!(event.starts_with("HTTP/1.0 200 OK\r\n"), "{event}");
        assert!(event.ends_with("\r\n\r\n{\n  \"a\": 1\n}"), "{event}");
        assert!(!event.to_ascii_lowercase().contains("transfer-encoding"), "{event}");
        // Without a Host header, links name the address of the node.
        let feed = answer(host, "GET /streams/old HTTP/1.0\r\nAccept: application/json\r\n\r\n");
        assert!(feed.contains(&format!("\"id\": \"http://{host}/streams/old\"")), "{feed}");
        let refused = answer(host, "GET /streams/old/x HTTP/1.0\r\n\r\n");
        assert!(refused.starts_with("HTTP/1.0 400 'x' is not valid event number\r\n"), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_uri_is_a_target_and_its_host_counts() {
    on_a_node(|host| {
        assert_eq!(append(host, "/streams/whole%20x").status, 201);
        let rest = "HTTP/1.1\r\nHost: other:1\r\nAccept: application/json\r\nConnection: close\r\n\r\n";
        let feed = answer(host, &format!("GET http://{host}/streams/whole%20x?embed=body {rest}"));
        assert!(feed.starts_with("HTTP/1.1 200 OK\r\n"), "{feed}");
        assert!(feed.contains(&format!("\"id\": \"http://{host}/streams/whole%20x\"")), "{feed}");
        assert!(feed.contains("\"eventNumber\": 0"), "{feed}");
        let slash = answer(host, &format!("GET http://node.example/streams/whole%20x/?a=b {rest}"));
        assert!(
            slash.to_ascii_lowercase().contains("location: http://node.example/streams/whole%20x?a=b\r\n"),
            "{slash}"
        );
        let stars = answer(host, "OPTIONS * HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n");
        assert!(stars.starts_with("HTTP/1.1 404 Not Found\r\n"), "{stars}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_came_without_encoding_are_encoded_in_answers() {
    on_a_node(|host| {
        let rest = "HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\nES-EventType: t\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        let redirected = answer(host, &format!("POST /streams/\u{e9} {rest}"));
        assert!(redirected.starts_with("HTTP/1.1 307 "), "{redirected}");
        assert!(redirected.to_ascii_lowercase().contains("\r\nlocation: http://n/streams/%c3%a9/incoming/"), "{redirected}");
        assert_eq!(append(host, "/streams/\u{e9}").header("location"), Some(format!("http://{host}/streams/%C3%A9/0")));
        assert_eq!(get(host, "/streams/%C3%A9/0", "application/json").status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_head_is_taken_and_one_more_byte_is_not() {
    on_a_node(|host| {
        let head = |bytes: usize| {
            let start = "GET /ping HTTP/1.1\r\nHost: n\r\nConnection: close\r\nX-Long: ";
            format!("{start}{}\r\n\r\n", "a".repeat(bytes - start.len() - 4))
        };
        assert_eq!(head(MAX_HEAD_BYTES).len(), MAX_HEAD_BYTES);
        let taken = answer(host, &head(MAX_HEAD_BYTES));
        assert!(taken.starts_with("HTTP/1.1 200 OK\r\n"), "{taken}");
        for bytes in [MAX_HEAD_BYTES + 1, MAX_HEAD_BYTES * 3 / 2, MAX_HEAD_BYTES * 4] {
            let refused = answer(host, &head(bytes));
            assert!(refused.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{bytes}: {refused}");
        }
        // The target is a part of the head.
        let target = "x".repeat(MAX_HEAD_BYTES);
        let refused = answer(host, &format!("GET /{target} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n"));
        assert!(refused.starts_with("HTTP/1.1 431 ") || refused.starts_with("HTTP/1.1 414 "), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_name_is_taken_and_one_more_byte_is_not() {
    on_a_node(|host| {
        // Two bytes each, six as they are written in a path.
        let longest = "%C3%A9".repeat(MAX_NAME_BYTES / 2);
        let stored = append(host, &format!("/streams/{longest}"));
        assert_eq!(stored.status, 201);
        assert_eq!(stored.header("location"), Some(format!("http://{host}/streams/{longest}/0")));
        let page = get(host, &format!("/streams/{longest}"), "application/json");
        assert_eq!(page.json()["streamId"].as_str().map(str::len), Some(MAX_NAME_BYTES));
        assert_eq!(get(host, &format!("/streams/{longest}/metadata"), "application/json").status, 200);
        // The stream with its metadata has a name that is longer by two.
        let base = format!("http://{host}");
        let write = |path: &str| {
            let headers = [
                ("Content-Type", "application/json".to_owned()),
                ("ES-EventType", "$metadata".to_owned()),
                ("ES-EventId", uuid::Uuid::new_v4().to_string()),
            ];
            client::send(&base, "POST", path, &headers, b"{\"$maxCount\":3}")
        };
        let stored = write(&format!("/streams/{longest}/metadata"));
        let location = format!("/streams/%24%24{longest}/0");
        assert_eq!((stored.status, stored.header("location")), (201, Some(format!("{base}{location}"))));
        assert_eq!(get(host, &location, "application/json").text(), "{\n  \"$maxCount\": 3\n}");
        assert_eq!(get(host, &format!("/streams/$${longest}"), "application/json").status, 200);
        assert_eq!(write(&format!("/streams/$${longest}")).status, 201);
        assert_eq!(get(host, &format!("/streams/$${longest}x/0"), "application/json").status, 400);
        assert_eq!(write(&format!("/streams/$${longest}x")).status, 400);
        let longer = format!("/streams/{longest}x");
        let refused = append(host, &longer);
        assert_eq!((refused.status, refused.reason.as_deref()), (400, Some("Stream name is too long")));
        for path in
            [longer.clone(), format!("{longer}/0"), format!("{longer}/0/forward/5"), format!("{longer}/metadata")]
        {
            assert_eq!(get(host, &path, "application/json").status, 400, "{path}");
        }
        assert_eq!(client::send(&format!("http://{host}"), "DELETE", &longer, &[], b"").status, 400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_would_be_too_long_as_xml_is_shown_as_text() {
    on_a_node(|host| {
        // Each of the elements would repeat the name: two gigabytes.
        let name = "n".repeat(50_000);
        let data = format!("{{\"{name}\":[{}0]}}", "0,".repeat(20_000));
        let headers = [
            ("Content-Type", "application/json".to_owned()),
            ("ES-EventType", "t".to_owned()),
            ("ES-EventId", uuid::Uuid::new_v4().to_string()),
        ];
        let stored = client::send(&format!("http://{host}"), "POST", "/streams/grows", &headers, data.as_bytes());
        assert_eq!(stored.status, 201);
        let shown = get(host, "/streams/grows/0", "text/xml");
        assert_eq!((shown.status, shown.text()), (200, format!("<data>{data}</data>")));
        for (path, accept) in [
            ("/streams/grows/0", "application/atom+xml"),
            ("/streams/grows/0", "application/vnd.eventstore.event+xml"),
            ("/streams/grows?embed=content", "application/atom+xml"),
        ] {
            let shown = get(host, path, accept);
            assert_eq!(shown.status, 200);
            assert!(shown.text().contains(&data) && shown.body.len() < data.len() + 2_000, "{path} {accept}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_requests_are_refused_and_the_connection_ends() {
    const REFUSED: &[(&str, &str)] = &[
        ("", "Host header is missing."),
        ("Host: a\r\nHost: b\r\n", "More than one Host header."),
        ("Host: a\r\nHost: a\r\n", "More than one Host header."),
        ("Host: [::1\r\n", "Host header in wrong format."),
        ("Host: x:abc\r\n", "Host header in wrong format."),
        ("Host: a/b\r\n", "Host header in wrong format."),
        ("Host: a, b c\r\n", "Host header in wrong format."),
        ("Host: n\r\nTransfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding has to be chunked."),
        (
            "Host: n\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding has to be chunked.",
        ),
        ("Host: n\r\nTransfer-Encoding: chunked, chunked\r\n", "Transfer-Encoding has to be chunked."),
    ];
    on_a_node(|host| {
        for (head, reason) in REFUSED {
            // Another request behind it, which is none of its body and has to stay without an
            // answer.
            let both =
                format!("POST /streams/strict HTTP/1.1\r\n{head}\r\n0\r\n\r\nGET /ping HTTP/1.1\r\nHost: n\r\n\r\n");
            let refused = answer(host, &both);
            assert!(refused.starts_with(&format!("HTTP/1.1 400 {reason}\r\n")), "{head:?}: {refused}");
            assert!(refused.to_ascii_lowercase().contains("connection: close\r\n"), "{head:?}: {refused}");
            assert!(!refused.contains("Ping"), "{head:?}: {refused}");
        }
        for head in ["Host: n:\r\n", "Host: [::1]:2113\r\n", "Host:\r\n", "Host: n\r\nTransfer-Encoding: Chunked\r\n"] {
            let taken = answer(host, &format!("GET /ping HTTP/1.1\r\nConnection: close\r\n{head}\r\n0\r\n\r\n"));
            assert!(taken.starts_with("HTTP/1.1 200 OK\r\n"), "{head:?}: {taken}");
        }
    })
    .await;
}
