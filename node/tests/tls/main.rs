//! TLS of real nodes: HTTPS for clients, and between nodes nothing without a certificate of the
//! cluster's CA.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod client;
mod documented;
mod process;
#[path = "../support/mod.rs"]
mod support;

use client::{connect, read_in_two_steps};
use headwater::tls::Certificates;
use headwater::transport::Dialer;
use headwater::transport::listener::{MAX_HANDSHAKES, MAX_HANDSHAKES_PER_ADDRESS};
use headwater_proto::cluster::cluster_client::ClusterClient;
use headwater_proto::cluster::{ForwardRequest, JoinRequest, RejoinRequest, StatusRequest};
use headwater_proto::stored;
use support::client::tls::Version;
use support::nodes::Nodes;
use support::pki::Pki;
use support::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;

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

/// Calls the node of `server` at `address` with the certificate that `pki` gives to server
/// `as_server`.
fn caller(pki: &Pki, as_server: u16, server: u16, address: &str) -> ClusterClient<Channel> {
    let certificates = Certificates::load(&pki.files(as_server), as_server).unwrap();
    ClusterClient::new(Dialer::new(certificates.for_nodes()).channel(server, address).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_certificate_of_the_ca_or_in_the_name_of_another_server_are_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let cluster = Nodes::start_with_tls(3, &pki).await;
    let address = &cluster.places.raft[0];
    let (one, two) = (cluster.node(0).cluster().status().local, cluster.node(1).cluster().status().local);
    let (one, two) = (one.node_id.unwrap().0, two.node_id.unwrap().0);
    let cluster_id = cluster.node(0).cluster().cluster_id().unwrap();

    // In the clear, and with a certificate of another CA: not even the calls that need no node id.
    let plain = Dialer::default().channel(1, address).unwrap();
    assert!(ClusterClient::new(plain).status(StatusRequest {}).await.is_err());
    assert!(caller(&other, 2, 1, address).status(StatusRequest {}).await.is_err());

    // With a certificate of this CA the calls are answered ...
    let status = caller(&pki, 2, 1, address).status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.node_id, one);
    // ... but not at the address of another node ...
    assert!(caller(&pki, 2, 3, address).status(StatusRequest {}).await.is_err());
    // ... and only in the caller's own name.
    let forward = |from: u64| {
        let message =
            ForwardRequest { request_id: 1, deadline_ms: 1_000, command: Default::default(), requester: None };
        let mut request = tonic::Request::new(tokio_stream::once(message));
        for (key, value) in [("headwater-from", from.to_string()), ("headwater-to", one.to_string())] {
            request.metadata_mut().insert(key, value.parse().unwrap());
        }
        request.metadata_mut().insert("headwater-cluster", cluster_id.simple().to_string().parse().unwrap());
        request
    };
    assert!(caller(&pki, 2, 1, address).forward(forward(two)).await.is_ok());
    let refused = caller(&pki, 3, 1, address).forward(forward(two)).await.err().unwrap();
    assert!(refused.message().contains("in the name of server 2"), "{refused}");

    let member = stored::Member {
        node_id: two,
        raft_address: "127.0.0.1:1".into(),
        http_address: "127.0.0.1:2".into(),
        ..stored::Member::default()
    };
    let rejoin = || RejoinRequest { member: Some(member.clone()) };
    let leader = cluster.leader_index();
    let mut as_three = caller(&pki, 3, leader as u16 + 1, &cluster.places.raft[leader]);
    let refused = as_three.rejoin(rejoin()).await.unwrap_err();
    assert!(refused.message().contains("in the name of server 2"), "{refused}");

    let join = JoinRequest {
        cluster_id: vec![9; 16].into(),
        configured_members: cluster.places.members(),
        ..JoinRequest::default()
    };
    let refused = caller(&pki, 9, 1, address).join(join).await.unwrap_err();
    assert!(refused.message().contains("server 9 is not in this node's member list"), "{refused}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_to_the_node_port_keep_no_peer_out() {
    /// More than the limit of handshakes, and more than the limit of one address.
    const SILENT: usize = MAX_HANDSHAKES + 2 * MAX_HANDSHAKES_PER_ADDRESS;
    let pki = Pki::new();
    let cluster = Nodes::start_with_tls(1, &pki).await;
    let address: std::net::SocketAddr = cluster.places.raft[0].parse().unwrap();
    let connect_from = async |from: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(address).await.unwrap()
    };
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(connect_from("127.0.0.1").await);
    }
    // A later connection from another address is served, and refused because it speaks no TLS.
    let mut other = connect_from("127.0.0.2").await;
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut alert = Vec::new();
    let _ = other.read_to_end(&mut alert).await;
    const TLS_ALERT: u8 = 0x15;
    assert_eq!(alert.first(), Some(&TLS_ALERT));
    // The handshakes of the first silent connections have not timed out: otherwise the silent
    // connections behind them would hold their places.
    let waits = |stream: tokio::net::TcpStream| {
        let read = stream.into_std().unwrap().peek(&mut [0]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let waiting = silent.into_iter().map(waits).filter(|waits| *waits).count();
    assert!(waiting <= MAX_HANDSHAKES_PER_ADDRESS, "{waiting} wait");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_of_another_ca_does_not_get_in() {
    let (pki, other) = (Pki::new(), Pki::new());
    for server in 1..=3 {
        pki.issue(server);
    }
    other.issue(3);
    let mut cluster = Nodes::new(3, &[] as &[&str]);
    cluster.start_node_with_options(0, &pki.options()).await;
    cluster.start_node_with_options(1, &pki.options()).await;
    cluster.start_node_with_options(2, &other.options()).await;
    // The two meet; the third is silent to them for as long as its certificate is not theirs, so
    // nothing is founded.
    let seen = |index: usize| cluster.node(0).cluster().status().members[index].is_alive;
    until("the two with good certificates have met", || seen(1)).await;
    assert!(!seen(2));
    assert!((0..3).all(|index| cluster.node(index).cluster().cluster_id().is_none()));

    // With a certificate of the same CA it gets in without a restart of the others.
    cluster.stop_node(2).await;
    cluster.start_node_with_options(2, &pki.options()).await;
    cluster.wait_until_ready().await;
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
