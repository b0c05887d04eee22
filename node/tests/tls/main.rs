//! TLS of real nodes: HTTPS for clients, and certificates as operators make and renew them. What
//! nodes demand of each other is tested in `src/node/node_port_tests.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod client;
mod documented;
mod process;
#[path = "../support/mod.rs"]
mod support;

use client::{connect, read_in_two_steps};
use support::client::tls::Version;
use support::nodes::Nodes;
use support::pki::Pki;
use support::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ATOM_JSON: &str = "application/vnd.eventstore.atom+json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_forms_and_serves_both_versions_of_http() {
    let pki = Pki::new();
    let cluster = Nodes::start_with_tls(3, &pki).await;
    let address = cluster.places.http[cluster.follower_index()].clone();
    for (version, stream) in [(Version::Http1, "one"), (Version::Http2, "two")] {
        let mut connection = connect(&address, pki.ca_pem(), version).await.unwrap();
        let created = connection.append(stream).await.unwrap();
        assert_eq!(created.status, 201, "{}", created.text());
        assert_eq!(created.header("location"), format!("https://{address}/streams/{stream}/0"));
        let feed = connection.get(&format!("/streams/{stream}"), &[("accept", ATOM_JSON)]).await;
        assert_eq!(feed.status, 200);
        assert!(feed.text().contains(&format!("\"https://{address}/streams/{stream}\"")), "{}", feed.text());
        // Refusals say why: in the reason phrase with HTTP/1.1, in the body where there is no such
        // thing.
        let refused = connection
            .send(
                "POST",
                &format!("/streams/{stream}"),
                &[
                    ("content-type", "application/json"),
                    ("es-eventtype", "t"),
                    ("es-eventid", "11111111-1111-4111-8111-111111111111"),
                    ("es-expectedversion", "7"),
                ],
                "{}",
            )
            .await
            .unwrap();
        assert_eq!((refused.status, refused.header("es-currentversion")), (400, "0"));
        if version == Version::Http2 {
            assert_eq!(refused.text(), "Wrong expected EventNumber");
            assert!(refused.header("content-type").starts_with("text/plain"));
        }
        let deleted = connection.send("DELETE", &format!("/streams/{stream}"), &[], "").await.unwrap();
        assert_eq!((deleted.status, deleted.body.len()), (204, 0));
        let head = connection.send("HEAD", "/health/live", &[], "").await.unwrap();
        assert_eq!((head.status, head.body.len()), (204, 0));
        // A request for the leader is redirected to its HTTPS address.
        let headers = [("accept", ATOM_JSON), ("es-requiresmaster", "true")];
        let to_leader = connection.get("/streams/x", &headers).await;
        let leader = &cluster.places.http[cluster.leader_index()];
        assert_eq!((to_leader.status, to_leader.header("location")), (307, &*format!("https://{leader}/streams/x")));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_http_2_connection_carries_many_requests_at_a_time() {
    let pki = Pki::new();
    let cluster = Nodes::start_with_tls(1, &pki).await;
    let address = &cluster.places.http[0];
    let mut connection = connect(address, pki.ca_pem(), Version::Http2).await.unwrap();
    // More than the streams of one connection: the client holds back what is beyond.
    let mut requests = Vec::new();
    for number in 0..300 {
        let mut shared = connection.share();
        requests
            .push(tokio::spawn(async move { shared.append(&format!("many-{}", number % 7)).await.unwrap().status }));
    }
    for request in requests {
        assert_eq!(request.await.unwrap(), 201);
    }
    let many: Vec<(String, String)> = (0..101).map(|n| (format!("x-header-{n}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    let refused = connection.get("/ping", &many).await;
    assert_eq!((refused.status, refused.text()), (431, "Request Header Fields Too Large"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_reads_ends_its_http_2_connection() {
    let pki = Pki::new();
    let cluster = Nodes::start_with_tls(1, &pki).await;
    let (address, ca_pem) = (&cluster.places.http[0], pki.ca_pem());
    tokio::join!(
        client::read_nothing(address, ca_pem, "GET", "/openapi.json"),
        client::read_nothing(address, ca_pem, "POST", "/admin/backup"),
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_to_https_is_refused_with_the_reason_and_a_client_of_another_ca_does_not_connect() {
    let (pki, other) = (Pki::new(), Pki::new());
    let cluster = Nodes::start_with_tls(1, &pki).await;
    let address = &cluster.places.http[0];
    let mut plain = tokio::net::TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /streams/x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 This port speaks HTTPS\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");

    let refused = connect(address, other.ca_pem(), Version::Http1).await.err().unwrap();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_under_load_without_dropping_a_connection() {
    let pki = Pki::new();
    let cluster = Nodes::start_with_tls(3, &pki).await;
    let mut connections = Vec::new();
    for address in &cluster.places.http {
        for version in [Version::Http1, Version::Http2] {
            connections.push(connect(address, pki.ca_pem(), version).await.unwrap());
        }
    }
    // Two connections to each node.
    let mut shown: Vec<_> = connections.iter().step_by(2).map(|connection| connection.certificate.clone()).collect();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut load = Vec::new();
    for (number, mut connection) in connections.into_iter().enumerate() {
        let stopped = stopped.clone();
        load.push(tokio::spawn(async move {
            let mut written = 0;
            while !*stopped.borrow() {
                let answer = connection.append(&format!("load-{number}")).await.expect("the connection was dropped");
                assert_eq!(answer.status, 201, "{}", answer.text());
                written += 1;
            }
            written
        }));
    }
    for _ in 0..3 {
        for (index, shown) in shown.iter_mut().enumerate() {
            pki.issue(index as u16 + 1);
            cluster.node(index).reload().await.unwrap();
            let new = connect(&cluster.places.http[index], pki.ca_pem(), Version::Http1).await.unwrap();
            assert_ne!(new.certificate, *shown, "the renewed certificate is shown to new connections");
            *shown = new.certificate;
        }
    }
    stop.send(true).unwrap();
    for writer in load {
        assert!(writer.await.unwrap() > 0);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_over_http_2_ends_when_its_reader_may_not_have_it_any_more() {
    const EVENT_BYTES: usize = 2 << 20;
    const EVENTS: usize = 4;
    let pki = Pki::new();
    let cluster = Nodes::start_with_tls(1, &pki).await;
    let address = &cluster.places.http[0];
    let mut writer = connect(address, pki.ca_pem(), Version::Http2).await.unwrap();
    let mut write = async |path: &str, event_type: &str, body: &str| {
        let id = uuid::Uuid::new_v4().to_string();
        let headers = [("content-type", "application/json"), ("es-eventtype", event_type), ("es-eventid", &*id)];
        assert_eq!(writer.send("POST", path, &headers, body).await.unwrap().status, 201, "{path}");
    };
    let data = format!("\"{}\"", "x".repeat(EVENT_BYTES));
    for _ in 0..EVENTS {
        write("/streams/large", "t", &data).await;
    }
    let path = "/streams/large/head/backward/100?embed=body";
    let read = read_in_two_steps(address, pki.ca_pem(), path, async {}).await;
    assert!(read.1 && read.0 >= EVENTS * EVENT_BYTES, "nothing changed: {read:?}");
    let closing = write("/streams/large/metadata", "$metadata", r#"{"$acl":{"$r":[]}}"#);
    let read = read_in_two_steps(address, pki.ca_pem(), path, closing).await;
    assert!(!read.1 && read.0 < EVENT_BYTES, "closed meanwhile: {read:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_about_to_stop_serves_and_asks_clients_to_connect_anew() {
    let pki = Pki::new();
    let cluster = Nodes::start_with_tls(3, &pki).await;
    let address = &cluster.places.http[0];
    let mut before = connect(address, pki.ca_pem(), Version::Http2).await.unwrap();
    assert_eq!(before.append("leaving").await.unwrap().status, 201);
    let serve = async {
        until("the client is told to go", || before.is_closed()).await;
        for version in [Version::Http1, Version::Http2] {
            let mut anew = connect(address, pki.ca_pem(), version).await.unwrap();
            let ready = anew.send("GET", "/health/ready", &[], "").await.unwrap();
            assert_eq!((ready.status, ready.text()), (503, "stopping"));
            // HTTP/1.1 says with each answer what HTTP/2 has said once. Who comes all the same is
            // served for as long as the node takes connections.
            match version {
                Version::Http1 => {
                    assert_eq!(ready.header("connection"), "close");
                    until("the connection is closed", || anew.is_closed()).await;
                }
                Version::Http2 => assert_eq!(anew.append("leaving").await.unwrap().status, 201),
            }
        }
    };
    let drain = PATIENCE * 10;
    tokio::select! {
        () = cluster.node(0).leave(drain) => panic!("the node does not wait for its clients"),
        () = serve => {}
    }
    cluster.stop().await;
}
