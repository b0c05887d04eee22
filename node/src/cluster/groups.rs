//! The way of what is asked of a group of consumers, from the node that was asked to the leader.
//! What is done there is for the room above, which registers itself here.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use headwater_proto::cluster as wire;
use headwater_proto::cluster::group_response::Result as Answer;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Status};

use super::Cluster;
use super::connector::Connector;
use super::leadership::{Leader, LeaderHint, Leadership};

/// How long to wait for a change of leader before asking the known leader again.
const RETRY_INTERVAL: Duration = Duration::from_millis(25);

/// How long a hand-over of leadership waits for the groups.
const REST_DEADLINE: Duration = Duration::from_secs(1);

/// Does what is asked of groups while this node leads.
pub(crate) trait GroupServer: Send + Sync {
    /// Answers one call. The answer is [`Answer::NotLeader`] if this node does not lead.
    fn call(&self, request: wire::GroupRequest) -> BoxFuture<'static, wire::GroupResponse>;

    /// Connects a consumer, until the stream of answers is dropped.
    fn consume(&self, request: wire::ConsumeRequest) -> BoxFuture<'static, BoxStream<'static, wire::GroupResponse>>;

    /// Stores how far all groups have come, and does nothing more until this node is elected again:
    /// leadership is about to be handed over.
    fn rest(&self) -> BoxFuture<'static, ()>;

    /// Goes on: leadership was not handed over.
    fn go_on(&self);
}

/// Takes calls to the leader.
pub(crate) struct Groups {
    leadership: Arc<Leadership>,
    connector: Connector,
    /// Registered when the node is put together.
    server: OnceLock<Box<dyn GroupServer>>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GroupCallError {
    /// Certainly not done: no leader was found in time.
    #[error("no leader is known")]
    NoLeader,
    /// Perhaps done.
    #[error("the outcome is not known")]
    Unknown,
}

impl Groups {
    /// Reaches leaders, and does nothing itself before a server is registered.
    pub(super) fn new(leadership: Arc<Leadership>, connector: Connector) -> Self {
        Self { leadership, connector, server: OnceLock::new() }
    }

    /// Lets all groups rest before leadership is handed over.
    pub(super) async fn rest(&self) {
        if let Some(server) = self.server.get()
            && timeout(REST_DEADLINE, server.rest()).await.is_err()
        {
            tracing::warn!("groups of consumers could not store in time how far they have come");
        }
    }

    /// Lets them go on, since this node leads still.
    pub(super) fn go_on(&self) {
        if let Some(server) = self.server.get() {
            server.go_on();
        }
    }

    async fn call(
        &self,
        request: wire::GroupRequest,
        deadline: Instant,
    ) -> Result<wire::GroupResponse, GroupCallError> {
        let mut leader = self.leadership.changes();
        loop {
            leader.mark_unchanged();
            let asked = match self.leadership.living_leader(deadline).await {
                Leader::Local => timeout_at(deadline, self.answer(request.clone())).await,
                Leader::Remote(hint) => tokio::select! {
                    answer = timeout_at(deadline, self.ask(&hint, request.clone())) => answer,
                    // The node that was asked no longer leads, and may never answer.
                    _ = leader.changed() => Ok(unknown()),
                },
                Leader::Unknown => Ok(not_leader()),
            };
            let answer = asked.unwrap_or_else(|_| unknown());
            let is_over = match answer.result {
                Some(Answer::NotLeader(_)) => false,
                // It can be asked for twice.
                Some(Answer::Unknown(_)) if is_repeatable(&request) => false,
                Some(Answer::Unknown(_)) | None => return Err(GroupCallError::Unknown),
                Some(_) => true,
            };
            if is_over {
                return Ok(answer);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(GroupCallError::NoLeader);
            }
            let _ = timeout_at(deadline.min(now + RETRY_INTERVAL), leader.changed()).await;
        }
    }

    /// Answers as leader.
    async fn answer(&self, request: wire::GroupRequest) -> wire::GroupResponse {
        match self.server_of_leader() {
            Some(server) => server.call(request).await,
            None => not_leader(),
        }
    }

    /// The server, while this node leads and hears a majority: what it could not store it must not
    /// accept.
    fn server_of_leader(&self) -> Option<&dyn GroupServer> {
        self.server.get().filter(|_| self.leadership.leads_majority()).map(AsRef::as_ref)
    }

    async fn ask(&self, leader: &LeaderHint, request: wire::GroupRequest) -> wire::GroupResponse {
        let ask = async {
            let mut client = self.connector.client(leader.node_id.server(), &leader.member.raft_address)?;
            client.call_group(self.connector.request(leader.node_id, request)?).await
        };
        match ask.await {
            Ok(answer) => answer.into_inner(),
            Err(status) => of_failed_call(&status),
        }
    }

    async fn consume(
        &self,
        request: wire::ConsumeRequest,
        deadline: Instant,
    ) -> BoxStream<'static, wire::GroupResponse> {
        match self.leadership.living_leader(deadline).await {
            Leader::Local => self.serve(request).await,
            Leader::Remote(hint) => match timeout_at(deadline, self.consume_at(&hint, request)).await {
                Ok(Ok(answers)) => answers,
                Ok(Err(status)) => of_one(of_failed_call(&status)),
                Err(_) => of_one(not_leader()),
            },
            Leader::Unknown => of_one(not_leader()),
        }
    }

    async fn serve(&self, request: wire::ConsumeRequest) -> BoxStream<'static, wire::GroupResponse> {
        match self.server_of_leader() {
            Some(server) => server.consume(request).await,
            None => of_one(not_leader()),
        }
    }

    async fn consume_at(
        &self,
        leader: &LeaderHint,
        request: wire::ConsumeRequest,
    ) -> Result<BoxStream<'static, wire::GroupResponse>, Status> {
        let mut client = self.connector.client(leader.node_id.server(), &leader.member.raft_address)?;
        let answers = client.consume(self.connector.request(leader.node_id, request)?).await?.into_inner();
        Ok(answers.map(|answer| answer.unwrap_or_else(|status| of_failed_call(&status))).boxed())
    }
}

/// Whether a call may be made again when nobody knows what became of it. Messages that nobody got
/// are handed out again anyway.
fn is_repeatable(request: &wire::GroupRequest) -> bool {
    use wire::group_request::Call;
    match &request.call {
        Some(
            Call::Take(_) | Call::Settle(_) | Call::GiveBack(_) | Call::Describe(_) | Call::List(_) | Call::Restart(_),
        ) => true,
        Some(Call::Create(_) | Call::CreateOnLog(_) | Call::Update(_) | Call::Delete(_) | Call::ReplayParked(_))
        | None => false,
    }
}

fn of_failed_call(status: &Status) -> wire::GroupResponse {
    match status.code() {
        // It was not for that node: another one leads, or there. Or its version has no groups.
        Code::FailedPrecondition | Code::Unimplemented => not_leader(),
        _ => {
            tracing::debug!(%status, "the leader did not answer a call to a group");
            unknown()
        }
    }
}

fn not_leader() -> wire::GroupResponse {
    wire::GroupResponse { result: Some(Answer::NotLeader(wire::NotLeader {})) }
}

fn unknown() -> wire::GroupResponse {
    wire::GroupResponse { result: Some(Answer::Unknown(wire::Unknown {})) }
}

fn of_one(answer: wire::GroupResponse) -> BoxStream<'static, wire::GroupResponse> {
    futures::stream::once(std::future::ready(answer)).boxed()
}

/// Groups of consumers.
impl Cluster {
    /// Registers what works on groups while this node leads, once.
    pub(crate) fn serve_groups_with(&self, server: Box<dyn GroupServer>) {
        let is_first = self.parts.groups.server.set(server).is_ok();
        debug_assert!(is_first, "a server of groups is already registered");
    }

    /// Has something done with a group, whichever node leads.
    ///
    /// # Errors
    /// See [`GroupCallError`].
    pub(crate) async fn call_group(
        &self,
        request: wire::GroupRequest,
        deadline: Instant,
    ) -> Result<wire::GroupResponse, GroupCallError> {
        self.parts.groups.call(request, deadline).await
    }

    /// Connects a consumer to a group, whichever node leads. The first answer that hands out no
    /// message is the last one.
    pub(crate) async fn consume_group(
        &self,
        request: wire::ConsumeRequest,
        deadline: Instant,
    ) -> BoxStream<'static, wire::GroupResponse> {
        self.parts.groups.consume(request, deadline).await
    }

    /// Stores how far all groups have come, if this node leads, and does nothing more: it stops.
    pub(crate) async fn rest_groups(&self) {
        if self.leads() {
            self.parts.groups.rest().await;
        }
    }

    /// Answers a call of another node.
    pub(super) async fn answer_group_call(&self, request: wire::GroupRequest) -> wire::GroupResponse {
        self.parts.groups.answer(request).await
    }

    /// Answers a consumer of another node.
    pub(super) async fn answer_consumer(
        &self,
        request: wire::ConsumeRequest,
    ) -> BoxStream<'static, wire::GroupResponse> {
        self.parts.groups.serve(request).await
    }
}
