//! The leader's side of forwarding: the writes that one peer sends.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use headwater_proto::cluster as wire;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::forward::FORWARDS_IN_FLIGHT;
use super::gate::{Proposed, Respond};
use super::write::Writes;
use crate::cluster::wire::forward_response;

/// Proposes the writes of one peer until its stream ends or until `stop`, and returns the stream of
/// answers.
pub(crate) fn serve(
    writes: Arc<Writes>,
    requests: Streaming<wire::ForwardRequest>,
    stop: CancellationToken,
) -> impl Stream<Item = wire::ForwardResponse> {
    let (answers, receiver) = mpsc::channel(FORWARDS_IN_FLIGHT);
    let propose = move |request, respond| writes.propose_forwarded(request, respond);
    tokio::spawn(receive(requests, propose, answers, stop));
    // The slot is free again once its answer was taken.
    ReceiverStream::new(receiver).map(|(answer, _slot)| answer)
}

/// An answer in the queue, with the slot of its write.
type AnswerInSlot = (wire::ForwardResponse, OwnedSemaphorePermit);

/// Passes the writes of one peer to `propose`. A write keeps its slot until its answer has left the
/// queue of answers, which has as many slots, so an answer always fits.
async fn receive(
    requests: impl Stream<Item = Result<wire::ForwardRequest, Status>>,
    propose: impl Fn(wire::ForwardRequest, Respond),
    answers: mpsc::Sender<AnswerInSlot>,
    stop: CancellationToken,
) {
    tokio::pin!(requests);
    let slots = Arc::new(Semaphore::new(FORWARDS_IN_FLIGHT));
    loop {
        let received = tokio::select! {
            received = requests.next() => received,
            // Commands in the gate are still answered; then the stream ends.
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
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            // The peer may read no answers, so that no slot gets free.
            () = stop.cancelled() => return,
        };
        let Ok(slot) = slot else { return };
        let request_id = request.request_id;
        let answers = answers.clone();
        let respond = move |proposed: Proposed| {
            // This fails only when the stream is gone, and with it the peer that waited.
            let _ = answers.try_send((forward_response(request_id, proposed), slot));
        };
        propose(request, Box::new(respond));
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Lets the receiving task run until it waits for a slot. No other task runs on this thread.
    async fn settle(proposed: &Mutex<Vec<Respond>>) -> usize {
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
    async fn a_peer_has_no_more_writes_in_flight_than_slots_until_answers_were_taken() {
        let request = |request_id| Ok(wire::ForwardRequest { request_id, deadline_ms: 60_000, ..Default::default() });
        let requests = futures::stream::iter((0..2 * FORWARDS_IN_FLIGHT as u64).map(request));
        let (answers, mut queue) = mpsc::channel(FORWARDS_IN_FLIGHT);
        let proposed: Arc<Mutex<Vec<Respond>>> = Arc::default();
        let seen = proposed.clone();
        let propose = move |_, respond| seen.lock().push(respond);
        let stop = CancellationToken::new();
        let receiving = tokio::spawn(receive(requests, propose, answers, stop.clone()));
        assert_eq!(settle(&proposed).await, FORWARDS_IN_FLIGHT);

        // An answer that was not taken keeps its slot; an answer that was taken gives it back.
        for _ in 0..3 {
            let respond = proposed.lock().pop().unwrap();
            respond(Proposed::NotLeader);
        }
        assert_eq!(settle(&proposed).await, FORWARDS_IN_FLIGHT - 3);
        drop(queue.recv().await.unwrap());
        assert_eq!(settle(&proposed).await, FORWARDS_IN_FLIGHT - 2);

        // The queue has room for the answers to all writes in flight.
        for respond in std::mem::take(&mut *proposed.lock()) {
            respond(Proposed::NotLeader);
        }
        assert_eq!(queue.len(), FORWARDS_IN_FLIGHT);
        stop.cancel();
        receiving.await.unwrap();
    }
}
