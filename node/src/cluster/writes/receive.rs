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

/// Proposes what a peer sends until its stream ends or `stop`, and gives back the stream of
/// answers.
pub(crate) fn serve(
    writes: Arc<Writes>,
    requests: Streaming<wire::ForwardRequest>,
    stop: CancellationToken,
) -> impl Stream<Item = wire::ForwardResponse> {
    let (answers, receiver) = mpsc::channel(FORWARDS_IN_FLIGHT);
    let propose = move |request, respond| writes.propose_forwarded(request, respond);
    tokio::spawn(receive(requests, propose, answers, stop));
    // With the answer, once it is taken to be sent, its place goes back.
    ReceiverStream::new(receiver).map(|(answer, _place)| answer)
}

/// An answer in the queue, with the place that the write took.
type Answered = (wire::ForwardResponse, OwnedSemaphorePermit);

/// Puts what one peer sends through `propose`. A write keeps its place until its answer has left
/// the queue of answers, which has as many places, so an answer always fits.
async fn receive(
    requests: impl Stream<Item = Result<wire::ForwardRequest, Status>>,
    propose: impl Fn(wire::ForwardRequest, Respond),
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
        let respond = move |proposed: Proposed| {
            // It fails only when the stream is gone, and with it the peer that waited.
            let _ = answers.try_send((forward_response(request_id, proposed), place));
        };
        propose(request, Box::new(respond));
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Lets the receiving task come as far as it can: it waits for nothing but places, and has the
    /// only other task of this thread.
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
    async fn a_peer_has_no_more_writes_in_flight_than_places_until_answers_were_taken() {
        let request = |request_id| Ok(wire::ForwardRequest { request_id, deadline_ms: 60_000, ..Default::default() });
        let requests = futures::stream::iter((0..2 * FORWARDS_IN_FLIGHT as u64).map(request));
        let (answers, mut queue) = mpsc::channel(FORWARDS_IN_FLIGHT);
        let proposed: Arc<Mutex<Vec<Respond>>> = Arc::default();
        let seen = proposed.clone();
        let propose = move |_, respond| seen.lock().push(respond);
        let stop = CancellationToken::new();
        let receiving = tokio::spawn(receive(requests, propose, answers, stop.clone()));
        assert_eq!(settle(&proposed).await, FORWARDS_IN_FLIGHT);

        // An answer that was not taken keeps its place, one that was taken gives it back.
        for _ in 0..3 {
            let respond = proposed.lock().pop().unwrap();
            respond(Proposed::NotLeader);
        }
        assert_eq!(settle(&proposed).await, FORWARDS_IN_FLIGHT - 3);
        drop(queue.recv().await.unwrap());
        assert_eq!(settle(&proposed).await, FORWARDS_IN_FLIGHT - 2);

        // The queue has room for the answers to all that are in flight.
        for respond in std::mem::take(&mut *proposed.lock()) {
            respond(Proposed::NotLeader);
        }
        assert_eq!(queue.len(), FORWARDS_IN_FLIGHT);
        stop.cancel();
        receiving.await.unwrap();
    }
}
