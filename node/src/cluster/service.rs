//! The server side of cluster.proto.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use headwater_proto::cluster as wire;
use headwater_proto::cluster::cluster_server;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::Cluster;
use super::forward::FORWARDS_IN_FLIGHT;
use super::gate::{Answer, Proposed};
use super::wire::{forward_response, requester_from_wire};
use crate::transport::caller::{check_proven, proven};
use crate::transport::{Member, NodeId};

/// Answers other nodes on behalf of this one.
pub struct ClusterService {
    cluster: Cluster,
    /// Ends the streams of peers, which would otherwise keep the listener open for as long as the
    /// peer lives.
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
        let cluster = self.cluster.clone();
        let propose = move |request, answer| propose(&cluster, request, answer);
        tokio::spawn(receive(request.into_inner(), propose, answers, self.stop.clone()));
        // With the answer, once it is taken to be sent, its place goes back.
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(|(answer, _place)| Ok(answer)))))
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        self.cluster.inner.connector.check_caller(&request)?;
        Ok(Response::new(wire::ReadIndexResponse { log_index: self.cluster.own_read_index().await }))
    }
}

/// Puts a write of another node into the gate, if it may be made by the state of this one.
fn propose(cluster: &Cluster, request: wire::ForwardRequest, answer: Answer) {
    cluster.inner.metrics.forwards_received.inc();
    let wire::ForwardRequest { deadline_ms, command, requester, .. } = request;
    if !cluster.leads() {
        return answer(Proposed::NotLeader);
    }
    // A kind of requester that only later versions know.
    let Some(requester) = requester_from_wire(requester) else { return answer(Proposed::Denied) };
    let deadline = Instant::now() + Duration::from_millis(u64::from(deadline_ms));
    let mut refusal = cluster.refusal(requester, &command);
    let gate = cluster.inner.gate.clone();
    let enter = move |refusal: Option<Proposed>| match refusal {
        None => gate.propose(command, deadline, answer),
        Some(refusal) => answer(refusal),
    };
    // As a rule memory knows. Whoever needs the disk must not hold up the others; as many may as
    // there are places.
    match (&mut refusal).now_or_never() {
        Some(refusal) => enter(refusal),
        None => {
            tokio::spawn(async move {
                // Too late, it was surely not written.
                let refusal = tokio::time::timeout_at(deadline, refusal).await;
                enter(refusal.unwrap_or(Some(Proposed::NotLeader)));
            });
        }
    }
}

/// An answer in the queue, with the place that the write took.
type Answered = (wire::ForwardResponse, OwnedSemaphorePermit);

/// Puts what one peer sends through `propose`. A write keeps its place until its answer has left
/// the queue of answers, which has as many places, so an answer always fits.
async fn receive(
    requests: impl Stream<Item = Result<wire::ForwardRequest, Status>>,
    propose: impl Fn(wire::ForwardRequest, Answer),
    answers: mpsc::Sender<Answered>,
    stop: CancellationToken,
) {
    tokio::pin!(requests);
    let places = Arc::new(Semaphore::new(FORWARDS_IN_FLIGHT));
    loop {
        let received = tokio::select! {
            received = requests.next() => received,
            // What is in the gate is still answered; then the stream ends.
            () = stop.cancelled() => return,
        };
        let request = match received {
            Some(Ok(request)) => request,
            None => return,
            Some(Err(status)) => {
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
        let request_id = request.request_id;
        let answers = answers.clone();
        let answer = move |proposed: Proposed| {
            // It fails only when the stream is gone, and with it whoever waited.
            let _ = answers.try_send((forward_response(request_id, proposed), place));
        };
        propose(request, Box::new(answer));
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Lets the receiving task come as far as it can: it waits for nothing but places, and has the
    /// only other task of this thread.
    async fn settle(proposed: &Mutex<Vec<Answer>>) -> usize {
        let mut before = usize::MAX;
        loop {
            let now = proposed.lock().len();
            if now == before {
                return now;
            }
            before = now;
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_peer_has_no_more_writes_in_flight_than_places_until_answers_were_taken() {
        let request = |request_id| Ok(wire::ForwardRequest { request_id, deadline_ms: 60_000, ..Default::default() });
        let requests = futures::stream::iter((0..2 * FORWARDS_IN_FLIGHT as u64).map(request));
        let (answers, mut queue) = mpsc::channel(FORWARDS_IN_FLIGHT);
        let proposed: Arc<Mutex<Vec<Answer>>> = Arc::default();
        let seen = proposed.clone();
        let propose = move |_, answer| seen.lock().push(answer);
        let stop = CancellationToken::new();
        let receiving = tokio::spawn(receive(requests, propose, answers, stop.clone()));
        assert_eq!(settle(&proposed).await, FORWARDS_IN_FLIGHT);

        // An answer that nobody took keeps its place, one that was taken gives it back.
        for _ in 0..3 {
            let answer = proposed.lock().pop().unwrap();
            answer(Proposed::NotLeader);
        }
        assert_eq!(settle(&proposed).await, FORWARDS_IN_FLIGHT - 3);
        drop(queue.recv().await.unwrap());
        assert_eq!(settle(&proposed).await, FORWARDS_IN_FLIGHT - 2);

        // Whoever is answered is answered: the queue has room for all that are in flight.
        for answer in std::mem::take(&mut *proposed.lock()) {
            answer(Proposed::NotLeader);
        }
        assert_eq!(queue.len(), FORWARDS_IN_FLIGHT);
        stop.cancel();
        receiving.await.unwrap();
    }
}
