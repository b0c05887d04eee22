//! The server side of raft.proto: each call is checked, translated and passed to openraft.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use headwater_proto::raft as wire;
use headwater_proto::raft::raft_server::{Raft as RaftRpc, RaftServer};
use openraft::async_runtime::WatchReceiver;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Request, Response, Status, Streaming};

use super::codec::{self, CodecError};
use super::state_machine::{Snapshot, meta_of};
use super::{Raft, wire as convert};
use crate::deliberate::{self, Fault};
use crate::snapshot::{self, ReceiveError, SnapshotStore};
use crate::trace::Traces;
use crate::transport::{LocalIdentity, MAX_MESSAGE_BYTES, NodeId};

/// Snapshots received at the same time. A second one could only come from a second leader, and both
/// together would fill the disk.
const TRANSFERS: usize = 1;

/// Broken streams that whoever looks at them may be behind; what he misses is of no use any more.
pub(crate) const BROKEN_STREAMS: usize = 16;

/// The entries of one caller. Dropped before their end, they were cut off.
struct Entries {
    caller: NodeId,
    broken: broadcast::Sender<NodeId>,
    have_ended: bool,
}

impl Drop for Entries {
    fn drop(&mut self) {
        if !self.have_ended {
            // Nobody may want to know.
            let _ = self.broken.send(self.caller);
        }
    }
}

/// Answers the calls of the other nodes.
pub(crate) struct RaftService {
    raft: Raft,
    identity: Arc<LocalIdentity>,
    snapshots: Arc<SnapshotStore>,
    transfers: Semaphore,
    /// Ends the append streams when this node stops. Otherwise an idle stream would keep its
    /// connection open, and with it the listener.
    closing: CancellationToken,
    /// Calls that may still hand something to consensus.
    calls: TaskTracker,
    /// Hears of each caller whose stream of entries was cut off.
    broken: broadcast::Sender<NodeId>,
    /// Where spans of the leader go on.
    traces: Traces,
}

impl RaftService {
    /// The gRPC service, with its message limits.
    pub(crate) fn server(
        raft: Raft,
        identity: Arc<LocalIdentity>,
        snapshots: Arc<SnapshotStore>,
        closing: CancellationToken,
        calls: TaskTracker,
        broken: broadcast::Sender<NodeId>,
        traces: Traces,
    ) -> RaftServer<Self> {
        let transfers = Semaphore::new(TRANSFERS);
        RaftServer::new(Self { raft, identity, snapshots, transfers, closing, calls, broken, traces })
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Held while a call may hand something to consensus; none begins once this node is stopping.
    fn begin_call(&self) -> Result<TaskTrackerToken, Status> {
        let call = self.calls.token();
        // In this order: a stopping node first says so and then waits for the calls.
        if self.closing.is_cancelled() { Err(Status::unavailable("this node is stopping")) } else { Ok(call) }
    }
}

fn malformed(error: CodecError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// openraft has stopped. The caller tries again until this process is gone or restarted.
fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl RaftRpc for RaftService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<wire::AppendResponse, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let peer = self.identity.check(&request)?;
        let call = self.begin_call()?;
        // openraft's stream ends at the first message that cannot be decoded; the caller opens a
        // new stream.
        let traces = self.traces.clone();
        let raft = self.raft.clone();
        let requests = request.into_inner().map(move |message| match message {
            Ok(message) => {
                let mut request = convert::append_request_from_message(message, &traces).map_err(malformed)?;
                if deliberate::is(Fault::AcceptDeposedLeader) {
                    #[expect(clippy::disallowed_methods, reason = "copied in one statement")]
                    let own = raft.metrics().borrow_watched().vote;
                    if own > request.vote {
                        request.vote = own;
                    }
                }
                Ok(request)
            }
            Err(status) => Err(status),
        });
        let requests = requests.map(Some).chain(stream::once(std::future::ready(None)));
        let entries = Entries { caller: peer, broken: self.broken.clone(), have_ended: false };
        // Both directions end with the node: HTTP/2 keeps the stream open until the requests are
        // dropped as well.
        let requests = requests.take_until(self.closing.clone().cancelled_owned()).scan(
            (call, entries),
            move |(_, entries), request| {
                entries.have_ended = request.is_none();
                let request = request.and_then(|request| {
                    request
                        .inspect_err(|status| {
                            if status.code() == tonic::Code::InvalidArgument {
                                tracing::error!(%peer, error = status.message(), "refused an append request");
                            }
                        })
                        .ok()
                });
                std::future::ready(request)
            },
        );
        let answers = self.raft.stream_append(requests).map(|answer| match answer {
            Ok(result) => Ok(convert::append_result_to_message(&result)),
            Err(fatal) => Err(stopped(fatal)),
        });
        Ok(Response::new(Box::pin(answers.take_until(self.closing.clone().cancelled_owned()))))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteResponse>, Status> {
        self.identity.check(&request)?;
        let request = convert::vote_request_from_message(request.get_ref()).map_err(malformed)?;
        let _call = self.begin_call()?;
        let response = self.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(convert::vote_response_to_message(&response)))
    }

    async fn pre_vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteResponse>, Status> {
        self.identity.check(&request)?;
        let request = convert::vote_request_from_message(request.get_ref()).map_err(malformed)?;
        let _call = self.begin_call()?;
        let response = self.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(convert::vote_response_to_message(&response)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotPart>>,
    ) -> Result<Response<wire::SnapshotResponse>, Status> {
        let peer = self.identity.check(&request)?;
        let _permit =
            self.transfers.try_acquire().map_err(|_| Status::unavailable("another snapshot is being received"))?;
        let mut parts = request.into_inner().map(|part| part.map_err(|status| status.message().to_owned()));
        let (vote, manifest) = snapshot::receive_header(&mut parts).await.map_err(refused)?;
        let damaged = |error: CodecError| refused(ReceiveError::Damaged(error.to_string()));
        let vote = codec::vote_from_message(&vote).map_err(damaged)?;
        let meta = meta_of(&manifest).map_err(damaged)?;
        #[expect(clippy::disallowed_methods, reason = "copied in one statement")]
        let own_vote = self.raft.metrics().borrow_watched().vote;
        if own_vote > vote {
            // The sender no longer leads. openraft would refuse its snapshot, but only after
            // gigabytes.
            return Ok(Response::new(wire::SnapshotResponse { vote: Some(codec::vote_to_message(&own_vote)) }));
        }
        tracing::info!(%peer, files = manifest.files.len(), "receiving a snapshot");
        let received = async {
            snapshot::check_room(&self.snapshots, &manifest)?;
            snapshot::receive_files(&self.snapshots, manifest, &mut parts).await
        };
        let received = received.await.map_err(|error| {
            tracing::warn!(%peer, %error, "a snapshot was not received");
            refused(error)
        })?;
        let snapshot = Snapshot { meta, snapshot: received };
        let response = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(Response::new(wire::SnapshotResponse { vote: Some(codec::vote_to_message(&response.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        self.identity.check(&request)?;
        let request = convert::transfer_request_from_message(request.get_ref()).map_err(malformed)?;
        let _call = self.begin_call()?;
        let response = self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        Ok(Response::new(convert::transfer_response_to_message(&response)))
    }
}

fn refused(error: ReceiveError) -> Status {
    match &error {
        ReceiveError::Broken(_) => Status::aborted(error.to_string()),
        ReceiveError::Damaged(_) => Status::data_loss(error.to_string()),
        ReceiveError::NoRoom { .. } | ReceiveError::Disk(_) => Status::resource_exhausted(error.to_string()),
    }
}
