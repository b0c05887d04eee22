//! Traces: what a collector gets of a request, from all nodes that take part.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use support::client;
use support::nodes::{Nodes, free_addresses};
use support::process::Process;
use support::{block_until, until};

/// A span as the collector got it, with the server id of its node.
#[derive(Debug, Clone)]
struct Received {
    server: String,
    span: WireSpan,
}

impl Received {
    fn attribute(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref().and_then(|AnyValue { value }| value.as_ref())? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key}: {other:?}"),
    }
}

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Received>>>);

impl Collector {
    /// Listens on an address of loopback; any, if none is given.
    async fn start(address: Option<SocketAddr>) -> (Self, String) {
        let collector = Self::default();
        let address = address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let endpoint = format!("--otlp-endpoint=http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/v1/traces", post(Self::take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        (collector, endpoint)
    }

    async fn take(State(collector): State<Self>, body: Bytes) -> StatusCode {
        for of_node in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
            let resource = of_node.resource.unwrap();
            assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("headwater"));
            let server = text(&resource.attributes, "service.instance.id").unwrap();
            let spans = of_node.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let mut kept = collector.0.lock().unwrap();
            kept.extend(spans.map(|span| Received { server: server.clone(), span }));
        }
        StatusCode::OK
    }

    fn all(&self) -> Vec<Received> {
        self.0.lock().unwrap().clone()
    }

    /// The only span of this name from this server.
    fn one(&self, server: usize, name: &str) -> Received {
        let mut all = self.all();
        all.retain(|received| received.server == server.to_string() && received.span.name == name);
        assert_eq!(all.len(), 1, "{name} of server {server}: {:#?}", self.all());
        all.remove(0)
    }

    /// What arrived: server and name.
    fn names(&self) -> BTreeSet<(String, String)> {
        self.all().into_iter().map(|received| (received.server, received.span.name)).collect()
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn append(base: &str, further: &[(&'static str, String)]) -> u16 {
    let mut headers = vec![
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventType", "placed".to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
    ];
    headers.extend_from_slice(further);
    client::send(base, "POST", "/streams/orders", &headers, b"{}").status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_through_a_follower_is_one_trace_on_all_nodes() {
    let (collector, endpoint) = Collector::start(None).await;
    let nodes = Nodes::start_with_options(3, &[endpoint.as_str(), "--trace-sample-ratio=0"]).await;
    let (leader, receiver) = (nodes.leader_index() + 1, nodes.follower_index() + 1);
    let base = nodes.follower();
    // Neither is recorded: the one by the ratio, the other because its client says so.
    assert_eq!(append(&base, &[]), 201);
    assert_eq!(append(&base, &[("traceparent", format!("00-{TRACE}-{PARENT}-00"))]), 201);
    let traced = [("traceparent", format!("00-{TRACE}-{PARENT}-01")), ("X-Request-Id", "from-the-proxy".to_owned())];
    assert_eq!(append(&base, &traced), 201);

    let of_entry = ["log.append", "log.sync", "raft.commit", "state.apply"];
    let of_receiver = ["append", "body", "commit", "forward", "apply.wait"].map(|name| (receiver, name));
    let of_leader = ["forwarded", "gate.wait", "raft.propose"].map(|name| (leader, name));
    let everywhere = (1..=3).flat_map(|server| of_entry.map(|name| (server, name)));
    let expected: Vec<(usize, &str)> = of_receiver.into_iter().chain(of_leader).chain(everywhere).collect();
    until("all spans have arrived", || {
        let names = collector.names();
        expected.iter().all(|(server, name)| names.contains(&(server.to_string(), (*name).to_owned())))
    })
    .await;

    let all = collector.all();
    assert!(all.iter().all(|received| hex(&received.span.trace_id) == TRACE), "another trace: {all:#?}");
    let child_of = |child: &Received, parent: &Received| {
        assert_eq!(hex(&child.span.parent_span_id), hex(&parent.span.span_id), "{child:#?} is not below {parent:#?}");
    };
    let root = collector.one(receiver, "append");
    assert_eq!((hex(&root.span.parent_span_id).as_str(), root.span.kind), (PARENT, SpanKind::Server as i32));
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/streams/orders"),
        ("http.route", "/streams/{stream}"),
        ("headwater.stream", "orders"),
        ("headwater.request_id", "from-the-proxy"),
        ("http.response.status_code", "201"),
    ] {
        assert_eq!(root.attribute(key).as_deref(), Some(value), "{key}");
    }
    let commit = collector.one(receiver, "commit");
    child_of(&collector.one(receiver, "body"), &root);
    child_of(&commit, &root);
    child_of(&collector.one(receiver, "apply.wait"), &commit);
    let forward = collector.one(receiver, "forward");
    child_of(&forward, &commit);
    let forwarded = collector.one(leader, "forwarded");
    child_of(&forwarded, &forward);
    child_of(&collector.one(leader, "gate.wait"), &forwarded);
    let propose = collector.one(leader, "raft.propose");
    child_of(&propose, &forwarded);
    for server in 1..=3 {
        let spans = of_entry.map(|name| collector.one(server, name));
        spans.iter().for_each(|span| child_of(span, &propose));
        let [appended, .., applied] = spans.map(|received| received.span.end_time_unix_nano);
        assert!(appended <= applied, "server {server} applied what it had not written");
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_is_told_of_once_and_keeps_nobody_waiting() {
    let data = tempfile::tempdir().unwrap();
    let data_dir = format!("--data-dir={}", data.path().display());
    let address: SocketAddr = free_addresses(1)[0].parse().unwrap();
    let endpoint = format!("--otlp-endpoint=http://{address}");
    let options = [data_dir.as_str(), &endpoint, "--trace-sample-ratio=1"];
    let (mut node, base) = Process::start_single(&options);
    let metric = |name: &str| {
        let page = client::send(&base, "GET", "/metrics", &[], b"").text();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name}")).parse::<f64>().unwrap()
    };
    node.wait_for(&["WARN", "the collector does not take traces"]);
    let lost = metric("headwater_trace_spans_undelivered_total");
    assert!(lost > 0.0);
    assert_eq!(append(&base, &[]), 201);
    block_until("more was lost", || metric("headwater_trace_spans_undelivered_total") > lost);
    assert_eq!(metric("headwater_trace_spans_sent_total"), 0.0);

    let (collector, _) = Collector::start(Some(address)).await;
    block_until("spans arrive", || {
        assert_eq!(append(&base, &[]), 201);
        collector.names().contains(&("1".to_owned(), "append".to_owned()))
    });
    node.wait_for(&["the collector takes traces again"]);
    let told = node.log().iter().filter(|line| line.contains("does not take traces")).count();
    assert_eq!(told, 1, "{:#?}", node.log());
    assert_eq!(node.exited(), None);
}
