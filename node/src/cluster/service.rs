//! The server side of cluster.proto.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use headwater_proto::cluster as wire;
use headwater_proto::cluster::cluster_server;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::Cluster;
use super::forward::FORWARDS_IN_FLIGHT;
use super::gate::Proposed;
use super::wire::forward_response;
use crate::raft::caller::{check_proven, proven};
use crate::raft::{Member, NodeId};

/// Answers other nodes on behalf of this one.
pub struct ClusterService {
    cluster: Cluster,
    /// Ends the streams of peers, which would otherwise keep the listener open for as long as the peer lives.
    stop: CancellationToken,
}

impl ClusterService {
    /// A service for the node behind `cluster`; its streams end with `stop`.
    pub fn new(cluster: Cluster, stop: CancellationToken) -> Self {
        Self { cluster, stop }
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for ClusterService {
    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusResponse>, Status> {
        Ok(Response::new(self.cluster.local_status_on_wire()))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        if let Some(founder) = proven(&request) {
            self.cluster.check_listed(founder)?;
        }
        let request = request.into_inner();
        let cluster_id = uuid::Uuid::from_slice(&request.cluster_id)
            .map_err(|_| Status::invalid_argument("the cluster id has not 16 bytes"))?;
        self.cluster.accept_founding(cluster_id, &request.configured_members)?;
        Ok(Response::new(wire::JoinResponse { node_id: self.cluster.inner.identity.node_id().0 }))
    }

    async fn rejoin(&self, request: Request<wire::RejoinRequest>) -> Result<Response<wire::RejoinResponse>, Status> {
        let member = request.get_ref().member.clone().ok_or_else(|| Status::invalid_argument("no member given"))?;
        let node_id = NodeId(member.node_id);
        // Nobody takes the place of another server's disk.
        check_proven(&request, node_id.server())?;
        let addresses = Member { raft_address: member.raft_address, http_address: member.http_address };
        let cluster_id = self.cluster.replace_member(node_id, addresses).await?;
        Ok(Response::new(wire::RejoinResponse { cluster_id: cluster_id.as_bytes().to_vec().into() }))
    }

    type ForwardStream = Pin<Box<dyn futures::Stream<Item = Result<wire::ForwardResponse, Status>> + Send>>;

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        self.cluster.inner.connector.check_caller(&request)?;
        let (answers, receiver) = mpsc::channel(FORWARDS_IN_FLIGHT);
        tokio::spawn(receive(self.cluster.clone(), request.into_inner(), answers, self.stop.clone()));
        // With the answer, once it is taken to be sent, its place goes back.
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(|(answer, _place)| Ok(answer)))))
    }
}

/// An answer in the queue, with the place that the write took.
type Answered = (wire::ForwardResponse, OwnedSemaphorePermit);

/// Puts what one peer sends through the gate. A write keeps its place until its answer has left the queue of answers, which has as many
/// places, so an answer always fits.
async fn receive(
    cluster: Cluster,
    mut requests: Streaming<wire::ForwardRequest>,
    answers: mpsc::Sender<Answered>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(FORWARDS_IN_FLIGHT));
    loop {
        let received = tokio::select! {
            received = requests.message() => received,
            // What is in the gate is still answered; then the stream ends.
            () = stop.cancelled() => return,
        };
        let request = match received {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "forward stream of a peer ended");
                return;
            }
        };
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            // A peer that reads no answers.
            () = stop.cancelled() => return,
        };
        let Ok(place) = place else { return };
        cluster.inner.metrics.forwards_received.inc();
        let wire::ForwardRequest { request_id, deadline_ms, command } = request;
        let answers = answers.clone();
        let answer = move |proposed: Proposed| {
            // It fails only when the stream is gone, and with it whoever waited.
            let _ = answers.try_send((forward_response(request_id, proposed), place));
        };
        if !cluster.leads() {
            answer(Proposed::NotLeader);
            continue;
        }
        let deadline = Instant::now() + Duration::from_millis(u64::from(deadline_ms));
        cluster.inner.gate.propose(command, deadline, Box::new(answer));
    }
}
