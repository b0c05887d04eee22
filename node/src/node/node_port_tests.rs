//! With TLS the port for other nodes takes nothing without a certificate of the cluster's CA.

use headwater_proto::cluster::cluster_client::ClusterClient;
use headwater_proto::cluster::{ForwardRequest, JoinRequest, RejoinRequest, StatusRequest};
use headwater_proto::stored;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;

use super::support::nodes::Nodes;
use super::support::pki::Pki;
use super::support::until;
use crate::tls::Certificates;
use crate::transport::listener::{MAX_HANDSHAKES, MAX_HANDSHAKES_PER_ADDRESS};
use crate::transport::{Dial, Dialer};

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
            ForwardRequest { request_id: 1, deadline_ms: 1_000, command: Default::default(), ..Default::default() };
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
    let rejoin = || RejoinRequest { member: Some(member.clone()), ..RejoinRequest::default() };
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
