//! Writes on their way to the leader: one long-lived stream per peer carries many of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use headwater_proto::cluster as wire;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::authorization::Requester;
use super::gate::Proposed;
use crate::cluster::connector::Connector;
use crate::cluster::leadership::LeaderHint;
use crate::cluster::wire::{proposed_from_wire, requester_to_wire};
use crate::deliberate::{self, Fault};
use crate::metrics::Metrics;
use crate::trace::Tracked;
use crate::transport::NodeId;

/// Writes that may be in flight to one peer. Beyond this, a write is refused as busy.
pub(crate) const FORWARDS_IN_FLIGHT: usize = 8_192;
/// How long opening the stream may take before its writes count as not sent.
const OPEN_DEADLINE: Duration = Duration::from_millis(1_000);

/// A write in the queue for one peer.
struct QueuedForward {
    command: Bytes,
    requester: Requester,
    deadline: Instant,
    /// The span of the forwarding, if the write is traced.
    span: Option<Tracked>,
    /// Receives the leader's answer. Dropped without one when the stream broke.
    answer: oneshot::Sender<Proposed>,
}

/// The streams from this node to its peers.
pub(crate) struct Forwards {
    connector: Connector,
    metrics: Arc<Metrics>,
    /// One queue per peer that has led since this node started.
    queues: Mutex<HashMap<NodeId, Queue>>,
}

/// Writes that wait to be sent to one peer. The task that sends them lives as long as this.
struct Queue {
    /// Where the peer was when this was made. It may be removed, and come back at another address.
    raft_address: String,
    sender: mpsc::Sender<QueuedForward>,
}

impl Queue {
    fn leads_to(&self, leader: &LeaderHint) -> bool {
        self.raft_address == leader.member.raft_address && !self.sender.is_closed()
    }
}

impl Forwards {
    /// Opens no stream before the first write needs it.
    pub(crate) fn new(connector: Connector, metrics: Arc<Metrics>) -> Self {
        Self { connector, metrics, queues: Mutex::default() }
    }

    /// Sends a command with its requester to the leader. The receiver yields one answer, or is
    /// dropped when the stream broke (outcome unknown). `span` travels with the command.
    pub(crate) fn send(
        &self,
        leader: &LeaderHint,
        command: Bytes,
        requester: Requester,
        deadline: Instant,
        span: Option<Tracked>,
    ) -> oneshot::Receiver<Proposed> {
        let (answer, receiver) = oneshot::channel();
        self.metrics.forwards_sent.inc();
        let forward = QueuedForward { command, requester, deadline, span, answer };
        let (forward, proposed) = match self.queue(leader).try_send(forward) {
            Ok(()) => return receiver,
            Err(mpsc::error::TrySendError::Full(forward)) => (forward, Proposed::Busy),
            Err(mpsc::error::TrySendError::Closed(forward)) => (forward, Proposed::NotLeader),
        };
        let _ = forward.answer.send(proposed);
        receiver
    }

    /// Commands that wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.queues.lock().values().map(|Queue { sender, .. }| sender.max_capacity() - sender.capacity()).sum()
    }

    fn queue(&self, leader: &LeaderHint) -> mpsc::Sender<QueuedForward> {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get(&leader.node_id).filter(|queue| queue.leads_to(leader)) {
            return queue.sender.clone();
        }
        let (sender, queued) = mpsc::channel(FORWARDS_IN_FLIGHT);
        let raft_address = leader.member.raft_address.clone();
        queues.insert(leader.node_id, Queue { raft_address, sender: sender.clone() });
        let forwarder = Forwarder { connector: self.connector.clone(), leader: leader.clone(), queued };
        tokio::spawn(forwarder.run());
        sender
    }
}

/// Carries the writes to one peer.
struct Forwarder {
    connector: Connector,
    leader: LeaderHint,
    queued: mpsc::Receiver<QueuedForward>,
}

impl Forwarder {
    /// Works until the queue is gone, and opens a new stream whenever there is something to send.
    async fn run(mut self) {
        while let Some(first) = self.queued.recv().await {
            let outgoing = mpsc::channel(FORWARDS_IN_FLIGHT);
            let open = async {
                let leader = &self.leader;
                let mut client = self.connector.client(leader.node_id.server(), &leader.member.raft_address)?;
                client.forward(self.connector.request(leader.node_id, ReceiverStream::new(outgoing.1))?).await
            };
            match tokio::time::timeout(OPEN_DEADLINE, open).await {
                Ok(Ok(answers)) => exchange(first, &mut self.queued, outgoing.0, answers.into_inner()).await,
                failed => {
                    tracing::debug!(peer = %self.leader.node_id, ?failed, "cannot open the forward stream");
                    // None of these writes was sent, so they may go to another leader.
                    let _ = first.answer.send(Proposed::NotLeader);
                    while let Ok(forward) = self.queued.try_recv() {
                        let _ = forward.answer.send(Proposed::NotLeader);
                    }
                }
            }
        }
    }
}

/// Uses one open stream until it breaks. Dropping `pending` tells the waiting writes that their
/// outcome is unknown.
async fn exchange(
    first: QueuedForward,
    queued: &mut mpsc::Receiver<QueuedForward>,
    outgoing: mpsc::Sender<wire::ForwardRequest>,
    mut answers: tonic::Streaming<wire::ForwardResponse>,
) {
    static NEXT_REQUEST: AtomicU64 = AtomicU64::new(0);
    let mut pending: HashMap<u64, oneshot::Sender<Proposed>> = HashMap::new();
    let mut next = Some(first);
    loop {
        if let Some(forward) = next.take() {
            let request_id = NEXT_REQUEST.fetch_add(1, Ordering::Relaxed);
            let deadline_ms = forward.deadline.saturating_duration_since(Instant::now()).as_millis() as u32;
            let requester = requester_to_wire(&forward.requester);
            let span = forward.span.map(|span| span.to_bytes().into()).unwrap_or_default();
            let message = wire::ForwardRequest { request_id, deadline_ms, command: forward.command, requester, span };
            if pending.len() >= FORWARDS_IN_FLIGHT {
                // Writes whose clients no longer wait give up their entry.
                pending.retain(|_, answer| !answer.is_closed());
            }
            if pending.len() >= FORWARDS_IN_FLIGHT {
                let _ = forward.answer.send(Proposed::Busy);
                continue;
            }
            match outgoing.try_send(message) {
                Ok(()) => {
                    pending.insert(request_id, forward.answer);
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    let _ = forward.answer.send(Proposed::Busy);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    let _ = forward.answer.send(Proposed::NotLeader);
                    return;
                }
            }
        }
        tokio::select! {
            forward = queued.recv() => match forward {
                Some(forward) => next = Some(forward),
                None => return,
            },
            answer = answers.message() => match answer {
                Ok(Some(answer)) => {
                    let mut to = answer.request_id;
                    if deliberate::is(Fault::ReplyToAnother) {
                        to = pending.keys().copied().find(|other| *other != to).unwrap_or(to);
                    }
                    if let Some(waiting) = pending.remove(&to) {
                        let _ = waiting.send(proposed_from_wire(answer));
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(%status, unanswered = pending.len(), "forward stream broke");
                    return;
                }
            },
        }
    }
}
