//! Writes on their way to the leader: one long-lived stream per peer carries many.

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

use super::LeaderHint;
use super::authorization::Requester;
use super::connector::Connector;
use super::gate::Proposed;
use super::wire::{outcome_from_wire, requester_to_wire};
use crate::metrics::Metrics;
use crate::transport::NodeId;

/// Writes that may be under way to one peer. Beyond it a write is refused as busy.
pub const FORWARDS_IN_FLIGHT: usize = 8_192;
/// How long opening the stream may take before its writes count as not sent.
const OPEN_DEADLINE: Duration = Duration::from_millis(1_000);

struct Request {
    command: Bytes,
    requester: Requester,
    deadline: Instant,
    answer: oneshot::Sender<Proposed>,
}

/// The streams of this node to its peers. Cheap to clone.
#[derive(Clone)]
pub struct Forwards {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    metrics: Arc<Metrics>,
    /// One queue per peer that was leader since this node started; the task behind it lives as long
    /// as the queue.
    peers: Mutex<HashMap<NodeId, mpsc::Sender<Request>>>,
}

impl Forwards {
    /// No stream is opened before the first write needs it.
    pub fn new(connector: Connector, metrics: Arc<Metrics>) -> Self {
        Self { inner: Arc::new(Inner { connector, metrics, peers: Mutex::new(HashMap::new()) }) }
    }

    /// Sends a command with its requester to the leader. The receiver yields one answer, or is
    /// dropped when the stream broke (outcome unknown).
    pub fn send(
        &self,
        leader: &LeaderHint,
        command: Bytes,
        requester: Requester,
        deadline: Instant,
    ) -> oneshot::Receiver<Proposed> {
        let (answer, receiver) = oneshot::channel();
        self.inner.metrics.forwards_sent.inc();
        let request = Request { command, requester, deadline, answer };
        let refused = match self.queue(leader).try_send(request) {
            Ok(()) => return receiver,
            Err(refused) => refused,
        };
        let (request, proposed) = match refused {
            mpsc::error::TrySendError::Full(request) => (request, Proposed::Busy),
            mpsc::error::TrySendError::Closed(request) => (request, Proposed::NotLeader),
        };
        let _ = request.answer.send(proposed);
        receiver
    }

    /// Commands that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.inner.peers.lock().values().map(|queue| queue.max_capacity() - queue.capacity()).sum()
    }

    fn queue(&self, leader: &LeaderHint) -> mpsc::Sender<Request> {
        let mut peers = self.inner.peers.lock();
        if let Some(queue) = peers.get(&leader.node_id).filter(|queue| !queue.is_closed()) {
            return queue.clone();
        }
        let (queue, requests) = mpsc::channel(FORWARDS_IN_FLIGHT);
        peers.insert(leader.node_id, queue.clone());
        tokio::spawn(carry(self.inner.connector.clone(), leader.clone(), requests));
        queue
    }
}

/// Carries the writes for one peer, opening the stream anew whenever there is something to send.
async fn carry(connector: Connector, leader: LeaderHint, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.recv().await {
        let outgoing = mpsc::channel(FORWARDS_IN_FLIGHT);
        let open = async {
            let mut client = connector.client(leader.node_id.server(), &leader.member.raft_address)?;
            client.forward(connector.request(leader.node_id, ReceiverStream::new(outgoing.1))?).await
        };
        match tokio::time::timeout(OPEN_DEADLINE, open).await {
            Ok(Ok(answers)) => exchange(first, &mut requests, outgoing.0, answers.into_inner()).await,
            failed => {
                tracing::debug!(peer = %leader.node_id, ?failed, "cannot open the forward stream");
                // Nothing of these was sent: whoever waits may try another leader.
                let _ = first.answer.send(Proposed::NotLeader);
                while let Ok(request) = requests.try_recv() {
                    let _ = request.answer.send(Proposed::NotLeader);
                }
            }
        }
    }
}

/// Works one open stream until it breaks. Dropping `pending` tells the waiting writes that their
/// outcome is unknown.
async fn exchange(
    first: Request,
    requests: &mut mpsc::Receiver<Request>,
    outgoing: mpsc::Sender<wire::ForwardRequest>,
    mut answers: tonic::Streaming<wire::ForwardResponse>,
) {
    static NEXT_REQUEST: AtomicU64 = AtomicU64::new(0);
    let mut pending: HashMap<u64, oneshot::Sender<Proposed>> = HashMap::new();
    let mut next = Some(first);
    loop {
        if let Some(request) = next.take() {
            let request_id = NEXT_REQUEST.fetch_add(1, Ordering::Relaxed);
            let deadline_ms = request.deadline.saturating_duration_since(Instant::now()).as_millis() as u32;
            let requester = requester_to_wire(&request.requester);
            let message = wire::ForwardRequest { request_id, deadline_ms, command: request.command, requester };
            if pending.len() >= FORWARDS_IN_FLIGHT {
                // Those who gave up waiting leave their place.
                pending.retain(|_, answer| !answer.is_closed());
            }
            if pending.len() >= FORWARDS_IN_FLIGHT {
                let _ = request.answer.send(Proposed::Busy);
                continue;
            }
            match outgoing.try_send(message) {
                Ok(()) => {
                    pending.insert(request_id, request.answer);
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    let _ = request.answer.send(Proposed::Busy);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    let _ = request.answer.send(Proposed::NotLeader);
                    return;
                }
            }
        }
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => next = Some(request),
                None => return,
            },
            answer = answers.message() => match answer {
                Ok(Some(answer)) => {
                    if let Some(waiting) = pending.remove(&answer.request_id) {
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

fn proposed_from_wire(answer: wire::ForwardResponse) -> Proposed {
    use wire::forward_response::Result as Answer;
    match (answer.result, answer.log_index) {
        (Some(Answer::Outcome(outcome)), Some(log_index)) => match outcome_from_wire(outcome) {
            Some(outcome) => Proposed::Done { log_index, outcome },
            None => Proposed::Unknown,
        },
        (Some(Answer::NotLeader(_)), _) => Proposed::NotLeader,
        (Some(Answer::Busy(_)), _) => Proposed::Busy,
        (Some(Answer::Denied(_)), _) => Proposed::Denied,
        _ => Proposed::Unknown,
    }
}
