//! A consumer that is connected: it gets messages as long as it has room for them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use headwater_proto::cluster as wire;
use headwater_proto::cluster::group_response::Result as Answer;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::request::{consume_error, refused};
use super::{ConsumeError, Consumers, Delivery, GroupName, LEADER_PATIENCE, MAX_WINDOW, Parts};
use crate::access::Caller;
use crate::cluster::{Requester, requester_to_wire};
use crate::streams::{Refusal, RemoteCaller};

/// A wish to be connected to a group.
#[derive(Debug, Clone)]
pub(crate) struct Consume {
    /// The address of the consumer, to be shown.
    pub(crate) from: String,
    /// How many messages it may have that it has not settled, 1 to [`MAX_WINDOW`].
    pub(crate) window: usize,
    /// How long it waits for a word at most.
    pub(crate) longest_silence: Duration,
    /// The consumer has closed its sending side.
    pub(crate) closed: CancellationToken,
}

/// A connected consumer. What it has and has not settled is handed out again when this is dropped.
pub(crate) struct Consumption {
    parts: Arc<Parts>,
    caller: Caller,
    address: IpAddr,
    name: GroupName,
    handed: BoxStream<'static, wire::GroupResponse>,
    longest_silence: Duration,
    closed: CancellationToken,
}

/// Why a connected consumer gets nothing more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumptionEnd {
    /// What any operation can be refused for: it lost its right, or no node leads.
    #[error(transparent)]
    Refused(Refusal),
    /// The group was changed or deleted, or another node leads: it may connect again.
    #[error("the consumer was dropped")]
    Dropped,
    /// The node shuts down, or the consumer waits for nothing more.
    #[error("the node shuts down, or the consumer waits for nothing more")]
    Closed,
}

impl Consumers {
    /// Connects a consumer.
    pub(crate) async fn consume(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        consume: Consume,
    ) -> Result<Consumption, ConsumeError> {
        let Consume { from, window, longest_silence, closed } = consume;
        let request = wire::ConsumeRequest {
            requester: requester_to_wire(&Requester::Caller(client.caller.clone())),
            address: from,
            stream: name.stream.as_str().to_owned(),
            group: name.group.clone(),
            window: window.clamp(1, MAX_WINDOW) as u32,
        };
        let mut handed = self.parts.cluster.consume_group(request, Instant::now() + LEADER_PATIENCE).await;
        // The first one says whether the consumer is connected.
        let first = timeout(LEADER_PATIENCE, handed.next()).await.ok().flatten();
        match first.and_then(|first| first.result) {
            Some(Answer::Done(_)) => {}
            other => return Err(consume_error(other)),
        }
        Ok(Consumption {
            parts: self.parts.clone(),
            caller: client.caller.clone(),
            address: client.address,
            name: name.clone(),
            handed,
            longest_silence,
            closed,
        })
    }
}

impl Consumption {
    /// The next messages, at least one; nothing when none came within the longest silence.
    ///
    /// # Errors
    /// Nothing more will come.
    pub(crate) async fn next(&mut self) -> Result<Vec<Delivery>, ConsumptionEnd> {
        let end = Instant::now() + self.longest_silence;
        loop {
            let answer = tokio::select! {
                answer = self.handed.next() => answer,
                () = tokio::time::sleep_until(end) => return Ok(Vec::new()),
                () = self.closed.cancelled() => return Err(ConsumptionEnd::Closed),
                () = self.parts.streams.closed() => return Err(ConsumptionEnd::Closed),
            };
            let handed = match answer.and_then(|answer| answer.result) {
                Some(Answer::HandedOut(handed)) => handed,
                Some(Answer::Denied(denied)) => {
                    return Err(ConsumptionEnd::Refused(refused(Some(Answer::Denied(denied)))));
                }
                _ => return Err(ConsumptionEnd::Dropped),
            };
            let client = RemoteCaller { caller: &self.caller, address: self.address };
            let deliveries = self.parts.deliver(client, &self.name, handed).await.map_err(ConsumptionEnd::Refused)?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
    }
}
