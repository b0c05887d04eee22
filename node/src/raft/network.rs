//! openraft's network: one gRPC client per peer and purpose.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use headwater_proto::raft::raft_client::RaftClient;
use openraft::OptionalSend;
use openraft::alias::SnapshotOf;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use tonic::{Code, Request, Status};

use super::codec::{self, CodecError};
use super::settings::{RECONNECT_FIRST, RECONNECT_LONGEST};
use super::types::{Member, NodeId, TypeConfig, Vote};
use super::wire;
use crate::config::Live;
use crate::metrics::Metrics;
use crate::snapshot::{self, Outgoing, Sending, SnapshotDir, TransferWatch};
use crate::transport::{Dial, LocalIdentity, MAX_MESSAGE_BYTES, PeerChannel, Resolve};

/// How long the answer to the opening of an append stream may take, connecting included. The peer
/// answers it at once.
const OPEN_STREAM_TIMEOUT: Duration = Duration::from_secs(1);

/// The purpose of a peer's client. Each purpose has its own connection, so that neither a batch of
/// megabytes nor a snapshot can delay a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    Replication,
    Heartbeat,
    Snapshot,
}

/// How snapshots are sent.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotSending {
    /// Registers the transfers that are under way.
    pub(crate) outgoing: Outgoing,
    /// The highest rate of a transfer.
    pub(crate) live: Live,
}

/// Makes the clients.
pub(crate) struct Network<D> {
    identity: Arc<LocalIdentity>,
    dialer: D,
    resolve: Resolve,
    metrics: Arc<Metrics>,
    snapshots: SnapshotSending,
    /// openraft makes new clients at every election and for every new leader; what they know about
    /// the peers is kept here.
    reachable: HashMap<(NodeId, Purpose), Arc<AtomicBool>>,
}

impl<D: Dial> Network<D> {
    /// Clients that call as `identity` and send snapshots as configured.
    pub(crate) fn new(
        identity: Arc<LocalIdentity>,
        dialer: D,
        resolve: Resolve,
        metrics: Arc<Metrics>,
        snapshots: SnapshotSending,
    ) -> Self {
        Self { identity, dialer, resolve, metrics, snapshots, reachable: HashMap::new() }
    }

    fn client(&mut self, target: NodeId, member: &Member, purpose: Purpose) -> PeerClient<D::Channel> {
        let address = (self.resolve)(target, member).raft_address;
        let client = match self.dialer.channel(target.server(), &address) {
            Ok(channel) => Some(
                RaftClient::new(channel)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES),
            ),
            Err(error) => {
                tracing::error!(peer = %target, address, %error, "the address of a member is unusable");
                None
            }
        };
        PeerClient {
            target,
            address,
            purpose,
            client,
            reachable: self
                .reachable
                .entry((target, purpose))
                .or_insert_with(|| Arc::new(AtomicBool::new(true)))
                .clone(),
            identity: self.identity.clone(),
            metrics: self.metrics.clone(),
            snapshots: self.snapshots.clone(),
        }
    }
}

impl<D: Dial> RaftNetworkFactory<TypeConfig> for Network<D> {
    type Network = PeerClient<D::Channel>;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> PeerClient<D::Channel> {
        self.client(target, node, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Member) -> PeerClient<D::Channel> {
        self.client(target, node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Member) -> PeerClient<D::Channel> {
        self.client(target, node, Purpose::Snapshot)
    }
}

/// One connection to one peer.
pub(crate) struct PeerClient<C> {
    target: NodeId,
    address: String,
    purpose: Purpose,
    /// Absent when the address is unusable; then every call fails.
    client: Option<RaftClient<C>>,
    /// Whether the last call reached the peer; only changes are logged.
    reachable: Arc<AtomicBool>,
    identity: Arc<LocalIdentity>,
    metrics: Arc<Metrics>,
    snapshots: SnapshotSending,
}

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

impl<C: PeerChannel> PeerClient<C> {
    /// The client, and a request with the metadata of this node.
    fn prepare<T>(&self, message: T) -> RpcResult<(RaftClient<C>, Request<T>)> {
        let client = self.client.clone().ok_or_else(|| unreachable_because("the peer has no usable address"))?;
        let mut request = Request::new(message);
        self.identity.stamp(self.target, request.metadata_mut()).map_err(|status| self.failed(&status))?;
        Ok((client, request))
    }

    /// A call with one answer, within the time that openraft allows.
    async fn unary<T>(
        &self,
        option: &RPCOption,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> RpcResult<T> {
        match tokio::time::timeout(option.hard_ttl(), call).await {
            Ok(Ok(response)) => {
                self.reached();
                Ok(response.into_inner())
            }
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(self.failed(&Status::deadline_exceeded("no answer in time"))),
        }
    }

    fn reached(&self) {
        if !self.reachable.swap(true, Ordering::Relaxed) && self.purpose == Purpose::Replication {
            tracing::info!(peer = %self.target, address = self.address, "peer is reachable again");
        }
    }

    /// Every failure of a call counts as unreachable: openraft then backs off as [`NetBackoff`]
    /// says instead of trying again ten times at once.
    fn failed(&self, status: &Status) -> RPCError<TypeConfig> {
        note_failure(&self.reachable, self.purpose, self.target, &self.address, status);
        unreachable_because(status)
    }
}

/// Logs the first failure after a success. Failures of the heartbeat and snapshot connections are
/// not logged, because they accompany those of replication. A peer that refuses this node is always
/// logged.
fn note_failure(reachable: &AtomicBool, purpose: Purpose, peer: NodeId, address: &str, status: &Status) {
    if !reachable.swap(false, Ordering::Relaxed) {
        return;
    }
    let (code, message) = (status.code(), status.message());
    if code == Code::FailedPrecondition {
        tracing::warn!(%peer, address, message, "peer refuses this node's calls");
    } else if purpose == Purpose::Replication {
        tracing::warn!(%peer, address, ?code, message, "peer cannot be reached");
    }
}

fn unreachable_because(reason: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

/// A peer that answers, but not in a form that this version understands.
fn malformed(error: CodecError) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(error))
}

impl<C: PeerChannel> NetBackoff<TypeConfig> for PeerClient<C> {
    fn backoff(&self) -> Option<Backoff> {
        let pauses = std::iter::successors(Some(RECONNECT_FIRST), |last| Some((*last * 2).min(RECONNECT_LONGEST)));
        Some(Backoff::new(pauses))
    }
}

impl<C: PeerChannel> NetStreamAppend<TypeConfig> for PeerClient<C> {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // openraft waits after failures before it has a request, and not before it opens a
            // stream: without one, a peer that refuses connections would be called again at once.
            let mut input = input.peekable();
            if Pin::new(&mut input).peek().await.is_none() {
                let nothing: BoxStream<'s, _> = Box::pin(futures::stream::empty());
                return Ok(nothing);
            }
            let (mut client, request) = self.prepare(input.map(wire::append_request_to_message))?;
            let opening = tokio::time::timeout(OPEN_STREAM_TIMEOUT, client.append(request));
            let answers = match opening.await {
                Ok(Ok(response)) => response.into_inner(),
                Ok(Err(status)) => return Err(self.failed(&status)),
                Err(_) => return Err(self.failed(&Status::deadline_exceeded("no stream in time"))),
            };
            self.reached();
            let peer = &*self;
            let answers = answers.map(move |answer| match answer {
                Ok(message) => wire::append_result_from_message(message).map_err(malformed),
                Err(status) => Err(peer.failed(&status)),
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }
}

impl<C: PeerChannel> PeerClient<C> {
    /// Waits where another attempt at once would be in vain, and says why a snapshot was not sent.
    async fn snapshot_not_sent(
        &self,
        status: &Status,
        is_begun: bool,
        sending: Option<Sending>,
        cancel: impl Future<Output = ReplicationClosed>,
    ) -> StreamingError<TypeConfig> {
        // That the peer is absent or refuses this node is logged elsewhere; here every attempt
        // would log it again.
        if is_begun && status.code() != Code::FailedPrecondition {
            tracing::warn!(peer = %self.target, error = status.message(), "the snapshot was not sent");
        }
        if status.code() == Code::ResourceExhausted {
            // The peer's disk has no room. The next attempt sends the newest snapshot, so no log is
            // kept for this one.
            drop(sending);
            tokio::select! {
                () = tokio::time::sleep(snapshot::REFUSED_PAUSE) => {}
                closed = cancel => return StreamingError::Closed(closed),
            }
        }
        self.failed(status).into()
    }
}

impl<C: PeerChannel> NetVote<TypeConfig> for PeerClient<C> {
    async fn vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> RpcResult<VoteResponse<TypeConfig>> {
        let (mut client, request) = self.prepare(wire::vote_request_to_message(&rpc))?;
        let answer = self.unary(&option, client.vote(request)).await?;
        wire::vote_response_from_message(&answer).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let (mut client, request) = self.prepare(wire::vote_request_to_message(&rpc))?;
        let answer = self.unary(&option, client.pre_vote(request)).await?;
        wire::vote_response_from_message(&answer).map_err(malformed)
    }
}

impl<C: PeerChannel> NetTransferLeader<TypeConfig> for PeerClient<C> {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        let (mut client, request) = self.prepare(wire::transfer_request_to_message(&req))?;
        let answer = self.unary(&option, client.transfer_leader(request)).await?;
        wire::transfer_response_from_message(&answer).map_err(malformed)
    }
}

impl<C: PeerChannel> NetSnapshot<TypeConfig> for PeerClient<C> {
    type SnapshotData = Arc<SnapshotDir>;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        newest: SnapshotOf<TypeConfig, Arc<SnapshotDir>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let directory = newest.snapshot;
        let total_bytes = directory.total_bytes();
        // Registered until it is installed, or until this attempt ends.
        let sending = directory.last_index().map(|index| self.snapshots.outgoing.begin(self.target, index));
        let peer = self.target;
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        // Logged when the connection takes the first part. Earlier would mean a line for each
        // attempt to reach an absent peer.
        let parts = snapshot::send(
            directory,
            codec::vote_to_message(&vote),
            self.snapshots.live.now().snapshot_bytes_per_second,
        );
        let (progress, parts) = TransferWatch::of(parts.inspect(move |_| {
            if !begins.swap(true, Ordering::Relaxed) {
                tracing::info!(%peer, total_bytes, "sending a snapshot");
            }
        }));
        let (mut client, request) = self.prepare(parts)?;
        let mut cancel = pin!(cancel);
        let answer = tokio::select! {
            answer = client.install_snapshot(request) => answer,
            () = progress.stalled() => Err(Status::deadline_exceeded("the receiver takes no more of it, or does not install it")),
            closed = &mut cancel => return Err(StreamingError::Closed(closed)),
        };
        let message = match answer {
            Ok(response) => response.into_inner(),
            Err(status) => {
                let is_begun = begun.load(Ordering::Relaxed);
                return Err(self.snapshot_not_sent(&status, is_begun, sending, cancel).await);
            }
        };
        self.reached();
        let answered = message.vote.as_ref().ok_or(CodecError::Missing("SnapshotResponse.vote")).map_err(malformed)?;
        let answered = codec::vote_from_message(answered).map_err(malformed)?;
        if let Some(sending) = sending
            && answered <= vote
        {
            sending.installed();
        }
        self.metrics.snapshots_sent.inc();
        tracing::info!(peer = %self.target, total_bytes, "sent a snapshot");
        Ok(SnapshotResponse::new(answered))
    }
}
