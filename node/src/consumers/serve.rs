//! What the leader is asked for by the nodes, itself among them: the right of the requester comes
//! first, by the newest state there is.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use headwater_proto::cluster as wire;
use headwater_proto::cluster::group_request::Call as Asked;
use headwater_proto::cluster::group_response::Result as Answer;
use serde::de::DeserializeOwned;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::call::{Batch, Call, NewConsumer};
use super::group::{ConsumerId, Handed, Key};
use super::info::GroupInfo;
use super::leader::{BAD_STREAM, LeaderOfGroups, Server, Undone, now};
use super::record;
use super::{ChangeError, GroupName, MAX_TAKEN, MAX_WINDOW, Settlement, Take};
use crate::access::Caller;
use crate::cluster::{GroupServer, Requester, requester_from_wire};
use crate::event::{Position, StreamName};
use crate::store::ReadView;
use crate::streams::Refusal;

/// The longest wait for a message that one call may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl GroupServer for Server {
    fn call(&self, request: wire::GroupRequest) -> BoxFuture<'static, wire::GroupResponse> {
        let groups = self.groups();
        async move {
            let Some(groups) = groups else { return answer(not_leader()) };
            answer(groups.serve(request).await.unwrap_or_else(refusal))
        }
        .boxed()
    }

    fn consume(&self, request: wire::ConsumeRequest) -> BoxFuture<'static, BoxStream<'static, wire::GroupResponse>> {
        let groups = self.groups();
        async move {
            let Some(groups) = groups else { return only(not_leader()) };
            match groups.connect(request).await {
                Ok(handed) => handed,
                Err(undone) => only(refusal(undone)),
            }
        }
        .boxed()
    }

    fn rest(&self) -> BoxFuture<'static, ()> {
        let groups = self.groups();
        async move {
            if let Some(groups) = groups {
                groups.rest().await;
            }
        }
        .boxed()
    }

    fn go_on(&self) {
        if let Some(groups) = self.groups() {
            tokio::spawn(async move { groups.go_on().await });
        }
    }
}

impl LeaderOfGroups {
    async fn serve(&self, request: wire::GroupRequest) -> Result<Answer, Undone> {
        let wire::GroupRequest { requester, address, stream, group, call } = request;
        // Only a later version knows this kind of requester, or of call.
        let denied = || Undone::from(Refusal::Denied);
        let requester = requester_from_wire(requester).ok_or_else(denied)?;
        let call = call.ok_or_else(denied)?;
        let client = Client { requester, address };
        match call {
            Asked::List(list) => return self.list(&client, &stream, list).await,
            Asked::Restart(_) => {
                self.manager(&client).await?;
                self.end_all().await;
                client.audit("restarted the groups of consumers", None);
                return Ok(done(0));
            }
            _ => {}
        }
        let name = name(stream, group)?;
        match call {
            Asked::Take(take) => self.take(&client, &name, take).await,
            Asked::Settle(settle) => self.settle(&client, &name, settle).await,
            Asked::GiveBack(given) => self.given_back(&client, &name, given).await,
            Asked::Describe(_) => {
                self.reader(&client, &name.stream).await?;
                let group = self.describe(&name).await?;
                Ok(descriptions(vec![group], 1))
            }
            change => self.change(&client, &name, change).await,
        }
    }

    async fn change(&self, client: &Client, name: &GroupName, change: Asked) -> Result<Answer, Undone> {
        self.manager(client).await?;
        let by = client.login();
        let (what, position) = match change {
            Asked::Create(settings) => {
                ("created a group of consumers", self.create(name, &parse(&settings)?, by).await?)
            }
            Asked::CreateOnLog(wire::CreateOnLog { settings, filter }) => {
                let filter = filter.map(|filter| parse(&filter)).transpose()?;
                ("created a group of consumers", self.create_on_log(name, &parse(&settings)?, filter, by).await?)
            }
            Asked::Update(settings) => {
                ("updated a group of consumers", self.update(name, &parse(&settings)?, by).await?)
            }
            Asked::Delete(_) => ("deleted a group of consumers", self.delete(name).await?),
            Asked::ReplayParked(wire::ReplayParked { stop_at }) => {
                self.ask(name, |reply| Call::Replay { stop_at, reply }).await?;
                ("replayed the parked messages of a group of consumers", 0)
            }
            Asked::Take(_)
            | Asked::Settle(_)
            | Asked::GiveBack(_)
            | Asked::Describe(_)
            | Asked::List(_)
            | Asked::Restart(_) => {
                return Err(Undone::NotLeader);
            }
        };
        client.audit(what, Some(name));
        Ok(done(position))
    }

    async fn take(&self, client: &Client, name: &GroupName, take: wire::TakeMessages) -> Result<Answer, Undone> {
        self.reader(client, &name.stream).await?;
        let wait = Duration::from_millis(take.wait_ms.into()).min(LONGEST_WAIT);
        let take = Take { count: (take.count as usize).clamp(1, MAX_TAKEN), wait: Some(wait) };
        let handed = self.ask(name, |reply| Call::Take { take, reply }).await?;
        Ok(self.handed_out(handed))
    }

    async fn settle(&self, client: &Client, name: &GroupName, settle: wire::SettleMessages) -> Result<Answer, Undone> {
        self.reader(client, &name.stream).await?;
        let settlement = match settle.settlement() {
            wire::Settlement::Acknowledge => Settlement::Acknowledge,
            wire::Settlement::Park => Settlement::Park,
            wire::Settlement::Skip => Settlement::Skip,
            wire::Settlement::Retry | wire::Settlement::Unspecified => Settlement::Retry,
        };
        let ids: Vec<Uuid> = settle.ids.iter().filter_map(|id| Uuid::from_slice(id).ok()).collect();
        self.ask(name, |reply| Call::Settle { ids: ids.clone(), settlement, reply }).await?;
        Ok(done(0))
    }

    async fn given_back(
        &self,
        client: &Client,
        name: &GroupName,
        given: wire::GiveBackMessages,
    ) -> Result<Answer, Undone> {
        if client.requester != Requester::Node {
            return Err(Refusal::Denied.into());
        }
        let keys = given.messages.iter().map(key_of).collect();
        self.tell(name, Call::GiveBack { keys, gone: given.gone }).await;
        Ok(done(0))
    }

    /// What a group hands out, and what a node must have applied to read it.
    fn handed_out(&self, batch: Batch) -> Answer {
        let next_position = self.parts().cluster.store().applied().current().next_position;
        Answer::HandedOut(to_wire(batch, next_position))
    }

    async fn list(&self, client: &Client, stream: &str, list: wire::ListGroups) -> Result<Answer, Undone> {
        let of =
            if stream.is_empty() { None } else { Some(StreamName::parse(stream).map_err(|_| Undone::DoesNotExist)?) };
        if !self.parts().cluster.leads() {
            return Err(Undone::NotLeader);
        }
        let mut readable = Vec::new();
        for name in self.parts().groups(of.as_ref()).await? {
            if self.reader(client, &name.stream).await.is_ok() {
                readable.push(name);
            }
        }
        let all = readable.len();
        let mut groups = Vec::new();
        for name in readable.into_iter().skip(list.offset as usize).take(list.count as usize) {
            match self.describe(&name).await {
                Ok(group) => groups.push(group),
                // It was deleted meanwhile.
                Err(Undone::DoesNotExist) => {}
                Err(undone) => return Err(undone),
            }
        }
        Ok(descriptions(groups, all))
    }

    async fn describe(&self, name: &GroupName) -> Result<GroupInfo, Undone> {
        if let Some(info) = self.described_by_worker(name).await {
            return Ok(info);
        }
        if !self.parts().cluster.leads() {
            return Err(Undone::NotLeader);
        }
        let wanted = name.clone();
        let read = move |view: &ReadView<'_>| {
            let end = record::end_of_source(view, &wanted)?;
            Ok((record::read(view, &wanted)?, record::parked(view, &wanted)?, end))
        };
        let (stored, parked, end) = self.parts().cluster.store().read(read).await?;
        let stored = stored.ok_or(Undone::DoesNotExist)?;
        Ok(GroupInfo::of_stored(&stored, parked, end, now()))
    }

    /// Connects a consumer; the first answer says that it is connected.
    async fn connect(&self, request: wire::ConsumeRequest) -> Result<BoxStream<'static, wire::GroupResponse>, Undone> {
        let wire::ConsumeRequest { requester, address, stream, group, window } = request;
        let requester = requester_from_wire(requester).ok_or_else(|| Undone::from(Refusal::Denied))?;
        let client = Client { requester, address };
        let name = name(stream, group)?;
        self.reader(&client, &name.stream).await?;
        let window = (window as usize).clamp(1, MAX_WINDOW);
        let (messages, handed) = mpsc::channel(window);
        let consumer = |reply| {
            let (from, username) = (client.address.clone(), client.username());
            Call::Connect { consumer: NewConsumer { window, from, username, messages: messages.clone() }, reply }
        };
        let id = self.ask(&name, consumer).await?;
        drop(messages);
        let connection = Connection { groups: self.clone(), name: name.clone(), id };
        let handed = ReceiverStream::new(handed).map(move |batch| answer(connection.groups.handed_out(batch)));
        Ok(futures::stream::once(std::future::ready(answer(done(0)))).chain(handed).boxed())
    }

    /// Refuses a caller that may not read the stream.
    async fn reader(&self, client: &Client, stream: &StreamName) -> Result<(), Undone> {
        match &client.requester {
            Requester::Node => Ok(()),
            Requester::Caller(caller) => Ok(self.parts().streams.authorize_read(caller, stream.as_str()).await?),
        }
    }

    /// Refuses a caller that may not manage groups.
    async fn manager(&self, client: &Client) -> Result<(), Undone> {
        match &client.requester {
            Requester::Node => Ok(()),
            Requester::Caller(caller) => {
                Ok(self.parts().access.manager_of_groups(caller).await.map_err(Refusal::from)?)
            }
        }
    }
}

/// The party behind a request.
struct Client {
    requester: Requester,
    address: String,
}

impl Client {
    fn login(&self) -> &str {
        match &self.requester {
            Requester::Node => "(node)",
            Requester::Caller(caller) => caller.login().unwrap_or("(anonymous)"),
        }
    }

    /// As the original calls it.
    fn username(&self) -> String {
        match &self.requester {
            Requester::Caller(Caller::User(principal)) => principal.login().to_owned(),
            Requester::Caller(Caller::Anonymous) | Requester::Node => "anonymous".to_owned(),
        }
    }

    fn audit(&self, what: &str, name: Option<&GroupName>) {
        let (who, from) = (self.login(), &self.address);
        match name {
            Some(name) => tracing::info!(target: "audit", group = ?name.key(), ?who, %from, "audit: {what}"),
            None => tracing::info!(target: "audit", ?who, %from, "audit: {what}"),
        }
    }
}

/// A connected consumer, which is gone when this is dropped.
struct Connection {
    groups: LeaderOfGroups,
    name: GroupName,
    id: ConsumerId,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (groups, name, id) = (self.groups.clone(), self.name.clone(), self.id);
        // The node may be shutting down.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { groups.tell(&name, Call::Disconnect(id)).await });
        }
    }
}

fn name(stream: String, group: String) -> Result<GroupName, Undone> {
    let stream = StreamName::parse(stream).map_err(|_| bad_name())?;
    Ok(GroupName { stream, group })
}

fn bad_name() -> Undone {
    Undone::Change(ChangeError::Failed(BAD_STREAM.to_owned()))
}

/// Settings, or a filter.
fn parse<T: DeserializeOwned>(document: &str) -> Result<T, Undone> {
    serde_json::from_str(document).map_err(|error| Undone::Change(ChangeError::Failed(error.to_string())))
}

fn key_of(message: &wire::HandedMessage) -> Key {
    if message.parked { Key::Parked(message.number) } else { Key::Source(message.number) }
}

fn to_wire(batch: Batch, next_position: Position) -> wire::HandedOut {
    let message = |handed: Handed| wire::HandedMessage {
        parked: matches!(handed.key, Key::Parked(_)),
        number: handed.key.number(),
        id: handed.id.as_bytes().to_vec().into(),
        retries: handed.retries,
    };
    let Batch { messages, follows_links } = batch;
    wire::HandedOut { messages: messages.into_iter().map(message).collect(), next_position, follows_links }
}

fn descriptions(groups: Vec<GroupInfo>, all: usize) -> Answer {
    let groups = groups.iter().filter_map(|group| serde_json::to_vec(group).ok()).map(Into::into).collect();
    Answer::Descriptions(wire::GroupDescriptions { groups, all: all as u64 })
}

fn done(next_position: Position) -> Answer {
    Answer::Done(wire::GroupDone { next_position })
}

fn not_leader() -> Answer {
    Answer::NotLeader(wire::NotLeader {})
}

fn answer(result: Answer) -> wire::GroupResponse {
    wire::GroupResponse { result: Some(result) }
}

fn only(result: Answer) -> BoxStream<'static, wire::GroupResponse> {
    futures::stream::once(std::future::ready(answer(result))).boxed()
}

fn refusal(undone: Undone) -> Answer {
    use wire::GroupRefusalKind as Kind;
    let refused = |kind: Kind, reason: String| Answer::Refused(wire::GroupRefusal { kind: kind.into(), reason });
    match undone {
        Undone::NotLeader => not_leader(),
        Undone::DoesNotExist => refused(Kind::DoesNotExist, String::new()),
        Undone::TooManyConsumers => refused(Kind::TooManyConsumers, String::new()),
        Undone::Change(ChangeError::AlreadyExists) => refused(Kind::AlreadyExists, String::new()),
        Undone::Change(ChangeError::NameTaken(reason)) => refused(Kind::AlreadyExists, reason),
        Undone::Change(ChangeError::DoesNotExist) => refused(Kind::DoesNotExist, String::new()),
        Undone::Change(ChangeError::Failed(reason)) => refused(Kind::Failed, reason),
        Undone::Change(ChangeError::Settings(error)) => refused(Kind::Failed, error.to_string()),
        Undone::Change(ChangeError::Unknown) => Answer::Unknown(wire::Unknown {}),
        Undone::Change(ChangeError::Refused(Refusal::Denied)) => Answer::Denied(wire::Denied {}),
        Undone::Change(ChangeError::Refused(Refusal::Busy)) => Answer::Busy(wire::Busy {}),
        Undone::Change(ChangeError::Refused(Refusal::NotLeader(_) | Refusal::NotReady | Refusal::Store(_))) => {
            not_leader()
        }
    }
}
