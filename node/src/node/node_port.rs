//! The port at which other nodes call this one.

use headwater_proto::cluster::cluster_server::ClusterServer;
use headwater_proto::raft::raft_server::RaftServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;

use crate::cluster::service::ClusterService;
use crate::raft::service::RaftService;
use crate::tls::NodeTls;
use crate::transport::dialer::{CONNECTION_WINDOW_BYTES, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, STREAM_WINDOW_BYTES};
use crate::transport::{MAX_MESSAGE_BYTES, Traffic, listener};

/// Calls per connection that a peer may cancel before this node has seen them; beyond that the
/// connection is cut. HTTP/2 libraries cut at 20, against hostile clients. Peers are not hostile: a
/// node that was frozen or starved for some seconds finds a heartbeat for each tenth of a second,
/// and cutting off its leader would not help.
const ABANDONED_CALLS: usize = 1_024;

/// The gRPC services for other nodes.
pub(super) fn nodes_routes(raft: RaftServer<RaftService>, cluster: ClusterService) -> Router {
    let cluster = ClusterServer::new(cluster)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        // Resources held for a vanished peer are released with the connection.
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(ABANDONED_CALLS))
        .add_service(raft)
        .add_service(cluster)
}

/// The port at which other nodes call this one.
pub(super) struct NodePort {
    pub(super) listener: TcpListener,
    /// Connections at a time.
    pub(super) most_nodes: usize,
    /// Counts what is sent and received.
    pub(super) traffic: Traffic,
    pub(super) tls: Option<NodeTls>,
    pub(super) stop: CancellationToken,
}

impl NodePort {
    /// Answers calls until the node stops.
    pub(super) async fn serve(self, routes: Router) {
        let Self { listener, most_nodes, traffic, tls, stop } = self;
        let stopped = stop.clone().cancelled_owned();
        let served = match tls {
            None => {
                let connections = listener::plain(listener, most_nodes, traffic, stop);
                routes.serve_with_incoming_shutdown(connections, stopped).await
            }
            Some(tls) => {
                let connections = listener::secure(listener, most_nodes, tls, traffic, stop);
                routes.serve_with_incoming_shutdown(connections, stopped).await
            }
        };
        if let Err(error) = served {
            tracing::error!(%error, "the listener for other nodes failed");
        }
    }
}
