//! Requests on the node that was asked: to the leader, and back with what it says. What it hands
//! out is read here, from the copy of this node and by the rights of the caller.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_proto::cluster as wire;
use headwater_proto::cluster::group_request::Call;
use headwater_proto::cluster::group_response::Result as Answer;
use tokio::time::Instant;
use uuid::Uuid;

use super::info::GroupInfo;
use super::log_filter::LogFilter;
use super::reader::source_of;
use super::settings::Settings;
use super::{
    ChangeError, ConsumeError, Consumers, Delivery, GroupName, LEADER_PATIENCE, MAX_TAKEN, Parts, Settlement, Take,
};
use crate::access::Caller;
use crate::cluster::{GroupCallError, Requester, requester_to_wire};
use crate::event::stream_name::ALL;
use crate::event::{EventNumber, Position, ResolvedEvent, StreamName};
use crate::store::ReadError;
use crate::streams::{EventsRead, Filter, Links, ReadBarrier, ReadEvents, Refusal, RemoteCaller, Source};

/// Bytes of events that one answer reads. The leader hands out less; links may lead to more.
const MOST_BYTES: u64 = 8 << 20;

/// Operations on groups. Each is refused if the caller may not do it, by the state of the leader.
impl Consumers {
    /// Makes a group on a stream, which need not exist. It is not the log.
    pub(crate) async fn create(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        settings: &Settings,
    ) -> Result<(), ChangeError> {
        self.change(client, name, Call::Create(json(settings))).await
    }

    /// Makes a group on the log of all events, or on what a filter leaves of it, without the events
    /// of the streams of such groups. Its name has `$all` as stream, and where streams count by
    /// numbers of events, it counts by positions.
    #[cfg_attr(not(test), expect(dead_code, reason = "over HTTP it is refused; the door to it is gRPC"))]
    pub(crate) async fn create_on_log(
        &self,
        client: RemoteCaller<'_>,
        group: &str,
        settings: &Settings,
        filter: Option<&Filter>,
    ) -> Result<(), ChangeError> {
        let filter = filter.and_then(|filter| serde_json::to_string(&LogFilter::from(filter)).ok());
        let call = Call::CreateOnLog(wire::CreateOnLog { settings: json(settings), filter });
        let mut request = request(client, None, call);
        (request.stream, request.group) = (ALL.to_owned(), group.to_owned());
        self.made(self.call(request, Duration::ZERO).await).await
    }

    /// Replaces the settings of a group, and drops its connected consumers. A filter stays.
    pub(crate) async fn update(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        settings: &Settings,
    ) -> Result<(), ChangeError> {
        self.change(client, name, Call::Update(json(settings))).await
    }

    /// Deletes a group, with its progress and its parked messages.
    pub(crate) async fn delete(&self, client: RemoteCaller<'_>, name: &GroupName) -> Result<(), ChangeError> {
        self.change(client, name, Call::Delete(wire::DeleteGroup {})).await
    }

    /// Hands out the parked messages of a group again: those that are parked now, and of these only
    /// those with numbers below `stop_at`, if it is given.
    pub(crate) async fn replay_parked(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        stop_at: Option<EventNumber>,
    ) -> Result<(), ChangeError> {
        self.change(client, name, Call::ReplayParked(wire::ReplayParked { stop_at })).await
    }

    /// Drops all connected consumers and takes all groups up anew.
    pub(crate) async fn restart(&self, client: RemoteCaller<'_>) -> Result<(), ChangeError> {
        let request = request(client, None, Call::Restart(wire::RestartGroups {}));
        self.made(self.call(request, Duration::ZERO).await).await
    }

    /// Takes messages. Those that were parked, or were given back, come first.
    pub(crate) async fn take(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        take: Take,
    ) -> Result<Vec<Delivery>, ConsumeError> {
        let wait = take.wait.unwrap_or(Duration::ZERO);
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let count = take.count.min(MAX_TAKEN) as u32;
        let call = Call::Take(wire::TakeMessages { count, wait_ms });
        match self.call(request(client, Some(name), call), wait).await.map_err(refusal_of)?.result {
            Some(Answer::HandedOut(handed)) => Ok(self.parts.deliver(client, name, handed).await?),
            other => Err(consume_error(other)),
        }
    }

    /// Settles messages. Ids that are not out are ignored, and so is a group that does not exist
    /// (contract/services 3.1).
    pub(crate) async fn settle(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        ids: &[Uuid],
        settlement: Settlement,
    ) -> Result<(), ConsumeError> {
        let ids = ids.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect();
        let call = Call::Settle(wire::SettleMessages { ids, settlement: settlement_to_wire(settlement).into() });
        match self.call(request(client, Some(name), call), Duration::ZERO).await.map_err(refusal_of)?.result {
            Some(Answer::Done(_)) => Ok(()),
            other => match consume_error(other) {
                ConsumeError::DoesNotExist => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Tells of a group; `None` if it does not exist.
    pub(crate) async fn describe(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
    ) -> Result<Option<GroupInfo>, Refusal> {
        let call = Call::Describe(wire::DescribeGroup {});
        Ok(self.descriptions(request(client, Some(name), call)).await?.0.pop())
    }

    /// Tells of the groups of a stream, or of all, as far as the caller may know of them, in the
    /// order of their names: so many behind the first `offset` ones, and how many there are.
    pub(crate) async fn list(
        &self,
        client: RemoteCaller<'_>,
        of: Option<&StreamName>,
        offset: usize,
        count: usize,
    ) -> Result<(Vec<GroupInfo>, usize), Refusal> {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let call = Call::List(wire::ListGroups { offset: number(offset), count: number(count) });
        let mut request = request(client, None, call);
        request.stream = of.map_or_else(String::new, |stream| stream.as_str().to_owned());
        self.descriptions(request).await
    }

    /// The names of the groups of a stream, for its description document. Those of this node's own
    /// state.
    pub(crate) async fn of_stream(&self, stream: &StreamName) -> Result<Vec<String>, Refusal> {
        let groups = self.parts.groups(Some(stream)).await?;
        Ok(groups.into_iter().map(|name| name.group).collect())
    }

    async fn descriptions(&self, request: wire::GroupRequest) -> Result<(Vec<GroupInfo>, usize), Refusal> {
        match self.call(request, Duration::ZERO).await.map_err(refusal_of)?.result {
            Some(Answer::Descriptions(told)) => {
                let groups = told.groups.iter().filter_map(|group| serde_json::from_slice(group).ok()).collect();
                Ok((groups, told.all as usize))
            }
            Some(Answer::Refused(_)) => Ok((Vec::new(), 0)),
            other => Err(refused(other)),
        }
    }

    async fn change(&self, client: RemoteCaller<'_>, name: &GroupName, call: Call) -> Result<(), ChangeError> {
        self.made(self.call(request(client, Some(name), call), Duration::ZERO).await).await
    }

    /// Returns when this node has what was changed.
    async fn made(&self, answer: Result<wire::GroupResponse, GroupCallError>) -> Result<(), ChangeError> {
        let result = match answer {
            Ok(answer) => answer.result,
            Err(GroupCallError::NoLeader) => return Err(ChangeError::Refused(Refusal::NotReady)),
            Err(GroupCallError::Unknown) => return Err(ChangeError::Unknown),
        };
        match result {
            Some(Answer::Done(done)) => {
                // It is done, whether this node hears of it in time or not.
                let _ = self.parts.streams.read_barrier(barrier(done.next_position)).await;
                Ok(())
            }
            Some(Answer::Refused(refusal)) => Err(match refusal.kind() {
                wire::GroupRefusalKind::AlreadyExists if refusal.reason.is_empty() => ChangeError::AlreadyExists,
                wire::GroupRefusalKind::AlreadyExists => ChangeError::NameTaken(refusal.reason),
                wire::GroupRefusalKind::DoesNotExist => ChangeError::DoesNotExist,
                wire::GroupRefusalKind::Failed => ChangeError::Failed(refusal.reason),
                wire::GroupRefusalKind::TooManyConsumers
                | wire::GroupRefusalKind::Dropped
                | wire::GroupRefusalKind::Unspecified => ChangeError::Unknown,
            }),
            Some(Answer::Unknown(_)) => Err(ChangeError::Unknown),
            other => Err(ChangeError::Refused(refused(other))),
        }
    }

    async fn call(&self, request: wire::GroupRequest, wait: Duration) -> Result<wire::GroupResponse, GroupCallError> {
        self.parts.cluster.call_group(request, Instant::now() + LEADER_PATIENCE + wait).await
    }
}

/// Messages on their way to a consumer.
impl Parts {
    /// Reads what was handed out, in its order. What is not there any more is done; what cannot be
    /// read now is given back.
    pub(super) async fn deliver(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        handed: wire::HandedOut,
    ) -> Result<Vec<Delivery>, Refusal> {
        match self.read(client.caller, name, &handed).await {
            Ok((deliveries, missing)) => {
                for (gone, messages) in [(true, missing.gone), (false, missing.large)] {
                    self.give_back(name, messages, gone).await;
                }
                Ok(deliveries)
            }
            Err(refusal) => {
                self.give_back(name, handed.messages, false).await;
                Err(refusal)
            }
        }
    }

    async fn read(
        &self,
        caller: &Caller,
        name: &GroupName,
        handed: &wire::HandedOut,
    ) -> Result<(Vec<Delivery>, Missing), Refusal> {
        let numbers = |parked: bool| -> Vec<u64> {
            handed.messages.iter().filter(|message| message.parked == parked).map(|message| message.number).collect()
        };
        let mut source = Looked::default();
        let wanted = numbers(false);
        if !wanted.is_empty() {
            let of = source_of(name, handed.follows_links, None);
            source = self.look(caller, of, false, wanted, handed.next_position).await?;
        }
        let mut parked = Looked::default();
        let wanted = numbers(true);
        if !wanted.is_empty()
            && let Ok(stream) = StreamName::parse(name.parked_stream())
        {
            let of = Source::Stream { name: stream, links: Links::FollowedWhereAllowed };
            parked = self.look(caller, of, true, wanted, handed.next_position).await?;
        }
        let (mut deliveries, mut missing) = (Vec::with_capacity(handed.messages.len()), Missing::default());
        for message in &handed.messages {
            let looked = if message.parked { &mut parked } else { &mut source };
            let Ok(id) = Uuid::from_slice(&message.id) else { continue };
            match looked.events.remove(&message.number) {
                Some(event) => {
                    deliveries.push(Delivery { event, id, retries: message.retries, memory: looked.memory.clone() });
                }
                None if looked.left_out.contains(&message.number) => missing.large.push(message.clone()),
                None => missing.gone.push(message.clone()),
            }
        }
        Ok((deliveries, missing))
    }

    async fn look(
        &self,
        caller: &Caller,
        source: Source,
        is_own: bool,
        numbers: Vec<u64>,
        next_position: Position,
    ) -> Result<Looked, Refusal> {
        let is_log = matches!(source, Source::Log { .. });
        let barrier = barrier(next_position);
        let read = ReadEvents { source, numbers: numbers.clone(), is_own, most_bytes: MOST_BYTES, barrier };
        let EventsRead { events, looked_at, memory } = self.streams.read_events(caller, read).await?;
        let place = |event: &ResolvedEvent| if is_log { event.original.position } else { event.original.number };
        let events = events.into_iter().map(|event| (place(&event), event)).collect();
        Ok(Looked { events, left_out: numbers[looked_at..].to_vec(), memory: memory.map(Arc::new) })
    }

    /// Tells the leader of messages that were handed out and are not sent. It hands them out again
    /// in any case: if it does not hear of it, when their time is up.
    async fn give_back(&self, name: &GroupName, messages: Vec<wire::HandedMessage>, gone: bool) {
        if messages.is_empty() {
            return;
        }
        let request = wire::GroupRequest {
            requester: requester_to_wire(&Requester::Node),
            address: String::new(),
            stream: name.stream.as_str().to_owned(),
            group: name.group.clone(),
            call: Some(Call::GiveBack(wire::GiveBackMessages { messages, gone })),
        };
        let _ = self.cluster.call_group(request, Instant::now() + LEADER_PATIENCE).await;
    }
}

/// Events by their numbers, or positions.
#[derive(Default)]
struct Looked {
    events: HashMap<u64, ResolvedEvent>,
    /// Numbers that were not looked at: there is no room for them in one answer.
    left_out: Vec<u64>,
    memory: Option<Arc<crate::budget::Reservation>>,
}

/// Messages that are not delivered.
#[derive(Default)]
struct Missing {
    gone: Vec<wire::HandedMessage>,
    large: Vec<wire::HandedMessage>,
}

/// The log up to this position is applied.
pub(super) fn barrier(next_position: Position) -> ReadBarrier {
    ReadBarrier { require_leader: false, min_position: next_position.checked_sub(1) }
}

fn request(client: RemoteCaller<'_>, name: Option<&GroupName>, call: Call) -> wire::GroupRequest {
    wire::GroupRequest {
        requester: requester_to_wire(&Requester::Caller(client.caller.clone())),
        address: client.address.to_string(),
        stream: name.map_or_else(String::new, |name| name.stream.as_str().to_owned()),
        group: name.map_or_else(String::new, |name| name.group.clone()),
        call: Some(call),
    }
}

fn json(settings: &Settings) -> String {
    serde_json::to_string(settings).unwrap_or_default()
}

fn settlement_to_wire(settlement: Settlement) -> wire::Settlement {
    match settlement {
        Settlement::Acknowledge => wire::Settlement::Acknowledge,
        Settlement::Retry => wire::Settlement::Retry,
        Settlement::Park => wire::Settlement::Park,
        Settlement::Skip => wire::Settlement::Skip,
    }
}

fn refusal_of(_: GroupCallError) -> Refusal {
    Refusal::NotReady
}

/// What an answer that is none to the question means.
pub(super) fn refused(answer: Option<Answer>) -> Refusal {
    match answer {
        Some(Answer::Denied(_)) => Refusal::Denied,
        Some(Answer::Busy(_)) => Refusal::Busy,
        _ => Refusal::NotReady,
    }
}

/// Why nothing was handed out or settled.
pub(super) fn consume_error(answer: Option<Answer>) -> ConsumeError {
    match answer {
        Some(Answer::Refused(refusal)) => match refusal.kind() {
            wire::GroupRefusalKind::DoesNotExist => ConsumeError::DoesNotExist,
            wire::GroupRefusalKind::TooManyConsumers => ConsumeError::TooManyConsumers,
            _ => ConsumeError::Refused(Refusal::NotReady),
        },
        other => ConsumeError::Refused(refused(other)),
    }
}

impl From<Refusal> for ConsumeError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ReadError> for ConsumeError {
    fn from(error: ReadError) -> Self {
        Self::Refused(error.into())
    }
}
