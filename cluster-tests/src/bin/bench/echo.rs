//! A plain server that shows the cost of HTTP alone: axum, as a node uses it, without a store
//! behind it.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::serve::ListenerExt;

use headwater_cluster_tests::ports::ReservedPort;
use headwater_cluster_tests::process::ServerProcess;
use headwater_cluster_tests::wait;

/// Longest body that it hands out.
const MAX_BYTES: usize = 1 << 20;

/// Runs the server until the process is killed.
pub(crate) fn serve(port: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let routes = Router::new()
            .route("/streams/{name}", post(take))
            .route("/bytes/{count}", get(give))
            .route("/not-modified", get(not_modified));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.context("cannot listen")?;
        let listener = listener.tap_io(|stream| {
            // Otherwise every answer would wait for the client's acknowledgement of the previous
            // answer.
            if let Err(error) = stream.set_nodelay(true) {
                eprintln!("no TCP_NODELAY: {error}");
            }
        });
        axum::serve(listener, routes).await.context("the echo server failed")
    })
}

/// Reads the whole body of an append, and gives as short an answer as a node would.
async fn take(Path(name): Path<String>, body: Bytes) -> impl IntoResponse {
    (StatusCode::CREATED, [(header::LOCATION, format!("http://127.0.0.1/streams/{name}/{}", body.len()))])
}

/// A body of `count` bytes, from memory.
async fn give(Path(count): Path<usize>) -> impl IntoResponse {
    static ZEROS: [u8; MAX_BYTES] = [b'x'; MAX_BYTES];
    (
        [(header::CONTENT_TYPE, "application/vnd.eventstore.atom+json; charset=utf-8")],
        Bytes::from_static(&ZEROS[..count.min(MAX_BYTES)]),
    )
}

async fn not_modified() -> StatusCode {
    StatusCode::NOT_MODIFIED
}

/// The server in a process of its own.
#[derive(Debug)]
pub(crate) struct EchoServer {
    process: ServerProcess,
    port: ReservedPort,
    _directory: tempfile::TempDir,
}

impl EchoServer {
    /// Starts it and waits until it answers.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("no temporary directory")?;
        let port = ReservedPort::any()?;
        let arguments = ["echo-server".to_owned(), "--port".to_owned(), port.number().to_string()];
        let own = std::env::current_exe().context("cannot find the running program")?;
        let process = ServerProcess::spawn(&own, &arguments, &directory.path().join("echo.log"))?;
        let server = Self { process, port, _directory: directory };
        let address = server.address();
        wait::until("the echo server listens", std::time::Duration::from_secs(10), || async move {
            tokio::net::TcpStream::connect(address).await?;
            Ok(())
        })
        .await?;
        Ok(server)
    }

    /// The address on which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}
